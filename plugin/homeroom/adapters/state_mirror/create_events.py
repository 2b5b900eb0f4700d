"""The create event of a room, as mautrix has it."""

from __future__ import annotations

import json
from typing import cast

from mautrix.types import JSON, SerializerError, StateEvent

from ...domain.topology import Room


def read_create_event(room: Room) -> StateEvent | None:
    """None: somebody made the room with an event that mautrix cannot read."""
    assert room.mirror is not None
    raw = {**json.loads(room.mirror.create), "room_id": room.room_id}
    try:
        return StateEvent.deserialize(cast("JSON", raw))
    except SerializerError:
        return None
