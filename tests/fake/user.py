"""A user in the hands of a test: the same rules as over HTTP, without HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mautrix.types import EventID, RoomID, UserID

from .accounts import Session
from .events import Json
from .world import World


@dataclass(frozen=True)
class User:
    """Acts as one account; everything may raise `MatrixError`."""

    world: World
    session: Session

    @property
    def user_id(self) -> UserID:
        """The full user ID."""
        return UserID(self.session.user_id)

    @property
    def token(self) -> str:
        """An access token for the HTTP door."""
        return self.session.token

    @property
    def password(self) -> str:
        """What `POST login` wants."""
        return self.world.accounts[self.session.user_id].password

    def create_room(
        self,
        *,
        name: str | None = None,
        topic: str | None = None,
        preset: str = "private_chat",
        invite: Iterable[str | User] = (),
        initial_state: Iterable[Mapping[str, Any]] = (),
        room_version: str | None = None,
        creation_content: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> RoomID:
        """Create a room; `more` goes into the request as it is."""
        spec: Json = {
            "name": name,
            "topic": topic,
            "room_version": room_version,
            "creation_content": dict(creation_content) if creation_content else None,
            "preset": preset,
            "invite": [_id(user) for user in invite],
            "initial_state": list(initial_state),
            **more,
        }
        given = {field: value for field, value in spec.items() if value is not None}
        return RoomID(self.world.create_room(self.user_id, given).room_id)

    def create_space(self, **spec: Any) -> RoomID:
        """Create a room of type `m.space`."""
        content = {"type": "m.space", **(spec.pop("creation_content", None) or {})}
        return self.create_room(creation_content=content, **spec)

    def invite(self, room_id: str, user: str | User, *, reason: str | None = None) -> EventID:
        """Invite somebody."""
        return self._change(room_id, _id(user), "invite", reason)

    def join(self, room_id_or_alias: str, *, reason: str | None = None) -> RoomID:
        """Join a room."""
        return RoomID(self.world.join(self.user_id, room_id_or_alias, _reason(reason)))

    def leave(self, room_id: str, *, reason: str | None = None) -> EventID:
        """Leave a room, or reject an invite."""
        return self._change(room_id, self.user_id, "leave", reason)

    def forget(self, room_id: str) -> None:
        """Forget a room that was left."""
        self.world.forget(self.user_id, room_id)

    def kick(self, room_id: str, user: str | User, *, reason: str | None = None) -> EventID:
        """Remove somebody, or withdraw an invite."""
        return self._change(room_id, _id(user), "kick", reason)

    def ban(self, room_id: str, user: str | User, *, reason: str | None = None) -> EventID:
        """Ban somebody."""
        return self._change(room_id, _id(user), "ban", reason)

    def unban(self, room_id: str, user: str | User) -> EventID:
        """Lift a ban."""
        return self._change(room_id, _id(user), "unban", None)

    def send(
        self,
        room_id: str,
        content: str | Mapping[str, Any],
        *,
        type: str = "m.room.message",  # noqa: A002 - the spec's word
    ) -> EventID:
        """Send a message; a string is an `m.text`."""
        if isinstance(content, str):
            content = {"msgtype": "m.text", "body": content}
        return EventID(self.world.send(self.user_id, room_id, type, content).event_id)

    def set_state(
        self, room_id: str, type_: str, content: Mapping[str, Any], *, state_key: str = ""
    ) -> EventID:
        """Set a state event."""
        event = self.world.set_state(self.user_id, room_id, type_, content, state_key=state_key)
        return EventID(event.event_id)

    def redact(self, room_id: str, event_id: str, *, reason: str | None = None) -> EventID:
        """Redact an event."""
        event = self.world.redact(self.user_id, room_id, event_id, reason=reason)
        return EventID(event.event_id)

    def upgrade(self, room_id: str, new_version: str) -> RoomID:
        """Replace a room by one of another version; members are not moved."""
        room = self.world.upgrade(self.user_id, room_id, {"new_version": new_version})
        return RoomID(room.room_id)

    def state(self, room_id: str) -> dict[tuple[str, str], Json]:
        """Read the state: (type, state key) to content."""
        events = self.world.readable_state(self.user_id, room_id)
        return {key: event.content for key, event in events.items()}

    def messages(self, room_id: str) -> list[tuple[UserID, Json]]:
        """Read all visible messages, oldest first: sender and content."""
        room, upto = self.world.readable(self.user_id, room_id)
        end = self.world.stream if upto is None else upto
        return [
            (UserID(event.sender), event.content)
            for event in room.between(0, end)
            if event.type == "m.room.message" and room.visible_to(self.user_id, event)
        ]

    def _change(self, room_id: str, target: str, action: str, reason: str | None) -> EventID:
        event = self.world.change_membership(
            self.user_id, room_id, target, action, _reason(reason)
        )
        return EventID(event.event_id)


def _id(user: str | User) -> str:
    return user.user_id if isinstance(user, User) else user


def _reason(reason: str | None) -> Json:
    return {} if reason is None else {"reason": reason}
