"""What changes while the bot runs: an event asks for another look, and the rows follow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Hang, Match, Respond
from tests.plugin.harness import Bot, Row, running, until


def row_of(bot: Bot, room_id: str) -> Row:
    (row,) = bot.query("SELECT * FROM chats WHERE room_id = ?", room_id)
    return row


@pytest.mark.parametrize("how", ["kick", "ban"])
async def test_removed_from_a_chat_its_row_is_left_and_comes_back_with_it(
    hs: FakeHomeserver, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = row_of(bot, chat_id)
        force_out(bot, chat_id, "ban" if how == "ban" else "leave", by=anna.user_id)
        await bot.settled()
        assert row_of(bot, chat_id) == {**before, "status": "left"}
        done = "banned" if how == "ban" else "removed"
        assert f"{done} by {anna.user_id} (out of line, really)" in caplog.text
        rooms = set(hs.rooms)
        force_out(bot, chat_id, "leave", by=anna.user_id)
        anna.invite(chat_id, bot.me)
        await bot.settled()
        assert row_of(bot, chat_id) == before
        assert set(hs.rooms) == rooms
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_what_is_said_in_a_chat_that_comes_back_is_answered_when_it_is_back(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        force_out(bot, chat_id, "leave", by=anna.user_id)
        await bot.settled()
        looking = hs.fail(Match(method="GET", path=f"{re.escape(chat_id)}/state$"), Hang())
        anna.invite(chat_id, bot.me)
        await looking.reached()
        anna.send(chat_id, "Hello")
        await until("news of it", bot.has_read_all)
        looking.release()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]


@pytest.mark.parametrize("is_lost", [False, True], ids=["with its row", "and its row is lost"])
@pytest.mark.parametrize("running_then", [True, False], ids=["while it runs", "while it is down"])
async def test_a_chat_that_was_just_made_and_left_stays_left_after_a_restart(
    hs: FakeHomeserver, tmp_path: Path, running_then: bool, is_lost: bool
) -> None:
    """That it was made counts against lists that are late, not against what was told since."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="rooms: {initial_chats: [One, Two]}") as bot:
        await bot.onboard(anna)
        one, two = bot.chats_of(anna)
        if not running_then:
            await bot.stop()
        bot.me.leave(two)
        if running_then:
            await bot.settled()
            await bot.stop()
        if is_lost:
            bot.alter("DELETE FROM chats")
        for _ in range(2):
            await bot.start()
            await bot.settled()
            rows = {row["room_id"]: row["status"] for row in bot.tables()["chats"]}
            assert rows == {one: "active", two: "left"}
            await bot.stop()


def force_out(bot: Bot, room_id: str, membership: str, *, by: str) -> None:
    """Only an administrator of the homeserver can remove the creator of a room."""
    content = {"membership": membership, "reason": "out of line,\nreally"}
    bot.hs.force_state(room_id, "m.room.member", content, sender=by, state_key=bot.me.user_id)


