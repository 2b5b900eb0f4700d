"""Looking at the homeserver: from requests to one frozen `Topology`.

`/joined_rooms` says what there is; every other way only says more about it, so a server that
leaves something out, or lies, costs time but no truth: what a fast way did not tell of a joined
room is read room by room, and what cannot be read is `Unreadable`. If the list itself cannot be
had there is no look at all (`Unavailable` is raised).

The fast way is simplified sliding sync (MSC4186), in windows; where the server has none, every
room's `/state` is read, some at a time. Members are asked for in a second step, and only of the
rooms that may be Homeroom's: a bot in large public rooms pays nothing for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from uuid import uuid4

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.marker import MARKER_TYPE
from ..domain.room_state import STATE_TYPES, add_members, read_invite, read_room
from ..domain.topology import Invite, Room, Topology, Unreadable
from .batches import batches
from .errors import HomeserverError, Unavailable
from .homeserver import ROOMS_WITHOUT_EVENTS, Homeserver

WINDOW: Final = 500
"""Rooms per request: smaller windows repeat work on the server, larger ones cost memory here."""

SINGLE_TYPES: Final = {
    "m.room.create",
    "m.room.name",
    "m.room.tombstone",
    "m.room.power_levels",
    "m.room.encryption",
    "m.room.join_rules",
}
REQUIRED_STATE: Final = [
    [kind, "" if kind in SINGLE_TYPES else "*"] for kind in STATE_TYPES if kind != "m.room.member"
]
MEMBERS: Final = [["m.room.member", "*"]]

Rooms = dict[RoomID, Room | Unreadable]


class Observer:
    """The eyes of the reconciler: reads only."""

    def __init__(self, homeserver: Homeserver, *, log: TraceLogger) -> None:
        self._homeserver = homeserver
        self._log = log

    async def look(self) -> Topology:
        """Look at everything: every joined room, every pending invite.

        Raises:
            HomeserverError: the position, the joined rooms or the invites could not be had.
        """
        position = await self._homeserver.position()
        joined = await self._homeserver.joined_rooms()
        rooms: Rooms = {}
        invites: list[Invite] | None = None
        if await self._homeserver.supports_sliding_sync():
            invites = await self._slide(joined, rooms)
        if invites is None:
            invites = await self._invites_from_sync()
        await self._read_each(joined - rooms.keys(), rooms)
        return Topology(
            bot=self._homeserver.bot,
            rooms=rooms,
            invites=tuple(sorted(invites, key=lambda invite: invite.room_id)),
            position=position,
        )

    async def look_gently(self) -> Topology:
        """Look at every joined room with GET requests only, room by room; no invites."""
        return await self._look_one_by_one(lambda joined: joined)

    async def look_at(self, room_ids: Iterable[RoomID]) -> Topology:
        """Look at these rooms only, and whether the bot is in them."""
        wanted = frozenset(room_ids)
        return await self._look_one_by_one(lambda joined: joined & wanted)

    async def look_beyond(self, known: frozenset[RoomID]) -> Topology:
        """Look at the joined rooms that are not among the known ones."""
        return await self._look_one_by_one(lambda joined: joined - known)

    async def _look_one_by_one(
        self, choose: Callable[[frozenset[RoomID]], frozenset[RoomID]]
    ) -> Topology:
        """Read the state of those of the joined rooms that are chosen."""
        rooms: Rooms = {}
        await self._read_each(choose(await self._homeserver.joined_rooms()), rooms)
        return Topology(bot=self._homeserver.bot, rooms=rooms)

    async def could_be_ours(self, room_id: RoomID) -> bool:
        """Whether a room whose state cannot be read may be Homeroom's.

        Two single events often can be read where the whole state cannot (it is huge, or the
        server is still fetching it): who made the room, and whether it bears the bot's marker.
        """
        bot = self._homeserver.bot
        try:
            create = await self._homeserver.state_event(room_id, "m.room.create")
            marker = await self._homeserver.state_event(room_id, MARKER_TYPE, state_key=bot)
        except HomeserverError:
            return True
        sender = create.get("sender") if create else None
        return marker is not None or not isinstance(sender, str) or sender == bot

    async def _slide(self, joined: frozenset[RoomID], rooms: Rooms) -> list[Invite] | None:
        """Fold window after window into `rooms`; None if the invites are not all known."""
        invites: list[Invite] = []
        connection, pos, start = f"homeroom-{uuid4()}", None, 0
        try:
            while True:
                answer = await self._homeserver.sliding_sync(
                    {
                        "conn_id": connection,
                        "lists": {
                            "rooms": {
                                "ranges": [[start, start + WINDOW - 1]],
                                "required_state": REQUIRED_STATE,
                                "timeline_limit": 0,
                            }
                        },
                    },
                    pos=pos,
                )
                count, pos = _list_count(answer), answer.get("pos")
                window: Rooms = {}
                for room_id, entry in _fresh_rooms(answer):
                    if "invite_state" in entry:
                        invite = read_invite(
                            room_id, entry["invite_state"], bot=self._homeserver.bot
                        )
                        invites += [invite] if invite else []
                    elif room_id in joined and isinstance(entry.get("required_state"), list):
                        room = read_room(
                            room_id, entry["required_state"], bot=self._homeserver.bot
                        )
                        if isinstance(room, Room):
                            window[room_id] = room
                await self._add_members(window)
                rooms |= window
                start += WINDOW
                if start >= count:
                    return invites
        except HomeserverError as e:
            self._log.warning("Sliding sync failed, reading room by room instead: %s", e)
            return None

    async def _add_members(self, window: Rooms) -> None:
        """Ask for the members of the rooms that may be Homeroom's, in one request."""
        wanted = [r for r in window.values() if isinstance(r, Room) and r.mirror is not None]
        if not wanted:
            return
        answer = await self._homeserver.sliding_sync(
            {
                "conn_id": f"homeroom-{uuid4()}",
                "room_subscriptions": {
                    room.room_id: {"required_state": MEMBERS, "timeline_limit": 0}
                    for room in wanted
                },
            },
            pos=None,
        )
        entries = dict(_fresh_rooms(answer))
        for room in wanted:
            events = entries.get(room.room_id, {}).get("required_state")
            complete = add_members(room, events) if isinstance(events, list) else None
            if complete is not None and complete.membership(self._homeserver.bot) == "join":
                window[room.room_id] = complete
            else:
                del window[room.room_id]  # not told: it is read by itself

    async def _invites_from_sync(self) -> list[Invite]:
        answer = await self._homeserver.sync(filter_=ROOMS_WITHOUT_EVENTS)
        invited = answer.get("rooms", {})
        invited = invited.get("invite", {}) if isinstance(invited, dict) else {}
        if not isinstance(invited, dict):
            raise Unavailable("sync: the answer has no invites in it")
        invites = []
        for room_id, entry in invited.items():
            state = entry.get("invite_state", {}) if isinstance(entry, dict) else {}
            events = state.get("events", []) if isinstance(state, dict) else []
            invite = read_invite(RoomID(room_id), events, bot=self._homeserver.bot)
            invites += [invite] if invite else []
        return invites

    async def _read_each(self, room_ids: Iterable[RoomID], rooms: Rooms) -> None:
        """Read rooms one by one, as many at once as the adapter allows."""
        for batch in batches(sorted(room_ids), WINDOW):
            found = await asyncio.gather(*(self._read(room_id) for room_id in batch))
            rooms |= {room.room_id: room for room in found if room is not None}

    async def _read(self, room_id: RoomID) -> Room | Unreadable | None:
        """One room; None if its own state says that the bot is not joined any more."""
        bot = self._homeserver.bot
        try:
            events = await self._homeserver.room_state(room_id)
        except HomeserverError as e:
            return Unreadable(room_id=room_id, reason=str(e))
        for event in events:
            if (
                isinstance(event, dict)
                and event.get("type") == "m.room.member"
                and event.get("state_key") == bot
                and isinstance(content := event.get("content"), dict)
                and content.get("membership") in {"leave", "ban"}
            ):
                return None
        return read_room(room_id, events, bot=bot)


def _list_count(answer: dict[str, Any]) -> int:
    lists = answer.get("lists")
    rooms = lists.get("rooms") if isinstance(lists, dict) else None
    count = rooms.get("count") if isinstance(rooms, dict) else None
    if type(count) is not int or not 0 <= count <= 10_000_000:
        raise Unavailable("sliding sync: the answer has no count of rooms")
    return count


def _fresh_rooms(answer: dict[str, Any]) -> Iterator[tuple[RoomID, dict[str, Any]]]:
    """Rooms that are told whole. Others are updates of rooms that were told before."""
    rooms = answer.get("rooms")
    if not isinstance(rooms, dict):
        raise Unavailable("sliding sync: the answer has no rooms in it")
    for room_id, entry in rooms.items():
        if isinstance(entry, dict) and entry.get("initial") is True:
            yield RoomID(room_id), entry
