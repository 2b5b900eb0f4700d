"""What was said while the bot was down is answered, as far back as the settings say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mautrix.client.state_store import MemorySyncStore

from tests.fake import FakeHomeserver, Hang, Match
from tests.plugin.agent import Agent
from tests.plugin.conftest import Present
from tests.plugin.harness import POSITION, own_sync, running

HOUR_MS = 60 * 60 * 1000


@pytest.mark.parametrize("lost", [False, True], ids=["with its database", "without"])
@pytest.mark.parametrize("count", [1, 7, 30, 120])
async def test_messages_of_the_time_it_was_down_are_answered_in_order(
    hs: FakeHomeserver, tmp_path: Path, count: int, lost: bool
) -> None:
    anna = hs.user("anna")
    config = "limits: {waiting_messages: 5}"  # those of the downtime are not counted
    async with running(hs, tmp_path, platform=(agent := Agent()), config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "before")
        await bot.stop()
        if lost:
            bot.wipe()
        texts = [f"message {number}" for number in range(count)]
        for text in texts:
            anna.send(chat_id, text)
        await bot.start()
        await bot.settled()
        assert agent.texts == ["before", *texts]
        assert bot.words(chat_id) == [f"re: {text}" for text in ["before", *texts]]


async def test_the_first_message_after_a_restart_is_answered(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """maubot throws the first response away; on a quiet account that is a long poll."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.restart()
        await bot.settled()
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_what_came_too_long_ago_is_not_answered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    hs.world.clock = Present(behind_ms=2 * HOUR_MS)
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        anna.send(chat_id, "two hours ago")
        hs.world.clock = Present()
        anna.send(chat_id, "just now")
        await bot.start()
        await bot.settled()
        assert agent.texts == ["just now"]


@pytest.mark.parametrize("moment", ["early", "late"])
async def test_nothing_is_caught_up_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path, moment: str
) -> None:
    """The response that maubot throws away may come before the doors open, or after."""
    anna = hs.user("anna")
    agent = Agent()
    async with running(hs, tmp_path, platform=agent, config="catch_up: {max_age: 0}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "before")
        await bot.stop()
        anna.send(chat_id, "while it was down")
        first = Match(when=bot.is_long_poll) if moment == "late" else Match(path="joined_rooms")
        held_up = hs.fail(first, Hang())
        starting = asyncio.ensure_future(bot.start())
        await held_up.reached()
        if moment == "late":
            await starting
        held_up.release()
        await starting
        assert await bot.ask(anna, chat_id, "after") == "re: after"
        assert agent.texts == ["before", "after"]


async def test_where_it_stopped_reading_is_remembered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "Hello")
        await bot.settled()
        await bot.stop()
        (row,) = bot.query(POSITION)
        assert row["bot"] == bot.me.user_id
        catching_up = hs.fail(
            Match(when=lambda r: own_sync(r) and r.query.get("since") == row["value"]),
            Hang(),
        )
        starting = asyncio.ensure_future(bot.start())
        await catching_up.reached()
        catching_up.release()
        await starting


async def test_a_position_that_is_still_to_come_is_left(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """As after the homeserver was set back to a backup."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        await bot.stop()
        assert bot.alter("UPDATE sync_state SET value = 's999999_1' WHERE key = 'position'") == 1
        await bot.start()
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("token", ["nonsense", ""])
async def test_a_position_that_means_nothing_loses_nothing(
    hs: FakeHomeserver, tmp_path: Path, token: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        await bot.stop()
        assert bot.alter("UPDATE sync_state SET value = ? WHERE key = 'position'", token) == 1
        bot._sync_store = MemorySyncStore()  # maubot's own place is lost, too
        anna.send(chat_id, "meanwhile")
        await bot.start()
        anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 2) == [
            bot.echo(chat_id, said) for said in ("meanwhile", "Hello")
        ]


async def test_a_position_of_another_account_is_not_used(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        await bot.settled()
        await bot.stop()
        assert (
            bot.alter(
                "UPDATE sync_state SET bot = '@other:fake.test', value = 's1_0'"
                " WHERE key = 'position'"
            )
            == 1
        )
        await bot.start()
        assert not [
            r for r in hs.requests if r.query.get("since") == "s1_0" and r.query["timeout"] == "0"
        ]
