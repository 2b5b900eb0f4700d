"""The outer shape of a sync response: its rooms, their timelines, and how old an event is.

The clock of another server says nothing, nor does maubot's own. What counts is the order of a
timeline and the times of those of its events that the bot's own server has stamped: an event is
no older than the next older one of these, and no newer than the next newer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from mautrix.types import EventID, RoomID

from ..json_shapes import as_dict, as_list

EVENTS_AT_ONCE: Final = 500
"""Events, or so, that are read in one go: others live in this process."""


def events_in(entry: object) -> Iterator[dict[str, Any]]:
    """Every event that a response tells of one room: its state first, then its timeline."""
    yield from map(as_dict, _part(entry, "state"))
    yield from map(as_dict, timeline_of(entry))


def news_in(entry: object) -> Iterator[dict[str, Any]]:
    """What may be new of it: the state only where the timeline has a gap or the room is new.

    Else there are members in it that are loaded lazily, because they said something. Or what is
    out of date: who writes at the same time as somebody else makes a branch of the room's history,
    and Synapse tells the state on that branch, in which the other's event has not happened.
    https://github.com/matrix-org/matrix-spec-proposals/pull/4222
    """
    is_new = has_gap(entry) or is_told_whole(entry)
    yield from events_in(entry) if is_new else map(as_dict, timeline_of(entry))


def has_gap(entry: object) -> bool:
    """Whether older events of the room were left out."""
    return as_dict(as_dict(entry).get("timeline")).get("limited") is True


def redacted_in(events: Iterable[object]) -> Iterator[EventID]:
    """The IDs of the events that redactions among these are about.

    In the content from room version 11 on: https://spec.matrix.org/latest/rooms/v11/
    """
    for event in map(as_dict, events):
        if event.get("type") == "m.room.redaction":
            redacts = as_dict(event.get("content")).get("redacts", event.get("redacts"))
            if isinstance(redacts, str):
                yield EventID(redacts)


def joined_in(response: object) -> dict[RoomID, dict[str, Any]]:
    """The joined rooms of a response."""
    joined = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    return {RoomID(room_id): as_dict(entry) for room_id, entry in joined.items()}


def is_told_whole(entry: object) -> bool:
    """Whether a response tells of a room from its beginning on."""
    return any(event.get("type") == "m.room.create" for event in events_in(entry))


def timeline_of(entry: object) -> list[Any]:
    """What was said in a room of a response, oldest first."""
    return _part(entry, "timeline")


def _part(entry: object, name: str) -> list[Any]:
    return as_list(as_dict(as_dict(entry).get(name)).get("events"))


def with_timelines(timelines: dict[RoomID, list[Any]]) -> dict[str, Any]:
    """A response that says nothing but these events of joined rooms."""
    return {
        "rooms": {
            "join": {
                room_id: {"timeline": {"events": events}} for room_id, events in timelines.items()
            }
        }
    }


def slices(response: object) -> Iterator[dict[str, Any]]:
    """The same response as several small ones, without its position; no room is divided."""
    rooms = as_dict(as_dict(response).get("rooms"))
    yield {"rooms": {key: rooms[key] for key in ("invite", "leave") if key in rooms}}
    some: dict[RoomID, dict[str, Any]] = {}
    events = 0
    for room_id, entry in joined_in(response).items():
        some[room_id] = entry
        events += 1 + sum(1 for _ in events_in(entry))
        if events >= EVENTS_AT_ONCE:
            yield {"rooms": {"join": some}}
            some, events = {}, 0
    if some:
        yield {"rooms": {"join": some}}


def timeline_gaps(response: object) -> dict[RoomID, str]:
    """Joined rooms of which older events were left out, and the token where those end."""
    found: dict[RoomID, str] = {}
    for room_id, entry in joined_in(response).items():
        token = as_dict(entry.get("timeline")).get("prev_batch")
        if has_gap(entry) and isinstance(token, str):
            found[room_id] = token
    return found


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


def is_initial(response: object) -> bool:
    """Whether it tells of everything, because maubot has no position."""
    return as_dict(as_dict(response).get("net.maunium.mautrix")).get("is_initial") is True


def event_id_of(event: object) -> EventID | None:
    """None: it has none."""
    event_id = as_dict(event).get("event_id")
    return EventID(event_id) if isinstance(event_id, str) else None


def event_ids(events: Iterable[object]) -> frozenset[EventID]:
    """The ids of those events that have one."""
    return frozenset(i for i in map(event_id_of, events) if i is not None)


def without(events: Iterable[object], ids: frozenset[EventID]) -> list[Any]:
    """The events whose id is none of these, in their order."""
    return [event for event in events if event_id_of(event) not in ids]


def begins_before(events: Iterable[object], moment: int, *, server: str) -> bool:
    """Whether one of these events is certainly older, and so is all that came before it."""
    return any(
        (stamped := _stamped_at(event, server=server)) is not None and stamped < moment
        for event in events
    )


def too_old(
    events: Sequence[object], moment: int, *, server: str, none_before: int | None
) -> list[dict[str, Any]]:
    """The events of a timeline, oldest first, that are older than a moment.

    Args:
        server: the bot's own, whose times are right.
        none_before: when the bot had seen all that came before the first of these events.
    """
    newest: list[int | None] = []
    above: int | None = None
    for event in reversed(events):
        newest.append(above)
        stamped = _stamped_at(event, server=server)
        above = above if stamped is None else stamped
    newest.reverse()
    found: list[dict[str, Any]] = []
    below = none_before
    for event, no_newer in zip(events, newest, strict=True):
        stamped = _stamped_at(event, server=server)
        if stamped is not None:
            below = at = stamped
        else:
            at = sent_at(event) or 0
            at = at if no_newer is None else min(at, no_newer)
            at = at if below is None else max(at, below)
        if at < moment:
            found.append(as_dict(event))
    return found


def _stamped_at(event: object, *, server: str) -> int | None:
    """When the bot's own server stamped this event; None: another one did."""
    sender = as_dict(event).get("sender")
    if isinstance(sender, str) and sender.partition(":")[2] == server:
        return sent_at(event)
    return None
