"""Whatever happened to the database, the next start finds every home as it was.

Issue 2, "Must be seen", 2. The damage is random; a failing run prints its seed, and
HOMEROOM_TEST_SEED repeats it.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.integration.homes import (
    Home,
    Summary,
    Tables,
    ask,
    finished,
    marked,
    onboard,
    requests_of_bot,
    restart,
    say_and_hear,
    shown,
    start,
    tables,
    writes_of_bot,
)
from tests.stack.database import Row
from tests.stack.package import ROOT
from tests.stack.postgres import Postgres
from tests.stack.stack import MakeMaubot, MakeStack, Stack
from tests.stack.synapse import AccessLogEntry

CHATS = ("General", "Ideas")
_DUPLICATE = (sqlite3.IntegrityError, asyncpg.UniqueViolationError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Furnished:
    """Two people's homes, lived in: chats were added, renamed and archived."""

    stack: Stack
    homes: tuple[Home, ...]
    rooms: set[str]
    """Every room that the bot is in."""
    before: Tables

    @property
    def owners(self) -> list[str]:
        return [home.user.user_id for home in self.homes]

    @property
    def chats(self) -> list[str]:
        return sorted(self.before.chats)


async def furnish(stack: Stack) -> Furnished:
    alice, bob = await asyncio.gather(
        *(onboard(stack, name, chats=CHATS) for name in ("alice", "bob"))
    )
    await ask(stack, alice.user, alice.chat, "!chat new Trip")
    trip = await alice.user.wait_for_invite(name="Trip")
    await alice.user.join(trip)
    await marked(stack, trip)
    await ask(stack, alice.user, trip, "!chat rename Trip to Rome")
    await ask(stack, bob.user, bob.chat, "!chat archive")
    await finished(stack, alice)
    return Furnished(
        stack=stack,
        homes=(alice, bob),
        rooms=await stack.bot_rooms(),
        before=await tables(stack),
    )


MakeFurnished = Callable[..., Awaitable[Furnished]]


@pytest.fixture
def make_furnished(make_stack: MakeStack, plugin: Path) -> MakeFurnished:
    """Furnish homes in rooms of a version, in a bot that stores in SQLite or PostgreSQL."""

    async def make(*, version: str = "", **options: Any) -> Furnished:
        config = {
            "access": {"allow": ["*"]},
            "rooms": {"initial_chats": list(CHATS), "version": version},
        }
        return await furnish(await make_stack(plugin=plugin, config=config, **options))

    return make


@pytest.fixture
async def furnished(make_furnished: MakeFurnished, cluster: Postgres | None) -> Furnished:
    """SQLite and rooms of version 12, PostgreSQL and rooms of version 11."""
    if cluster is None:
        return await make_furnished(version="12")
    return await make_furnished(version="11", plugin_postgres=await cluster.create_database())


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("HOMEROOM_TEST_SEED") or secrets.randbits(32))
    print(f"HOMEROOM_TEST_SEED={seed}")
    return random.Random(seed)


async def raw_rows(stack: Stack) -> tuple[list[Row], list[Row]]:
    """Every row in every column, the times too."""
    return (
        await stack.database.fetch("SELECT * FROM homes ORDER BY matrix_user_id"),
        await stack.database.fetch("SELECT * FROM chats ORDER BY room_id"),
    )


async def assert_survived(furnished: Furnished, *, invented: Tables | None = None) -> None:
    """Everything is what it was; rows of rooms that do not exist may stay, as left."""
    stack, before = furnished.stack, furnished.before
    after = await tables(stack)
    expected_homes, expected_chats = dict(before.homes), dict(before.chats)
    if invented is not None:
        left = {"status": "left"}
        expected_homes |= {owner: row | left for owner, row in invented.homes.items()}
        expected_chats |= {room_id: row | left for room_id, row in invented.chats.items()}
    assert after.homes == expected_homes
    assert after.chats == expected_chats
    assert await stack.bot_rooms() == furnished.rooms
    for home in furnished.homes:
        assert home.user.invites() == {}


async def assert_conversations_go_on(furnished: Furnished) -> list[str]:
    """Everybody is answered under the same key; returns the only writes that there may be."""
    sent = []
    for home in furnished.homes:
        for room_id in home.chats.values():
            if furnished.before.chats[room_id]["status"] != "active":
                continue
            key = await say_and_hear(furnished.stack, home.user, room_id, "Do you remember me?")
            assert key == furnished.before.keys()[room_id]
            sent.append(room_id)
    return sent


