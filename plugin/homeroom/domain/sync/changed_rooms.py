"""Which rooms have to be scanned again, after all that a sync response says.

More than the news that are acted on while the bot runs (`news.py`): here everything counts that
a plan or mautrix's state store may depend on, whoever did it, the bot itself included, because it
may have died before it could take note.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from mautrix.types import RoomID, UserID

from ..homes.marker import MARKER_TYPE
from ..homes.room_state import STATE_TYPES
from ..json_shapes import as_dict
from .timeline import events_in, has_gap, is_told_whole, news_in, sent_at, timeline_of


def rooms_to_rescan(
    response: object, *, bot: UserID, is_ours: Callable[[RoomID], bool]
) -> frozenset[RoomID]:
    """The rooms of which a response says something that a scan may see.

    Of rooms that are not ours by any row only what could make them ours: that the bot came into
    them, marked them, or linked them.
    """
    rooms = as_dict(as_dict(response).get("rooms"))
    found: set[RoomID] = set()
    for room_id in map(RoomID, as_dict(rooms.get("leave"))):
        found |= {room_id} if is_ours(room_id) else set()
    for key, entry in as_dict(rooms.get("join")).items():
        found |= set(_in_room(RoomID(key), as_dict(entry), bot=bot, is_ours=is_ours))
    return frozenset(found)


def rooms_changed_lately(
    response: object, *, bot: UserID, is_ours: Callable[[RoomID], bool], not_before: int
) -> frozenset[RoomID]:
    """Those of `rooms_to_rescan` of which it says something recent (milliseconds).

    A scan at about that time may have been answered by a worker that had not heard of it.
    """
    joined = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    recent = {
        room_id: {"timeline": {"events": events}}
        for room_id, entry in joined.items()
        if (events := [e for e in events_in(entry) if (sent_at(e) or 0) >= not_before])
    }
    return rooms_to_rescan({"rooms": {"join": recent}}, bot=bot, is_ours=is_ours)


def is_initial(response: object, *, ours: Collection[RoomID]) -> bool:
    """Whether a response tells all that there is, not what happened since a position.

    Some homeservers answer so if they do not know the position. Then every room of ours comes with
    its create event, which otherwise only a room has that the bot has just come into.
    """
    joined = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    return bool(ours) and all(
        room_id in joined and is_told_whole(joined[room_id]) for room_id in ours
    )


def rooms_made_by_the_bot(response: object, *, bot: UserID) -> frozenset[RoomID]:
    """Rooms that, by this response, the bot made, marked or linked: they should have rows soon.

    Those that have none were made by something else in the bot's name; only a whole scan tells
    what they are.
    """
    joined = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    found: set[RoomID] = set()
    for key, entry in joined.items():
        for event in events_in(entry):
            kind, state_key = event.get("type"), event.get("state_key")
            if event.get("sender") != bot or not isinstance(state_key, str):
                continue
            if kind in ("m.room.create", MARKER_TYPE):
                found.add(RoomID(key))
            elif kind == "m.space.child" and state_key.startswith("!"):
                found.add(RoomID(state_key))
    return frozenset(found)


def rooms_with_other_members(response: object) -> frozenset[RoomID]:
    """Rooms in which, by this response, somebody came or went: they need another group session."""
    rooms = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    return frozenset(
        RoomID(room_id)
        for room_id, entry in rooms.items()
        if has_gap(entry) or any(map(_is_other_membership, timeline_of(entry)))
    )


def rooms_newly_encrypted(response: object) -> frozenset[RoomID]:
    """Rooms in which this response shows encryption, from now on or for longer."""
    rooms = as_dict(as_dict(as_dict(response).get("rooms")).get("join"))
    return frozenset(
        RoomID(room_id)
        for room_id, entry in rooms.items()
        for event in events_in(entry)
        if event.get("type") in ("m.room.encryption", "m.room.encrypted")
    )


def cached_state_in(
    response: object, *, is_ours: Callable[[RoomID], bool]
) -> list[tuple[RoomID, dict[str, Any]]]:
    """Memberships and power levels of Homeroom's rooms, as they are at the end of a response."""
    rooms = as_dict(as_dict(response).get("rooms"))
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for section in ("join", "leave"):
        for room_id, entry in as_dict(rooms.get(section)).items():
            for event in news_in(entry) if is_ours(RoomID(room_id)) else ():
                kind, key = event.get("type"), event.get("state_key")
                if (
                    kind in ("m.room.member", "m.room.power_levels")
                    and isinstance(key, str)
                    and isinstance(event.get("content"), dict)
                ):
                    newest[room_id, kind, key] = event
    return [(RoomID(room_id), event) for (room_id, *_), event in newest.items()]


def _in_room(
    room_id: RoomID, entry: dict[str, Any], *, bot: UserID, is_ours: Callable[[RoomID], bool]
) -> Iterator[RoomID]:
    ours = is_ours(room_id)
    if ours and has_gap(entry):
        yield room_id  # what was left out may have taken back state
    for event in events_in(entry):
        kind, key, sender = event.get("type"), event.get("state_key"), event.get("sender")
        if kind == "m.room.redaction" and ours:
            yield room_id
        if not isinstance(key, str) or kind not in STATE_TYPES:
            continue
        is_arrival = kind == "m.room.create" or (kind == "m.room.member" and key == bot)
        if ours or is_arrival or (kind == MARKER_TYPE and sender == bot):
            yield room_id
        if kind == "m.space.child" and sender == bot and key.startswith("!"):
            yield RoomID(key)


def _is_other_membership(event: object) -> bool:
    event = as_dict(event)
    before = as_dict(as_dict(event.get("unsigned")).get("prev_content")).get("membership")
    membership = as_dict(event.get("content")).get("membership")
    return event.get("type") == "m.room.member" and membership != before
