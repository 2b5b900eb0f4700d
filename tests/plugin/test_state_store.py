"""mautrix's state store knows what happened before the position may pass it.

Keys are shared by what it says. mautrix writes it, too, at some time that nobody can wait for; in
these tests that is too late, always.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mautrix.types import EventType, Membership, RoomID, UserID

from tests.fake import Alter, FakeHomeserver, Match
from tests.plugin.harness import POSITION, Bot, running, until


@asynccontextmanager
async def with_late_mautrix(hs: FakeHomeserver, path: Path) -> AsyncIterator[tuple[Bot, RoomID]]:
    """A bot with a chat, whose mautrix never comes to write its state store."""
    anna = hs.user("anna")
    async with running(hs, path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert bot.client
        bot.client.remove_event_handler(EventType.ALL, bot.client._update_state)
        await until("mautrix has written what it had begun", lambda: not handlers())
        yield bot, RoomID(chat_id)


def handlers() -> list[str]:
    """mautrix's handlers that are at work."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name == "Syncer._catch_errors"]


def happens(hs: FakeHomeserver, chat_id: RoomID) -> dict[str, Any]:
    """Somebody comes, somebody is only invited, and the power levels change; returns these."""
    anna = hs.user("anna")
    for name in ("bert", "carl"):
        anna.invite(chat_id, hs.user(name))
    hs.user("bert").join(chat_id)
    levels = {**hs.room(chat_id).state["m.room.power_levels", ""], "invite": 25}
    hs.user("bot").set_state(chat_id, "m.room.power_levels", levels)
    return levels


async def knows(bot: Bot, chat_id: RoomID, levels: dict[str, Any]) -> bool:
    assert bot.client
    store = bot.client.state_store
    stored = await store.get_power_levels(chat_id)
    members = {
        name: await store.get_member(chat_id, UserID(f"@{name}:fake.test"))
        for name in ("bert", "carl")
    }
    memberships = {name: member and member.membership for name, member in members.items()}
    return (
        memberships == {"bert": Membership.JOIN, "carl": Membership.INVITE}
        and stored is not None
        and stored.serialize()["invite"] == levels["invite"]
    )


async def test_who_came_is_known_whenever_mautrix_would_write_it(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with with_late_mautrix(hs, tmp_path) as (bot, chat_id):
        levels = happens(hs, chat_id)
        await bot.settled()
        assert await knows(bot, chat_id, levels)
        await bot.kill()
        await bot.start()
        assert await knows(bot, chat_id, levels)


async def test_the_position_waits_for_the_state_store(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with with_late_mautrix(hs, tmp_path) as (bot, chat_id):
        await bot.settled()
        assert bot.client
        before, works = bot.query(POSITION), False
        write = bot.client.state_store.set_member

        async def full_disk(*what: Any) -> None:
            if not works:
                raise sqlite3.OperationalError("database or disk is full")
            await write(*what)

        monkeypatch.setattr(bot.client.state_store, "set_member", full_disk)
        levels = happens(hs, chat_id)
        await until("it is tried again", lambda: caplog.text.count("disk is full") > 2)
        assert bot.query(POSITION) == before
        works = True
        await bot.settled()
        assert await knows(bot, chat_id, levels)
        assert bot.query(POSITION) != before


async def test_who_says_something_is_not_written_with_each_message(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A homeserver that loads members lazily tells with it who that is."""
    async with with_late_mautrix(hs, tmp_path) as (bot, chat_id):
        anna = hs.user("anna")
        told = {
            "type": "m.room.member",
            "state_key": anna.user_id,
            "sender": anna.user_id,
            "content": {"membership": "join"},
            "event_id": "$join",
        }

        def with_sender(answer: Any) -> Any:
            for entry in answer.get("rooms", {}).get("join", {}).values():
                entry.setdefault("state", {"events": []})["events"].append(told)
            return answer

        hs.fail(Match(when=bot.is_long_poll), Alter(with_sender), times=None)
        assert bot.client
        write, written = bot.client.state_store.set_member, list[UserID]()

        async def set_member(room_id: RoomID, user_id: UserID, *what: Any) -> None:
            written.append(user_id)
            await write(room_id, user_id, *what)

        monkeypatch.setattr(bot.client.state_store, "set_member", set_member)
        for number in range(3):
            await bot.ask(anna, chat_id, f"{number}")
        anna.invite(chat_id, hs.user("bert"))
        await until("news of Bert", lambda: bool(written))
        await bot.settled()
        assert written == [hs.user("bert").user_id]


async def test_who_was_removed_is_out_whatever_was_said_at_the_same_time(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """For who said it they are still there, and that is the state that `/sync` tells."""
    async with with_late_mautrix(hs, tmp_path) as (bot, chat_id):
        anna, bert = hs.user("anna"), hs.user("bert")
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        await bot.settled()
        anna.kick(chat_id, bert)
        await bot.settled()
        hs.branch(chat_id, beside=("m.room.member", bert.user_id))
        await bot.ask(anna, chat_id, "Hello")
        await bot.settled()
        assert bot.client
        member = await bot.client.state_store.get_member(chat_id, bert.user_id)
        assert member is not None
        assert member.membership == Membership.LEAVE
