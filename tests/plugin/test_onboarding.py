"""From an invite to a home: made once, complete, and found again by whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homeroom.domain.marker import MARKER_TYPE
from tests.fake import FakeHomeserver
from tests.plugin.harness import Bot, running, until


async def test_an_invite_makes_a_home(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        print(bot.tables())
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
