"""From an invite to a home, what its owner can do with it, and who cannot.

Issue 2, "Must be seen", 1.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.homes import (
    Home,
    ask,
    finished,
    invite_bot,
    marked,
    marker,
    move_in,
    onboard,
    room_state,
    say_and_hear,
    start,
    tables,
    welcomed,
)
from tests.stack.http import ApiError
from tests.stack.stack import DEFAULT_CONFIG, MARKER_TYPE, MakeStack, MakeSynapse, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CLIENT = "/_matrix/client/v3"
THREE_CHATS = ("General", "Ideas & drafts", "Über *alles*")


@pytest.fixture
async def stack(make_bot: MakeStack) -> Stack:
    """A bot with the default configuration, on a maubot that is shared: it must not be stopped."""
    return await make_bot()


@pytest.fixture
async def own_stack(make_stack: MakeStack, plugin: Path) -> Stack:
    """A bot on a maubot of its own."""
    return await make_stack(plugin=plugin)


async def homes_of(stack: Stack, user: MatrixUser) -> set[str]:
    """Ask the homeserver for every Space of the bot's that says it is this person's."""
    found = set()
    for room_id in await stack.bot_rooms():
        content = await marker(stack, room_id)
        if content and (content["room_type"], content["user_id"]) == ("space", user.user_id):
            found.add(room_id)
    return found


@pytest.mark.parametrize("version", ["11", "12"])
async def test_an_invite_makes_a_home_with_every_property_that_it_needs(
    make_bot: MakeStack, version: str
) -> None:
    config = {
        **DEFAULT_CONFIG,
        "rooms": {
            "space_name": "Alice & bot",
            "initial_chats": list(THREE_CHATS),
            "version": version,
        },
    }
    stack = await make_bot(config=config)
    bot, server = stack.bot.user_id, stack.synapse.server_name
    alice = await stack.user("alice")
    direct = await invite_bot(stack, alice)
    space = await alice.wait_for_invite(name="Alice & bot", space=True)
    chats = [await alice.wait_for_invite(name=name, space=False) for name in THREE_CHATS]
    home = Home(
        user=alice, direct=direct, space=space, chats=dict(zip(THREE_CHATS, chats, strict=True))
    )
    await finished(stack, home)
    assert await stack.bot_rooms() == {direct, space, *chats}

    state = await room_state(stack, space)
    create = state["m.room.create", ""]
    assert create["sender"] == bot
    assert create["content"]["type"] == "m.space"
    assert create["content"]["room_version"] == version
    assert [key for kind, key in state if kind == MARKER_TYPE] == [bot]
    assert state[MARKER_TYPE, bot]["sender"] == bot
    assert state[MARKER_TYPE, bot]["content"] == {
        "version": 1,
        "room_type": "space",
        "user_id": alice.user_id,
        "initial_chats": list(THREE_CHATS),
    }
    assert state["m.room.join_rules", ""]["content"]["join_rule"] == "invite"
    assert _memberships(state) == {bot: "join", alice.user_id: "invite"}
    links = {key: e["content"] for (kind, key), e in state.items() if kind == "m.space.child"}
    assert links == {
        room_id: {"via": [server], "order": f"{number:06d}", "suggested": True}
        for number, room_id in enumerate(chats, start=1)
    }

    rows = await tables(stack)
    assert rows.homes == {
        alice.user_id: {
            "matrix_user_id": alice.user_id,
            "space_id": space,
            "status": "active",
            "initial_chats": list(THREE_CHATS),
        }
    }
    for number, (name, room_id) in enumerate(home.chats.items(), start=1):
        state = await room_state(stack, room_id)
        create = state["m.room.create", ""]
        assert create["sender"] == bot
        assert "type" not in create["content"]
        assert create["content"]["room_version"] == version
        key = state[MARKER_TYPE, bot]["content"].pop("platform_chat_id")
        assert [key for kind, key in state if kind == MARKER_TYPE] == [bot]
        assert state[MARKER_TYPE, bot]["content"] == {
            "version": 1,
            "room_type": "chat",
            "user_id": alice.user_id,
            "chat_id": f"C{number}",
        }
        assert [key for kind, key in state if kind == "m.space.parent"] == [space]
        assert state["m.space.parent", space]["content"] == {"via": [server], "canonical": True}
        assert state["m.room.join_rules", ""]["content"] == {
            "join_rule": "restricted",
            "allow": [{"type": "m.room_membership", "room_id": space}],
        }
        assert state["m.room.guest_access", ""]["content"] == {"guest_access": "forbidden"}
        assert state["m.room.name", ""]["content"] == {"name": name}
        assert _memberships(state) == {bot: "join", alice.user_id: "invite"}
        powers = state["m.room.power_levels", ""]["content"]["users"]
        # From version 12 on the creator has all power and is not listed.
        assert powers == {alice.user_id: 50} | ({bot: 100} if version == "11" else {})
        assert rows.chats[room_id] == {
            "room_id": room_id,
            "room_type": "chat",
            "matrix_user_id": alice.user_id,
            "space_id": space,
            "chat_id": f"C{number}",
            "platform_chat_id": key,
            "name": name,
            "status": "active",
            "conversation": None,
            "conversation_since": None,
            "answer": None,
        }
    assert rows.chats.keys() == set(chats)
    assert len(set(rows.keys().values())) == len(chats)

    await alice.join(space)
    assert await alice.space_children(space) == chats
    for room_id in chats:
        await alice.join(room_id)
        assert await say_and_hear(stack, alice, room_id, "Hello!") == rows.keys()[room_id]
    welcome = await welcomed(stack, alice, direct)
    assert quote(space) in welcome.body
    assert welcome.msgtype == "m.notice"


def _memberships(state: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    return {
        key: event["content"]["membership"]
        for (kind, key), event in state.items()
        if kind == "m.room.member"
    }


async def test_the_homeservers_default_room_version_is_used(
    make_synapse: MakeSynapse, make_bot: MakeStack
) -> None:
    synapse = await make_synapse(default_room_version="11")
    stack = await make_bot(synapse=synapse)
    home = await onboard(stack, "alice")
    for room_id in home.rooms:
        state = await room_state(stack, room_id)
        assert state["m.room.create", ""]["content"]["room_version"] == "11"
        assert state["m.room.power_levels", ""]["content"]["users"] == {
            home.user.user_id: 50,
            stack.bot.user_id: 100,
        }


async def test_who_is_in_the_space_can_join_its_chats_and_nobody_else(stack: Stack) -> None:
    alice, bob = await stack.user("alice"), await stack.user("bob")
    await invite_bot(stack, alice)
    space = await alice.wait_for_invite(space=True)
    chat = await alice.wait_for_invite(name="General")
    with pytest.raises(ApiError, match="M_FORBIDDEN"):
        await bob.join(chat)

    await alice.leave(chat)  # declines: from here on only the Space can let her in
    with pytest.raises(ApiError, match="M_FORBIDDEN"):
        await alice.join(chat)
    await alice.join(space)
    await alice.join(chat)
    key = (await marked(stack, chat))["platform_chat_id"]
    assert await say_and_hear(stack, alice, chat, "Here I am") == key


async def test_a_second_invite_gets_a_pointer_to_the_first_home(stack: Stack) -> None:
    home = await onboard(stack, "alice")
    before, rooms = await tables(stack), await stack.bot_rooms()
    second = await invite_bot(stack, home.user)
    pointer = await home.user.wait_for_message(second, sender=stack.bot.user_id)
    assert quote(home.space) in pointer.body
    await home.user.send_text(second, "Are you there?")
    assert await say_and_hear(stack, home.user, home.chat, "Yes?") == before.keys()[home.chat]
    assert await tables(stack) == before
    assert await stack.bot_rooms() == rooms | {second}
    assert await homes_of(stack, home.user) == {home.space}


@pytest.mark.parametrize("down", [False, True], ids=["live", "while-down"])
async def test_invites_at_the_same_moment_make_one_home(
    make_stack: MakeStack, make_bot: MakeStack, plugin: Path, *, down: bool
) -> None:
    stack = await (make_stack(plugin=plugin) if down else make_bot())
    alice = await stack.user("alice")
    if down:
        await stack.maubot.stop()
    directs = await asyncio.gather(*(alice.start_dm(stack.bot.user_id) for _ in range(4)))
    if down:
        await start(stack)
    home = await move_in(stack, alice)
    for direct in directs:
        message = await welcomed(stack, alice, direct)
        assert quote(home.space) in message.body
    assert await stack.bot_rooms() == home.rooms | set(directs)
    assert await homes_of(stack, alice) == {home.space}
    assert alice.invites() == {}


async def test_several_people_at_once_get_a_home_each(stack: Stack) -> None:
    names = ["ann", "ben", "cleo", "dan", "eve", "finn"]
    homes = await asyncio.gather(*(onboard(stack, name) for name in names))
    rows = await tables(stack)
    assert {owner: row["space_id"] for owner, row in rows.homes.items()} == {
        home.user.user_id: home.space for home in homes
    }
    assert {
        (row["matrix_user_id"], row["space_id"], room) for room, row in rows.chats.items()
    } == {(home.user.user_id, home.space, home.chat) for home in homes}
    assert {row["chat_id"] for row in rows.chats.values()} == {"C1"}
    keys = await asyncio.gather(
        *(say_and_hear(stack, home.user, home.chat, "Hi") for home in homes)
    )
    assert keys == [rows.keys()[home.chat] for home in homes]
    assert len(set(keys)) == len(homes)
    assert await stack.bot_rooms() == {
        room for home in homes for room in (*home.rooms, home.direct)
    }


async def test_a_room_that_was_seen_half_made_is_seen_again(stack: Stack) -> None:
    """The bot is in a new room before its marker is: somebody else's look may come between."""
    home = await onboard(stack, "alice")
    bot, content = stack.bot, {"name": "Half", "preset": "private_chat"}
    half = (await stack.bot_api.request("POST", f"{CLIENT}/createRoom", content))["room_id"]
    await onboard(stack, "bob")  # looks at every room that it has not seen
    assert half not in (await tables(stack)).chats
    whole = {"version": 1, "room_type": "chat", "user_id": home.user.user_id, "chat_id": "C2"}
    path = f"{CLIENT}/rooms/{quote(half)}/state/{MARKER_TYPE}/{quote(bot.user_id)}"
    await stack.bot_api.request("PUT", path, whole)
    assert "(C3)" in (await ask(stack, home.user, home.chat, "!chat new")).body
    rows = (await tables(stack)).chats
    assert (rows[half]["chat_id"], rows[half]["matrix_user_id"]) == ("C2", home.user.user_id)


