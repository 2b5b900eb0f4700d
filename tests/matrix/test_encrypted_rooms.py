"""Whether a room is encrypted is asked before each message: once for all that go out at once."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client.state_store import StateStore
from mautrix.types import RoomID
from mautrix.util.async_db import Database

from homeroom.matrix.encrypted_rooms import ROOMS_AT_ONCE, EncryptedRooms
from homeroom.matrix.errors import Unavailable
from tests.storage.databases import Backend
from tests.storage.state_stores import note_queries

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}
ROOMS = [RoomID(f"!{number}:fake.test") for number in range(2 * ROOMS_AT_ONCE + 5)]
ENCRYPTED = frozenset(ROOMS[::7])


@pytest.fixture
async def database(sqlite: Backend) -> AsyncIterator[Database]:
    async with sqlite.opened(PgStateStore.upgrade_table) as database:
        yield database


class Homeserver:
    """Says of each room that it is not encrypted."""

    def __init__(self) -> None:
        self.asked: list[RoomID] = []

    async def read(self, room_id: RoomID, event_type: str) -> dict[str, Any] | None:
        self.asked.append(room_id)
        return None


async def have(rooms: EncryptedRooms, room_ids: Iterable[RoomID]) -> dict[RoomID, bool]:
    room_ids = list(room_ids)
    return dict(zip(room_ids, await asyncio.gather(*map(rooms.has, room_ids)), strict=True))


async def test_each_room_is_what_the_state_store_says(store: StateStore) -> None:
    for room_id in ENCRYPTED:
        await store.set_encryption_info(room_id, MEGOLM)
    rooms = EncryptedRooms(store, read=(homeserver := Homeserver()).read)
    expected = {room_id: room_id in ENCRYPTED for room_id in ROOMS}
    assert await have(rooms, ROOMS) == expected
    assert sorted(homeserver.asked) == sorted(set(ROOMS) - ENCRYPTED)
    assert await have(rooms, ROOMS[:1]) == {ROOMS[0]: True}
    assert await have(rooms, ROOMS) == expected
    assert len(homeserver.asked) == len(ROOMS) - len(ENCRYPTED)


async def test_a_room_that_becomes_encrypted_is_found_before_the_next_message(
    store: StateStore,
) -> None:
    """Whoever told the state store, and although the homeserver said once that it is not."""
    rooms = EncryptedRooms(store, read=Homeserver().read)
    some = ROOMS[:3]
    assert not any((await have(rooms, some)).values())
    await store.set_encryption_info(some[1], MEGOLM)
    assert await have(rooms, some) == {some[0]: False, some[1]: True, some[2]: False}


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_an_answer_from_before_the_room_was_encrypted_is_not_remembered(
    store: StateStore, is_encrypted: bool
) -> None:
    """`/sync` tells of it while the homeserver is being asked."""
    answers: list[dict[str, Any] | None] = [None, MEGOLM if is_encrypted else None, None]

    async def read(room_id: RoomID, event_type: str) -> dict[str, Any] | None:
        if len(answers) == 3:
            rooms.forget_plain([room_id])
        return answers.pop(0)

    rooms = EncryptedRooms(store, read=read)
    assert await rooms.has(ROOMS[0]) is is_encrypted
    assert await rooms.seems_to_have(ROOMS[0]) is is_encrypted
    assert len(answers) == (1 if is_encrypted else 0)


async def test_fifty_messages_at_once_ask_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first asks for itself, and all that come meanwhile together."""
    rooms = EncryptedRooms(PgStateStore(database), read=Homeserver().read)
    asked = note_queries(database, monkeypatch)
    await have(rooms, ROOMS[:50])
    assert len(asked) <= 2
    await rooms.has(ROOMS[0])
    assert len(asked) <= 3


async def test_while_the_database_fails_nobody_knows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = EncryptedRooms(PgStateStore(database), read=Homeserver().read)
    assert not any((await have(rooms, ROOMS)).values())

    async def broken(*_: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        for name in ("fetch", "fetchval"):
            patch.setattr(database, name, broken)
        found = await asyncio.gather(*map(rooms.has, ROOMS), return_exceptions=True)
        assert {type(each) for each in found} == {Unavailable}
    assert not any((await have(rooms, ROOMS)).values())
