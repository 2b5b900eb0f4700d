"""Redis from Debian, through which Synapse's workers tell each other what has changed.

`SlowSubscription` stands between one worker and Redis: what the worker is told is late by
`seconds`, as on a busy machine. What it tells, and what it asks Redis for, is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from typing_extensions import Self

from .ports import LOOPBACK, free_port
from .process import ServerProcess

_CHUNK = 65_536


class Redis:
    """A throw-away server; `async with` starts and ends it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self._process = ServerProcess(
            "Redis",
            [
                *(find_redis(), "--port", str(self.port), "--bind", LOOPBACK),
                *("--save", "", "--appendonly", "no", "--dir", directory),
            ],
            directory=directory,
            output=directory / "redis.log",
        )

    async def __aenter__(self) -> Self:
        self._process.start()
        try:
            await self._process.wait_ready(self._answers, timeout=30)
        except BaseException:
            self._process.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        finally:
            writer.close()


class SlowSubscription:
    """A proxy for one client of Redis: what it has subscribed to arrives late."""

    def __init__(self, redis: Redis) -> None:
        self.port = free_port()
        self.seconds = 0.0
        self._changed = asyncio.Event()
        self._redis = redis
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def be_late(self, seconds: float) -> None:
        """Tell everything so late, also what has come already."""
        self.seconds = seconds
        self._changed.set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, LOOPBACK, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, back = await asyncio.open_connection(LOOPBACK, self._redis.port)
        except OSError:
            writer.close()
            return
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        subscribed = asyncio.Event()
        parts = [
            asyncio.ensure_future(part)
            for part in (
                self._ask(reader, back, subscribed),
                self._hear(there, late),
                self._tell(late, writer, subscribed),
            )
        ]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            writer.close()
            back.close()

    @staticmethod
    async def _ask(
        reader: asyncio.StreamReader, back: asyncio.StreamWriter, subscribed: asyncio.Event
    ) -> None:
        while data := await reader.read(_CHUNK):
            if b"SUBSCRIBE" in data.upper():
                subscribed.set()
            back.write(data)
            await back.drain()

    @staticmethod
    async def _hear(there: asyncio.StreamReader, late: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        while data := await there.read(_CHUNK):
            late.put_nowait((loop.time(), data))

    async def _tell(
        self,
        late: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        subscribed: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                came, data = await late.get()
                while subscribed.is_set() and (left := came + self.seconds - loop.time()) > 0:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), left)
                writer.write(data)
                await writer.drain()


def find_redis() -> str:
    """Return the path of the Redis server that is installed."""
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError(
            "No Redis: redis-server is not in PATH "
            "(on Debian and Ubuntu: apt-get install redis-server)"
        )
    return found
