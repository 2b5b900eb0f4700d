"""Events, and the shapes in which Synapse hands them to a client.

One `Event` is stored once; `room_view` and `sync_view` make the JSON. Synapse's room endpoints
(`/state`, `/members`, `/messages`, `/event`) copy fields to the top level (`age`, `user_id`);
`/sync` and sliding sync leave `room_id` away, except on the create event of a version 12 room.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
StateKey = tuple[str, str]
StateMap = Mapping[StateKey, "Event"]

MAX_PDU_BYTES = 65_536
# Hashes, signature, auth_events, prev_events and depth, which a client never sees but which count.
# An approximation: the real sum varies by some dozen bytes with the room and the server name.
PDU_OVERHEAD_BYTES = 650


@dataclass(eq=False)
class Event:
    """One event of one room; `stream` is its position in the server's stream, `depth` its place
    in the room's timeline."""

    event_id: str
    room_id: str
    type: str
    sender: str
    state_key: str | None
    content: Json
    origin_server_ts: int
    stream: int
    depth: int
    redacts: str | None = None
    replaces: Event | None = None
    redacted_because: Event | None = None
    branch: int | None = None
    """The stream position that it was made at, of an event that did not wait for later ones."""
    invite_room_state: list[Json] = field(default_factory=list)
    transaction: tuple[str, str, str] | None = None
    """User, device and transaction ID it was sent with."""

    @property
    def key(self) -> StateKey:
        """Type and state key; only for state events."""
        assert self.state_key is not None
        return self.type, self.state_key

    def edits(self, other: Event) -> bool:
        """Whether this is a valid replacement of another event."""
        relation = self.content.get("m.relates_to")
        return (
            isinstance(relation, dict)
            and relation.get("rel_type") == "m.replace"
            and relation.get("event_id") == other.event_id
            and (self.type, self.sender) == (other.type, other.sender)
            and self.redacted_because is None
        )

    @property
    def membership(self) -> str:
        """The membership of an `m.room.member` event."""
        return str(self.content["membership"])

    @property
    def is_hashed_create(self) -> bool:
        """Whether this is the create event that gave its room (version 12) its ID."""
        return self.type == "m.room.create" and self.event_id[1:] == self.room_id[1:]


def size_of(*, content: Json, **fields: Any) -> int:
    """Estimate the size of the event on the federation wire, in bytes."""
    text = json.dumps({"content": content, **fields}, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode("utf-8", "surrogatepass")) + PDU_OVERHEAD_BYTES


def stripped(event: Event) -> Json:
    """Give the four fields that somebody outside the room may see."""
    return {
        "type": event.type,
        "state_key": event.state_key,
        "content": event.content,
        "sender": event.sender,
    }


def sync_view(
    event: Event, *, now: int, viewer: tuple[str, str], membership: str | None = None
) -> Json:
    """Give the event as `/sync` does.

    `viewer` is user and device: the transaction ID is shown to the device that used it.
    `membership` is the viewer's at the event, given for timeline events and not for state.
    """
    unsigned: Json = {"age": max(0, now - event.origin_server_ts)}
    if membership is not None:
        unsigned["membership"] = membership
    if event.replaces is not None:
        unsigned["replaces_state"] = event.replaces.event_id
        if membership is not None:
            unsigned["prev_content"] = event.replaces.content
            unsigned["prev_sender"] = event.replaces.sender
    if event.transaction is not None and event.transaction[:2] == viewer:
        unsigned["transaction_id"] = event.transaction[2]
    if event.redacted_because is not None:
        unsigned["redacted_by"] = event.redacted_because.event_id
        unsigned["redacted_because"] = sync_view(event.redacted_because, now=now, viewer=viewer)
    view: Json = {
        "content": event.content,
        "event_id": event.event_id,
        "origin_server_ts": event.origin_server_ts,
        "sender": event.sender,
        "type": event.type,
        "unsigned": unsigned,
    }
    if event.state_key is not None:
        view["state_key"] = event.state_key
    if event.redacts is not None:
        view["redacts"] = event.redacts
    if event.is_hashed_create:
        view["room_id"] = event.room_id
    return view


def event_view(event: Event, *, now: int, viewer: tuple[str, str]) -> Json:
    """Give the event as `GET state/…?format=event` does: as in `/sync`, with its room."""
    return {**sync_view(event, now=now, viewer=viewer), "room_id": event.room_id}


def room_view(
    event: Event, *, now: int, viewer: tuple[str, str], membership: str | None = None
) -> Json:
    """Give the event as the room endpoints do: with its room and the version 1 copies."""
    view = sync_view(event, now=now, viewer=viewer, membership=membership)
    unsigned = view["unsigned"]
    for copied in ("age", "replaces_state", "prev_content"):
        if copied in unsigned:
            view[copied] = unsigned[copied]
    if event.redacted_because is not None:
        because = room_view(event.redacted_because, now=now, viewer=viewer)
        view["redacted_because"] = unsigned["redacted_because"] = because
    view["room_id"] = event.room_id
    view["user_id"] = event.sender
    return view
