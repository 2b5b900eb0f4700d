"""A server that plays an agent, and the platforms that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from homeroom.config import OpenAISettings, WebhookSettings
from homeroom.platforms import (
    Platform,
)
from homeroom.platforms.http_client import Limits
from homeroom.platforms.openai import OpenAIPlatform
from homeroom.platforms.webhook import WebhookPlatform
from tests.fake.clients import LOG, Naps
from tests.platforms.asking import (
    LIMITS,
    Said,
)
from tests.stack.agent_server import (
    TOKEN,
    AgentServer,
    Say,
)


@pytest.fixture
async def agent() -> AsyncIterator[AgentServer]:
    async with AgentServer() as server:
        server.reply = lambda _: Say(pieces=["Hel", "lo"])
        yield server


@pytest.fixture
async def connect(agent: AgentServer, naps: Naps) -> AsyncIterator[Callable[..., Platform]]:
    """Make a platform that asks the agent server, or another address."""
    made: list[Platform] = []

    def make(
        kind: str, *, url: str = "", limits: Limits = LIMITS, said: Said | None = None, **more: Any
    ) -> Platform:
        if kind == "webhook":
            to = WebhookSettings(url=url or f"{agent.url}/webhook", token=more.get("token", TOKEN))
            made.append(WebhookPlatform(to, limits=lambda: limits, log=LOG, sleep=naps))
        else:
            defaults = OpenAISettings(
                base_url=url or f"{agent.url}/v1", api_key=TOKEN, model="scripted"
            )
            made.append(
                OpenAIPlatform(
                    replace(defaults, **more),
                    history=said or Said(),
                    limits=lambda: limits,
                    log=LOG,
                    sleep=naps,
                )
            )
        return made[-1]

    yield make
    for platform in made:
        await platform.close()
