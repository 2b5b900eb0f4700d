"""What every sync response and every timeline has, whatever is in it: positions, gaps, times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mautrix.types import RoomID

from ..json_shapes import as_dict, as_list


def events_in(entry: object) -> Iterator[dict[str, Any]]:
    """Every event that a response tells of one room: its state first, then its timeline."""
    for part in ("state", "timeline"):
        yield from map(as_dict, as_list(as_dict(as_dict(entry).get(part)).get("events")))


def timeline_gaps(response: object, *, not_before: int | None) -> list[tuple[RoomID, str]]:
    """Joined rooms of which older events were left out, and the token where those end.

    Not those where what was left out is older than `not_before` (milliseconds).
    """
    rooms = as_dict(as_dict(response).get("rooms"))
    timelines = (
        (RoomID(room_id), as_dict(as_dict(entry).get("timeline")))
        for room_id, entry in as_dict(rooms.get("join")).items()
    )
    return [
        (room_id, timeline["prev_batch"])
        for room_id, timeline in timelines
        if timeline.get("limited") is True
        and isinstance(timeline.get("prev_batch"), str)
        and not (not_before is not None and _begins_before(timeline, not_before))
    ]


def with_older_events(response: object, room_id: RoomID, older: list[Any]) -> object:
    """The same response with these events before the others of a room's timeline."""
    # Copied along the way only: contents may be nested deeper than a deep copy can go.
    response = as_dict(response)
    rooms = as_dict(response.get("rooms"))
    joined = as_dict(rooms.get("join"))
    entry = as_dict(joined.get(room_id))
    timeline = as_dict(entry.get("timeline"))
    timeline = {**timeline, "events": [*older, *as_list(timeline.get("events"))]}
    joined = {**joined, room_id: {**entry, "timeline": timeline}}
    return {**response, "rooms": {**rooms, "join": joined}}


def sent_at(event: object) -> int | None:
    """When an event was sent, in milliseconds, if it says so."""
    value = as_dict(event).get("origin_server_ts")
    return value if type(value) is int else None


def next_batch(response: object) -> str | None:
    """The position after this response."""
    token = as_dict(response).get("next_batch")
    return token if isinstance(token, str) else None


def is_first(response: object) -> bool:
    """Whether mautrix's sync loop marked this as the first response after a start."""
    return as_dict(as_dict(response).get("net.maunium.mautrix")).get("is_first") is True


def _begins_before(timeline: dict[str, Any], moment: int) -> bool:
    first = next(iter(as_list(timeline.get("events"))), None)
    sent = sent_at(first)
    return sent is not None and sent < moment
