"""Reading the settings while others want their turn."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mautrix.util.config import RecursiveDict

from homeroom.config.live_settings import LiveSettings
from homeroom.config.text import Config
from tests.plugin.miniature import read_base


async def test_others_have_their_turn_between_the_steps_of_reading() -> None:
    """To read, to update, and to write them once more takes tens of milliseconds each."""
    turns, seen = 0, {}
    is_over = False

    async def take_turns() -> None:
        nonlocal turns
        while not is_over:
            turns += 1
            await asyncio.sleep(0.0001)  # 0 would be a turn of those who are ready already

    def load() -> Any:
        seen["load"] = turns
        return read_base()

    def save(_: Any) -> None:
        seen["save"] = turns

    class LastGood:
        async def read(self) -> str | None:
            return None

        async def write(self, _: str) -> None:
            seen["keep"] = turns

    log: Any = logging.getLogger("maubot.instance.homeroom")
    settings = LiveSettings(
        config=Config(load, lambda: RecursiveDict(read_base()), save),
        no_encryption=lambda: None,
        last_good=LastGood(),
        log=log,
    )
    others = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    assert await settings.read()
    is_over = True
    await others
    assert seen["load"] < seen["save"] < seen["keep"]
