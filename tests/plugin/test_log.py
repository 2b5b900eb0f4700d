"""What the log says at its usual level: few sentences, with owners and chat numbers."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from homeroom.homes import invites
from tests.fake import FakeHomeserver
from tests.plugin.harness import running, until


@pytest.fixture(autouse=True)
def _unset() -> None:
    """As in a process of its own: nobody has said anything about the instance's logger."""
    logging.getLogger("maubot.instance.homeroom").setLevel(logging.NOTSET)


async def test_a_hundred_messages_and_three_restarts_are_a_short_story(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        for life in range(4):
            for number in range(25):
                await bot.ask(anna, chat, f"{life} {number}")
            if life < 3:
                await bot.restart()
    lines = [r for r in caplog.records if r.name.startswith("maubot.instance.homeroom")]
    ours = [r for r in lines if not r.name.startswith("maubot.instance.homeroom.client")]
    assert {record.levelname for record in ours} <= {"INFO"}
    assert len(ours) <= 60


async def test_a_change_is_told_with_its_owner_and_chat(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        caplog.clear()
        await bot.ask(anna, chat, "!chat rename Travel")
        await bot.settled()
        told = [m for m in caplog.messages if m.startswith("Chat ")]
        assert told == [f"Chat C1 of {anna.user_id} ({chat}): name General → Travel"]


async def test_whoever_wants_everything_says_so_in_maubots_settings(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("maubot.instance.homeroom").setLevel(logging.DEBUG)
    caplog.set_level(logging.DEBUG)
    async with running(hs, tmp_path):
        pass
    assert any(re.search("http", record.name) for record in caplog.records)


async def test_whoever_sends_many_invites_is_named_once(
    hs: FakeHomeserver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(invites, "JOINS_AN_HOUR", 1)
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        rooms = [anna.create_room(invite=[bot.me]) for _ in range(5)]
        told = f"{anna.user_id} sends more than 1 invites an hour: the others are answered later"
        await until("a line in the log", lambda: told in caplog.messages)
        bert = hs.user("bert")
        await bot.hear(bert.create_room(invite=[bot.me]), 1)
        assert caplog.messages.count(told) == 1
        assert sum(bot.me in hs.rooms[room].joined for room in rooms) <= 1
