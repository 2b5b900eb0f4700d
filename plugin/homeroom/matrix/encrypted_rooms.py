"""Which rooms are encrypted: as mautrix's state store knows, else as the homeserver says.

The state store is asked before each message that is sent. What many rooms ask at once is one
question to its database: else the last of fifty answers would wait for fifty of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from mautrix.types import RoomID

from ..runtime.batches import batches
from ..storage.coalesce import Coalescer
from ..storage.errors import StoreError, attempt
from .errors import Unavailable
from .state_store_tables import database_of, places

ROOMS_AT_ONCE: Final = 50
_READ: Final = "SELECT room_id FROM mx_room_state WHERE is_encrypted=true AND room_id IN"

ReadState = Callable[[RoomID, str], Awaitable[dict[str, Any] | None]]
"""`Homeserver.state_content`."""


class EncryptedRooms:
    """Says whether a room is encrypted, and remembers which are not."""

    def __init__(self, state_store: Any, *, read: ReadState) -> None:
        self._state_store = state_store
        self._read = read
        self._plain: set[RoomID] = set()
        """Rooms that are not encrypted, by the homeserver's word."""
        self._asking: dict[RoomID, object] = {}
        """The last question about a room, until an answer or signs of encryption come."""
        self._noted = Coalescer(self._all_noted)

    async def has(self, room_id: RoomID) -> bool:
        """Whether the room is encrypted. A room never stops to be.

        Raises:
            HomeserverError: nobody knows.
        """
        try:
            if room_id in await self._noted(room_id):
                return True
            if room_id in self._plain:
                return False
            if (encryption := await self._ask(room_id)) is None:
                return False
            with attempt(f"note that {room_id} is encrypted"):
                await self._state_store.set_encryption_info(room_id, encryption)
        except StoreError as e:
            raise Unavailable(str(e)) from e
        return True

    async def seems_to_have(self, room_id: RoomID) -> bool:
        """The same as far as has been heard, without asking the database each time."""
        return room_id not in self._plain and await self.has(room_id)

    def forget_plain(self, room_ids: Iterable[RoomID]) -> None:
        """Ask again about these rooms: there are signs of encryption."""
        for room_id in room_ids:
            self._plain.discard(room_id)
            self._asking.pop(room_id, None)

    async def _ask(self, room_id: RoomID) -> dict[str, Any] | None:
        """Ask the homeserver; once more if the room may have been encrypted meanwhile."""
        question = self._asking[room_id] = object()
        encryption = await self._read(room_id, "m.room.encryption")
        if self._asking.get(room_id) is not question:
            again = await self._read(room_id, "m.room.encryption")
            return encryption if again is None else again
        del self._asking[room_id]
        if encryption is None:
            self._plain.add(room_id)
        return encryption

    async def _all_noted(self, room_ids: list[RoomID]) -> frozenset[RoomID]:
        """Those of the rooms of which the state store knows that they are encrypted."""
        database, noted = database_of(self._state_store), set[RoomID]()
        with attempt(
            f"look up whether {room_ids[0]} and {len(room_ids) - 1} others are encrypted"
        ):
            if database is None or len(room_ids) == 1:
                for room_id in room_ids:
                    if await self._state_store.is_encrypted(room_id):
                        noted.add(room_id)
                return frozenset(noted)
            statement = f"{_READ} {places(ROOMS_AT_ONCE)}"
            for some in batches(room_ids, ROOMS_AT_ONCE):
                # Always the same statement: databases remember how those are executed.
                filled = [*some, *some[:1] * (ROOMS_AT_ONCE - len(some))]
                noted.update(row["room_id"] for row in await database.fetch(statement, *filled))
        return frozenset(noted)
