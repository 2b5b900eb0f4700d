"""What one scan has found so far, in whichever ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mautrix.types import RoomID

from ...domain.homes.room_state import Interner
from ...domain.homes.topology import Room, Unreadable
from .progress import Counting, OnProgress


@dataclass(frozen=True, slots=True)
class Found:
    """Filled as it comes, so that what one way has told is not lost if the rest of it fails."""

    joined: frozenset[RoomID]
    """The rooms that count; whatever else is told is passed over."""
    counting: Counting
    rooms: dict[RoomID, Room | Unreadable] = field(default_factory=dict)
    interner: Interner = field(default_factory=Interner)

    @classmethod
    def nothing(
        cls, joined: frozenset[RoomID] = frozenset(), *, on_progress: OnProgress | None = None
    ) -> Found:
        """Where every scan of these rooms begins."""
        return cls(joined, Counting(total=len(joined), report=on_progress))

    @property
    def left(self) -> frozenset[RoomID]:
        """Rooms that nothing is known of yet."""
        return self.joined - self.rooms.keys()

    def is_left(self, room_id: RoomID) -> bool:
        """Whether the room is one of them; to be asked of one room after the other."""
        return room_id in self.joined and room_id not in self.rooms

    def add(self, rooms: Mapping[RoomID, Room | Unreadable], *, rescanned: int) -> None:
        """These rooms were found by scanning so many."""
        self.rooms.update(rooms)
        self.counting.add(rescanned)
