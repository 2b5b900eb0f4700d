"""A start with rows that prove themselves: one question, and the same as if all were looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from homeroom.domain.homes.checkpoint import Digest, Origin, make_checkpoint
from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.homes.model import Records
from homeroom.storage import UPGRADES, Store
from tests.fake import DropAfter, FakeHomeserver, Hang, Match, Respond, User
from tests.plugin.harness import POSITION, Bot, own_sync, running, until
from tests.plugin.miniature import META
from tests.plugin.starts import (
    CONFIG,
    FORBIDDEN,
    LOOK,
    asked,
    asked_at_start,
    looked_at_everything,
    redact_the_marker,
    rename,
    settled,
    throw_the_bot_out,
)
from tests.storage.databases import SqliteBackend


async def test_nothing_has_changed(hs: FakeHomeserver, tmp_path: Path, unverified: None) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        before = bot.tables()
        await bot.stop()
        request = next(filter(own_sync, await asked_at_start(bot)))
        assert bot.plugin
        assert bot.app.startup.opened_at
        assert (request.route, request.query["timeout"]) == ("sync", "0")
        assert bot.tables() == before
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_killed_it_resumes_as_well(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "Hello")
        anna.set_state(chat_id, "m.room.name", {"name": "Renamed"})
        await bot.settled()
        await bot.kill()
        assert not [request for request in await asked_at_start(bot) if LOOK(request)]
        assert [row["name"] for row in bot.tables()["chats"] if row["room_id"] == chat_id] == [
            "Renamed"
        ]


def leave_the_space(bot: Bot, anna: User) -> None:
    anna.leave(bot.space_of(anna))


def unlink(bot: Bot, anna: User) -> None:
    anna.set_state(bot.space_of(anna), "m.space.child", {}, state_key=bot.chats_of(anna)[0])


def upgrade_a_chat(bot: Bot, anna: User) -> None:
    bot.me.upgrade(bot.chats_of(anna)[0], "12")


def upgrade_the_space(bot: Bot, anna: User) -> None:
    bot.me.upgrade(bot.space_of(anna), "12")


def make_a_chat_elsewhere(bot: Bot, anna: User) -> None:
    """As a life of the bot that ended in the middle of it may have done."""
    marker = {"version": 1, "room_type": "chat", "user_id": anna.user_id, "chat_id": "C3"}
    event = {"type": MARKER_TYPE, "state_key": bot.me.user_id, "content": marker}
    parent = {"type": "m.space.parent", "state_key": bot.space_of(anna), "content": {"via": ["x"]}}
    bot.me.create_room(room_version="11", name="Third", initial_state=[event, parent])


def many_things(bot: Bot, anna: User) -> None:
    rename(bot, anna)
    unlink(bot, anna)
    make_a_chat_elsewhere(bot, anna)
    leave_the_space(bot, anna)


CHANGES: list[Callable[[Bot, User], None]] = [
    rename,
    leave_the_space,
    unlink,
    redact_the_marker,
    throw_the_bot_out,
    upgrade_a_chat,
    upgrade_the_space,
    make_a_chat_elsewhere,
    many_things,
]


@pytest.mark.parametrize("change", CHANGES, ids=[c.__name__ for c in CHANGES])
async def test_what_has_changed_is_as_if_all_were_looked_at(
    hs: FakeHomeserver, tmp_path: Path, unverified: None, change: Callable[[Bot, User], None]
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        untouched = {*bot.chats_of(bert), bot.space_of(bert)}
        await bot.stop()
        change(bot, anna)
        mark = len(hs.requests)
        await bot.start()
        await settled(bot)
        resumed = bot.tables()
        requests = asked(bot, mark)
        assert not looked_at_everything(requests)
        assert not [r for r in requests if any(room_id in r.path for room_id in untouched)]
        await bot.stop()
        bot.invalidate_checkpoint()
        await bot.start()
        await settled(bot)
        assert bot.tables() == resumed


async def test_what_something_else_made_in_the_bots_name_is_taken_in_at_the_next_start(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """While the bot runs it may be half made; at a start it is what it is."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        space_id = bot.me.create_space(name="Old", invite=[bert])
        await bot.settled()
        chat_id = bot.me.create_room(name="Old chat", invite=[bert])
        bot.me.set_state(space_id, "m.space.child", {"via": ["x"]}, state_key=chat_id)
        await bot.ask(anna, bot.chats_of(anna)[0], "Hello")
        await bot.settled()
        for kill in (True, False):
            await (bot.kill() if kill else bot.stop())
            requests = await asked_at_start(bot)
            assert kill or not looked_at_everything(requests)
            assert chat_id in [row["room_id"] for row in bot.tables()["chats"]]
            await settled(bot)


