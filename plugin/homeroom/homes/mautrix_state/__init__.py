"""Making mautrix's state store true again.

maubot throws the first sync response after every start away, so what happened while it was down
never reaches the state store: members who came or went, new power levels, encryption. For the
rooms that are Homeroom's the scan has all of it; what differs is written. The store belongs to
all plugins of the client: rooms of others are not touched, and nothing is ever deleted from it
but members that the homeserver does not have.

    tables       maubot's store, in its own tables: hundreds of rooms in a few statements
    one_by_one   any other store, room by room, through mautrix's interface
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mautrix.client.state_store import StateStore
from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ...domain.homes.topology import Room, Topology
from ...matrix.state_store_tables import database_of
from ...runtime.batches import batches
from . import bulk_sql as tables
from . import via_interface as one_by_one

__all__ = ["MautrixState"]


class MautrixState:
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
        store = self._store
        if store is None:
            return 0
        healed = 0
        if (database := database_of(store)) is not None:
            for some in batches(_ours(topology), tables.ROOMS_AT_ONCE):
                healed += await tables.heal(database, some, bot=topology.bot)
        else:
            for room in _ours(topology):
                healed += await one_by_one.heal(store, room)
        if healed:
            self._log.debug("The state store was out of date for %d rooms", healed)
        return healed

    async def note(self, events: Iterable[tuple[RoomID, dict[str, Any]]]) -> None:
        """Write what was told of members and power levels, in this order.

        mautrix does the same, and nobody can wait for it.

        Raises:
            StoreError: the database of the state store failed; writing all of it again is right.
        """
        if self._store is not None:
            for room_id, event in events:
                await one_by_one.note(self._store, room_id, event)

    async def outdated(self, topology: Topology) -> frozenset[RoomID]:
        """Find the rooms in which there is a difference; of a store without tables, none.

        Raises:
            StoreError: the database of the state store failed.
        """
        found: set[RoomID] = set()
        if (database := database_of(self._store)) is not None:
            for some in batches(_ours(topology), tables.ROOMS_AT_ONCE):
                outdated = await tables.outdated(database, some)
                found.update(room.room_id for room in outdated)
        return frozenset(found)


def _ours(topology: Topology) -> Iterator[Room]:
    return (
        room
        for room in topology.read()
        if room.cached_state is not None and topology.bot in room.members
    )
