"""`/sync` and `/messages` filters, with Synapse's meaning of each field.

`rooms` narrows what is inside joined and left rooms, not the list of invites; only an empty
`rooms` list hides everything. `lazy_load_members` is accepted and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .accounts import Account
from .errors import bad_request
from .events import Event, Json

DEFAULT_LIMIT = 10


@dataclass(frozen=True)
class EventFilter:
    """Which events pass; None is all, an empty list is none."""

    types: list[str] | None = None
    not_types: list[str] = field(default_factory=list)
    senders: list[str] | None = None
    not_senders: list[str] = field(default_factory=list)
    rooms: list[str] | None = None
    not_rooms: list[str] = field(default_factory=list)
    limit: int = DEFAULT_LIMIT

    @classmethod
    def parse(cls, value: object) -> EventFilter:
        """Read the fields that matter here out of a JSON filter."""
        given: Json = value if isinstance(value, dict) else {}
        known = {name: given[name] for name in cls.__dataclass_fields__ if name in given}
        return cls(**known)

    @property
    def blocks_all(self) -> bool:
        """Whether nothing can pass."""
        return [] in (self.types, self.senders, self.rooms) or any(
            "*" in names for names in (self.not_types, self.not_senders, self.not_rooms)
        )

    def passes(self, *, type_: str, sender: str | None = None, room_id: str | None = None) -> bool:
        """Tell whether something passes."""
        if any(_matches(type_, pattern) for pattern in self.not_types):
            return False
        if self.types is not None and not any(_matches(type_, pat) for pat in self.types):
            return False
        return _in(sender, self.senders, self.not_senders) and _in(
            room_id, self.rooms, self.not_rooms
        )

    def keep(self, events: Iterable[Event]) -> list[Event]:
        """Give the events that pass."""
        return [
            event
            for event in events
            if self.passes(type_=event.type, sender=event.sender, room_id=_room_id(event))
        ]


def _room_id(event: Event) -> str | None:
    """The create event of version 12 has no room ID, so that a filter for rooms hides it."""
    is_without = event.type == "m.room.create" and event.content.get("room_version") == "12"
    return None if is_without else event.room_id


@dataclass(frozen=True)
class SyncFilter:
    """A whole filter, as stored by `POST filter` or given inline."""

    rooms: EventFilter
    timeline: EventFilter
    state: EventFilter
    ephemeral: EventFilter
    room_account_data: EventFilter
    account_data: EventFilter
    include_leave: bool

    @classmethod
    def parse(cls, value: Json) -> SyncFilter:
        """Read a JSON filter."""
        room: Json = value.get("room", {})
        inside = {name: room[name] for name in ("rooms", "not_rooms") if name in room}
        return cls(
            rooms=EventFilter.parse(inside),
            timeline=EventFilter.parse(room.get("timeline")),
            state=EventFilter.parse(room.get("state")),
            ephemeral=EventFilter.parse(room.get("ephemeral")),
            room_account_data=EventFilter.parse(room.get("account_data")),
            account_data=EventFilter.parse(value.get("account_data")),
            include_leave=bool(room.get("include_leave", False)),
        )

    def keep_timeline(self, events: Iterable[Event]) -> list[Event]:
        """Give the events that may be in a timeline."""
        return self.timeline.keep(self.rooms.keep(events))

    def keep_state(self, events: Iterable[Event]) -> list[Event]:
        """Give the events that may be in `state`."""
        return self.state.keep(self.rooms.keep(events))


def read_filter(account: Account, text: str | None) -> SyncFilter:
    """Read the `filter` parameter: inline JSON, or the ID of a stored filter."""
    if not text:
        return SyncFilter.parse({})
    if text.startswith("{"):
        try:
            value: Any = json.loads(text)
        except ValueError as error:
            raise bad_request("Invalid filter JSON", "M_NOT_JSON") from error
        return SyncFilter.parse(value)
    if not text.isdecimal() or int(text) >= len(account.filters):
        raise bad_request("No such filter", "M_INVALID_PARAM")
    return SyncFilter.parse(account.filters[int(text)])


def _matches(type_: str, pattern: str) -> bool:
    return type_.startswith(pattern[:-1]) if pattern.endswith("*") else type_ == pattern


def _in(value: str | None, allowed: list[str] | None, refused: list[str]) -> bool:
    return value not in refused and (allowed is None or value in allowed)
