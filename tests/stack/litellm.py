"""A real LiteLLM proxy: an OpenAI-compatible server that people run, here with a mock model.

`./build.sh test` installs it into `.venv/litellm`, apart from the tools, because it needs other
versions of what they need. It starts in some ten seconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
from typing_extensions import Self

from .package import ROOT
from .ports import LOOPBACK, free_port
from .process import ServerProcess

PROGRAM = ROOT / ".venv" / "litellm" / "bin" / "litellm"
KEY = "sk-master-of-the-tests"
MODEL = "mock"


class LiteLLM:
    """The proxy; its one model always says the same."""

    def __init__(self, directory: Path, *, says: str) -> None:
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._directory = directory
        self._says = says
        self._process = ServerProcess(
            "LiteLLM",
            [PROGRAM, "--config", "config.yaml", "--host", LOOPBACK, "--port", str(self.port)],
            directory=directory,
            output=directory / "litellm.log",
            # The prices of models are part of the package; no look at the network for newer ones.
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
        )

    async def __aenter__(self) -> Self:
        mock = {"model": "openai/mock", "api_key": "none", "mock_response": self._says}
        config = {
            "model_list": [{"model_name": MODEL, "litellm_params": mock}],
            "general_settings": {"master_key": KEY},
        }
        # JSON is YAML.
        (self._directory / "config.yaml").write_text(json.dumps(config))
        self._process.start()
        try:
            await self._process.wait_ready(self._answers, timeout=100)
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()

    def settings(self, **more: Any) -> dict[str, Any]:
        """The section `platform` of settings that use it."""
        section = {"base_url": f"{self.url}/v1", "api_key": KEY, "model": MODEL}
        return {"kind": "openai", "openai": {**section, **more}}

    async def _answers(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/health/liveliness") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False
