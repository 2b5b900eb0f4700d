"""Homes from before markers are taken in, and keep their conversations.

Issue 2, "Must be seen", 3. The old homes are made here by the bot's own account, as a version
without markers would have made them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

import pytest

from tests.integration.homes import (
    Home,
    Summary,
    ask,
    make_admin,
    marked,
    marker,
    restart,
    say_and_hear,
    shown,
    start,
    tables,
    writes_of_bot,
)
from tests.stack.postgres import Postgres
from tests.stack.proxy import Answer, Hold
from tests.stack.stack import MARKER_TYPE, MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CLIENT = "/_matrix/client/v3"
NAMESPACE = UUID("5f1a4a52-5b0e-5d0c-9d1b-6b7a3a1c2e47")
"""Frozen: conversations that exist hang on it."""


def derived(room_id: str) -> str:
    return str(uuid5(NAMESPACE, room_id))


async def legacy_room(
    stack: Stack, user: MatrixUser, *, name: str, version: str | None, **content: Any
) -> str:
    """Have the bot make a room without a marker and the person join it."""
    body = {"name": name, "preset": "private_chat", "invite": [user.user_id], **content}
    if version is not None:
        body["room_version"] = version
    answer = await stack.bot_api.request("POST", f"{CLIENT}/createRoom", body)
    room_id: str = answer["room_id"]
    await user.join(room_id)
    return room_id


async def legacy_home(
    stack: Stack,
    name: str,
    *,
    chats: Sequence[str] = ("First", "Second"),
    version: str | None = None,
) -> Home:
    """A home as it was before markers: a Space, rooms, and links with `via`.

    maubot must not be running: a bot takes in at once what is made in its name.
    """
    assert not stack.maubot.running
    user = await stack.user(name)
    space = await legacy_room(
        stack, user, name="Old home", version=version, creation_content={"type": "m.space"}
    )
    rooms = {}
    for chat in chats:
        rooms[chat] = await legacy_room(stack, user, name=chat, version=version)
        path = f"{CLIENT}/rooms/{quote(space)}/state/m.space.child/{quote(rooms[chat])}"
        await stack.bot_api.request("PUT", path, {"via": [stack.synapse.server_name]})
    return Home(user=user, direct="", space=space, chats=rooms)


async def remember(stack: Stack, home: Home, name: str, **values: Any) -> None:
    """Write a row of a legacy chat; what is not given is NULL."""
    row = {
        "room_id": home.chats[name],
        "room_type": "chat",
        "matrix_user_id": home.user.user_id,
        "space_id": home.space,
        "name": name,
        "status": "active",
        "created_at": 1,
        "updated_at": 1,
        **values,
    }
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await stack.database.execute(
        f"INSERT INTO chats ({', '.join(row)}) VALUES ({places})", *row.values()
    )


async def remember_home(stack: Stack, home: Home) -> None:
    await stack.database.execute(
        "INSERT INTO homes (matrix_user_id, space_id, status, initial_chats, created_at,"
        " updated_at) VALUES ($1, $2, 'active', '[]', 1, 1)",
        home.user.user_id,
        home.space,
    )


def chat_rows(home: Home, ids: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """The rows that the home's chats should have, by their ids."""
    return {
        room_id: {
            "room_id": room_id,
            "room_type": "chat",
            "matrix_user_id": home.user.user_id,
            "space_id": home.space,
            "chat_id": chat_id,
            "platform_chat_id": key,
            "name": name,
            "status": "active",
            "conversation": None,
            "conversation_since": None,
            "answer": None,
        }
        for (name, room_id), (chat_id, key) in zip(home.chats.items(), ids, strict=True)
    }


