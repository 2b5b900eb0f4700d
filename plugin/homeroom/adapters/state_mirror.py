"""Making mautrix's state store true again.

maubot throws the first sync response after every start away, so what happened while it was down
never reaches the state store: members who came or went, new power levels, encryption. For the
rooms that are Homeroom's the look has all of it; what differs is written. The store belongs to
all plugins of the client: rooms of others are not touched, and nothing is ever deleted from it
but members that the homeserver does not have.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg
from mautrix.client.state_store import StateStore
from mautrix.client.state_store.asyncpg import PgStateStore
from mautrix.types import Member as StoredMember
from mautrix.types import (
    Membership,
    MemberStateEventContent,
    RoomID,
    SerializerError,
    StateEvent,
    UserID,
)
from mautrix.util.logging import TraceLogger

from ..domain.topology import Member, Room, Topology
from .batches import batches
from .store.errors import attempt

T = TypeVar("T")

MEMBERSHIPS: Final = tuple(Membership)
WRITES_AT_MOST: Final = 5
"""Attempts to write one room while the sync loop writes the same rows."""
ROOMS_AT_ONCE: Final = 500
"""Rooms of which the state store is asked at once what it has."""


class StateMirror:
    """Writes what was observed into the state store.

    Args:
        store: None if the client has none; then there is nothing to heal.
    """

    def __init__(self, store: StateStore | None, *, log: TraceLogger) -> None:
        self._store = store
        self._log = log

    async def heal(self, topology: Topology) -> int:
        """Write what differs. Returns in how many rooms there was a difference.

        Raises:
            StoreError: the database of the state store failed.
        """
        if self._store is None:
            return 0
        healed = 0
        ours = (
            room
            for room in topology.read()
            if room.mirror is not None and topology.bot in room.members
        )
        for some in batches(ours, ROOMS_AT_ONCE):
            for room in await self._outdated(self._store, some):
                with attempt(f"bring the state store up to date for {room.room_id}"):
                    healed += await self._heal_among_others(self._store, room)
        if healed:
            self._log.debug("The state store was out of date for %d rooms", healed)
        return healed

    async def _outdated(self, store: StateStore, rooms: list[Room]) -> list[Room]:
        """Those of the rooms that may have to be written; of a store without tables, all.

        Two queries for all of them, because after most starts nothing is to be written, and one
        question after the other costs seconds where there are thousands of rooms.
        """
        if not isinstance(store, PgStateStore):
            return rooms
        places = ", ".join(f"${number}" for number in range(1, len(rooms) + 1))
        room_ids = [room.room_id for room in rooms]
        with attempt(f"read the state store about {room_ids[0]} and {len(rooms) - 1} others"):
            states = await store.db.fetch(f"{_READ_ROOMS} ({places})", *room_ids)
            members = await store.db.fetch(f"{_READ_MEMBERS} ({places})", *room_ids)
        known = {row["room_id"]: row for row in states}
        profiles: dict[str, dict[str, object]] = {}
        for row in members:
            profile = (row["membership"], row["displayname"], row["avatar_url"])
            profiles.setdefault(row["room_id"], {})[row["user_id"]] = profile
        return [
            room
            for room in rooms
            if not _is_true(room, known.get(room.room_id), profiles.get(room.room_id, {}))
        ]

    async def _heal_among_others(self, store: StateStore, room: Room) -> bool:
        """Heal a room while mautrix's sync loop writes, too.

        Its list of members is deleted and written anew: on PostgreSQL a member whom the sync loop
        writes in between is one too many, and nothing is written.
        """
        for _ in range(WRITES_AT_MOST - 1):
            with suppress(asyncpg.UniqueViolationError, sqlite3.IntegrityError):
                return await self._heal_room(store, room)
        return await self._heal_room(store, room)

    async def _heal_room(self, store: StateStore, room: Room) -> bool:
        healed = False
        mirror = room.mirror
        assert mirror is not None
        if mirror.power_levels is not None:
            known = await _readable(store.get_power_levels(room.room_id))
            if known is None or known.serialize() != mirror.power_levels:
                with suppress(SerializerError):
                    await store.set_power_levels(room.room_id, dict(mirror.power_levels))  # type: ignore[arg-type]
                healed = known is None or healed
        if mirror.encryption is not None and not await _readable(store.is_encrypted(room.room_id)):
            with suppress(SerializerError):
                await store.set_encryption_info(room.room_id, dict(mirror.encryption))
            healed = True
        if not await store.has_create_cached(room.room_id):
            create = _event(room.room_id, mirror.create)
            if create is not None:
                await store.set_create(create)
        # Last: that the list is whole is only noted where the room has a row already (mautrix
        # 0.21.1).
        if not await self._has_members(store, room):
            members: dict[UserID, StoredMember | MemberStateEventContent] = {
                user_id: _stored(member) for user_id, member in room.members.items()
            }
            await store.set_members(room.room_id, members)
            healed = True
        return healed

    async def _has_members(self, store: StateStore, room: Room) -> bool:
        """Whether the store's list of members, which keys are shared by, is the room's.

        Not by `get_member_profiles`: on SQLite it fails (mautrix 0.21.1).
        """
        if not await store.has_full_member_list(room.room_id):
            return False
        if set(await store.get_members(room.room_id, MEMBERSHIPS)) != room.members.keys():
            return False
        for user_id, member in room.members.items():
            known = await _readable(store.get_member(room.room_id, user_id))
            if known is None or _profile(known) != _profile(_stored(member)):
                return False
        return True


_READ_ROOMS: Final = (
    "SELECT room_id, is_encrypted, has_full_member_list, power_levels,"
    " create_event IS NOT NULL AS has_create FROM mx_room_state WHERE room_id IN"
)
_READ_MEMBERS: Final = (
    "SELECT room_id, user_id, membership, displayname, avatar_url FROM mx_user_profile"
    " WHERE room_id IN"
)


def _is_true(room: Room, known: Any, profiles: Mapping[str, object]) -> bool:
    """Whether the rows about a room say what was observed."""
    mirror = room.mirror
    assert mirror is not None
    return (
        known is not None
        and bool(known["has_full_member_list"])
        and bool(known["has_create"])
        and (mirror.encryption is None or bool(known["is_encrypted"]))
        and (
            mirror.power_levels is None
            or _object(known["power_levels"]) == dict(mirror.power_levels)
        )
        and profiles
        == {
            user_id: (member.membership, member.displayname, member.avatar_url)
            for user_id, member in room.members.items()
        }
    )


def _object(text: object) -> object:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None


async def _readable(reading: Awaitable[T]) -> T | None:
    """What the store has; None, too, for what a room's members wrote and mautrix cannot read."""
    try:
        return await reading
    except SerializerError:
        return None


def _stored(member: Member) -> StoredMember:
    raw: dict[str, Any] = {
        "membership": member.membership,
        "displayname": member.displayname,
        "avatar_url": member.avatar_url,
    }
    return StoredMember.deserialize(raw)  # type: ignore[arg-type]


def _profile(member: StoredMember) -> tuple[Membership, str | None, str | None]:
    return member.membership, member.displayname, member.avatar_url


def _event(room_id: RoomID, raw: Mapping[str, Any]) -> StateEvent | None:
    try:
        return StateEvent.deserialize({**raw, "room_id": room_id})  # type: ignore[arg-type]
    except SerializerError:
        return None
