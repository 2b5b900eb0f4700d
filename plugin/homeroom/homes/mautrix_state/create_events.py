"""The create event of a room, as mautrix has it."""

from __future__ import annotations

import json
from typing import Any, cast

from mautrix.types import JSON, SerializerError, StateEvent, UserID

from ...domain.homes.topology import Room


def read_create_event(room: Room) -> StateEvent | None:
    """None: somebody made the room with an event that mautrix cannot read."""
    try:
        return StateEvent.deserialize(cast("JSON", _whole(room)))
    except SerializerError:
        return None


def create_event_text(room: Room, *, bot: UserID) -> str | None:
    """The same as mautrix stores it. The bot's own are readable: reading takes a while."""
    if room.creator != bot and read_create_event(room) is None:
        return None
    return json.dumps(_whole(room))


def _whole(room: Room) -> dict[str, Any]:
    assert room.cached_state is not None
    return {**json.loads(room.cached_state.create), "room_id": room.room_id}