def markers_of(home: Home, ids: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """The markers that the home's rooms should have."""
    base = {"version": 1, "user_id": home.user.user_id}
    chats = {
        room_id: {**base, "room_type": "chat", "chat_id": chat_id, "platform_chat_id": key}
        for room_id, (chat_id, key) in zip(home.chats.values(), ids, strict=True)
    }
    return {home.space: {**base, "room_type": "space"}, **chats}


async def assert_stamped(stack: Stack, home: Home, ids: Sequence[tuple[str, str]]) -> None:
    """Wait for the markers; they say what the rows say, and it stays so without the rows."""
    for room_id in home.chats.values():
        await marked(stack, room_id)
    expected = markers_of(home, ids)
    assert {room_id: await marker(stack, room_id) for room_id in expected} == expected
    rooms, before = await stack.bot_rooms(), await tables(stack)
    assert before.chats == chat_rows(home, ids)

    await stack.maubot.stop()
    await stack.database.delete()
    mark = await stack.synapse.mark()
    await start(stack)
    assert await tables(stack) == before
    await assert_keys(stack, home, ids)

    assert await restart(stack) == Summary(rooms=len(before.homes) + len(before.chats))
    await assert_keys(stack, home, ids)
    assert await tables(stack) == before
    assert await stack.bot_rooms() == rooms
    writes = await writes_of_bot(stack, since=mark)
    assert [line for line in shown(writes) if "/send/m.room.message/" not in line] == []


async def assert_keys(stack: Stack, home: Home, ids: Sequence[tuple[str, str]]) -> None:
    heard = [
        await say_and_hear(stack, home.user, room_id, "Hello again")
        for room_id in home.chats.values()
    ]
    assert heard == [key for _, key in ids]


MakeBot = Callable[..., Awaitable[Stack]]


@pytest.fixture
def make_stored(make_stack: MakeStack, plugin: Path, cluster: Postgres | None) -> MakeBot:
    """Make a bot that stores in SQLite, or in PostgreSQL."""

    async def make(**options: Any) -> Stack:
        url = await cluster.create_database() if cluster else None
        return await make_stack(plugin=plugin, plugin_postgres=url, **options)

    return make


@pytest.mark.parametrize(
    ("cluster", "version"), [("sqlite", "11"), ("postgres", "12")], indirect=["cluster"]
)
async def test_without_any_row_the_keys_are_derived_before_the_first_message(
    make_stored: MakeBot, version: str
) -> None:
    stack = await make_stored(proxy=True)
    await stack.maubot.stop()
    home = await legacy_home(stack, "alice", version=version)
    ids = [(f"C{n}", derived(room)) for n, room in enumerate(home.chats.values(), start=1)]
    stamping = Hold()
    rule = stack.proxy.rule(stamping, method="PUT", path=MARKER_TYPE)

    # Said while the bot is away, so it is the first thing that is routed.
    said = await home.user.send_text(home.chat, "First!")
    summary = await start(stack)
    assert (summary.adopted, summary.backfilled, summary.findings) == (3, 2, 0)
    answer = await home.user.wait_for_message(home.chat, sender=stack.bot.user_id, after=said)
    assert answer.body == "First!"
    await assert_keys(stack, home, ids)
    assert (await tables(stack)).chats == chat_rows(home, ids)
    await asyncio.wait_for(rule.hit.wait(), 45)
    assert [await marker(stack, room_id) for room_id in home.rooms] == [None] * 3

    stamping.released.set()
    await assert_stamped(stack, home, ids)
    # One more chat of a home that was taken in, and it is a home like any other.
    made = await ask(stack, home.user, home.chat, "!chat new Third")
    third = await home.user.wait_for_invite(name="Third")
    assert quote(third) in made.body
    assert (await marked(stack, third))["chat_id"] == "C3"
    assert third in await home.user.space_children(home.space)


async def test_a_wipe_before_the_markers_are_stamped_gives_the_same_keys(
    make_stack: MakeStack, plugin: Path
) -> None:
    """And the homeserver limits how fast they are stamped then."""
    stack = await make_stack(plugin=plugin, proxy=True)
    await stack.maubot.stop()
    home = await legacy_home(stack, "alice", chats=("First", "Second", "Third"))
    ids = [(f"C{n}", derived(room)) for n, room in enumerate(home.chats.values(), start=1)]
    stack.proxy.rule(Hold(), method="PUT", path=MARKER_TYPE)
    await start(stack)
    before = await tables(stack)
    assert before.chats == chat_rows(home, ids)
    stack.maubot.kill()
    await stack.database.delete()
    await start(stack)
    assert await tables(stack) == before
    await assert_keys(stack, home, ids)
    stack.maubot.kill()
    stack.proxy.heal()
    limited = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too fast", "retry_after_ms": 100}
    rule = stack.proxy.rule(Answer(429, limited), method="PUT", path=MARKER_TYPE, times=3)
    await start(stack)
    await assert_stamped(stack, home, ids)
    assert len(rule.hits) == 3


@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
async def test_stored_keys_are_kept_and_missing_ones_are_derived(make_stored: MakeBot) -> None:
    stack = await make_stored()
    await stack.maubot.stop()
    home = await legacy_home(stack, "alice", chats=("First", "Second", "Third", "Fourth"))
    await remember_home(stack, home)
    await remember(stack, home, "First", chat_id="C7", platform_chat_id="old-conversation/1")
    await remember(stack, home, "Second", chat_id="C1")
    await remember(stack, home, "Third", platform_chat_id="old-conversation/3")
    await remember(stack, home, "Fourth", chat_id="", platform_chat_id="")
    summary = await start(stack)
    assert (summary.adopted, summary.findings) == (0, 0)
    ids = [
        ("C7", "old-conversation/1"),
        ("C1", derived(home.chats["Second"])),
        ("C2", "old-conversation/3"),
        ("C3", derived(home.chats["Fourth"])),
    ]
    await assert_keys(stack, home, ids)
    await assert_stamped(stack, home, ids)


async def test_a_space_that_could_be_anybodys_is_reported_and_not_taken_in(
    make_stack: MakeStack, plugin: Path
) -> None:
    stack = await make_stack(plugin=plugin)
    admin, office = await make_admin(stack)
    await stack.maubot.stop()
    home = await legacy_home(stack, "alice", chats=("First",))
    bob = await stack.user("bob")
    path = f"{CLIENT}/rooms/{quote(home.space)}/invite"
    await stack.bot_api.request("POST", path, {"user_id": bob.user_id})
    await bob.join(home.space)
    before = await tables(stack)
    summary = await start(stack)
    assert (summary.adopted, summary.findings) == (0, 1)
    assert await tables(stack) == before
    report = await ask(stack, admin, office, "!reconcile")
    assert home.space in report.body
    assert "Leave just one person besides me in it" in report.body

    await bob.leave(home.space)
    await ask(stack, admin, office, "!reconcile")
    ids = [("C1", derived(home.chat))]

    async def adopted() -> bool:
        rows = (await tables(stack)).chats
        return rows.get(home.chat) == chat_rows(home, ids)[home.chat]

    await eventually("the Space and its chat are taken in", adopted)
    assert await marked(stack, home.chat) == markers_of(home, ids)[home.chat]
