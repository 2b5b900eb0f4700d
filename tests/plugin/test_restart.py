"""A restart changes nothing, whatever became of the database: Matrix remembers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mautrix.types import RoomID

from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Hang, Match, User
from tests.plugin.harness import Bot, running

KEY = "a-conversation-of-long-ago"

Damage = Callable[[Bot], object]
DAMAGE: dict[str, Damage] = {
    "nothing": lambda bot: None,
    "everything is gone": lambda bot: bot.wipe(),
    "no homes": lambda bot: bot.alter("DELETE FROM homes"),
    "no chats": lambda bot: bot.alter("DELETE FROM chats"),
    "half of the chats": lambda bot: bot.alter("DELETE FROM chats WHERE chat_id = 'C2'"),
    "no keys": lambda bot: bot.alter("UPDATE chats SET platform_chat_id = NULL"),
    "no numbers": lambda bot: bot.alter("UPDATE chats SET chat_id = NULL"),
    "other keys": lambda bot: bot.alter("UPDATE chats SET platform_chat_id = 'x' || room_id"),
    "other numbers": lambda bot: bot.alter("UPDATE chats SET chat_id = 'C9' || rowid"),
    "everything is Bert's": lambda bot: bot.alter(
        "UPDATE chats SET matrix_user_id = '@bert:fake.test', chat_id = 'C9' || rowid"
    ),
    "another Space": lambda bot: bot.alter("UPDATE homes SET space_id = '!nowhere'"),
    "everything was left": lambda bot: bot.alter("UPDATE chats SET status = 'left'"),
    "words that mean nothing": lambda bot: bot.alter(
        "UPDATE chats SET status = 'asleep', room_type = 'barn', name = x'00ff', chat_id = 7"
    ),
}


async def two_homes(bot: Bot) -> tuple[User, User]:
    """Anna has four chats, one of them archived, Bert has one."""
    anna, bert = bot.hs.user("anna"), bot.hs.user("bert")
    await bot.onboard(anna)
    await bot.onboard(bert)
    for number in range(3):
        await bot.ask(anna, bot.chats_of(anna)[0], f"!chat new Chat number {number}")
    for room_id in bot.chats_of(anna)[1:]:
        anna.join(room_id)
    await bot.ask(anna, bot.chats_of(anna)[2], "!chat archive")
    await bot.settled()
    return anna, bert


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_whatever_was_lost_comes_back_as_it_was(
    hs: FakeHomeserver, tmp_path: Path, damage: Damage
) -> None:
    async with running(hs, tmp_path) as bot:
        anna, bert = await two_homes(bot)
        before, rooms = bot.tables(), set(hs.rooms)
        chat_id = bot.chats_of(anna)[1]
        answer = bot.echo(chat_id, "Still there?")
        await bot.stop()
        damage(bot)
        await bot.start()
        await bot.settled()
        assert bot.tables() == before
        assert set(hs.rooms) == rooms
        assert await bot.ask(anna, chat_id, "Still there?") == answer
        chat_id = bot.chats_of(bert)[0]
        assert await bot.ask(bert, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_rows_of_rooms_that_do_not_exist_are_kept_as_left(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with running(hs, tmp_path) as bot:
        await two_homes(bot)
        before = bot.tables()
        await bot.stop()
        row = {**before["chats"][0], "room_id": "!nowhere", "chat_id": "C77"}
        row["platform_chat_id"] = KEY
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        bot.alter(
            f"INSERT INTO chats ({columns}, created_at, updated_at) VALUES ({marks}, 0, 0)",
            *row.values(),
        )
        await bot.start()
        await bot.settled()
        after = bot.tables()
        assert after["homes"] == before["homes"]
        assert {**row, "status": "left"} in after["chats"]
        assert [row for row in after["chats"] if row["room_id"] != "!nowhere"] == before["chats"]


async def test_an_older_schema_is_brought_up_to_date(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with running(hs, tmp_path) as bot:
        anna, _ = await two_homes(bot)
        before = bot.tables()
        await bot.stop()
        for statement in (
            "DROP TABLE handled_events",
            "DROP TABLE sync_state",
            "DROP TABLE notices",
            "DROP TABLE reconciles",
            "DROP INDEX chats_unique_platform_chat_id",
            "DROP INDEX chats_unique_chat_id",
            "ALTER TABLE homes DROP COLUMN initial_chats",
            "ALTER TABLE chats DROP COLUMN conversation",
            "ALTER TABLE chats DROP COLUMN conversation_since",
            "ALTER TABLE chats DROP COLUMN answer",
            "DROP TABLE open_answers",
            "DROP TABLE room_requests",
            "DROP TABLE places",
            "DROP TABLE saved_settings",
            "DROP TABLE withheld_keys",
            "DROP TABLE attempts",
            "UPDATE version SET version = 1",
        ):
            bot.alter(statement)
        await bot.start()
        await bot.settled()
        assert bot.tables() == before
        chat_id = bot.chats_of(anna)[0]
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("lost", [False, True], ids=["with its database", "without"])
async def test_a_restart_writes_nothing_to_the_homeserver(
    hs: FakeHomeserver, tmp_path: Path, lost: bool
) -> None:
    async with running(hs, tmp_path) as bot:
        await two_homes(bot)
        await bot.stop()
        if lost:
            bot.wipe()
        writes = len(hs.writes)
        for _ in range(2):
            await bot.start()
            await bot.settled()
            await bot.stop()
        assert hs.writes[writes:] == []
        await bot.start()


async def test_the_second_restart_finds_nothing_to_change(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(hs, tmp_path) as bot:
        await two_homes(bot)
        await bot.stop()
        bot.wipe()
        await bot.start()
        await bot.settled()
        caplog.clear()
        await bot.restart()
        (summary,) = [m for m in caplog.messages if m.startswith("Reconciled")]
        assert re.fullmatch(r"Reconciled 7 rooms in [\d.]+ s: nothing to change", summary)


async def test_the_state_store_of_another_process_is_no_truth(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Members who came and went while the bot was down get, or do not get, the next keys."""
    async with running(hs, tmp_path) as bot:
        anna, bert = await two_homes(bot)
        (chat_id, *_) = bot.chats_of(anna)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        await bot.settled()
        await bot.stop()
        anna.kick(chat_id, bert)
        anna.invite(chat_id, hs.user("carl"))
        hs.user("carl").join(chat_id)
        await bot.start()
        await bot.settled()
        assert bot.client
        assert bot.client.state_store
        assert set(await bot.client.state_store.get_members(chat_id)) == {
            bot.me.user_id,
            anna.user_id,
            "@carl:fake.test",
        }