async def assert_nothing_to_do(furnished: Furnished) -> None:
    """One more restart changes no row and sends no write."""
    stack = furnished.stack
    rows = await raw_rows(stack)
    mark = await stack.synapse.mark()
    summary = await restart(stack)
    assert summary == Summary(rooms=sum(map(len, rows)))  # those that it vouches for
    # Who is answered now has waited until everything that a start does at once was begun.
    answered = await assert_conversations_go_on(furnished)
    writes = await writes_of_bot(stack, since=mark, at_least=len(answered))
    assert_only_answers(writes, answered)
    requests = await requests_of_bot(stack, since=mark)
    assert [line for line in shown(requests) if line.endswith("/state")] == []  # one look for all
    assert await raw_rows(stack) == rows
    assert await stack.bot_rooms() == furnished.rooms


def assert_only_answers(writes: list[AccessLogEntry], rooms: list[str]) -> None:
    """Nothing was written but one message in each of these rooms."""
    written = [line.rpartition("/")[0] for line in shown(writes)]
    assert written == [f"PUT /v3/rooms/{room_id}/send/m.room.message" for room_id in rooms]


async def assert_recovers(furnished: Furnished, *, invented: Tables | None = None) -> None:
    """Start after the damage: the rows come back from reads alone, and stay."""
    stack = furnished.stack
    mark = await stack.synapse.mark()
    summary = await start(stack)
    assert summary.unreadable == 0
    # All rooms are scanned, or there was a checkpoint of the rows in the account data.
    assert summary.rooms in {len(furnished.rooms), sum(map(len, await raw_rows(stack)))}
    await assert_survived(furnished, invented=invented)
    answered = await assert_conversations_go_on(furnished)
    writes = await writes_of_bot(stack, since=mark, at_least=len(answered))
    assert_only_answers(writes, answered)
    await assert_survived(furnished, invented=invented)
    await assert_nothing_to_do(furnished)


# The damage


async def test_the_database_is_deleted(furnished: Furnished, cluster: Postgres | None) -> None:
    stack = furnished.stack
    if cluster is None:
        stack.maubot.kill()
    else:
        await stack.maubot.stop()
    await stack.database.delete()
    assert await stack.database.tables() == set()
    await assert_recovers(furnished)


@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
async def test_rows_are_damaged_at_random(furnished: Furnished, dice: random.Random) -> None:
    """Rows deleted, values altered, then both, with rows of rooms that do not exist."""
    maubot = furnished.stack.maubot
    await maubot.stop()
    await delete_random_rows(furnished, dice)
    await assert_recovers(furnished)

    await maubot.stop()
    await alter_random_values(furnished, dice, times=12)
    await assert_recovers(furnished)

    await maubot.stop()
    invented = await invent_rows(furnished)
    await delete_random_rows(furnished, dice)
    await alter_random_values(furnished, dice, times=6)
    await assert_recovers(furnished, invented=invented)


@pytest.mark.parametrize("cluster", ["postgres"], indirect=True)
async def test_the_schema_is_an_older_one(furnished: Furnished, dice: random.Random) -> None:
    stack = furnished.stack
    await stack.maubot.stop()
    await make_version_1(stack)
    # Version 1 allowed what version 2 does not: two rows with one id.
    first, second = dice.sample(furnished.chats, 2)
    key = furnished.before.keys()[first]
    await stack.database.execute(
        "UPDATE chats SET platform_chat_id = $1, matrix_user_id = $2, chat_id = 'C1'"
        " WHERE room_id = $3",
        key,
        furnished.before.chats[first]["matrix_user_id"],
        second,
    )
    await assert_recovers(furnished)
    tables = await stack.database.tables()
    assert {"handled_events", "sync_state", "notices", "reconciles", "open_answers"} <= tables


@pytest.fixture
def oldest_sqlalchemy() -> str:
    """Where SQLAlchemy 1.3.24 is, which maubot's official image carries; `python_path`."""
    path = str(ROOT / ".venv" / "sqlalchemy-1.3.24")
    version = subprocess.check_output(
        [sys.executable, "-c", "import sqlalchemy; print(sqlalchemy.__version__)"],
        env=os.environ | {"PYTHONPATH": path},
        text=True,
    )
    assert version.strip() == "1.3.24"
    return path


async def test_maubot_has_the_oldest_sqlalchemy(
    make_furnished: MakeFurnished,
    make_maubot: MakeMaubot,
    tmp_path: Path,
    dice: random.Random,
    oldest_sqlalchemy: str,
) -> None:
    maubot = await make_maubot(tmp_path / "old", python_path=oldest_sqlalchemy)
    furnished = await make_furnished(maubot=maubot)
    await maubot.stop()
    await delete_random_rows(furnished, dice)
    await alter_random_values(furnished, dice, times=6)
    await assert_recovers(furnished)
    await maubot.stop()
    await furnished.stack.database.delete()
    await start(furnished.stack)
    await assert_survived(furnished)
    await assert_conversations_go_on(furnished)