async def test_a_room_the_bot_was_taken_out_of_by_hand_comes_back_too(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Somebody uses the bot's own account: it leaves a chat, and joins it again."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        for room_id in (chat_id, space_id):
            bot.me.invite(room_id, hs.user("helper"))
            hs.user("helper").join(room_id)
            bot.me.leave(room_id)
            await bot.settled()
            assert bot.tables() != before
            hs.force_state(
                room_id,
                "m.room.member",
                {"membership": "join"},
                sender=bot.me.user_id,
                state_key=bot.me.user_id,
            )
            await bot.settled()
            assert bot.tables() == before


async def test_an_owner_who_leaves_is_not_asked_back(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config='admins: ["@admin:fake.test"]') as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        anna.leave(chat_id)
        anna.leave(space_id)
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert hs.invited(anna.user_id) == set()
        assert bot.tables() == before


async def test_a_chat_that_its_owner_left_is_offered_again_only_when_they_come(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.leave(chat_id)
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert hs.invited(anna.user_id) == set()
        asked = anna.create_room(invite=[bot.me])
        await bot.hear(asked, 1)
        await bot.settled()
        assert hs.invited(anna.user_id) == {chat_id}


async def test_an_owner_who_comes_back_is_asked_into_their_home(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        rooms = set(hs.rooms)
        anna.leave(chat_id)
        anna.leave(space_id)
        await bot.settled()
        asked = anna.create_room(invite=[bot.me])
        await bot.hear(asked, 1)
        await bot.settled()
        assert set(hs.rooms) == {*rooms, asked}
        anna.join(space_id)
        anna.join(chat_id)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_a_new_name_is_taken_over(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = row_of(bot, chat_id)
        anna.set_state(chat_id, "m.room.name", {"name": "Holidays"})
        await bot.settled()
        assert row_of(bot, chat_id) == {**before, "name": "Holidays"}


async def test_a_look_that_failed_is_tried_again(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = row_of(bot, chat_id)
        refusal = Respond(403, {"errcode": "M_FORBIDDEN", "error": "Not now"})
        hs.fail(Match(path="joined_rooms$"), refusal, times=3)
        anna.set_state(chat_id, "m.room.name", {"name": "Holidays"})
        await bot.settled()
        assert row_of(bot, chat_id) == {**before, "name": "Holidays"}


async def test_a_mark_that_its_owner_redacts_is_there_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        key = MARKER_TYPE, bot.me.user_id
        mark = hs.room(chat_id).state[key]
        anna.redact(chat_id, hs.world.rooms[chat_id].state[key].event_id)
        await bot.settled()
        assert hs.room(chat_id).state[key] == mark
        assert bot.tables() == before


async def test_a_link_that_somebody_removed_stays_removed(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        anna.set_state(space_id, "m.space.child", {}, state_key=chat_id)
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert bot.tables() == before
        assert hs.room(space_id).state["m.space.child", chat_id] == {}
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("running_then", [True, False], ids=["while it runs", "while it is down"])
async def test_an_upgraded_chat_goes_on_in_its_new_room(
    hs: FakeHomeserver, tmp_path: Path, running_then: bool
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config='rooms: {version: "11"}') as bot:
        space_id = await bot.onboard(anna)
        (old_id,) = bot.chats_of(anna)
        before = row_of(bot, old_id)
        if not running_then:
            await bot.stop()
        new_id = bot.me.upgrade(old_id, "12")
        bot.me.invite(new_id, anna)
        anna.join(new_id)
        if not running_then:
            await bot.start()
        await bot.settled()
        assert row_of(bot, old_id) == {**before, "status": "replaced"}
        assert row_of(bot, new_id) == {**before, "room_id": new_id}
        assert await bot.ask(anna, new_id, "Hello") == bot.echo(new_id, "Hello")
        assert hs.room(new_id).state[MARKER_TYPE, bot.me.user_id] == {
            "version": 1,
            "room_type": "chat",
            "user_id": anna.user_id,
            "chat_id": "C1",
            "platform_chat_id": before["platform_chat_id"],
        }
        assert hs.room(space_id).state["m.space.child", new_id]["via"]
        assert hs.room(space_id).state["m.space.child", old_id] == {}
        assert parents(hs, new_id) == {space_id}
        assert admitted(hs, new_id) == [space_id]
        await nothing_to_repair(bot)


def parents(hs: FakeHomeserver, room_id: str) -> set[str]:
    state = hs.room(room_id).state
    return {key for (kind, key), content in state.items() if kind == "m.space.parent" and content}


def admitted(hs: FakeHomeserver, room_id: str) -> list[str]:
    rules = hs.room(room_id).state["m.room.join_rules", ""]
    return [condition["room_id"] for condition in rules["allow"]]


async def nothing_to_repair(bot: Bot) -> None:
    """Start again: nothing is written."""
    await bot.settled()
    await bot.restart()
    mark = len(bot.hs.requests)
    await bot.settled()
    assert [
        request.route
        for request in bot.hs.requests[mark:]
        if request.method in ("PUT", "POST")
        and "msc3575" not in request.route
        and "account_data" not in request.route
    ] == []


@pytest.mark.parametrize("running_then", [True, False], ids=["while it runs", "while it is down"])
async def test_an_upgraded_space_takes_its_chats_along(
    hs: FakeHomeserver, tmp_path: Path, running_then: bool
) -> None:
    """Twice, and one chat with it; the owner is asked into all that is new."""
    anna = hs.user("anna")
    config = 'rooms: {version: "11", initial_chats: [One, Two, Three]}'
    async with running(hs, tmp_path, config=config) as bot:
        old_id = await bot.onboard(anna)
        one, two, three = bot.chats_of(anna)
        before = bot.tables()
        anna.set_state(old_id, "m.space.child", {}, state_key=three)
        force_out(bot, two, "leave", by=anna.user_id)
        await bot.settled()
        if not running_then:
            await bot.stop()
        between = bot.me.upgrade(old_id, "12")
        hs.clock.advance(600)
        space_id = bot.me.upgrade(between, "12")
        new_one = bot.me.upgrade(one, "12")
        if not running_then:
            await bot.start()
        await bot.settled()
        assert hs.invited(anna.user_id) == {space_id, new_one}
        for room_id in (space_id, new_one):
            anna.join(room_id)
        await bot.settled()
        (home,) = bot.tables()["homes"]
        assert home == {**before["homes"][0], "space_id": space_id}
        assert row_of(bot, new_one) == {
            **next(row for row in before["chats"] if row["room_id"] == one),
            "room_id": new_one,
            "space_id": space_id,
        }
        assert {row["space_id"] for row in bot.tables()["chats"]} == {space_id}
        assert await bot.ask(anna, new_one, "Hello") == bot.echo(new_one, "Hello")
        for room_id in (new_one, three):
            assert parents(hs, room_id) == {space_id}
            assert admitted(hs, room_id) == [space_id]
        children = hs.room(space_id).state
        assert children["m.space.child", new_one]["order"] == "000001"
        assert children["m.space.child", one] == {}
        assert ("m.space.child", three) not in children
        await nothing_to_repair(bot)
        force_out(bot, two, "join", by=bot.me.user_id)
        await bot.settled()
        assert parents(hs, two) == {space_id}
        assert set(bot.chats_of(anna)) == {one, new_one, two, three}


async def test_what_is_said_first_in_a_new_room_is_answered(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """However soon: the bot has not looked at that room when it hears of the message."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config='rooms: {version: "11"}') as bot:
        await bot.onboard(anna)
        (old_id,) = bot.chats_of(anna)
        key = bot.key(old_id)
        new_id = bot.me.upgrade(old_id, "12")
        anna.join(new_id)
        anna.send(new_id, "First")
        assert await bot.hear(new_id, 1) == [f"First\n\n({key})"]


async def test_an_upgrade_by_somebody_else_is_followed_when_they_invite_the_bot(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """An administrator of the homeserver has made themselves one of the Space."""
    anna, root = hs.user("anna"), hs.user("root")
    config = 'access: {allow: ["@anna:fake.test"]}\nrooms: {version: "11"}'
    async with running(hs, tmp_path, config=config) as bot:
        old_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        join = {"membership": "join"}
        sender = root.user_id
        hs.force_state(old_id, "m.room.member", join, sender=sender, state_key=sender)
        levels = hs.room(old_id).state["m.room.power_levels", ""]
        levels = {**levels, "users": {**levels["users"], sender: 100}}
        hs.force_state(old_id, "m.room.power_levels", levels, sender=bot.me.user_id)
        space_id = root.upgrade(old_id, "12")
        await bot.settled()
        root.invite(space_id, bot.me)
        await bot.settled()
        (home,) = bot.tables()["homes"]
        assert (home["space_id"], home["status"]) == (space_id, "active")
        assert hs.invited(anna.user_id) == {space_id}
        assert parents(hs, chat_id) == {space_id}
        assert hs.room(space_id).state[MARKER_TYPE, bot.me.user_id]["user_id"] == anna.user_id
        await nothing_to_repair(bot)


async def test_a_replacement_the_bot_is_not_in_is_joined(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config='rooms: {version: "11"}') as bot:
        await bot.onboard(anna)
        (old_id,) = bot.chats_of(anna)
        before = row_of(bot, old_id)
        new_id = anna.create_room(
            preset="public_chat",
            creation_content={"predecessor": {"room_id": old_id}},
        )
        hs.force_state(
            old_id,
            "m.room.tombstone",
            {"replacement_room": new_id, "body": "Moved"},
            sender=bot.me.user_id,
        )
        anna.set_state(old_id, "m.room.name", {"name": "A sign of life"})
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert row_of(bot, new_id)["platform_chat_id"] == before["platform_chat_id"]
        assert await bot.ask(anna, new_id, "Hello") == bot.echo(new_id, "Hello")


async def test_hostile_rooms_are_never_taken_in(hs: FakeHomeserver, tmp_path: Path) -> None:
    """A room with a copied marker, a foreign Space that links a chat: nothing of it is routed."""
    anna, mallory = hs.user("anna"), hs.user("mallory")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        marker = hs.room(chat_id).state[MARKER_TYPE, bot.me.user_id]
        copy = mallory.create_room(
            invite=[bot.me, anna],
            initial_state=[
                {"type": MARKER_TYPE, "state_key": "", "content": marker},
                {"type": MARKER_TYPE, "state_key": "x" * 200, "content": {"y": "z" * 30_000}},
                {"type": MARKER_TYPE, "state_key": mallory.user_id, "content": marker},
                {"type": "m.space.parent", "state_key": space_id, "content": {"via": ["x"]}},
            ],
        )
        trap = mallory.create_space(invite=[bot.me])
        mallory.set_state(trap, "m.space.child", {"via": ["fake.test"]}, state_key=chat_id)
        anna.join(copy)
        await bot.settled()
        anna.send(copy, "Is this my chat?")
        await bot.settled()
        after = bot.tables()
        assert [row for row in after["chats"] if row["matrix_user_id"] == anna.user_id] == before[
            "chats"
        ]
        assert copy not in {row["room_id"] for row in after["chats"]}
        assert trap not in {row["space_id"] for row in after["homes"]}
        await bot.restart()
        await bot.settled()
        assert bot.tables() == after
