"""What the fake homeserver knows: accounts, sessions, rooms, and one stream of all events."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import rules
from .accounts import Account, Session
from .aliases import Aliases
from .clock import Clock
from .contents import check_form
from .errors import MatrixError, bad_request, forbidden
from .events import MAX_PDU_BYTES, Event, Json, StateKey, size_of
from .rooms import Room
from .versions import room_version

_NOT_KEPT = ("clock", "listeners", "_ids")


@dataclass(frozen=True, eq=False)
class Backup:
    """All that a homeserver knew at some time."""

    kept: Mapping[str, Any]


class Record:
    """Accounts, rooms and one stream of everything that happens, and how an event gets into it."""

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
