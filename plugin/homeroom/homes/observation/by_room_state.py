"""The way that every homeserver knows: the `/state` of one room after the other, some at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from mautrix.types import RoomID, UserID

from ...domain.homes.room_state import read_room
from ...domain.homes.topology import Room, Unreadable
from ...matrix.errors import HomeserverError, Refused, TooLarge
from ...matrix.homeserver import Homeserver
from ...runtime.batches import batches
from .partial_topology import Found

AT_ONCE: Final = 100
"""Rooms that wait for their turn; how many requests are under way is the adapter's to bound."""

MANY_EVENTS: Final = 1000
"""Of one room's state, from which on they are read in a thread."""


class RoomByRoom:
    """One scan.

    Args:
        found: every room is added to it: read, or `Unreadable`. Rooms whose own state says that
            the bot is not joined any more are left out.
    """

    def __init__(self, homeserver: Homeserver, found: Found) -> None:
        self._homeserver = homeserver
        self._found = found
        self.not_this_way: set[RoomID] = set()
        """Rooms of which `/state` will not tell, however often it is asked; `Unreadable`, too."""

    async def at(self, room_ids: Iterable[RoomID]) -> None:
        for batch in batches(sorted(room_ids), AT_ONCE):
            read = await asyncio.gather(*(self._read(room_id) for room_id in batch))
            rooms = {room.room_id: room for room in read if room is not None}
            self._found.add(rooms, rescanned=len(batch))

    async def _read(self, room_id: RoomID) -> Room | Unreadable | None:
        try:
            events = await self._homeserver.room_state(room_id)
        except HomeserverError as e:
            if isinstance(e, TooLarge) or (isinstance(e, Refused) and e.is_no_such_request):
                self.not_this_way.add(room_id)
            return Unreadable(room_id=room_id, reason=str(e))
        if len(events) > MANY_EVENTS:
            return await asyncio.to_thread(self._read_events, room_id, events)
        return self._read_events(room_id, events)

    def _read_events(self, room_id: RoomID, events: list[Any]) -> Room | Unreadable | None:
        bot = self._homeserver.bot
        if has_left(events, bot=bot):
            return None
        return read_room(room_id, events, bot=bot, interner=self._found.interner)


def has_left(events: Iterable[Any], *, bot: UserID) -> bool:
    """Whether the state of a room says that the bot is not in it any more."""
    return any(
        isinstance(event, dict)
        and event.get("type") == "m.room.member"
        and event.get("state_key") == bot
        and isinstance(content := event.get("content"), dict)
        and content.get("membership") in ("leave", "ban")
        for event in events
    )
