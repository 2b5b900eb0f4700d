"""What was said last in the chats, for a start that does not know up to where it had read.

Sliding sync lists rooms by their last activity, so only as many are asked for as were active
lately: window after window until one has nothing in it that is recent. Without it the timeline of
every chat is read, some at once. Either way the answers are given out in the form of `/sync`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final
from uuid import uuid4

from mautrix.types import RoomID

from ..domain.conversation.unanswered import is_of_answers
from ..domain.sync.timeline import begins_before, sent_at
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..runtime.batches import batches

EVENTS: Final = 50
"""Of each room; there may be more, and then `/messages` has them."""
ROOMS: Final = 50
"""In the first answer, or in one of many small ones. Whoever was busy has twice as many in the
next, because every window costs the homeserver as much as there are rooms in all."""
ROOMS_AT_MOST: Final = 200

Response = dict[str, Any]


async def recent_timelines(
    homeserver: Homeserver, chats: Collection[RoomID], *, not_before: int
) -> AsyncIterator[Response]:
    """The last events of the chats in which something happened since `not_before`.

    Args:
        not_before: milliseconds since 1970.

    Raises:
        HomeserverError: it is not to be had, or not all of it; what was given out is right.
    """
    left = set(chats)
    try:
        if await homeserver.about.supports_sliding_sync():
            async for timelines, is_recent in _by_activity(homeserver, not_before=not_before):
                yield _response(
                    {room: timelines[room] for room in timelines.keys() & left},
                    not_before,
                    server=homeserver.server_name,
                )
                left -= timelines.keys()
                if not is_recent:
                    return
            return
    except HomeserverError:
        if not left:
            return
    for batch in batches(sorted(left), ROOMS):
        found = await asyncio.gather(*(_timeline(homeserver, room_id) for room_id in batch))
        told = zip(batch, found, strict=True)
        yield _response(
            {room: timeline for room, timeline in told if timeline},
            not_before,
            server=homeserver.server_name,
        )


async def _by_activity(
    homeserver: Homeserver, *, not_before: int
) -> AsyncIterator[tuple[dict[RoomID, Any], bool]]:
    """Timelines, and whether the window they came in had anything new and recent in it."""
    connection, pos, start, size = f"homeroom-{uuid4()}", None, 0, ROOMS
    seen: set[RoomID] = set()
    while True:
        rooms = {
            "ranges": [[start, start + size - 1]],
            "required_state": [],
            "timeline_limit": EVENTS,
            "filters": {"is_invite": False, "not_room_types": ["m.space"]},
        }
        timelines, following = await homeserver.sliding_sync(
            {"conn_id": connection, "lists": {"rooms": rooms}}, pos=pos, read=_read_timelines
        )
        pos, start, size = following, start + size, min(2 * size, ROOMS_AT_MOST)
        is_recent = not timelines.keys() <= seen and any(
            _is_recent(timeline["events"], not_before) for timeline in timelines.values()
        )
        seen |= timelines.keys()
        yield timelines, is_recent


def _read_timelines(answer: dict[str, Any]) -> tuple[dict[RoomID, Any], str | None]:
    """The timelines of an answer, as `/sync` has them, and the connection's position."""
    found, pos = answer.get("rooms"), answer.get("pos")
    timelines = {
        RoomID(room_id): {
            "events": entry["timeline"],
            "limited": entry.get("limited") is True,
            "prev_batch": entry.get("prev_batch"),
        }
        for room_id, entry in (found.items() if isinstance(found, dict) else ())
        if isinstance(entry, dict) and isinstance(entry.get("timeline"), list)
    }
    return timelines, pos if isinstance(pos, str) else None


def _is_recent(events: Sequence[object], not_before: int) -> bool:
    return any((sent := sent_at(event)) is not None and sent >= not_before for event in events)


async def _timeline(homeserver: Homeserver, room_id: RoomID) -> dict[str, Any] | None:
    """None: the homeserver refuses it."""
    try:
        async for events, older in homeserver.pages_back(room_id, at_most=1):
            return {"events": events[::-1], "limited": older is not None, "prev_batch": older}
    except Refused:
        pass
    return None


def _response(timelines: dict[RoomID, Any], not_before: int, *, server: str) -> Response:
    """What was said, as `/sync` has it, and when the chat was shared.

    What became of rooms and members was looked at.
    """
    joined = {}
    for room_id, timeline in timelines.items():
        said = [event for event in timeline["events"] if is_of_answers(event)]
        is_whole = begins_before(timeline["events"], not_before, server=server)
        limited = timeline["limited"] and not is_whole
        joined[room_id] = {"timeline": {**timeline, "events": said, "limited": limited}}
    return {"rooms": {"join": joined}}
