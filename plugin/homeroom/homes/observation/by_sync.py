"""The last way: `/sync`, filtered to the state that matters.

For rooms that `/state` will not tell of: it is too large (it has all of a huge room's members in
it), or the server has no such request. Slower than the others, in homeservers and here, so it is
only asked about these. Pending invites come this way where there is no sliding sync.

A filter for rooms hides the create event of rooms of version 12, which has no room ID (Synapse
1.163): that one is asked for by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from mautrix.types import RoomID

from ...domain.homes.room_state import (
    TYPES_WITHOUT_MEMBERS,
    Interner,
    add_members,
    read_invite,
    read_room,
)
from ...domain.homes.topology import Invite, Room
from ...matrix.errors import HomeserverError, Unavailable
from ...matrix.homeserver import Homeserver
from ...matrix.sync_filters import ROOMS_WITHOUT_EVENTS
from ...runtime.batches import batches
from ...runtime.clock import now

AT_ONCE: Final = 50
"""Rooms in one request; their IDs have to fit into its address."""


async def read_rooms(
    homeserver: Homeserver, room_ids: Iterable[RoomID], *, interner: Interner
) -> dict[RoomID, Room]:
    """Read what can be read of these rooms; the others are left out.

    Members are only asked for where the room may be Homeroom's.
    """
    rooms: dict[RoomID, Room] = {}
    for batch in batches(sorted(room_ids), AT_ONCE):
        found = {}
        states = await _state(homeserver, batch, TYPES_WITHOUT_MEMBERS)
        await asyncio.gather(*(_add_create(homeserver, *state) for state in states.items()))
        for room_id, events in states.items():
            room = read_room(room_id, events, bot=homeserver.bot, interner=interner)
            if isinstance(room, Room):
                found[room_id] = room
        ours = sorted(room_id for room_id, room in found.items() if room.cached_state is not None)
        members = await _state(homeserver, ours, ["m.room.member"]) if ours else {}
        rooms |= {room_id: room for room_id, room in found.items() if room.cached_state is None}
        for room_id in ours:
            complete = add_members(found[room_id], members.get(room_id, ()), interner=interner)
            if complete.membership(homeserver.bot) == "join":
                rooms[room_id] = complete
    return rooms


async def _add_create(homeserver: Homeserver, room_id: RoomID, events: list[Any]) -> None:
    if any(isinstance(event, dict) and event.get("type") == "m.room.create" for event in events):
        return
    with suppress(HomeserverError):
        create = await homeserver.state_event(room_id, "m.room.create")
        events += [create] if create is not None else []


async def pending_invites(homeserver: Homeserver) -> list[Invite]:
    """The invites of the bot that nobody has answered.

    Raises:
        HomeserverError: they are not to be had.
    """
    answer = await homeserver.sync(filter_=ROOMS_WITHOUT_EVENTS)
    invited = answer.get("rooms", {})
    invited = invited.get("invite", {}) if isinstance(invited, dict) else {}
    if not isinstance(invited, dict):
        raise Unavailable("sync: the answer has no invites in it")
    invites = []
    for room_id, entry in invited.items():
        state = entry.get("invite_state", {}) if isinstance(entry, dict) else {}
        events = state.get("events", []) if isinstance(state, dict) else []
        invite = read_invite(RoomID(room_id), events, bot=homeserver.bot)
        invites += [invite] if invite else []
    return invites


async def _state(
    homeserver: Homeserver, room_ids: Sequence[RoomID], types: Sequence[str]
) -> dict[RoomID, list[Any]]:
    """The state of these types in these rooms; nothing of those that are not to be had."""
    filter_ = {
        **ROOMS_WITHOUT_EVENTS,
        "room": {
            **ROOMS_WITHOUT_EVENTS["room"],
            "rooms": list(room_ids),
            "state": {"types": list(types)},
        },
    }
    try:
        answer = await homeserver.sync(filter_=filter_)
    except HomeserverError:
        return {}
    rooms = answer.get("rooms", {})
    joined = rooms.get("join", {}) if isinstance(rooms, dict) else {}
    states = {}
    for room_id, entry in (joined if isinstance(joined, dict) else {}).items():
        state = entry.get("state", {}) if isinstance(entry, dict) else {}
        events = state.get("events", []) if isinstance(state, dict) else []
        if room_id in room_ids and isinstance(events, list):
            states[RoomID(room_id)] = homeserver.told.over_state(
                RoomID(room_id), events, types=types, now=now()
            )
    return states
