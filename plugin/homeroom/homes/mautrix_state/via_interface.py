"""Any state store, through mautrix's interface: one room after the other."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg
from mautrix.client.state_store import StateStore
from mautrix.types import Member as StoredMember
from mautrix.types import (
    Membership,
    MemberStateEventContent,
    RoomID,
    SerializerError,
    UserID,
)

from ...domain.homes.marker import is_user_id
from ...domain.homes.room_state import read_member
from ...domain.homes.topology import Member, Room
from ...storage.errors import attempt
from .create_events import read_create_event

T = TypeVar("T")

MEMBERSHIPS: Final = tuple(Membership)
WRITES_AT_MOST: Final = 5
"""Attempts to write one room while the sync loop writes the same rows."""


async def heal(store: StateStore, room: Room) -> bool:
    """Write what differs about a room; whether anything did.

    Raises:
        StoreError: the database of the state store failed.
    """
    with attempt(f"bring the state store up to date for {room.room_id}"):
        return await _heal_among_others(store, room)


async def note(store: StateStore, room_id: RoomID, event: dict[str, Any]) -> None:
    """Write what one event says of a member, or of power levels; not what cannot be.

    Raises:
        StoreError: the database of the state store failed.
    """
    key, content = event["state_key"], event["content"]
    with attempt(f"tell the state store about {room_id}"), suppress(SerializerError):
        if event["type"] == "m.room.member":
            if is_user_id(key) and (member := read_member(event, user_id=key)):
                await store.set_member(room_id, UserID(key), _stored(member))
        elif key == "":
            await store.set_power_levels(room_id, content)


async def _heal_among_others(store: StateStore, room: Room) -> bool:
    """Heal a room while mautrix's sync loop writes, too.

    Its list of members is deleted and written anew: on PostgreSQL a member whom the sync loop
    writes in between is one too many, and nothing is written.
    """
    for _ in range(WRITES_AT_MOST - 1):
        with suppress(asyncpg.UniqueViolationError, sqlite3.IntegrityError):
            return await _heal(store, room)
    return await _heal(store, room)


async def _heal(store: StateStore, room: Room) -> bool:
    healed = False
    cached_state = room.cached_state
    assert cached_state is not None
    if cached_state.power_levels is not None:
        levels = json.loads(cached_state.power_levels)
        known = await _readable(store.get_power_levels(room.room_id))
        if known is None or known.serialize() != levels:
            with suppress(SerializerError):
                await store.set_power_levels(room.room_id, levels)
            healed = known is None or healed
    if cached_state.encryption is not None and not await _readable(
        store.is_encrypted(room.room_id)
    ):
        with suppress(SerializerError):
            await store.set_encryption_info(room.room_id, json.loads(cached_state.encryption))
        healed = True
    if not await store.has_create_cached(room.room_id):
        create = read_create_event(room)
        if create is not None:
            await store.set_create(create)
    # Last: that the list is whole is only noted where the room has a row already (mautrix
    # 0.21.1).
    if not await _has_members(store, room):
        members: dict[UserID, StoredMember | MemberStateEventContent] = {
            user_id: _stored(member) for user_id, member in room.members.items()
        }
        await store.set_members(room.room_id, members)
        healed = True
    return healed


async def _has_members(store: StateStore, room: Room) -> bool:
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
