"""Rooms that cannot go on for a while: each remembers its own place, so that nobody waits for it.

A place says from which position on not everything that was said in a room is done. It is in the
database, so the sync position that is kept for all rooms goes on without the room, and after a
restart the room goes on from its own place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.homes.place import Place
from ..runtime import clock
from ..storage import Store, StoreError


@dataclass(slots=True, kw_only=True)
class Parking:
    """The places of rooms that cannot go on, kept in the database."""

    PARK_AFTER: ClassVar[float] = 60.0
    """Seconds of failing after which a room is parked."""

    store: Store
    log: TraceLogger
    _places: dict[RoomID, Place] = field(default_factory=dict, init=False)

    @property
    def places(self) -> tuple[Place, ...]:
        """The rooms that are parked."""
        return tuple(self._places.values())

    async def load(self) -> tuple[Place, ...]:
        """Take over what an earlier life has parked.

        Raises:
            StoreError: it is not to be had.
        """
        self._places = {place.room_id: place for place in await self.store.places()}
        return self.places

    async def park(self, room_id: RoomID, *, since: str | None, why: str) -> bool:
        """Park a room, unless it is; whether it is now. The older place counts."""
        if room_id in self._places:
            return True
        place = Place(room_id=room_id, since=since, why=why, parked_at=clock.now())
        try:
            await self.store.park(place)
        except StoreError as e:
            self.log.warning("%s cannot be parked: %s", room_id, e)
            return False
        self._places[room_id] = place
        self.log.warning("%s is parked, and goes on when it can: %s", room_id, why)
        return True

    def has(self, room_id: RoomID) -> bool:
        """Whether the room is parked."""
        return room_id in self._places

    async def leave(self, room_id: RoomID) -> None:
        """Everything is done in a room; what comes from now on holds up the position again."""
        place = self._places.pop(room_id, None)
        if place is None:
            return
        try:
            await self.store.unpark(room_id)
        except StoreError as e:
            self._places[room_id] = place
            self.log.warning("%s goes on, but is still parked in the database: %s", room_id, e)
        else:
            self.log.info("%s is not parked any more", room_id)
