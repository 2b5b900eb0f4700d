"""What a sync response says, in Homeroom's words.

`read_response` turns the raw answer of `/sync` into what there is to do: messages to take in,
invites to answer, rooms to look at again. Raw, because the answer that maubot throws away after
every start comes in the same form as every other one, and because events are partly written by
hostile members: what is not a well-formed, new text message of somebody else is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from .marker import MARKER_TYPE, is_user_id
from .room_state import read_invite
from .topology import Invite

ANSWERS: Final = "dev.homeroom.answers"
"""In the content of what the bot says: the ID of the event that it answers."""
MORE_TO_COME: Final = "dev.homeroom.more_to_come"
"""In the content of every part of a long answer but the last: true."""
TOPOLOGY_TYPES: Final = frozenset(
    {"m.room.name", "m.room.tombstone", "m.space.child", "m.space.parent", MARKER_TYPE}
)
"""State events of others that can change what a plan says about a room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A new text message. `sent_at` is `origin_server_ts`, in milliseconds."""

    room_id: RoomID
    event_id: EventID
    sender: UserID
    sent_at: int
    text: str
    thread_root: EventID | None = None
    is_reply: bool = False
    is_live: bool = False
    """Whether it came in as it was sent, and not by catching up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """Somebody's membership changed: the bot's own, or another member's."""

    room_id: RoomID
    user_id: UserID
    membership: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomChange:
    """The room's name, links, marker or tombstone may have changed."""

    room_id: RoomID


News = Message | MemberChange | RoomChange | Invite


def read_response(response: object, *, bot: UserID) -> Iterator[News]:
    """Everything in a sync response that concerns Homeroom, each room in the server's order."""
    rooms = _dict(_dict(response).get("rooms"))
    for room_id, entry in _dict(rooms.get("invite")).items():
        events = _dict(_dict(entry).get("invite_state")).get("events")
        if invite := read_invite(RoomID(room_id), events, bot=bot):
            yield invite
    for section in ("join", "leave"):
        for room_id, entry in _dict(rooms.get(section)).items():
            timeline = _dict(_dict(entry).get("timeline"))
            # maubot has members loaded lazily: with what somebody says comes who they are. Only
            # where the timeline has a gap can somebody's membership in `state` be new.
            has_gap = timeline.get("limited") is True
            for event in _list(_dict(_dict(entry).get("state")).get("events")):
                for news in _read_state(RoomID(room_id), event, bot=bot):
                    if has_gap or not isinstance(news, MemberChange) or news.user_id == bot:
                        yield news
            for event in _list(timeline.get("events")):
                yield from _read_state(RoomID(room_id), event, bot=bot)
                if section == "join" and (
                    message := read_message(RoomID(room_id), event, bot=bot)
                ):
                    yield message


def _read_state(room_id: RoomID, event: object, *, bot: UserID) -> Iterator[News]:
    if not isinstance(event, dict) or not isinstance(key := event.get("state_key"), str):
        return
    kind = event.get("type")
    if kind == "m.room.member" and is_user_id(key):
        membership = _dict(event.get("content")).get("membership")
        if isinstance(membership, str):
            yield MemberChange(room_id=room_id, user_id=UserID(key), membership=membership)
    elif kind == "m.room.tombstone" or (kind in TOPOLOGY_TYPES and event.get("sender") != bot):
        # Homeroom closes no rooms, but somebody may upgrade one in the bot's name.
        yield RoomChange(room_id=room_id)


def read_message(room_id: RoomID, event: object, *, bot: UserID) -> Message | None:
    """A new text message of somebody else; None for everything else, edits among it."""
    event = _dict(event)
    content = _dict(event.get("content"))
    event_id, sender, body = event.get("event_id"), event.get("sender"), content.get("body")
    sent_at = event.get("origin_server_ts")
    relation = _dict(content.get("m.relates_to"))
    if (
        event.get("type") != "m.room.message"
        or "state_key" in event
        or content.get("msgtype") != "m.text"
        or relation.get("rel_type") == "m.replace"
        or not (isinstance(event_id, str) and event_id.startswith("$"))
        or not (isinstance(sender, str) and is_user_id(sender) and sender != bot)
        or not isinstance(body, str)
        or type(sent_at) is not int
    ):
        return None
    if "m.in_reply_to" in relation:
        body = _without_reply_fallback(body)
    root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    return Message(
        room_id=room_id,
        event_id=EventID(event_id),
        sender=UserID(sender),
        sent_at=sent_at,
        text=body,
        thread_root=EventID(root) if isinstance(root, str) else None,
        is_reply="m.in_reply_to" in relation,
    )


def timeline_gaps(response: object, *, not_before: int | None) -> list[tuple[RoomID, str]]:
    """Joined rooms of which older events were left out, and the token where those end.

    Not those where what was left out is older than `not_before` (milliseconds).
    """
    rooms = _dict(_dict(response).get("rooms"))
    timelines = (
        (RoomID(room_id), _dict(_dict(entry).get("timeline")))
        for room_id, entry in _dict(rooms.get("join")).items()
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
    response = deepcopy(_dict(response))
    timeline = response["rooms"]["join"][room_id]["timeline"]
    timeline["events"] = [*older, *_list(timeline.get("events"))]
    return response


def without_answered(response: object, *, bot: UserID) -> object:
    """The rooms of a response without the events that the bot has answered.

    What it says names what it answers, and whether there is more to come. A message of the bot's
    that names nothing is from before it did so: everything up to there counts as answered.
    Without `next_batch`: this is no account of what happened since a position.
    """
    rooms = deepcopy(_dict(_dict(response).get("rooms")))
    for entry in _dict(rooms.get("join")).values():
        timeline = _dict(_dict(entry).get("timeline"))
        timeline["events"] = _still_open(_list(timeline.get("events")), bot=bot)
    return {"rooms": {"join": _dict(rooms.get("join"))}}


def _still_open(events: list[Any], *, bot: UserID) -> list[dict[str, Any]]:
    answered: set[str] = set()
    still_open: list[dict[str, Any]] = []
    for event in events:
        if _dict(event).get("sender") != bot:
            still_open.append(_dict(event))
            continue
        content = _dict(event.get("content"))
        answers = content.get(ANSWERS)
        if not isinstance(answers, str):
            still_open.clear()
        elif content.get(MORE_TO_COME) is not True:
            answered.add(answers)
    return [event for event in still_open if event.get("event_id") not in answered]


def sent_at(event: object) -> int | None:
    """When an event was sent, in milliseconds, if it says so."""
    value = _dict(event).get("origin_server_ts")
    return value if type(value) is int else None


def next_batch(response: object) -> str | None:
    """The position after this response."""
    token = _dict(response).get("next_batch")
    return token if isinstance(token, str) else None


def is_first(response: object) -> bool:
    """Whether mautrix's sync loop marked this as the first response after a start."""
    return _dict(_dict(response).get("net.maunium.mautrix")).get("is_first") is True


def _begins_before(timeline: dict[str, Any], moment: int) -> bool:
    first = next(iter(_list(timeline.get("events"))), None)
    sent = sent_at(first)
    return sent is not None and sent < moment


def _without_reply_fallback(body: str) -> str:
    """Strip the quoted lines that older clients put before a reply.

    https://spec.matrix.org/v1.12/client-server-api/#fallbacks-for-rich-replies
    """
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        lines.pop(0)
    if lines and not lines[0]:
        lines.pop(0)
    return "\n".join(lines)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
