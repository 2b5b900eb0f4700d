"""maubot's state store, read and written as the tables that it is.

After most starts nothing is to be written, and one question after the other costs seconds where
there are thousands of rooms; after a lost database of maubot's everything is, and a transaction
for each room costs minutes. So many rooms are compared with two queries, in a thread, and written
in one transaction. The sync loop of mautrix may write the same rows meanwhile: what it writes
after a deletion is written over, not run into.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from mautrix.types import RoomID, UserID
from mautrix.util.async_db import Database

from ...domain.homes.topology import Room
from ...matrix.state_store_tables import places
from ...storage.errors import attempt
from ...storage.transactions import transaction
from .create_events import create_event_text

ROOMS_AT_ONCE: Final = 500
"""Rooms in one transaction. Others write into this database, too: not for long."""

_READ_ROOMS: Final = (
    "SELECT room_id, is_encrypted, has_full_member_list, power_levels,"
    " create_event IS NOT NULL AS has_create FROM mx_room_state WHERE room_id IN"
)
_READ_MEMBERS: Final = (
    "SELECT room_id, user_id, membership, displayname, avatar_url FROM mx_user_profile"
    " WHERE room_id IN"
)
_WRITE_ROOM: Final = (
    "INSERT INTO mx_room_state"
    " (room_id, power_levels, is_encrypted, encryption, create_event, has_full_member_list)"
    " VALUES ($1, $2, $3, $4, $5, true)"
    " ON CONFLICT (room_id) DO UPDATE SET"
    " power_levels = COALESCE(excluded.power_levels, mx_room_state.power_levels),"
    " encryption = CASE WHEN mx_room_state.is_encrypted THEN mx_room_state.encryption"
    " ELSE COALESCE(excluded.encryption, mx_room_state.encryption) END,"
    " is_encrypted = COALESCE(excluded.is_encrypted, mx_room_state.is_encrypted),"
    " create_event = COALESCE(mx_room_state.create_event, excluded.create_event),"
    " has_full_member_list = true"
)
_DELETE_MEMBERS: Final = "DELETE FROM mx_user_profile WHERE room_id IN"
_WRITE_MEMBER: Final = (
    "INSERT INTO mx_user_profile (room_id, user_id, membership, displayname, avatar_url)"
    " VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (room_id, user_id) DO UPDATE SET membership = excluded.membership,"
    " displayname = excluded.displayname, avatar_url = excluded.avatar_url"
)

Profile = tuple[str, str | None, str | None]


class _Rows(NamedTuple):
    """What is to be written."""

    rooms: list[tuple[object, ...]]
    members: list[tuple[object, ...]]


async def outdated(database: Database, rooms: Sequence[Room]) -> list[Room]:
    """Find those of the rooms whose rows do not say what was observed.

    Raises:
        StoreError: the database failed.
    """
    room_ids = [room.room_id for room in rooms]
    listed = places(len(rooms))
    with attempt(f"read the state store about {room_ids[0]} and {len(rooms) - 1} others"):
        states = await database.fetch(f"{_READ_ROOMS} {listed}", *room_ids)
        members = await database.fetch(f"{_READ_MEMBERS} {listed}", *room_ids)
    return await asyncio.to_thread(_outdated, rooms, states, members)


async def heal(database: Database, rooms: Sequence[Room], *, bot: UserID) -> int:
    """Bring the rows about these rooms up to date; returns about how many they were not.

    Raises:
        StoreError: the database failed, and nothing was written.
    """
    wrong = await outdated(database, rooms)
    if wrong:
        rows = await asyncio.to_thread(_rows, wrong, bot=bot)
        of = f"{wrong[0].room_id} and {len(wrong) - 1} others"
        with attempt(f"bring the state store up to date for {of}"):
            async with transaction(database) as writing:
                await writing.executemany(_WRITE_ROOM, rows.rooms)
                await writing.execute(
                    f"{_DELETE_MEMBERS} {places(len(wrong))}", *(room.room_id for room in wrong)
                )
                await writing.executemany(_WRITE_MEMBER, rows.members)
    return len(wrong)


def _outdated(rooms: Iterable[Room], states: Iterable[Any], members: Iterable[Any]) -> list[Room]:
    known = {row["room_id"]: row for row in states}
    profiles: dict[RoomID, dict[str, Profile]] = {}
    for row in members:
        profile = (row["membership"], row["displayname"], row["avatar_url"])
        profiles.setdefault(row["room_id"], {})[row["user_id"]] = profile
    return [
        room
        for room in rooms
        if not _is_true(room, known.get(room.room_id), profiles.get(room.room_id, {}))
    ]


def _is_true(room: Room, known: Any, profiles: Mapping[str, Profile]) -> bool:
    """Whether the rows about a room say what was observed."""
    cached_state = room.cached_state
    assert cached_state is not None
    return (
        known is not None
        and bool(known["has_full_member_list"])
        and bool(known["has_create"])
        and (cached_state.encryption is None or bool(known["is_encrypted"]))
        and (
            cached_state.power_levels is None
            or _is_same(known["power_levels"], cached_state.power_levels)
        )
        and profiles
        == {
            user_id: (member.membership, member.displayname, member.avatar_url)
            for user_id, member in room.members.items()
        }
    )


def _is_same(stored: object, observed: str) -> bool:
    """Whether two JSON texts say the same."""
    if stored == observed:
        return True
    try:
        return isinstance(stored, str) and bool(json.loads(stored) == json.loads(observed))
    except (ValueError, RecursionError):
        return False


def _rows(rooms: Iterable[Room], *, bot: UserID) -> _Rows:
    """Sorted, so that two that write at once wait for each other and never both."""
    rows = _Rows([], [])
    for room in sorted(rooms, key=lambda room: room.room_id):
        cached_state = room.cached_state
        assert cached_state is not None
        is_encrypted = True if cached_state.encryption is not None else None
        rows.rooms.append(
            (
                room.room_id,
                cached_state.power_levels,
                is_encrypted,
                cached_state.encryption,
                create_event_text(room, bot=bot),
            )
        )
        rows.members.extend(
            (room.room_id, user_id, member.membership, member.displayname, member.avatar_url)
            for user_id, member in sorted(room.members.items())
        )
    return rows