async def test_who_is_not_allowed_is_rejected_with_a_reason(make_bot: MakeStack) -> None:
    config = {**DEFAULT_CONFIG, "access": {"allow": ["@alice-*:homeroom.test"]}}
    stack = await make_bot(config=config)
    mallory = await stack.user("mallory")
    direct = await mallory.start_dm(stack.bot.user_id)

    async def rejected() -> dict[str, Any] | None:
        member = (await mallory.state(direct))["m.room.member", stack.bot.user_id]["content"]
        return member if member["membership"] == "leave" else None

    member = await eventually("the bot rejects the invite", rejected)
    assert member["reason"] == "You are not among the people this bot works for."
    home = await onboard(stack, "alice")
    assert await stack.bot_rooms() == home.rooms | {home.direct}
    assert (await tables(stack)).homes.keys() == {home.user.user_id}
    assert mallory.invites() == {}


async def test_an_invite_that_came_while_maubot_was_down_is_accepted(own_stack: Stack) -> None:
    stack = own_stack
    alice = await stack.user("alice")
    await stack.maubot.stop()
    direct = await alice.start_dm(stack.bot.user_id)
    await start(stack)
    home = await move_in(stack, alice, direct=direct)
    assert await stack.bot_rooms() == home.rooms | {direct}
    assert await say_and_hear(stack, alice, home.chat, "Good morning")


async def test_an_owner_who_left_is_invited_again_when_they_ask(stack: Stack) -> None:
    home = await onboard(stack, "alice")
    before = await tables(stack)
    await home.user.leave(home.space)
    await invite_bot(stack, home.user)
    assert await home.user.wait_for_invite(space=True) == home.space
    await home.user.join(home.space)
    assert await homes_of(stack, home.user) == {home.space}
    assert await tables(stack) == before


async def test_a_chat_stays_archived_without_its_row(own_stack: Stack) -> None:
    stack = own_stack
    home = await onboard(stack, "alice")
    await ask(stack, home.user, home.chat, "!chat archive")
    before = await tables(stack)
    await stack.maubot.stop()
    await stack.database.delete()
    await start(stack)
    assert await tables(stack) == before
    assert before.chats[home.chat]["status"] == "archived"
    assert await home.user.space_children(home.space) == []
    await ask(stack, home.user, home.chat, "!chat unarchive")
    assert await home.user.space_children(home.space) == [home.chat]
    key = await say_and_hear(stack, home.user, home.chat, "Again")
    assert key == before.keys()[home.chat]
