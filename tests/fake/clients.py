"""maubot's client of the bot in front of the fake homeserver, and sleeps that wait for nobody."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from maubot.matrix import MaubotMatrixClient
from mautrix.client.state_store import MemoryStateStore

from homeroom.matrix.homeserver import Homeserver
from tests.fake import FakeHomeserver

LOG: Any = logging.getLogger("maubot.instance.homeroom")
Connect = Callable[..., Homeserver]
"""What the fixture `connect` gives."""


class Naps:
    """Sleeps that only happen on paper; the real time hardly moves."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@asynccontextmanager
async def client_of(hs: FakeHomeserver) -> AsyncIterator[MaubotMatrixClient]:
    """maubot's client of the bot, without a sync loop."""
    bot = hs.user("bot")
    async with aiohttp.ClientSession() as http:
        yield MaubotMatrixClient(
            mxid=bot.user_id,
            base_url=hs.url,
            token=bot.token,
            client_session=http,
            state_store=MemoryStateStore(),
            log=LOG,
        )
