"""Where a room goes on that could not go on with the others."""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.types import RoomID


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a parked room goes on."""

    room_id: RoomID
    since: str | None
    """The sync position up to which everything in it is done; None: not known."""
    why: str
    parked_at: int
    """Milliseconds since 1970."""