async def test_news_that_were_not_looked_at_yet_come_again(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """The position stays before what named a room, until that was looked at."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, other_id) = bot.chats_of(anna)
        fault = hs.fail(LOOK, Respond(500, text="no"), times=None)
        anna.set_state(chat_id, "m.room.name", {"name": "Renamed"})
        await until("it was looked for", lambda: fault.hits)
        for _ in range(3):
            await bot.ask(anna, other_id, "Hello")
        await bot.stop()
        fault.cancel()
        await bot.start()
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]
        await settled(bot)
        assert len(bot.words(other_id)) == 3


@pytest.mark.parametrize("command", ["!chat rename Renamed", "!chat clear", "!chat archive"])
async def test_what_the_bot_did_before_it_died_is_noted(
    hs: FakeHomeserver, tmp_path: Path, unverified: None, command: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.settled()
        fault = hs.fail(
            Match(method="PUT", path=f"rooms/{chat_id}/state"), DropAfter(), times=None
        )
        anna.send(chat_id, command)
        await until("it was done", lambda: fault.hits)
        await bot.kill()
        fault.cancel()
        await bot.start()
        await settled(bot)
        resumed = bot.tables()
        await bot.stop()
        bot.invalidate_checkpoint()
        await bot.start()
        await settled(bot)
        assert bot.tables() == resumed


async def test_what_was_said_and_who_invited_meanwhile_is_answered(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.stop()
        anna.send(chat_id, "Hello")
        asked_in = bert.create_room(invite=[bot.me])
        await bot.start()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]
        await bot.hear(asked_in, 1)
        await settled(bot)
        assert bot.space_of(bert)
        assert bot.words(chat_id) == [bot.echo(chat_id, "Hello")]


async def test_an_invite_that_could_not_be_answered_is_answered_by_the_next_life(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """`/sync` since a position does not tell of it again."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        fault = hs.fail(Match(method="POST", path="join/"), Respond(500, text="no"), times=None)
        room_id = bert.create_room(invite=[bot.me])
        await until("it tried", lambda: fault.hits)
        await bot.settled()
        await bot.stop()
        fault.cancel()
        await bot.start()
        await bot.hear(room_id, 1)
        await settled(bot)
        assert bot.space_of(bert)


async def test_a_verification_is_in_nobodys_way(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.stop()
        fault = hs.fail(Match(path="msc3575/sync$"), Hang(), times=None)
        await bot.start()
        await fault.reached()
        anna.set_state(chat_id, "m.room.name", {"name": "Renamed"})
        await until("news", lambda: "Renamed" in [r["name"] for r in bot.tables()["chats"]])
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        fault.cancel()
        await bot.settled()
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]


async def test_rows_that_were_proved_and_are_wrong_are_mended_and_reported(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes a forger, or a bug."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        before = bot.tables()
        await bot.stop()
        rows = await _records(bot)
        chats = {r: dataclasses.replace(c, name="Forged") for r, c in rows.chats.items()}
        bot.alter("UPDATE chats SET name = 'Forged'")
        forge(bot, Records(homes=rows.homes, chats=chats))
        await bot.start()
        anna.send(chat_id, "Hello")
        bert.create_room(invite=[bot.me])
        await bot.settled()
        reports = [r for r in caplog.records if "Please report" in r.message]
        assert len(reports) == 1
        assert "2 rows of the checkpoint were not true" in reports[0].message
        assert [r for r in bot.tables()["chats"] if r["matrix_user_id"] == anna.user_id] == before[
            "chats"
        ]
        caplog.clear()


async def _records(bot: Bot) -> Records:
    async with SqliteBackend(bot.database_path).opened() as database:
        return await Store(database, now=lambda: 1).snapshot()


def forge(bot: Bot, records: Records) -> None:
    """Write a proof of these rows."""
    origin = Origin(
        bot=bot.me.user_id,
        homeserver=bot.hs.url,
        version=str(META.version),
        schema=len(UPGRADES.upgrades),
        adopt_unmarked=True,
    )
    (row,) = bot.query(POSITION)
    text = f"{make_checkpoint(origin, Digest.of(records))} {row['value']}"
    assert bot.alter("UPDATE sync_state SET value = ? WHERE key = 'proof'", text) == 1


async def test_what_has_changed_is_looked_at_once(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        rename(bot, anna)
        mark = len(hs.requests)
        await bot.start()
        await settled(bot)
        assert len([request for request in asked(bot, mark) if LOOK(request)]) == 1


async def test_stopped_right_after_its_start_it_still_knows_what_it_knew(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """Whoever saves the position may be stopped in the middle of it; then it is saved at last."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        rename(bot, anna)
        for _ in range(3):
            await bot.start()
            await bot.stop()
        assert not [request for request in await asked_at_start(bot) if LOOK(request)]


async def test_a_dead_invite_is_tried_once_in_a_life(hs: FakeHomeserver, tmp_path: Path) -> None:
    """However many ways tell of it: the response, the list of invites, the verification."""
    bert = hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(hs.user("anna"))
        await bot.stop()
        bert.create_room(invite=[bot.me])
        fault = hs.fail(Match(method="POST", path="join/"), FORBIDDEN, times=None)
        for lives in (1, 2):
            await bot.start()
            await bot.settled()
            assert len(fault.hits) == lives
            await bot.stop()
        fault.cancel()
