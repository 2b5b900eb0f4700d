"""One room: its timeline, its current state, and its state at any earlier stream position.

Stores and answers; it decides nothing (see `rules`) and invents nothing (see `world`). Its
history is linear, but for events that are made at the same time as others, each a branch of one
event. What state resolution makes of these is what was written last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .events import Event, StateKey
from .versions import RoomVersion


@dataclass(eq=False)
class Room:
    """A room and everything that ever happened in it."""

    room_id: str
    version: RoomVersion
    timeline: list[Event] = field(default_factory=list)
    state: dict[StateKey, Event] = field(default_factory=dict)
    history: dict[StateKey, list[Event]] = field(default_factory=dict)
    branch: int | None = None
    """The stream position at which the next event is made; None: after the one before."""
    typing: set[str] = field(default_factory=set)
    typing_stream: int = 0
    receipts: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
    """(User, receipt type) to (event ID, time, stream position)."""

    @property
    def create(self) -> Event:
        """The create event, with the creator as its sender."""
        return self.timeline[0]

    @property
    def last_stream(self) -> int:
        """The stream position of the newest event."""
        return self.timeline[-1].stream

    def append(self, event: Event) -> None:
        """Add an event that has been allowed."""
        event.branch, self.branch = self.branch, None
        self.timeline.append(event)
        if event.state_key is not None:
            event.replaces = self.state.get(event.key)
            self.state[event.key] = event
            self.history.setdefault(event.key, []).append(event)

    def state_at(self, stream: int) -> dict[StateKey, Event]:
        """Give the state after the event at this stream position."""
        if stream >= self.last_stream:
            return dict(self.state)
        found = ((key, newest_at(events, stream)) for key, events in self.history.items())
        return {key: event for key, event in found if event is not None}

    def state_by(self, stream: int) -> dict[StateKey, Event]:
        """Give the state as it is for the event at this stream position, on its branch."""
        last = newest_at(self.timeline, stream)
        if last is None or last.branch is None:
            return self.state_at(stream)
        own = {} if last.state_key is None else {last.key: last}
        return {**self.state_by(last.branch), **own}

    def member(self, user_id: str, *, at: int | None = None) -> Event | None:
        """Give the user's member event, now or at a stream position."""
        key = ("m.room.member", user_id)
        if at is None:
            return self.state.get(key)
        return newest_at(self.history.get(key, []), at)

    def membership(self, user_id: str, *, at: int | None = None) -> str | None:
        """Give the user's membership, now or at a stream position; None if there was none."""
        event = self.member(user_id, at=at)
        return event.membership if event else None

    def joined(self) -> list[str]:
        """List the joined users."""
        return [k[1] for k, e in self.state.items() if k[0] == "m.room.member" and _joined(e)]

    def between(self, after: int, upto: int) -> list[Event]:
        """Give the events after one stream position and up to another, oldest first."""
        found: list[Event] = []
        for event in reversed(self.timeline):
            if event.stream <= after:
                break
            if event.stream <= upto:
                found.append(event)
        return found[::-1]

    def visible_to(self, user_id: str, event: Event, *, peeking: bool = False) -> bool:
        """Tell whether somebody who may read the room may read this event of it.

        `peeking` is somebody who is not in the room and does not come to be: shared history is
        for those who joined later. The caller sees to it that somebody who left reads nothing
        that came after.
        """
        own = event.type == "m.room.member" and event.state_key == user_id
        if own and event.membership == "leave":
            return True
        memberships = {self.membership(user_id, at=event.stream)}
        if own and event.replaces is not None:
            memberships.add(event.replaces.membership)
        if "join" in memberships:
            return True
        setting = newest_at(self.history.get(("m.room.history_visibility", ""), []), event.stream)
        visibility = setting.content.get("history_visibility", "shared") if setting else "shared"
        if visibility == "invited":
            return "invite" in memberships
        return visibility == "world_readable" or (visibility == "shared" and not peeking)


def newest_at(events: list[Event], stream: int) -> Event | None:
    """Give the newest of some events, oldest first, that is not after a stream position."""
    for event in reversed(events):
        if event.stream <= stream:
            return event
    return None


def _joined(event: Event) -> bool:
    return event.membership == "join"
