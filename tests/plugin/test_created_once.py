"""Rooms are created once, whoever dies when, and however late the homeserver does something."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.homes import room_creation
from homeroom.homes.room_creation import ALIAS_PREFIX
from tests.fake import FakeHomeserver, Hang, Late, Match, Respond, User
from tests.plugin.harness import Bot, running, until
from tests.plugin.test_onboarding import TWO_CHATS, is_complete

CREATE = Match(path="createRoom$")


def aliases(hs: FakeHomeserver) -> list[str]:
    return [alias for alias in hs.world.aliases.rooms if alias.startswith(f"#{ALIAS_PREFIX}")]


def requests(hs: FakeHomeserver, bot: Bot, since: int) -> list[str]:
    """What the bot asked the homeserver to do or to tell, but for maubot's own syncs."""
    return [
        f"{request.method} {request.route}"
        for request in hs.requests[since:]
        if request.user == bot.me.user_id and not bot.is_long_poll(request)
    ]


@pytest.mark.parametrize("number", range(3))
async def test_a_request_that_is_done_late_makes_no_second_room(
    hs: FakeHomeserver, tmp_path: Path, number: int
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        late = hs.fail(CREATE, Late(), skip=number)
        invited_in = anna.create_room(invite=[bot.me])
        await late.reached()
        await bot.hear(invited_in, 1)
        late.release()
        await bot.settled()
        assert is_complete(bot, anna, names=("Work", "Play"))


@pytest.mark.parametrize("is_lost", [False, True], ids=["with its database", "without"])
@pytest.mark.parametrize("lag", [False, True], ids=["fresh reads", "late reads"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(3))
async def test_a_new_chat_whose_maker_is_killed_is_made_once_and_told(
    hs: FakeHomeserver, tmp_path: Path, step: int, moment: str, lag: bool, is_lost: bool
) -> None:
    """The process dies right before, or right after, a request of `!chat new` is carried out."""
    if is_lost and moment == "before":
        pytest.skip("what is not known anywhere cannot come again")
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path)
    await bot.start()
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    if lag:
        hs.lag()
    writes = Match(when=lambda r: r.user == bot.me.user_id and r.changes_rooms)
    fault = hs.fail(writes, Hang(after=moment == "after"), skip=step)
    anna.send(chat_id, "!chat new Work")
    request = await fault.reached()
    if moment == "after":
        await until("the server has done it", lambda: request.status is not None)
    await bot.kill()
    hs.faults.clear()
    if is_lost:
        bot.wipe()
    await bot.start()
    await bot.settled()
    assert is_complete(bot, anna, names=("General", "Work"))
    if not is_lost:
        (word,) = bot.words(chat_id)
        assert "Work" in word
    await bot.stop()


@pytest.mark.parametrize("step", range(8))
async def test_killed_while_a_home_is_made_and_reads_are_late_there_is_one(
    hs: FakeHomeserver, tmp_path: Path, step: int
) -> None:
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path, config=TWO_CHATS)
    await bot.start()
    await bot.settled()
    hs.lag()
    writes = Match(when=lambda r: r.user == bot.me.user_id and r.changes_rooms)
    fault = hs.fail(writes, Hang(after=True), skip=step)
    invited_in = anna.create_room(invite=[bot.me])
    request = await fault.reached()
    await until("the server has done it", lambda: request.status is not None)
    await bot.kill()
    hs.faults.clear()
    await bot.start()
    await bot.hear(invited_in, 1)
    await bot.settled()
    assert is_complete(bot, anna, names=("Work", "Play"))
    await bot.stop()


