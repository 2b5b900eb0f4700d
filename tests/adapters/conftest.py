"""The adapters against the fake homeserver, with a clock that waits for nobody."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from maubot.matrix import MaubotMatrixClient

from homeroom.adapters.homeserver import Homeserver
from tests.fake import FakeHomeserver
from tests.stack.postgres import Postgres, find_binaries

LOG: Any = logging.getLogger("maubot.instance.homeroom")


class Naps:
    """Sleeps that only happen on paper; the real time hardly moves."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def hs() -> AsyncIterator[FakeHomeserver]:
    async with FakeHomeserver() as server:
        yield server


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def client(hs: FakeHomeserver) -> AsyncIterator[MaubotMatrixClient]:
    async with client_of(hs) as client:
        yield client


@asynccontextmanager
async def client_of(hs: FakeHomeserver) -> AsyncIterator[MaubotMatrixClient]:
    """maubot's client of the bot, without a sync loop."""
    bot = hs.user("bot")
    async with aiohttp.ClientSession() as http:
        yield MaubotMatrixClient(
            mxid=bot.user_id, base_url=hs.url, token=bot.token, client_session=http, log=LOG
        )


@pytest.fixture
def connect(client: MaubotMatrixClient, naps: Naps) -> Callable[..., Homeserver]:
    """The adapter with this many requests at once."""

    def make(concurrency: int = 10) -> Homeserver:
        return Homeserver(client, log=LOG, concurrency=concurrency, sleep=naps)

    return make


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database on a throw-away server; skips where there is none, except on CI."""
    try:
        find_binaries()
    except FileNotFoundError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    cluster = Postgres()
    asyncio.run(cluster.__aenter__())
    try:
        yield asyncio.run(cluster.create_database())
    finally:
        asyncio.run(cluster.__aexit__(None, None, None))
