"""Whom a text would call that only names them.

By older push rules a message calls everybody whose name is in its text, and the whole room by
"@room". A message with `m.mentions` calls only those that it lists, so an answer that lists nobody
calls nobody. Synapse checks that key against a JSON schema, which takes as much CPU time as all
else that it does when it is sent a message. So an answer has it only where it makes a difference:
where a name is in the text, or where nobody knows the names.

https://spec.matrix.org/latest/client-server-api/#user-and-room-mentions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID, UserID

from ..domain.newest import put_newest
from ..domain.sync.changed_rooms import cached_state_in
from ..domain.sync.timeline import timeline_gaps
from .errors import HomeserverError

ROOMS_AT_MOST: Final = 1_000
"""Rooms whose names are remembered."""
NAMES_AT_MOST: Final = 20
"""Members of a room whose names are looked for."""
NAME_AT_MOST: Final = 30
"""Characters of a name that are looked for: names may be made to be searched for slowly."""
EVERYBODY: Final = "@room"

_Names = dict[UserID, frozenset[str]]
"""What may call each member, as it is compared."""


@dataclass(slots=True, kw_only=True)
class Mentions:
    """Knows what the members of rooms are called, once somebody asked, and says where a name is.

    Args:
        read: the members of a room with their display names, which may be anything.
    """

    read: Callable[[RoomID], Awaitable[Mapping[UserID, object]]]
    _rooms: dict[RoomID, _Names | None] = field(default_factory=dict, init=False)
    """None: they are not to be had, or too many."""
    _reading: set[RoomID] = field(default_factory=set, init=False)
    """Of which nothing else was told since they are read."""

    async def may_be_in(self, text: str, *, room_id: RoomID) -> bool:
        """Whether a text may call somebody in a room; yes, if that is not known."""
        if room_id not in self._rooms:
            await self._read(room_id)
        names = self._rooms.get(room_id)
        if names is None:
            return True
        folded = text.casefold()
        return EVERYBODY in folded or any(
            name in folded for called in names.values() for name in called
        )

    def synced(self, response: object) -> None:
        """Take note of what a response of `/sync` says of members."""
        for room_id in timeline_gaps(response):
            self._reading.discard(room_id)
            self._rooms.pop(room_id, None)  # who came in between is not told
        for room_id, event in cached_state_in(response, is_ours=self._is_of_interest):
            if event["type"] == "m.room.member":
                self._note(room_id, UserID(event["state_key"]), event["content"])

    def _is_of_interest(self, room_id: RoomID) -> bool:
        return room_id in self._rooms or room_id in self._reading

    def _note(self, room_id: RoomID, user_id: UserID, content: Mapping[str, object]) -> None:
        self._reading.discard(room_id)
        names = self._rooms.get(room_id)
        if names is None:
            return
        if content.get("membership") != "join":
            names.pop(user_id, None)
        elif len(names) < NAMES_AT_MOST or user_id in names:
            names[user_id] = _called(user_id, content.get("displayname"))
        else:
            self._rooms[room_id] = None

    async def _read(self, room_id: RoomID) -> None:
        self._reading.add(room_id)
        try:
            members = await self.read(room_id)
        except HomeserverError:
            members = {}
        if room_id not in self._reading:
            return  # something newer was told meanwhile
        self._reading.discard(room_id)
        is_known = 0 < len(members) <= NAMES_AT_MOST
        names = {user_id: _called(user_id, name) for user_id, name in members.items()}
        put_newest(self._rooms, room_id, names if is_known else None, at_most=ROOMS_AT_MOST)


def _called(user_id: UserID, displayname: object) -> frozenset[str]:
    """The localpart and the display name, as they are compared."""
    localpart = user_id.removeprefix("@").split(":", 1)[0]
    names = [localpart, displayname if isinstance(displayname, str) else ""]
    return frozenset(filter(None, (name.strip().casefold()[:NAME_AT_MOST] for name in names)))