async def test_a_chat_that_was_left_is_not_made_again_when_the_database_is_lost(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Its number is not used again either, archived or not."""
    async with running(hs, tmp_path) as bot:
        anna = hs.user("anna")
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        await bot.ask(anna, first, "!chat new Second")
        (_, second) = bot.chats_of(anna)
        anna.join(second)
        await bot.ask(anna, second, "!chat archive")
        bot.me.leave(first)
        bot.me.leave(second)
        await bot.stop()
        bot.wipe()
        await bot.start()
        await bot.settled()
        rooms = set(hs.rooms)
        direct = anna.create_room(invite=[bot.me])
        await bot.settled()
        assert set(hs.rooms) - rooms == {direct}
        anna.send(direct, "!chat new Third")
        await bot.settled()
        assert sorted((row["chat_id"], row["status"]) for row in bot.tables()["chats"]) == [
            ("C1", "left"),
            ("C2", "left"),
            ("C3", "active"),
        ]


async def test_what_another_build_wrote_into_a_marker_stays_in_it(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Whatever rewrites the marker: a command, a repair, an upgrade."""
    async with running(hs, tmp_path) as bot:
        anna = hs.user("anna")
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        more = {"agent": "Ada", "colour": "red", "answer": "members"}
        marker = hs.room(chat_id).state[MARKER_TYPE, bot.me.user_id]
        bot.me.set_state(chat_id, MARKER_TYPE, {**marker, **more}, state_key=bot.me.user_id)
        for command in ("!chat clear", "!chat archive", "!chat unarchive", "!chat rename Other"):
            await bot.ask(anna, chat_id, command)
        await bot.stop()
        marker = hs.room(chat_id).state[MARKER_TYPE, bot.me.user_id]
        without_key = {key: value for key, value in marker.items() if key != "chat_id"}
        bot.me.set_state(chat_id, MARKER_TYPE, without_key, state_key=bot.me.user_id)
        await bot.start()
        await bot.settled()
        new_id = bot.me.upgrade(chat_id, "12")
        await bot.settled()
        for room_id in (chat_id, new_id):
            marker = hs.room(room_id).state[MARKER_TYPE, bot.me.user_id]
            assert {key: marker.get(key) for key in more} == more
            assert marker["chat_id"] == "C1"
            assert marker["conversation"] == 1


# Rooms from before markers


def legacy_home(bot: Bot, owner: User, *, chats: int = 2) -> tuple[RoomID, list[RoomID]]:
    """A home as it was made before there were markers."""
    space_id = bot.me.create_space(name="Old home", invite=[owner])
    owner.join(space_id)
    room_ids = []
    for number in range(chats):
        room_id = bot.me.create_room(name=f"Old chat {number}", invite=[owner])
        bot.me.set_state(space_id, "m.space.child", {"via": ["fake.test"]}, state_key=room_id)
        owner.join(room_id)
        room_ids.append(room_id)
    return space_id, room_ids


async def test_homes_from_before_markers_are_taken_in_and_marked(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path)
    space_id, room_ids = legacy_home(bot, anna)
    rooms = set(hs.rooms)
    async with running(hs, tmp_path) as bot:
        await bot.settled()
        assert [row["space_id"] for row in bot.tables()["homes"]] == [space_id]
        keys = {room_id: derive_platform_chat_id(room_id) for room_id in room_ids}
        assert {r["room_id"]: r["platform_chat_id"] for r in bot.tables()["chats"]} == keys
        for number, room_id in enumerate(room_ids, start=1):
            assert hs.room(room_id).state[MARKER_TYPE, bot.me.user_id] == {
                "version": 1,
                "room_type": "chat",
                "user_id": anna.user_id,
                "chat_id": f"C{number}",
                "platform_chat_id": keys[room_id],
            }
        tables = bot.tables()
        await bot.stop()
        bot.wipe()
        await bot.start()
        await bot.settled()
        assert bot.tables() == tables
        assert set(hs.rooms) == rooms


async def test_a_stored_key_is_kept_and_stamped(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="reconcile: {adopt_unmarked: true}") as bot:
        (_, (room_id, _)) = legacy_home(bot, anna)
        await bot.restart()
        await bot.stop()
        bot.alter("UPDATE chats SET platform_chat_id = ? WHERE room_id = ?", KEY, room_id)
        hs.force_state(room_id, MARKER_TYPE, {}, sender="bot", state_key=bot.me.user_id)
        await bot.start()
        await bot.settled()
        assert bot.key(room_id) == KEY
        marker = hs.room(room_id).state[MARKER_TYPE, bot.me.user_id]
        assert marker["platform_chat_id"] == KEY
        await bot.stop()
        bot.wipe()
        await bot.start()
        assert await bot.ask(anna, room_id, "Hello") == f"Hello\n\n({KEY})"


async def test_the_first_message_is_routed_by_a_key_that_is_already_stored(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """The marker may be long in coming: its requests are held up here for ever."""
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path)
    (_, (room_id, _)) = legacy_home(bot, anna)
    stamping = hs.fail(Match(method="PUT", path=MARKER_TYPE), Hang(), times=None)
    anna.send(room_id, "Hello")
    async with running(hs, tmp_path, config="catch_up: {max_age: 600}") as bot:
        anna.send(room_id, "Hello again")
        await stamping.reached()
        key = derive_platform_chat_id(room_id)
        answers = [f"Hello\n\n({key})", f"Hello again\n\n({key})"]
        assert await bot.hear(room_id, 2) == answers
        assert bot.key(room_id) == key
        await bot.kill()
        stamping.cancel()
        await bot.start()


async def test_other_plugins_spaces_are_left_alone_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    legacy_home(Bot(hs, tmp_path), anna)
    async with running(hs, tmp_path, config="reconcile: {adopt_unmarked: false}") as bot:
        await bot.settled()
        assert bot.tables() == {"homes": [], "chats": []}
        assert hs.writes == []
