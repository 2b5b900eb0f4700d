"""Which rooms are encrypted: as mautrix's state store knows, else as the homeserver says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mautrix.types import RoomID

from ..storage.errors import StoreError, attempt
from .errors import Unavailable

ReadState = Callable[[RoomID, str], Awaitable[dict[str, Any] | None]]
"""`Homeserver.state_content`."""


class EncryptedRooms:
    """Says whether a room is encrypted, and remembers which are not."""

    def __init__(self, state_store: Any, *, read: ReadState) -> None:
        self._state_store = state_store
        self._read = read
        self._plain: set[RoomID] = set()
        """Rooms that are not encrypted, by the homeserver's word."""

    async def has(self, room_id: RoomID) -> bool:
        """Whether the room is encrypted. A room never stops to be.

        Raises:
            HomeserverError: nobody knows.
        """
        try:
            with attempt(f"look up whether {room_id} is encrypted"):
                if await self._state_store.is_encrypted(room_id):
                    return True
            if room_id in self._plain:
                return False
            encryption = await self._read(room_id, "m.room.encryption")
            if encryption is None:
                self._plain.add(room_id)
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
        self._plain.difference_update(room_ids)