async def test_nobody_is_shown_the_alias(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        rooms = [space_id, *bot.chats_of(anna)]
        assert {hs.world.aliases.rooms[alias] for alias in aliases(hs)} == set(rooms)
        for room_id in rooms:
            assert hs.room(room_id).state["m.room.canonical_alias", ""] == {}
        assert not any("anna" in alias for alias in aliases(hs))


async def test_it_costs_no_request(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.settled()
        since = len(hs.requests)
        await bot.onboard(anna)
        asked = requests(hs, bot, since)
        assert [r for r in asked if "directory" in r or "aliases" in r] == []
        assert asked.count("POST createRoom") == 2


async def test_where_aliases_are_forbidden_homes_are_made_without(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    hs.world.aliases.allowed = False
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        for user in (anna, bert):
            room_id = user.create_room(invite=[bot.me])
            await bot.hear(room_id, 1)
            await bot.settled()
            assert len(bot.spaces_of(user)) == 1
            assert len(bot.chats_of(user)) == 2
        assert aliases(hs) == []


async def test_an_alias_without_a_room_is_deleted_and_used_again(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The homeserver died between the alias and the room."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        await forget_the_home(bot, anna)
        (alias,) = (a for a in aliases(hs) if hs.world.aliases.rooms[a] == space_id)
        hs.world.aliases.rooms[alias] = "!nowhere:fake.test"
        room_id = anna.create_room(invite=[bot.me])
        await until("it is asked for", lambda: any("directory" in r.route for r in hs.requests))
        assert bot.spaces_of(anna) == []
        monkeypatch.setattr(room_creation, "ABANDONED_AFTER", -1)
        await until("a home", lambda: "This is your home" in "".join(bot.words(room_id)))
        await bot.settled()
        assert hs.world.aliases.rooms[alias] == bot.space_of(anna)


async def test_somebody_elses_alias_is_left_alone(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, mallory = hs.user("anna"), hs.user("mallory")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        await forget_the_home(bot, anna)
        (alias,) = (a for a in aliases(hs) if hs.world.aliases.rooms[a] == space_id)
        taken = mallory.create_room(preset="public_chat", invite=[bot.me])
        bot.me.join(taken)
        hs.world.aliases.rooms[alias] = taken
        hs.world.aliases.creators[alias] = mallory.user_id
        room_id = anna.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)
        await bot.settled()
        assert bot.space_of(anna) != space_id
        assert hs.world.aliases.rooms[alias] == taken


async def forget_the_home(bot: Bot, user: User) -> None:
    """Have the bot leave a home, as somebody does who has the account's password."""
    for room_id in [*bot.chats_of(user), *bot.spaces_of(user)]:
        bot.me.leave(room_id)
    await bot.settled()


async def test_an_owner_whose_space_was_left_gets_a_new_one(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        await forget_the_home(bot, anna)
        room_id = anna.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)
        await bot.settled()
        assert bot.space_of(anna) != space_id
        assert len(bot.chats_of(anna)) == 1


async def test_an_alias_that_is_reserved_for_others_is_done_without(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    hs.fail(CREATE, Respond(400, {"errcode": "M_EXCLUSIVE", "error": "Reserved"}))
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        await bot.onboard(anna)
        assert is_complete(bot, anna, names=("Work", "Play"))
        assert aliases(hs) == []


async def test_an_upgraded_room_keeps_its_alias(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        new = bot.me.upgrade(space_id, "12")
        await bot.settled()
        assert new in hs.world.aliases.rooms.values()
        assert space_id not in hs.world.aliases.rooms.values()
        assert [row["space_id"] for row in bot.tables()["homes"]] == [new]
        assert len(bot.chats_of(anna)) == 1


async def test_a_room_that_was_refused_half_way_is_not_taken_for_a_home(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its alias names a bare room then; the next attempt takes it away, when it is old enough."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        bare = bot.me.create_room()
        (alias,) = (a for a in aliases(hs) if hs.world.aliases.rooms[a] == bot.space_of(anna))
        await forget_the_home(bot, anna)
        hs.world.aliases.rooms[alias] = bare
        monkeypatch.setattr(room_creation, "ABANDONED_AFTER", -1)
        room_id = anna.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)
        await bot.settled()
        assert hs.world.aliases.rooms[alias] == bot.space_of(anna) != bare
