"""Whatever a row says, reading it is not an error: what means nothing is None, or no row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mautrix.types import EventID, RoomID, SyncToken
from mautrix.util.async_db import Database

from homeroom.domain.homes.model import Conversation, Records, RoomType
from homeroom.storage import Position, Store, StoreError, statements
from tests.storage.databases import SqliteBackend
from tests.storage.rows import ANNA, BOT, by_room, changes, chat, home, insert

HOME = {
    "matrix_user_id": ANNA,
    "space_id": "!space:example.org",
    "status": "active",
    "initial_chats": '["Work"]',
    "created_at": 1,
    "updated_at": 2,
}
CHAT = {
    "room_id": "!one:example.org",
    "room_type": "chat",
    "matrix_user_id": ANNA,
    "space_id": "!space:example.org",
    "chat_id": "C1",
    "platform_chat_id": "key-1",
    "name": "The one room",
    "status": "active",
    "created_at": 1,
    "updated_at": 2,
}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, {"initial_chats": ("Work",)}),
        ({"status": None}, {"initial_chats": ("Work",), "status": None}),
        ({"status": "asleep"}, {"initial_chats": ("Work",), "status": None}),
        ({"initial_chats": None}, {}),
        ({"initial_chats": ""}, {}),
        ({"initial_chats": '["Work'}, {}),
        ({"initial_chats": '{"Work": 1}'}, {}),
        ({"initial_chats": '["Work", 1]'}, {}),
        ({"initial_chats": '["Work", ""]'}, {}),
        pytest.param({"initial_chats": "[" * 100_000}, {}, id="deep"),
        ({"matrix_user_id": ""}, None),
        ({"space_id": ""}, None),
    ],
    ids=str,
)
async def test_reading_a_home(
    store: Store, database: Database, written: dict[str, Any], read: dict[str, Any] | None
) -> None:
    await insert(database, "homes", **{**HOME, **written})
    homes = {} if read is None else {ANNA: home(**read)}
    assert await store.snapshot() == Records(homes=homes)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, {}),
        ({"room_type": "space"}, {"room_type": RoomType.SPACE}),
        ({"room_type": "kitchen"}, {"room_type": None}),
        ({"room_type": None}, {"room_type": None}),
        ({"status": "Active"}, {"status": None}),
        ({"status": None}, {"status": None}),
        ({"chat_id": "seven"}, {"chat_id": None}),
        ({"chat_id": "C0"}, {"chat_id": None}),
        ({"chat_id": ""}, {"chat_id": None}),
        ({"chat_id": None}, {"chat_id": None}),
        ({"platform_chat_id": ""}, {"platform_chat_id": None}),
        ({"platform_chat_id": "two words"}, {"platform_chat_id": None}),
        ({"platform_chat_id": "new\nline"}, {"platform_chat_id": None}),
        pytest.param({"platform_chat_id": "x" * 256}, {"platform_chat_id": None}, id="long"),
        pytest.param(
            {"platform_chat_id": "x" * 255},
            {"platform_chat_id": "x" * 255},
            id="as long as can be",
        ),
        ({"space_id": ""}, {"space_id": None}),
        ({"space_id": None}, {"space_id": None}),
        ({"name": None}, {"name": None}),
        (
            {"conversation": 2, "conversation_since": "$e"},
            {"conversation": Conversation(number=2, since=EventID("$e"))},
        ),
        ({"conversation": 2}, {}),
        ({"conversation_since": "$e"}, {}),
        ({"conversation": 0, "conversation_since": "$e"}, {}),
        ({"conversation": 1, "conversation_since": "e"}, {}),
        ({"room_id": ""}, None),
        ({"matrix_user_id": ""}, None),
    ],
    ids=str,
)
async def test_reading_a_chat(
    store: Store, database: Database, written: dict[str, Any], read: dict[str, Any] | None
) -> None:
    await insert(database, "chats", **{**CHAT, **written})
    chats = {} if read is None else by_room(replace(chat("one", "C1", key="key-1"), **read))
    assert await store.snapshot() == Records(chats=chats)


async def test_a_damaged_row_is_written_over(store: Store, database: Database) -> None:
    await insert(database, "chats", **{**CHAT, "status": "asleep", "chat_id": "seven"})
    repaired = chat("one", "C1", key="key-1")
    await store.apply(changes(repaired))
    assert await store.snapshot() == Records(chats=by_room(repaired))


@pytest.mark.parametrize("value", [b"\x00\xff", 17, 1.5], ids=repr)
@pytest.mark.parametrize("column", ["space_id", "chat_id", "platform_chat_id", "name", "status"])
async def test_sqlite_may_hold_anything_in_any_column(
    tmp_path: Any, column: str, value: object
) -> None:
    async with SqliteBackend(tmp_path / "instance.db").opened() as database:
        await insert(database, "chats", **{**CHAT, column: value})
        await insert(database, "chats", **{**CHAT, "room_id": b"\xff", "status": None})
        (read,) = (await Store(database, now=lambda: 1).snapshot()).chats.values()
        # Numbers become text in a TEXT column, and so may mean something.
        assert getattr(read, column) in (None, str(value))
        assert read.room_id == RoomID("!one:example.org")


async def test_the_position_comes_back_as_it_was_saved(store: Store) -> None:
    assert await store.position() is None
    for token in ("s1_2", "s2_3"):
        await store.save_position(token, bot=BOT)
        assert await store.position() == Position(token=token, bot=BOT, saved_at=1_000_000)
    assert (await store.counts())["sync_state"] == 2  # and what it proves: nothing


async def test_rows_prove_something_at_the_position_that_is_saved(
    store: Store, database: Database
) -> None:
    assert await store.checkpoint() is None
    await store.save_position(SyncToken("s1_2"), bot=BOT, checkpoint="it is true")
    assert await store.checkpoint() == "it is true"
    await store.save_position(SyncToken("s2_3"), bot=BOT, checkpoint="it is still true")
    assert await store.checkpoint() == "it is still true"
    await store.apply(changes(home()))
    assert await store.checkpoint() is None
    await store.note_checkpoint("it is true again")
    assert await store.checkpoint() == "it is true again"
    await store.save_position(SyncToken("s3_4"), bot=BOT)
    assert await store.checkpoint() is None
    await store.note_checkpoint("it is true once more")
    await database.execute("UPDATE sync_state SET value = 's1_2' WHERE key = 'position'")
    assert await store.checkpoint() is None


async def test_what_rows_prove_is_written_over_after_an_error(
    store: Store, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.save_position(SyncToken("s1_2"), bot=BOT, checkpoint="it is true")
    with monkeypatch.context() as patch:
        nonsense = statements.Statement("nonsense", statements.WRITE_CHAT.names)
        patch.setattr(statements, "WRITE_CHAT", nonsense)
        with pytest.raises(StoreError):
            await store.apply(changes(home(), chat("one")))
    assert await store.checkpoint() == "it is true"  # nothing was written
    await store.note_checkpoint(None)
    assert await store.checkpoint() is None


@pytest.mark.parametrize("damage", [{"value": ""}, {"bot": ""}], ids=str)
async def test_a_damaged_position_is_none(
    store: Store, database: Database, damage: dict[str, str]
) -> None:
    values = {"key": "position", "value": "s1_2", "bot": BOT, "saved_at": 1, **damage}
    await insert(database, "sync_state", **values)
    assert await store.position() is None


async def test_a_position_that_was_saved_at_no_time_is_none(tmp_path: Any) -> None:
    async with SqliteBackend(tmp_path / "instance.db").opened() as database:
        await insert(
            database, "sync_state", key="position", value="s1_2", bot=BOT, saved_at="yesterday"
        )
        assert await Store(database, now=lambda: 1).position() is None


async def test_counts_names_every_table(store: Store) -> None:
    await store.apply(changes(home(), chat("one"), chat("two")))
    assert await store.counts() == {
        "homes": 1,
        "chats": 2,
        "handled_events": 0,
        "reconciles": 0,
        "sync_state": 1,
        "notices": 0,
        "room_requests": 0,
        "places": 0,
        "open_answers": 0,
        "withheld_keys": 0,
    }


async def test_clear_deletes_every_row_and_counts_them(store: Store) -> None:
    await store.apply(changes(home(), chat("one"), chat("two")))
    await store.save_position("s1_2", bot=BOT)
    await store.mark_handled("$1", room_id=RoomID("!one:example.org"))
    await store.claim_notice(RoomID("!one:example.org"), "pointer", every_ms=1)
    counted = await store.counts()
    assert await store.clear() == counted
    assert {table: count for table, count in counted.items() if count} == {
        "homes": 1,
        "chats": 2,
        "handled_events": 1,
        "sync_state": 2,
        "notices": 1,
    }
    assert set((await store.counts()).values()) == {0}
