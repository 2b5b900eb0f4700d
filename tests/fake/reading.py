"""What a user may read: state, events, memberships; now, or as it was when they left."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import forbidden, not_found
from .events import Event, StateKey
from .record import Record
from .rooms import Room


class Readable(Record):
    """Gives what Synapse gives, and refuses the rest."""

    def readable_state(
        self, user_id: str, room_id: str, *, at: int | None = None
    ) -> Mapping[StateKey, Event]:
        """Give the state a user may read: now, or as it was when they left.

        `at` is a stream position after which nothing is known, neither who is in the room.
        """
        room, upto = self.readable(user_id, room_id, at=at)
        return room.state if upto is None else room.state_at(upto)

    def readable(
        self, user_id: str, room_id: str, *, at: int | None = None
    ) -> tuple[Room, int | None]:
        """Give the room and how far a user may read in it; None is to the end."""
        room = self.rooms.get(room_id)
        member = room.member(user_id, at=at) if room else None
        if room is not None and member is not None:
            if member.membership == "join":
                return room, at
            if member.membership == "leave" and room_id not in self.accounts[user_id].forgotten:
                return room, member.stream
        raise forbidden(f"User {user_id} not in room {room_id}, and room previews are disabled")

    def readable_event(self, user_id: str, room_id: str, event_id: str) -> Event:
        """Give one event that a user may read."""
        event = self.events.get(event_id)
        if event is None or event.room_id != room_id:
            raise not_found()
        room = self.rooms[room_id]
        member = room.member(user_id)
        left = member is not None and member.membership not in ("join", "invite")
        if member is None or (left and event.stream > member.stream):
            raise not_found()
        if not room.visible_to(user_id, event):
            raise not_found()
        return event

    def listed_memberships(self, user_id: str) -> dict[str, Event]:
        """Give the user's member events by room, without the forgotten rooms."""
        account = self.accounts.get(user_id)
        forgotten = account.forgotten if account else set()
        events = self.memberships.get(user_id, {})
        return {room_id: event for room_id, event in events.items() if room_id not in forgotten}

    def rooms_with(self, user_id: str, membership: str, *, at: int | None = None) -> list[str]:
        """List the rooms in which the user has this membership, now or at a stream position."""
        rooms = self.memberships.get(user_id, {})
        return [
            room_id
            for room_id in rooms
            if self.rooms[room_id].membership(user_id, at=at) == membership
        ]

    def member_events(self, user_id: str) -> list[Event]:
        """Give all that ever happened to a user's memberships."""
        return [
            event
            for room_id in self.memberships.get(user_id, {})
            for event in self.rooms[room_id].history["m.room.member", user_id]
        ]
