"""Waiting is visible: what waits is marked as read, and answers grow at a steady pace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homeroom.delivery import answer_stream as stream
from homeroom.matrix import read_receipts
from tests.fake import FakeHomeserver, Hang, Match, RateLimit
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Speech,
    chatting,
    move_in,
    quick_edits,
    when_shown,
)


def read_up_to(bot: Bot, room_id: str) -> str | None:
    receipt = bot.hs.world.rooms[room_id].receipts.get((bot.me.user_id, "m.read"))
    return receipt[0] if receipt else None


async def test_a_message_is_marked_as_read_while_its_answer_is_being_made(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        chat_id = await move_in(bot, anna)
        for text in ("one", "two"):
            event_id = anna.send(chat_id, text)
            await until("it is read", lambda e=event_id: read_up_to(bot, chat_id) == e)
        await until("the turn", lambda: agent.texts == ["one"])
        agent.let_go.set()
        await bot.hear(chat_id, 2)


async def test_what_is_answered_at_once_needs_no_receipt(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_receipts, "READ_AFTER", 0.2)
    anna = hs.user("anna")
    agent = Agent()
    async with running(hs, tmp_path, platform=agent) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "one")
        assert await bot.hear(chat_id, 1) == ["re: one"]
        await bot.settled()
        assert read_up_to(bot, chat_id) is None


async def test_what_only_a_busy_homeserver_holds_up_gets_no_receipt(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_receipts, "READ_AFTER", 2)
    async with chatting(hs, tmp_path, platform=Agent()) as (bot, anna, chat_id):
        sending = hs.fail(Match(method="PUT", path="/send/m.room.message/"), Hang())
        marked = bot.hs.world.rooms[chat_id].receipts.get((bot.me.user_id, "m.read"))
        anna.send(chat_id, "one")
        await sending.reached()

        def marking() -> list[str]:
            names = [task.get_name() for task in asyncio.all_tasks()]
            return [name for name in names if name == "homeroom: marking as read"]

        await until("it was not marked", lambda: not marking())
        assert bot.hs.world.rooms[chat_id].receipts.get((bot.me.user_id, "m.read")) == marked
        sending.release()
        assert await bot.hear(chat_id, 1) == ["re: one"]


async def test_receipts_that_hang_or_fail_hold_nothing_up(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=Agent()) as (bot, anna, chat_id):
        hanging = hs.fail(Match(method="POST", path="/receipt/"), Hang())
        anna.send(chat_id, "one")
        await hanging.reached()
        assert await bot.hear(chat_id, 1) == ["re: one"]
        failing = hs.fail(Match(method="POST", path="/receipt/"), RateLimit(1000))
        hanging.release()
        anna.send(chat_id, "two")
        assert await bot.hear(chat_id, 2) == ["re: one", "re: two"]
        await failing.reached()


async def test_no_receipts_are_sent_while_the_homeserver_wants_us_to_wait(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=Agent()) as (bot, anna, chat_id):
        limit = hs.fail(Match(method="PUT", path="/send/"), RateLimit(300))
        anna.send(chat_id, "one")
        await limit.reached()
        read = read_up_to(bot, chat_id)
        anna.send(chat_id, "two")
        assert await bot.hear(chat_id, 2) == ["re: one", "re: two"]
        assert read_up_to(bot, chat_id) == read


async def test_the_gaps_between_edits_stay_short_while_the_homeserver_has_room(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They grow only where it says 429: otherwise to `STEADY` at most, however long it takes."""
    monkeypatch.setattr(stream, "SLOWEST", 15.0)
    monkeypatch.setattr(stream, "STEADY", 0.1)
    waits: list[float] = []

    class Watched(stream.PlatformReading):
        async def done_within(self, seconds: float) -> None:
            waits.append(seconds)
            await super().done_within(seconds)

    monkeypatch.setattr(stream, "PlatformReading", Watched)
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        anna.send(chat_id, "Hello")
        said = ""
        for number in range(12):
            speech.say(f"{number} ")
            said += f"{number} "
            await when_shown(bot, chat_id, said.strip())
        assert max(waits) == 0.1
        hs.fail(Match(method="PUT", path="/send/"), RateLimit(500))
        speech.say("on")
        await until("it waits as asked", lambda: max(waits) > 0.3)
        speech.say(None)
        await when_shown(bot, chat_id, f"{said}on")
        await asyncio.sleep(0)