async def delete_random_rows(furnished: Furnished, dice: random.Random) -> None:
    database = furnished.stack.database
    for room_id in dice.sample(furnished.chats, dice.randint(1, len(furnished.chats))):
        await database.execute("DELETE FROM chats WHERE room_id = $1", room_id)
    for owner in dice.sample(furnished.owners, dice.randint(0, len(furnished.owners))):
        await database.execute("DELETE FROM homes WHERE matrix_user_id = $1", owner)


async def alter_random_values(furnished: Furnished, dice: random.Random, *, times: int) -> None:
    """Put into random fields what might stand there after an accident."""
    homes, chats = furnished.before.homes, furnished.before.chats
    spaces = [row["space_id"] for row in homes.values()]
    statuses = [None, "active", "archived", "left", "replaced", "nonsense", ""]
    nowhere = f"!nowhere{secrets.token_hex(6)}:homeroom.test"
    nobody = "@nobody:homeroom.test"
    values: dict[tuple[str, str], list[Any]] = {
        ("homes", "space_id"): [*spaces, *chats, nowhere, "", "nonsense"],
        ("homes", "status"): statuses,
        ("homes", "initial_chats"): [None, "", "[", "{}", '["Other", "Names"]', "[1]", "[null]"],
        ("chats", "room_type"): [None, "space", "chat", "nonsense"],
        ("chats", "matrix_user_id"): [*homes, nobody, "", "nonsense"],
        ("chats", "space_id"): [None, *spaces, *chats, nowhere, ""],
        ("chats", "chat_id"): [None, "", "C1", "C2", "C3", "C99", "C0", "c1", "nonsense"],
        ("chats", "platform_chat_id"): [
            *(None, "", "lost", "with blanks", "x" * 300),
            *furnished.before.keys().values(),
        ],
        ("chats", "name"): [None, "", "Wrong", "🙂" * 100],
        ("chats", "status"): statuses,
    }
    for _ in range(times):
        table, column = dice.choice(sorted(values))
        key = "matrix_user_id" if table == "homes" else "room_id"
        row = dice.choice(furnished.owners if table == "homes" else furnished.chats)
        value = dice.choice(values[table, column])
        print(f"{table}.{column} of {row} = {value!r}")
        try:
            await furnished.stack.database.execute(
                f"UPDATE {table} SET {column} = $1 WHERE {key} = $2", value, row
            )
        except _DUPLICATE:
            print("  (refused: there is such a row)")


async def invent_rows(furnished: Furnished) -> Tables:
    """Add rows for rooms that do not exist, of owners who do and who do not."""
    database = furnished.stack.database
    owner, stranger = furnished.owners[0], f"@stranger-{secrets.token_hex(4)}:homeroom.test"
    rooms = [f"!invented{number}{secrets.token_hex(6)}:homeroom.test" for number in range(4)]
    await database.execute(
        "INSERT INTO homes (matrix_user_id, space_id, status, initial_chats, created_at,"
        " updated_at) VALUES ($1, $2, 'active', '[]', 1, 1)",
        stranger,
        rooms[0],
    )
    for number, (whose, space, status) in enumerate(
        [(stranger, rooms[0], "active"), (owner, rooms[0], "active"), (owner, None, "archived")],
        start=1,
    ):
        await database.execute(
            "INSERT INTO chats (room_id, room_type, matrix_user_id, space_id, chat_id,"
            " platform_chat_id, name, status, created_at, updated_at)"
            " VALUES ($1, 'chat', $2, $3, $4, $5, 'Invented', $6, 1, 1)",
            rooms[number],
            whose,
            space,
            f"C{40 + number}",
            f"invented-{number}",
            status,
        )
    now = await tables(furnished.stack)
    return Tables(
        homes={stranger: now.homes[stranger]},
        chats={room_id: now.chats[room_id] for room_id in rooms[1:]},
    )


async def make_version_1(stack: Stack) -> None:
    """Turn the database into what the first version of the schema made."""
    for statement in (
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
        "DROP TABLE handled_events",
        "DROP TABLE sync_state",
        "DROP TABLE notices",
        "DROP TABLE reconciles",
        "UPDATE version SET version = 1",
    ):
        await stack.database.execute(statement)
