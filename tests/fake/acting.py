"""What users do in rooms: come and go, send, redact; and say what is no event."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

from . import rules
from .contents import pruned, shown_with_invite
from .errors import MatrixError, bad_request, bad_state, forbidden
from .events import Event, Json
from .new_room import without
from .reading import Readable
from .rooms import Room


class RoomActions(Readable):
    """Every change that a request can make to a room that is there."""

    # Rooms: membership

    def change_membership(
        self,
        sender: str,
        room_id: str,
        target: str,
        action: str,
        content: Mapping[str, Any] | None = None,
    ) -> Event:
        """Join, leave, invite, kick, ban or unban somebody; doing it twice changes nothing."""
        room = self.rooms.get(room_id)
        if room is None:
            raise _no_such_room(action, sender, room_id)
        if not is_user_id(target):
            raise bad_request("Expected UserID string to start with '@'", "M_INVALID_PARAM")
        membership = "leave" if action in ("kick", "unban") else action
        new: Json = {**(content or {}), "membership": membership}
        new.pop("join_authorised_via_users_server", None)
        if membership in ("join", "invite"):
            new = {**self._profile(target), **new}
        old = room.member(target)
        was = old.membership if old else None
        if was is not None and action == "unban" and was != "ban":
            raise bad_state(f"Cannot unban user who was not banned (membership={was})")
        if was == "ban" and action not in ("ban", "unban", "leave"):
            raise bad_state(f"Cannot {action} user who was banned")
        if action == "kick" and was in (None, "leave", "ban"):
            raise forbidden("The target user is not in the room")
        if membership == "join":
            new.update(self._authorised_join(room, sender, was))
        draft = self._draft(room, room.state, sender, "m.room.member", new, target)
        if old is not None and old.sender == sender and old.content == draft.content:
            return old
        if membership == "invite":
            draft.invite_room_state = shown_with_invite(room, sender)
        return self._commit(room, draft)

    def join(
        self, user_id: str, room_id_or_alias: str, content: Mapping[str, Any] | None = None
    ) -> str:
        """Join by room ID or alias and give the room ID."""
        room_id = room_id_or_alias
        if room_id.startswith("#"):
            room_id = self.aliases.resolve(room_id)
        self.change_membership(user_id, room_id, user_id, "join", content)
        return room_id

    def name_room(self, user_id: str, alias: str, room_id: str) -> None:
        """Give a room another alias; who does it need not be in the room."""
        if room_id not in self.rooms:
            raise bad_request("Room does not exist")
        self.aliases.add(alias, room_id, user_id)

    def remove_alias(self, user_id: str, alias: str) -> None:
        """Take an alias away, from the canonical alias of its room too."""
        room = self.rooms.get(self.aliases.rooms.get(alias, ""))
        state = room.state if room else {}
        needed = rules.state_level(state, "m.room.canonical_alias")
        power = rules.power_of(state, room.version, user_id) if room else -1
        is_in = room is not None and room.membership(user_id) == "join"
        self.aliases.remove(alias, user_id, is_moderator=is_in and power >= needed)
        canonical = state.get(("m.room.canonical_alias", ""))
        if room and canonical and canonical.content.get("alias") == alias:
            with contextlib.suppress(MatrixError):
                rest = without(canonical.content, ["alias"])
                self.set_state(user_id, room.room_id, "m.room.canonical_alias", rest)

    def forget(self, user_id: str, room_id: str) -> None:
        """Forget a room; one that the user never was in is forgotten already."""
        room = self.rooms.get(room_id)
        if room is None:
            return
        if room.membership(user_id) not in (None, "leave", "ban"):
            raise bad_request(f"User {user_id} in room {room_id}")
        self.accounts[user_id].forgotten.add(room_id)

    def _authorised_join(self, room: Room, user_id: str, was: str | None) -> Json:
        """Vouch for somebody who joins a restricted room by being in an allowed one."""
        if was in ("join", "invite") or rules.join_rule(room.state) not in rules.RESTRICTED_RULES:
            return {}
        allowed = (self.rooms.get(room_id) for room_id in rules.allowing_rooms(room.state))
        if not any(other and other.membership(user_id) == "join" for other in allowed):
            raise forbidden(
                "You do not belong to any of the required rooms/spaces to join this room."
            )
        able = [u for u in room.joined() if rules.may_invite(room.state, room.version, u)]
        return {"join_authorised_via_users_server": able[0]} if able else {}

    # Rooms: events

    def send(
        self,
        sender: str,
        room_id: str,
        type_: str,
        content: Mapping[str, Any],
        *,
        transaction: tuple[str, str] | None = None,
    ) -> Event:
        """Send a message event; `transaction`, device and transaction ID, is shown to its device.

        It does not make a request unique: that is the door's business.
        """
        room = self._room_for(sender, room_id)
        draft = self._draft(room, room.state, sender, type_, content, None)
        if transaction:
            draft.transaction = (sender, *transaction)
        return self._commit(room, draft)

    def set_state(
        self,
        sender: str,
        room_id: str,
        type_: str,
        content: Mapping[str, Any],
        *,
        state_key: str = "",
    ) -> Event:
        """Set a state event; the same content from the same sender changes nothing."""
        if type_ == "m.room.member":
            return self._set_member(sender, room_id, state_key, content)
        room = self._room_for(sender, room_id)
        old = room.state.get((type_, state_key))
        draft = self._draft(room, room.state, sender, type_, content, state_key)
        if old is not None and old.sender == sender and old.content == draft.content:
            return old
        return self._commit(room, draft)

    def _set_member(
        self, sender: str, room_id: str, target: str, content: Mapping[str, Any]
    ) -> Event:
        membership = content.get("membership")
        if membership is None:
            raise bad_request("Content has not membership key")
        rest = {name: value for name, value in content.items() if name != "membership"}
        return self.change_membership(sender, room_id, target, str(membership), rest)

    def redact(
        self,
        sender: str,
        room_id: str,
        event_id: str,
        *,
        reason: str | None = None,
        transaction: tuple[str, str] | None = None,
    ) -> Event:
        """Redact an event: one's own, or any with the power to."""
        room = self._room_for(sender, room_id)
        target = self.events.get(event_id)
        own = target is not None and target.sender == sender and target.room_id == room_id
        needed = rules.named_level(room.state, "redact", 50)
        if not own and rules.power_of(room.state, room.version, sender) < needed:
            raise forbidden("You don't have permission to redact events")
        content: Json = {} if reason is None else {"reason": reason}
        if room.version.redacts_in_content:
            content["redacts"] = event_id
        redaction = self.send(
            sender, room_id, "m.room.redaction", content, transaction=transaction
        )
        redaction.redacts = event_id
        if target is not None and target.room_id == room_id:
            target.content = pruned(target)
            target.redacted_because = redaction
        return redaction

    def force(
        self,
        room_id: str,
        type_: str,
        content: Mapping[str, Any],
        *,
        sender: str,
        state_key: str | None = "",
    ) -> Event:
        """Put an event into a room past every rule, as another server's bug might."""
        room = self.rooms[room_id]
        return self._commit(room, self._draft(room, None, sender, type_, content, state_key))

    # What is not an event

    def set_typing(self, user_id: str, room_id: str, *, typing: bool) -> None:
        """Say that somebody types, or does no longer."""
        room = self._room_for(user_id, room_id)
        rules.check_joined(room.state, user_id, room_id=room_id)
        if typing == (user_id in room.typing):
            return
        (room.typing.add if typing else room.typing.discard)(user_id)
        room.typing_stream = self._next()
        self._tell()

    def set_receipt(self, user_id: str, room_id: str, kind: str, event_id: str) -> None:
        """Say how far somebody has read."""
        room = self._room_for(user_id, room_id)
        rules.check_joined(room.state, user_id, room_id=room_id)
        room.receipts[user_id, kind] = (event_id, self.clock.read(), self._next())
        self._tell()

    def set_account_data(
        self, user_id: str, type_: str, content: Json, *, room_id: str | None = None
    ) -> None:
        """Store account data, for the account or for one room of it."""
        account = self.accounts[user_id]
        place = account.account_data
        if room_id is not None:
            place = account.room_account_data.setdefault(room_id, {})
        place[type_] = (copy.deepcopy(content), self._next())
        self._tell()

    def set_profile(self, user_id: str, field: str, value: str | None) -> None:
        """Change the display name or the avatar, in every joined room too."""
        setattr(self.accounts[user_id], field, value or None)
        for room_id in self.rooms_with(user_id, "join"):
            old = self.rooms[room_id].state["m.room.member", user_id].content
            rest = without(old, ("displayname", "avatar_url", "membership"))
            self.change_membership(user_id, room_id, user_id, "join", rest)


def is_user_id(value: object) -> bool:
    return isinstance(value, str) and value.startswith("@") and ":" in value


def _no_such_room(action: str, sender: str, room_id: str) -> MatrixError:
    if action == "join":
        error = (
            "Can't join remote room because no servers that are in the room have been provided."
        )
        return MatrixError(404, "M_UNKNOWN", error)
    if action == "leave":
        return MatrixError(404, "M_UNKNOWN", "Not a known room")
    return forbidden(f"User {sender} not in room {room_id}")
