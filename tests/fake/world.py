"""The model: everything the fake homeserver knows, and every way to change it.

Synchronous and without a network. What comes in is what a request says, what goes out is what
Synapse answers, or a `MatrixError`. Deterministic: IDs and times depend only on what happened
before. The HTTP door and the test's own `User` objects go through the same methods.

Limits: one server; no guests, knocks, third-party invites, peeking or end-to-end keys; presence
is stored but not sent; users of other servers can be invited and banned but never act.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import rules
from .accounts import Account, Session
from .aliases import Aliases
from .clock import Clock
from .contents import check_form, pruned, shown_with_invite
from .errors import (
    MatrixError,
    bad_request,
    bad_state,
    forbidden,
    missing_params,
    not_found,
)
from .events import MAX_PDU_BYTES, Event, Json, StateKey, size_of
from .new_room import (
    PRESETS,
    default_levels,
    initial_state,
    named_state,
    read_list,
    read_preset,
    upgraded_state,
    without,
)
from .rooms import Room
from .versions import RoomVersion, room_version

_UPGRADE_REMEMBERED_MS = 5 * 60_000
_NOT_KEPT = ("clock", "listeners", "_ids")


@dataclass(frozen=True, eq=False)
class Backup:
    """All that a homeserver knew at some time."""

    kept: Mapping[str, Any]


class World:
    """Accounts, rooms and one stream of everything that happens."""

    def __init__(
        self,
        server_name: str = "fake.test",
        *,
        default_room_version: str = "12",
        clock: Clock | None = None,
    ) -> None:
        self.server_name = server_name
        self.default_room_version = room_version(default_room_version).version
        self.clock = clock or Clock()
        self.stream = 1
        self.accounts: dict[str, Account] = {}
        self.sessions: dict[str, Session] = {}
        self.softly_ended: set[str] = set()
        """Tokens of sessions that the device may renew."""
        self.rooms: dict[str, Room] = {}
        self.events: dict[str, Event] = {}
        self.aliases = Aliases(server_name)
        self.memberships: dict[str, dict[str, Event]] = {}
        """User to room to the user's current member event."""
        self.listeners: list[Callable[[], None]] = []
        self._upgrades: dict[tuple[str, str], tuple[str, int]] = {}
        self._ids = 0

    # Backups

    def backup(self) -> Backup:
        """Keep all that there is now, for `restore`."""
        kept = {name: value for name, value in vars(self).items() if name not in _NOT_KEPT}
        return Backup(copy.deepcopy(kept))

    def restore(self, backup: Backup) -> None:
        """Be as it was: what happened since is gone, and its stream positions come again.

        IDs do not come again, since they are hashes of what happens.
        """
        vars(self).update(copy.deepcopy(backup.kept))
        self._tell()

    # Accounts

    def user_id(self, name: str) -> str:
        """Make a user ID of a local part; a user ID stays as it is."""
        return name if name.startswith("@") else f"@{name}:{self.server_name}"

    def register(self, localpart: str, *, password: str = "password") -> Account:
        """Make an account with its first session, or give the one that is there."""
        user_id = self.user_id(localpart)
        if user_id not in self.accounts:
            name = user_id[1:].partition(":")[0]
            self.accounts[user_id] = Account(user_id, password, displayname=name)
        return self.accounts[user_id]

    def login(self, user: str, password: str, *, device_id: str | None = None) -> Session:
        """Make a session for somebody who knows the password."""
        account = self.accounts.get(self.user_id(user))
        if account is None or account.password != password:
            raise forbidden("Invalid username or password")
        return self.new_session(account, device_id=device_id)

    def new_session(self, account: Account, *, device_id: str | None = None) -> Session:
        """Make a session; the token tells whose it is."""
        account.devices += 1
        device = device_id or f"DEVICE{account.devices}"
        token = f"syt_{account.user_id[1:].partition(':')[0]}_{account.devices}"
        session = Session(account.user_id, device, token)
        self.sessions[token] = session
        return session

    def session(self, token: str | None) -> Session:
        """Give the session of an access token."""
        if not token:
            raise MatrixError(401, "M_MISSING_TOKEN", "Missing access token")
        if token not in self.sessions:
            soft = token in self.softly_ended
            text = "Access token has expired" if soft else "Invalid access token passed."
            raise MatrixError(401, "M_UNKNOWN_TOKEN", text, soft_logout=soft)
        session = self.sessions[token]
        refusal = self.accounts[session.user_id].refusal
        if refusal is not None:
            raise refusal
        return session

    def sign_out(self, user_id: str, *, softly: bool = False) -> None:
        """End all sessions of somebody; softly is until they log in again on their device."""
        for token in [t for t, session in self.sessions.items() if session.user_id == user_id]:
            del self.sessions[token]
            if softly:
                self.softly_ended.add(token)

    # Rooms: making

    def create_room(self, user_id: str, spec: Json) -> Room:
        """Create a room as `POST createRoom` does.

        As in Synapse this is not atomic: the create event and the creator's membership are there
        before the rest is checked, and the invites come last, each for itself. A refusal at that
        point leaves the room behind with its creator in it.
        """
        version = room_version(spec.get("room_version", self.default_room_version))
        preset_name, preset = read_preset(spec)
        invites = read_list(spec, "invite")
        name = spec.get("room_alias_name")
        alias = None if name is None else self.aliases.check_new(name)
        for invited in invites:
            if not _is_user_id(invited):
                raise bad_request(f"Invalid user_id: {invited}")
        override = spec.get("power_level_content_override") or {}
        if not version.creators_have_all_power and user_id not in override.get("users", [user_id]):
            raise bad_request(
                f"Not a valid power_level_content_override: 'users' did not contain {user_id}"
            )
        creation: Json = {**spec.get("creation_content", {}), "room_version": version.version}
        trusted = preset_name == "trusted_private_chat"
        if trusted and invites and version.creators_have_all_power:
            extra = creation.get("additional_creators", [])
            creation["additional_creators"] = sorted({*extra, *invites})
        initial = initial_state(spec)
        if ("m.room.power_levels", "") not in initial:
            levels = default_levels(version, user_id)
            if trusted and not version.creators_have_all_power:
                levels["users"].update(dict.fromkeys(invites, 100))
            initial[("m.room.power_levels", "")] = {**levels, **preset["levels"], **override}
        room_id, create_id = self._new_room_id(version)
        if alias:
            self.aliases.add(alias, room_id, user_id)
        room = self._new_room(user_id, version, creation, room_id=room_id, create_id=create_id)
        if alias:
            initial.setdefault(("m.room.canonical_alias", ""), {"alias": alias})
        self._fill_room(room, user_id, preset, initial, named_state(spec))
        for invited in invites:
            direct = {"is_direct": True} if spec.get("is_direct") else {}
            self.change_membership(user_id, room.room_id, invited, "invite", direct)
        return room

    def _new_room_id(self, version: RoomVersion) -> tuple[str, str]:
        """Give the IDs of a room to come and of its create event."""
        create_id = self._new_event_id()
        if version.room_id_is_create_event:
            return "!" + create_id[1:], create_id
        return f"!{self._new_id(18)}:{self.server_name}", create_id

    def _new_room(
        self, user_id: str, version: RoomVersion, creation: Json, *, room_id: str, create_id: str
    ) -> Room:
        """Make a room with its create event and its creator in it."""
        if version.creator_in_content:
            creation = {**creation, "creator": user_id}
        room = Room(room_id, version)
        create = self._draft(room, {}, user_id, "m.room.create", creation, "")
        create.event_id = create_id
        self.rooms[room_id] = room
        self._commit(room, create)
        content = {"membership": "join", **self._profile(user_id)}
        join = self._draft(room, None, user_id, "m.room.member", content, user_id)
        self._commit(room, join)
        return room

    def _fill_room(
        self,
        room: Room,
        user_id: str,
        preset: Json,
        initial: dict[StateKey, Json],
        named: dict[StateKey, Json],
    ) -> None:
        """Add the rest of a new room's state: all of it, or none."""
        content = dict(initial)
        levels = ("m.room.power_levels", "")
        order: dict[StateKey, Json] = {levels: content.pop(levels)}
        alias = content.pop(("m.room.canonical_alias", ""), None)
        if alias is not None:
            order["m.room.canonical_alias", ""] = alias
        defaults = {
            "m.room.join_rules": {"join_rule": preset["join_rule"]},
            "m.room.history_visibility": {"history_visibility": "shared"},
        }
        if preset["guests"]:
            defaults["m.room.guest_access"] = {"guest_access": "can_join"}
        order.update({(t, ""): c for t, c in defaults.items() if (t, "") not in content})
        order.update(content)
        state = dict(room.state)
        drafts: list[Event] = []
        for (type_, state_key), value in [*order.items(), *named.items()]:
            draft = self._draft(room, state, user_id, type_, value, state_key)
            state[draft.key] = draft
            drafts.append(draft)
        for draft in drafts:
            self._commit(room, draft)

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
        if not _is_user_id(target):
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

    def upgrade(self, user_id: str, room_id: str, spec: Json) -> Room:
        """Replace a room by one of another version, as `POST upgrade` does.

        Members are not moved; asking again within five minutes gives the same room.
        """
        if "new_version" not in spec:
            raise missing_params("new_version")
        version = room_version(spec["new_version"])
        if room_id not in self.rooms:
            raise not_found(f"Unknown room id {room_id}")
        old = self._room_for(user_id, room_id)
        known, since = self._upgrades.get((room_id, user_id), ("", 0))
        if known and self.clock.read() - since < _UPGRADE_REMEMBERED_MS:
            return self.rooms[known]
        probe = {"body": "This room has been replaced", "replacement_room": "!new"}
        tombstone = self._draft(old, old.state, user_id, "m.room.tombstone", probe, "")
        creation: Json = {"room_version": version.version, "predecessor": {"room_id": room_id}}
        if not version.room_id_is_create_event:
            creation["predecessor"]["event_id"] = tombstone.event_id
        for copied in ("type", "m.federate"):
            if copied in old.create.content:
                creation[copied] = old.create.content[copied]
        if version.creators_have_all_power and "additional_creators" in spec:
            creation["additional_creators"] = spec["additional_creators"]
        room_id, create_id = self._new_room_id(version)
        new = self._new_room(user_id, version, creation, room_id=room_id, create_id=create_id)
        initial = upgraded_state(old, new, user_id)
        self._fill_room(new, user_id, PRESETS["private_chat"], initial, {})
        for (type_, state_key), event in list(old.state.items()):
            if type_ == "m.room.member" and event.membership == "ban":
                self.change_membership(user_id, new.room_id, state_key, "ban")
        tombstone.content["replacement_room"] = new.room_id
        self._commit(old, tombstone)
        self._move_aliases(old, new, user_id)
        self._close_upgraded(old, new, user_id)
        self._upgrades[old.room_id, user_id] = (new.room_id, self.clock.read())
        return new

    def _move_aliases(self, old: Room, new: Room, user_id: str) -> None:
        """Give the new room the old one's aliases, and its canonical one."""
        self.aliases.move(old.room_id, new.room_id)
        canonical = old.state.get(("m.room.canonical_alias", ""))
        if canonical is None:
            return
        type_, alias = canonical.type, canonical.content.get("alias")
        rest = without(canonical.content, ["alias"])
        self.set_state(user_id, old.room_id, type_, rest)
        self.set_state(user_id, new.room_id, type_, {"alias": alias} if alias else {})

    def _close_upgraded(self, old: Room, new: Room, user_id: str) -> None:
        """Quieten the old room, and give the new one the old one's power levels."""
        levels = old.state.get(("m.room.power_levels", ""))
        if levels is None:
            return
        before = copy.deepcopy(levels.content)
        floor = max(int(before.get("users_default", 0)) + 1, 50)
        quiet = {
            name: floor for name in ("invite", "events_default") if before.get(name, 0) < floor
        }
        if quiet:
            content = {**before, **quiet}
            self.set_state(user_id, old.room_id, "m.room.power_levels", content)
        if new.version.creators_have_all_power:
            before["users"] = without(before.get("users", {}), rules.creators(new.state))
        self.set_state(user_id, new.room_id, "m.room.power_levels", before)

    # Reading

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

    # Inside

    def _room_for(self, user_id: str, room_id: str) -> Room:
        room = self.rooms.get(room_id)
        if room is None:
            raise forbidden(f"User {user_id} not in room {room_id}")
        return room

    def _profile(self, user_id: str) -> Json:
        account = self.accounts.get(user_id)
        return account.profile if account else {}

    def _draft(
        self,
        room: Room,
        state: Mapping[StateKey, Event] | None,
        sender: str,
        type_: str,
        content: Mapping[str, Any],
        state_key: str | None,
    ) -> Event:
        """Make an event that is allowed in `state`; None leaves the rules out."""
        if not isinstance(content, Mapping):
            raise bad_request("Content must be a JSON object.", "M_BAD_JSON")
        copied: Json = copy.deepcopy(dict(content))
        fields = {"type": type_, "sender": sender, "room_id": room.room_id, "state_key": state_key}
        if state is not None:
            check_form(type_, copied, room.room_id)
            if size_of(content=copied, **fields) > MAX_PDU_BYTES:
                raise MatrixError(413, "M_TOO_LARGE", "event too large")
            if len((state_key or "").encode()) > 255 or len(type_.encode()) > 255:
                raise MatrixError(413, "M_TOO_LARGE", "'type' or 'state_key' too large")
            if room.timeline:
                proposal = rules.Proposal(
                    room.room_id, room.version, type_, sender, state_key, copied
                )
                rules.check(state, proposal)
        return Event(self._new_event_id(), room.room_id, type_, sender, state_key, copied, 0, 0, 0)

    def _commit(self, room: Room, event: Event) -> Event:
        event.origin_server_ts = self.clock.tick()
        event.stream = self._next()
        event.depth = len(room.timeline) + 1
        room.append(event)
        self.events[event.event_id] = event
        if event.type == "m.room.member" and event.state_key is not None:
            self.memberships.setdefault(event.state_key, {})[room.room_id] = event
            account = self.accounts.get(event.state_key)
            if account is not None and event.membership in ("join", "invite"):
                account.forgotten.discard(room.room_id)
        self._tell()
        return event

    def _next(self) -> int:
        self.stream += 1
        return self.stream

    def _tell(self) -> None:
        for listener in list(self.listeners):
            listener()

    def _new_id(self, length: int) -> str:
        self._ids += 1
        digest = hashlib.sha256(f"{self.server_name} {self._ids}".encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")[:length]

    def _new_event_id(self) -> str:
        return "$" + self._new_id(43)


def _is_user_id(value: object) -> bool:
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
