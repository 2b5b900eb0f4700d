"""Every way to the latest schema ends in `tables.py`, and none loses a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mautrix.types import EventID, RoomID, SyncToken
from mautrix.util.async_db import Connection, Database, Scheme
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.schema import CreateIndex, CreateTable

from homeroom.domain.homes.model import Conversation, Records, Status
from homeroom.storage import UPGRADES, Position, Store
from homeroom.storage.tables import METADATA
from tests.storage.databases import Backend, Clock, steps
from tests.storage.rows import (
    ANNA,
    BEN,
    BOT,
    by_room,
    changes,
    chat,
    home,
    insert,
    rows_of,
)

RELEASED = Path(__file__).parent / "released"
"""What each released version stored, as dumps."""

Schema = set[tuple[Any, ...]]


async def schema_of(database: Database) -> Schema:
    """Every column in its place and every index, as the database describes them."""
    sqlite = (
        """
        SELECT 'column', m.name, c.cid, c.name, c.type, c."notnull", c.dflt_value, c.pk
        FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table'
    """,
        """
        SELECT 'index', m.name, m.tbl_name, l."unique", i.seqno, i.name, m.sql
        FROM sqlite_master AS m
        JOIN pragma_index_list(m.tbl_name) AS l ON l.name = m.name
        JOIN pragma_index_info(m.name) AS i
        WHERE m.type = 'index'
    """,
    )
    postgres = (
        """
        SELECT 'column', table_name::text, ordinal_position, column_name::text, data_type::text,
            is_nullable::text, column_default::text
        FROM information_schema.columns WHERE table_schema = current_schema()
    """,
        """
        SELECT 'index', tablename::text, indexdef FROM pg_indexes
        WHERE schemaname = current_schema()
    """,
    )
    queries = sqlite if database.scheme is Scheme.SQLITE else postgres
    rows = [tuple(row) for query in queries for row in await database.fetch(query)]
    return {
        tuple(" ".join(value.split()) if isinstance(value, str) else value for value in row)
        for row in rows
        if row[1] != "version"
    }


async def test_the_upgraded_schema_is_that_of_the_tables(backend: Backend) -> None:
    async with backend.opened() as database:
        upgraded = await schema_of(database)
        for table in METADATA.tables:
            await database.execute(f"DROP TABLE {table}")
        dialect = PGDialect(paramstyle="pyformat")
        for table in METADATA.sorted_tables:
            await database.execute(str(CreateTable(table).compile(dialect=dialect)))
            for index in table.indexes:
                await database.execute(str(CreateIndex(index).compile(dialect=dialect)))
        assert upgraded == await schema_of(database)
        assert len({row for row in upgraded if row[0] == "column"}) == 61


async def version_of(database: Database) -> int:
    version: int = await database.fetchval("SELECT version FROM version")
    return version


async def add(
    database: Database, room: str, chat_id: str | None, key: str | None, **values: Any
) -> None:
    row = {
        "room_id": f"!{room}:example.org",
        "room_type": "chat",
        "matrix_user_id": ANNA,
        "space_id": "!space:example.org",
        "chat_id": chat_id,
        "platform_chat_id": key,
        "name": f"The {room} room",
        "status": "active",
        "created_at": 1,
        "updated_at": 1,
    }
    await insert(database, "chats", **{**row, **values})


async def legacy_rows(database: Database) -> None:
    await insert(
        database,
        "homes",
        matrix_user_id=ANNA,
        space_id="!space:example.org",
        status="active",
        created_at=1,
        updated_at=1,
    )
    # As inserted, so that the answer does not depend on it: the youngest first.
    await add(database, "d", "C1", "key-1", created_at=4)
    await add(database, "c", "C2", "key-1", created_at=3)
    await add(database, "b", "C1", "key-2", created_at=2, status="archived")
    await add(database, "a", "C1", "key-2", created_at=2)
    await add(database, "e", "C1", "key-3", matrix_user_id=BEN)
    await add(database, "f", None, None)
    await add(database, "g", None, None)
    await add(database, "left", "C1", "key-1", status="left", created_at=0)
    await add(database, "gone", "C1", "key-1", status="replaced", created_at=0)
    await add(database, "odd", "C1", "key-1", status="asleep", created_at=0)


async def test_of_legacy_rows_that_share_an_id_the_oldest_keeps_it(
    backend: Backend, clock: Clock
) -> None:
    async with backend.opened(steps(1)) as database:
        await legacy_rows(database)
    async with backend.opened() as database:
        assert await version_of(database) == len(UPGRADES.upgrades)
        assert await Store(database, now=clock).snapshot() == Records(
            homes={ANNA: home()},
            chats=by_room(
                chat("a", "C1", key="key-2"),
                chat("b", None, key=None, status=Status.ARCHIVED),
                chat("c", "C2", key="key-1"),
                chat("d", None, key=None),
                chat("e", "C1", key="key-3", owner=BEN),
                chat("f"),
                chat("g"),
                chat("left", "C1", key="key-1", status=Status.LEFT),
                chat("gone", "C1", key="key-1", status=Status.REPLACED),
                chat("odd", "C1", key="key-1", status=None),
            ),
        )


async def load(backend: Backend, *, version: str) -> None:
    """Fill empty data with what a released version stored."""
    async with backend.opened(steps()) as database:
        dump = RELEASED / f"{version}.{database.scheme.value}.sql"
        for statement in dump.read_text("utf-8").split(";\n"):
            if statement:
                await database.execute(statement)


async def test_the_database_of_0_1_0_keeps_homes_and_the_place_in_the_timeline(
    backend: Backend, clock: Clock
) -> None:
    await load(backend, version="0.1.0")
    async with backend.opened() as database:
        store = Store(database, now=clock)
        space = RoomID("!annas-home:example.org")
        assert await store.snapshot() == Records(
            homes={
                ANNA: home(space_id=space, initial_chats=("General", "Ideas")),
                BEN: home(BEN, space_id=RoomID("!bens-home:example.org"), status=Status.LEFT),
            },
            chats=by_room(
                chat("general", "C1", key="key-of-general", space_id=space, name="General"),
                chat(
                    "ideas",
                    "C2",
                    key="key-of-ideas",
                    space_id=space,
                    name="Ideas, 'quoted' & ünïcode 🙂",
                    status=Status.ARCHIVED,
                ),
                chat(
                    "old",
                    "C3",
                    key="key-of-new",
                    space_id=space,
                    name="Trip",
                    status=Status.REPLACED,
                ),
                chat("new", "C3", key="key-of-new", space_id=space, name="Trip"),
                chat("bens", owner=BEN, space_id=None, name=None, status=Status.LEFT),
            ),
        )
        events = [EventID(f"$handled-{number}") for number in range(1, 5)]
        assert await store.handled(events) == frozenset(events[:3])
        assert await store.position() == Position(
            token=SyncToken("s12_34_5"), bot=BOT, saved_at=1_763_800_000_005
        )
        clock.time = 1_763_800_000_007
        assert not await store.claim_notice(RoomID("!lobby:example.org"), "pointer", every_ms=2)
        upgraded = await schema_of(database)
        for table in (*METADATA.tables, "version"):
            await database.execute(f"DROP TABLE {table}")
    async with backend.opened() as database:
        assert upgraded == await schema_of(database)


async def test_the_database_of_0_2_1_keeps_conversations_and_what_was_left_open(
    backend: Backend, clock: Clock
) -> None:
    await load(backend, version="0.2.1")
    async with backend.opened() as database:
        store = Store(database, now=clock)
        records = await store.snapshot()
        space = RoomID("!annas-home:example.org")
        assert records.chats[RoomID("!general:example.org")] == chat(
            "general",
            "C1",
            key="key-of-general-2",
            space_id=space,
            name="General",
            conversation=Conversation(2, EventID("$cleared")),
        )
        assert (len(records.homes), len(records.chats)) == (2, 5)
        assert await store.position() == Position(
            token=SyncToken("s56_78_9"), bot=BOT, saved_at=1_765_000_000_004
        )
        (answer,) = await store.open_answers()
        assert (answer.question.event_id, answer.answer_id) == ("$asked", "$answer")
        (past,) = await store.reconciles(at_most=9)
        assert (past.rooms, past.findings) == (6, 1)
        assert await store.was_handled(EventID("$handled-4"))
        assert await store.last_good_settings() is None
        upgraded = await schema_of(database)
        for table in (*METADATA.tables, "version"):
            await database.execute(f"DROP TABLE {table}")
    async with backend.opened() as database:
        assert upgraded == await schema_of(database)


async def test_the_last_good_settings_are_one_text(backend: Backend, clock: Clock) -> None:
    async with backend.opened() as database:
        store = Store(database, now=clock)
        for text in ("admins: []\n", "rooms: {space_name: 'Näst 🙂'}\n"):
            await store.keep_settings(text)
            assert await store.last_good_settings() == text
        assert "saved_settings" not in await store.counts()
        await store.clear()
    async with backend.opened() as database:
        assert await Store(database, now=clock).last_good_settings() == text


async def test_rows_from_before_later_conversations_are_in_their_first(
    backend: Backend, clock: Clock
) -> None:
    async with backend.opened(steps(1, 2)) as database:
        await add(database, "a", "C1", "key-1")
    async with backend.opened() as database:
        store = Store(database, now=clock)
        assert (await store.snapshot()).chats == by_room(chat("a", "C1", key="key-1"))


async def test_an_upgrade_that_fails_loses_nothing_and_can_be_repeated(
    backend: Backend,
) -> None:
    async def fail_at_the_end(connection: Connection, scheme: Scheme) -> None:
        await UPGRADES.upgrades[1](connection, scheme)
        raise OSError("disk full")

    failing = steps(1)
    failing.register(fail_at_the_end)
    async with backend.opened(steps(1)) as database:
        await legacy_rows(database)
        before = [await rows_of(database, table) for table in ("homes", "chats")]
        schema = await schema_of(database)
    with pytest.raises(OSError, match="disk full"):
        async with backend.opened(failing):
            pass
    async with backend.opened(steps(1)) as database:
        assert await version_of(database) == 1
        assert [await rows_of(database, table) for table in ("homes", "chats")] == before
        assert await schema_of(database) == schema
    async with backend.opened() as database:
        assert await version_of(database) == len(UPGRADES.upgrades)
        assert len(await rows_of(database, "chats")) == 10


async def test_a_database_of_a_newer_version_starts_and_works(
    backend: Backend, clock: Clock
) -> None:
    async with backend.opened() as database:
        await Store(database, now=clock).apply(changes(home(), chat("one", "C1", key="key-1")))
        await database.execute("ALTER TABLE chats ADD COLUMN mood TEXT")
        await database.execute("CREATE TABLE moods (mood TEXT)")
        await database.execute("UPDATE version SET version = 17")
    async with backend.opened() as database:
        store = Store(database, now=clock)
        assert (await store.snapshot()).homes == {ANNA: home()}
        await store.apply(changes(chat("two", "C2", key="key-2")))
        assert (await store.counts())["chats"] == 2
        assert await version_of(database) == 17


async def test_starting_again_changes_nothing(backend: Backend, clock: Clock) -> None:
    async with backend.opened() as database:
        await Store(database, now=clock).apply(changes(home(), chat("one", "C1", key="key-1")))
        before = await Store(database, now=clock).snapshot()
    async with backend.opened() as database:
        assert await Store(database, now=clock).snapshot() == before
