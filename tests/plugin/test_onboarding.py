"""From an invite to a home: made once, complete, and finished if a crash left it half made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import (
    DropAfter,
    DropBefore,
    FakeHomeserver,
    Hang,
    Match,
    MatrixError,
    Recorded,
    Respond,
    Truncate,
    User,
)
from tests.fake.events import Event
from tests.plugin.harness import Bot, running, until

TWO_CHATS = """
rooms:
    space_name: Anna's place
    initial_chats: [Work, Play]
"""


def is_complete(bot: Bot, user: User, *, names: tuple[str, ...] = ("General",)) -> bool:
    """One Space, each initial chat once, all marked, linked, and the owner asked in."""
    (space_id,) = bot.spaces_of(user)
    space = bot.hs.room(space_id)
    chats = [bot.hs.room(room_id) for room_id in bot.chats_of(user)]
    assert [chat.state["m.room.name", ""]["name"] for chat in chats] == list(names)
    for number, chat in enumerate(chats, start=1):
        marker = chat.state[MARKER_TYPE, bot.me.user_id]
        assert {key: marker[key] for key in marker if key != "made_for"} == {
            "version": 1,
            "room_type": "chat",
            "user_id": user.user_id,
            "chat_id": f"C{number}",
            "platform_chat_id": derive_platform_chat_id(chat.room_id),
        }
        assert space.state["m.space.child", chat.room_id]["via"] == [bot.hs.server_name]
        assert chat.members[user.user_id] in {"invite", "join"}
    assert space.members[user.user_id] in {"invite", "join"}
    made = {room_id for room_id, room in bot.hs.rooms.items() if room.creator == bot.me.user_id}
    assert made == {space_id, *(chat.room_id for chat in chats)}
    return True


@pytest.mark.parametrize("version", ["11", "12"])
async def test_an_invite_makes_a_whole_home(
    hs: FakeHomeserver, tmp_path: Path, version: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=f'rooms: {{version: "{version}"}}') as bot:
        invited_in = anna.create_room(invite=[bot.me])
        (welcome,) = await bot.hear(invited_in, 1)
        await bot.settled()
        space_id = bot.space_of(anna)
        (chat_id,) = bot.chats_of(anna)
        url = f"https://matrix.to/#/%21{space_id[1:].replace(':', '%3A')}?via=fake.test"
        assert welcome == (
            f"This is your home: open it ({url}). You have invites to it and to its chats."
        )
        space, chat = hs.room(space_id), hs.room(chat_id)
        assert (space.version, space.room_type) == (version, "m.space")
        assert space.members == {bot.me.user_id: "join", anna.user_id: "invite"}
        assert space.state[MARKER_TYPE, bot.me.user_id] == {
            "version": 1,
            "room_type": "space",
            "user_id": anna.user_id,
            "initial_chats": ["General"],
        }
        assert space.state["m.room.name", ""] == {"name": "Homeroom"}
        assert space.state["m.space.child", chat_id] == {
            "via": ["fake.test"],
            "order": "000001",
            "suggested": True,
        }
        assert (chat.version, chat.room_type) == (version, None)
        assert chat.members == {bot.me.user_id: "join", anna.user_id: "invite"}
        assert chat.state["m.space.parent", space_id] == {"via": ["fake.test"], "canonical": True}
        assert chat.state["m.room.join_rules", ""] == {
            "join_rule": "restricted",
            "allow": [{"type": "m.room_membership", "room_id": space_id}],
        }
        assert chat.state["m.room.guest_access", ""] == {"guest_access": "forbidden"}
        assert is_complete(bot, anna)
        key = derive_platform_chat_id(chat_id)
        assert bot.tables() == {
            "homes": [
                {
                    "matrix_user_id": anna.user_id,
                    "space_id": space_id,
                    "status": "active",
                    "initial_chats": '["General"]',
                }
            ],
            "chats": [
                {
                    "room_id": chat_id,
                    "room_type": "chat",
                    "matrix_user_id": anna.user_id,
                    "space_id": space_id,
                    "chat_id": "C1",
                    "platform_chat_id": key,
                    "name": "General",
                    "status": "active",
                    "conversation": None,
                    "conversation_since": None,
                    "answer": None,
                }
            ],
        }
        anna.join(space_id)
        anna.join(chat_id)
        assert await bot.ask(anna, chat_id, "Hello") == f"Hello\n\n({key})"


async def test_whoever_is_in_the_space_may_join_its_chats(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        anna.invite(space_id, bert)
        bert.join(space_id)
        bert.join(bot.chats_of(anna)[0])
        assert bert.user_id in hs.room(bot.chats_of(anna)[0]).joined


async def test_a_home_starts_with_the_chats_of_the_settings(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        space_id = await bot.onboard(anna)
        assert is_complete(bot, anna, names=("Work", "Play"))
        assert hs.room(space_id).state["m.room.name", ""] == {"name": "Anna's place"}
        orders = [
            hs.room(space_id).state["m.space.child", room_id]["order"]
            for room_id in bot.chats_of(anna)
        ]
        assert orders == ["000001", "000002"]


async def test_a_second_invite_shows_the_way_to_the_first_home(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        rooms, tables = set(hs.rooms), bot.tables()
        again = anna.create_room(invite=[bot.me])
        (words,) = await bot.hear(again, 1)
        await bot.settled()
        assert bot.space_of(anna)[1:] in words
        assert set(hs.rooms) == {*rooms, again}
        assert bot.tables() == tables


async def test_invites_at_the_same_moment_make_one_home(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        rooms = [anna.create_room(invite=[bot.me]) for _ in range(5)]
        for room_id in rooms:
            await bot.hear(room_id, 1)
        await bot.settled()
        assert is_complete(bot, anna)


async def test_many_people_get_a_home_each(hs: FakeHomeserver, tmp_path: Path) -> None:
    people = [hs.user(f"user{number}") for number in range(8)]
    async with running(hs, tmp_path) as bot:
        rooms = [person.create_room(invite=[bot.me]) for person in people]
        for room_id in rooms:
            await bot.hear(room_id, 1)
        await bot.settled()
        assert {row["matrix_user_id"] for row in bot.tables()["homes"]} == {
            person.user_id for person in people
        }
        assert [len(bot.chats_of(person)) for person in people] == [1] * 8
        assert all(len(bot.spaces_of(person)) == 1 for person in people)


async def test_there_are_no_more_homes_than_the_settings_allow(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config="limits: {homes: 1}") as bot:
        await bot.onboard(anna)
        asked = bert.create_room(invite=[bot.me])
        assert await bot.hear(asked, 1) == [replies.too_many_homes()]
        await bot.settled()
        assert is_complete(bot, anna)
        assert not bot.spaces_of(bert)


# Rooms that are nobody's chat


async def test_a_word_in_a_room_for_two_brings_a_home(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    room_id = anna.create_room(invite=[hs.user("bot")])
    hs.user("bot").join(room_id)
    async with running(hs, tmp_path) as bot:
        await bot.ask(anna, room_id, "Anybody here?")
        await bot.settled()
        assert is_complete(bot, anna)


async def test_the_way_home_is_shown_to_who_writes_elsewhere_and_not_at_every_word(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        invited_in = anna.create_room(invite=[bot.me])
        await bot.hear(invited_in, 1)
        await bot.ask(anna, invited_in, "Hello?")
        anna.send(invited_in, "Hello??")
        await bot.settled()
        space_id = bot.space_of(anna)
        url = f"https://matrix.to/#/%21{space_id[1:]}?via=fake.test"
        assert bot.words(invited_in)[1:] == [
            f"Your chats are in your home: open it ({url}). In this room I do not answer."
        ]


async def test_in_groups_the_bot_is_silent(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, bert, bot_user = hs.user("anna"), hs.user("bert"), hs.user("bot")
    room_id = anna.create_room(invite=[bert, bot_user])
    bert.join(room_id)
    bot_user.join(room_id)
    async with running(hs, tmp_path) as bot:
        anna.send(room_id, "Hello")
        bert.send(room_id, "!chat new")
        await bot.settled()
        assert bot.words(room_id) == []
        assert bot.tables() == {"homes": [], "chats": []}


async def test_a_group_whose_others_have_left_is_a_room_for_two(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert, bot_user = hs.user("anna"), hs.user("bert"), hs.user("bot")
    room_id = anna.create_room(invite=[bert, bot_user])
    bert.join(room_id)
    bot_user.join(room_id)
    async with running(hs, tmp_path) as bot:
        anna.send(room_id, "Hello")
        await bot.settled()
        assert bot.words(room_id) == []
        bert.leave(room_id)
        await bot.ask(anna, room_id, "And now?")
        await bot.settled()
        assert is_complete(bot, anna)


# What goes wrong on the way


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(8))
async def test_killed_at_any_request_the_home_is_finished_by_the_next_sign_of_life(
    hs: FakeHomeserver, tmp_path: Path, step: int, moment: str
) -> None:
    """The process dies right before, or right after, the server carries the request out."""
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path, config=TWO_CHATS)

    def is_write(request: Recorded) -> bool:
        return request.user == bot.me.user_id and request.changes_rooms

    await bot.start()
    fault = hs.fail(Match(when=is_write), Hang(after=moment == "after"), skip=step)
    invited_in = anna.create_room(invite=[bot.me])
    request = await fault.reached()
    if moment == "after":
        await until("the server has done it", lambda: request.status is not None)
    await bot.kill()
    hs.faults.clear()

    await bot.start()
    await bot.settled()
    anna.send(invited_in, "Are you there?")
    await bot.settled()
    if step < 7:  # else the welcome was all that was missing
        assert is_complete(bot, anna, names=("Work", "Play"))
    (chat_id, _) = bot.chats_of(anna)
    anna.join(chat_id)
    assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
    await bot.stop()


async def test_an_owner_who_joins_the_space_is_a_sign_of_life(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path, config=TWO_CHATS)
    await bot.start()
    second = hs.fail(Match(path="createRoom"), Hang(), skip=1)
    anna.create_room(invite=[bot.me])
    await second.reached()
    await bot.kill()
    hs.faults.clear()
    await bot.start()
    anna.join(bot.space_of(anna))
    await bot.settled()
    assert is_complete(bot, anna, names=("Work", "Play"))
    await bot.stop()


LOST_ANSWERS = {
    "dropped": DropAfter(),
    "cut off": Truncate(),
    "cut off at the first byte": Truncate(share=0),
}
NOT_MADE = {
    "dropped": DropBefore(),
    "500": Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "502 from a proxy": Respond(502, text="<html>Bad gateway</html>"),
    "a good answer of somebody else": Respond(200, text="<html>Log in to the hotel</html>"),
}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("action", LOST_ANSWERS.values(), ids=LOST_ANSWERS.keys())
async def test_a_room_whose_answer_was_lost_is_found_not_made_again(
    hs: FakeHomeserver, tmp_path: Path, action: DropAfter | Truncate, number: int
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        hs.fail(Match(path="createRoom$"), action, skip=number)
        await bot.onboard(anna)
        assert is_complete(bot, anna, names=("Work", "Play"))
        assert len([r for r in hs.requests if r.route == "createRoom"]) == 3


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("action", NOT_MADE.values(), ids=NOT_MADE.keys())
async def test_a_room_that_was_not_made_is_made_afterwards(
    hs: FakeHomeserver, tmp_path: Path, action: DropBefore | Respond, number: int
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        hs.fail(Match(path="createRoom$"), action, skip=number)
        invited_in = anna.create_room(invite=[bot.me])
        await bot.settled()
        assert replies.OUTAGE not in bot.words(invited_in)
        assert len([r for r in hs.requests if r.route == "createRoom"]) == 4
        assert is_complete(bot, anna, names=("Work", "Play"))


async def test_a_refusal_is_told(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        hs.fail(
            Match(path="createRoom$"),
            Respond(403, {"errcode": "M_FORBIDDEN", "error": "No rooms for *you*"}),
            times=2,  # with an alias and without
        )
        invited_in = anna.create_room(invite=[bot.me])
        assert await bot.hear(invited_in, 1) == [
            "The homeserver refused that: M_FORBIDDEN: No rooms for *you*"
        ]


@pytest.mark.parametrize("status", [403, 500])
async def test_a_room_that_was_kept_although_it_was_not_granted_is_found(
    hs: FakeHomeserver, tmp_path: Path, status: int
) -> None:
    """Synapse makes the room first, and then fails at the invite that was asked for with it."""
    anna = hs.user("anna")
    change = hs.world.change_membership
    failed: list[str] = []

    def fail_once(
        sender: str, room_id: str, target: str, action: str, content: Any = None
    ) -> Event:
        if action == "invite" and target == anna.user_id and not failed:
            failed.append(room_id)
            raise MatrixError(status, "M_UNKNOWN", "not now")
        return change(sender, room_id, target, action, content)

    hs.world.change_membership = fail_once  # type: ignore[method-assign]
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        assert failed == [bot.space_of(anna)]
        assert is_complete(bot, anna)
