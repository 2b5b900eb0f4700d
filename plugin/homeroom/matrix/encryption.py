"""Reading in encrypted rooms: what maubot's `OlmMachine` leaves to do.

The keys are maubot's: they lie in its own database, one crypto store per account. Homeroom adds
what a bot needs besides. What maubot throws away after each start (the keys for messages that were
sent while it was down are in there) is handed on. A key that is not there yet is waited for, and
asked for once. Whoever withholds a key says why, and that is remembered. No group session is kept
from before a start, because somebody may have come or gone meanwhile. And other people's events
do no harm to the bot's sessions (`mautrix_guards.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

from maubot.handlers import event
from mautrix.client import InternalEventType
from mautrix.errors import (
    DecryptionError,
    DuplicateMessageIndex,
    GroupSessionWithheldError,
    MatrixError,
    SessionNotFound,
)
from mautrix.types import (
    JSON,
    EncryptedEvent,
    EventType,
    IdentityKey,
    RoomID,
    SerializerError,
    SessionID,
    ToDeviceEvent,
    TrustState,
    UserID,
)
from mautrix.util.logging import TraceLogger

from ..domain.json_shapes import as_dict
from ..domain.newest import put_newest
from ..domain.sync.news import Encrypted
from ..runtime.batches import batches
from ..storage import Store, StoreError
from ..storage.errors import attempt
from .current_client import CurrentClient, EncryptionGone
from .early_keys import Keys, take_keys
from .errors import Unavailable
from .mautrix_guards import NotTheirs, SessionGuard

KEY_WITHIN: Final = 5.0
"""Seconds that a key may take to come by itself: the sync loop handles it beside its message."""
KEY_ON_REQUEST_WITHIN: Final = 10.0
"""Seconds that it may take to come after it was asked for."""
REMEMBERED_AT_MOST: Final = 10_000
"""Sessions that are known to be missing or withheld."""
SESSIONS_AT_ONCE: Final = 500
"""Rooms in one statement; SQLite takes 999 values."""
_HOSTILE: Final = (
    SerializerError,
    RecursionError,
    UnicodeError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
)
"""What mautrix raises on contents that are not what they should be."""
SIGNED: Final = TrustState.CROSS_SIGNED_UNTRUSTED
"""From this on the owner of a device has signed it with the identity that they have now."""
_UNVERIFIED: Final = ("m.unverified", "m.unauthorised")


class Cause(Enum):
    """Why a message cannot be read."""

    NO_ENCRYPTION = "there is no encryption on this bot"
    MISSING = "its key is missing"
    TOO_LATE = "its key reaches back less far"
    """The sender gave the key from a later message on."""
    UNVERIFIED = "its sender's app withholds the key, because it does not trust this bot's device"
    BLOCKED = "its sender's app withholds the key"
    DUPLICATE = "it is a copy of another message"
    NOT_SIGNED = "its sender has not signed the device that sent it"
    DAMAGED = "it is damaged"

    @property
    def is_missing(self) -> bool:
        """Whether the key may still come."""
        return self is Cause.MISSING


class Unreadable(Exception):
    """A message cannot be read, and why."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(f"{cause.value} ({detail})" if detail else cause.value)
        self.cause = cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A raw event with its type and content in the clear."""

    event: dict[str, Any]
    is_signed: bool
    """Whether it was sent by a device that its owner has signed."""


class Encryption:
    """The keys of one account.

    Args:
        only_signed: whether messages of devices that their owner has not signed are not read, and
            such devices get no keys.
    """

    def __init__(
        self,
        client: CurrentClient,
        *,
        only_signed: Callable[[], bool],
        store: Store,
        log: TraceLogger,
    ) -> None:
        self.client = client
        self._store = store
        self._only_signed = only_signed
        self._log = log
        self._guard: SessionGuard | None = None
        self._missing: dict[str, None] = {}
        self._withheld: dict[tuple[str, str], str] = {}
        """By sender and session (or device key, where no session is named): the code."""
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    @property
    def is_possible(self) -> bool:
        return self.client.can_encrypt

    def close(self) -> None:
        """Leave maubot's machine as it was."""
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    async def begin(self, early: Keys) -> None:
        """Remember what was refused before, and take in what came before the start."""
        try:
            known = await self._store.withheld_keys()
        except StoreError as e:
            self._log.warning("Which keys were withheld is not known: %s", e)
        else:
            self._withheld = {**known, **self._withheld}
        await self.hand_on(early)

    # What the sync loop brings

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        if self.is_possible:
            self._guarded()
            await self.hand_on(take_keys(data.get("data")))

    @event.on(EventType.ROOM_KEY_WITHHELD)  # type: ignore[arg-type,untyped-decorator]
    async def on_withheld(self, told: ToDeviceEvent) -> None:
        """Somebody says that they will not give a key; maubot passes that over."""
        content = as_dict(cast("Any", told.content.serialize()))
        session = content.get("session_id") or content.get("sender_key")
        code = content.get("code")
        if isinstance(session, str) and isinstance(code, str):
            key = (told.sender, session)
            is_new = self._withheld.get(key) != code
            put_newest(self._withheld, key, code, at_most=REMEMBERED_AT_MOST)
            if waiting := self._waiting.get(key):
                waiting.set()
            if is_new and len(self._withheld) < REMEMBERED_AT_MOST:
                await self._keep(key, code)

    async def _keep(self, key: tuple[str, str], code: str) -> None:
        """For the next start: nobody says twice why they withhold a key."""
        sender, session = key
        try:
            await self._store.note_withheld_key(sender, session, code=code)
        except StoreError as e:
            self._log.warning("That a key of %s is withheld was not noted: %s", sender, e)

    async def hand_on(self, keys: Keys) -> None:
        """Do with what maubot throws away as its sync loop would have done."""
        if keys:
            await asyncio.gather(*self.client().handle_sync(cast("JSON", keys)))

    # Reading

    async def decrypt(self, room_id: RoomID, event: dict[str, Any]) -> Opened:
        """Open a raw event; never wait for a key.

        Raises:
            Unreadable: it cannot be read.
            EncryptionGone: it could be, and cannot now.
            StoreError: the database with the keys failed.
            Unavailable: the homeserver would not tell whose key it is.
        """
        machine = self._guarded()
        if machine is None:
            raise Unreadable(Cause.NO_ENCRYPTION)
        try:
            with attempt("read keys"):
                try:
                    raw = EncryptedEvent.deserialize(cast("JSON", {**event, "room_id": room_id}))
                    read = await machine.decrypt_megolm_event(raw)
                    clear = cast("dict[str, Any]", read.serialize())
                    trust = read["mautrix"]["trust_state"]
                except _HOSTILE as e:
                    raise Unreadable(Cause.DAMAGED, type(e).__name__) from e
        except (SessionNotFound, GroupSessionWithheldError) as e:
            raise Unreadable(self._why_missing(event)) from e
        except (NotTheirs, DuplicateMessageIndex) as e:
            raise Unreadable(Cause.DUPLICATE) from e
        except DecryptionError as e:
            if "UNKNOWN_MESSAGE_INDEX" in str(e.__cause__):
                raise Unreadable(Cause.TOO_LATE) from e
            raise Unreadable(Cause.DAMAGED, str(e)) from e
        except MatrixError as e:
            raise Unavailable(f"read {event.get('event_id')}: {type(e).__name__}: {e}") from e
        opened = {**event, "type": clear["type"], "content": clear["content"]}
        is_signed = trust >= SIGNED or event.get("sender") == self.client.first.mxid
        if self._only_signed() and not is_signed:
            raise Unreadable(Cause.NOT_SIGNED)
        return Opened(event=opened, is_signed=is_signed)

    async def read(self, message: Encrypted) -> Opened:
        """The same for a new message: its key is waited for, and asked for once.

        Raises:
            Unreadable, EncryptionGone, StoreError, Unavailable: as `decrypt`.
        """
        for wait in (self._wait, self._request, self._give_up):
            try:
                return await self.decrypt(message.room_id, message.event)
            except Unreadable as e:  # noqa: PERF203 (three times at most)
                if not e.cause.is_missing or message.session_id in self._missing:
                    raise
                await wait(message)
        raise Unreadable(self._why_missing(message.event))

    def _why_missing(self, event: dict[str, Any]) -> Cause:
        content = as_dict(event.get("content"))
        for name in ("session_id", "sender_key"):
            code = self._withheld.get((str(event.get("sender")), str(content.get(name))))
            if code is not None:
                return Cause.UNVERIFIED if code in _UNVERIFIED else Cause.BLOCKED
        return Cause.MISSING

    def _guarded(self) -> Any:
        """maubot's machine of now, guarded and set up as the settings say.

        Raises:
            EncryptionGone: there was one.
        """
        machine = self.client.machine()
        if self._guard is not None and self._guard.machine is not machine:
            self.close()
        if machine is None:
            return None
        if self._guard is None:
            self._guard = SessionGuard(machine, log=self._log)
        machine.send_keys_min_trust = SIGNED if self._only_signed() else TrustState.UNVERIFIED
        return machine

    async def _wait(self, message: Encrypted) -> None:
        """Until the key comes, or the sender says that it will not."""
        machine = self.client.machine()
        key = (message.sender, message.session_id)
        refused = self._waiting.setdefault(key, asyncio.Event())
        coming = asyncio.ensure_future(
            machine.wait_for_session(
                message.room_id, SessionID(message.session_id), timeout=KEY_WITHIN
            )
        )
        refusal = asyncio.ensure_future(refused.wait())
        try:
            with attempt("look for a key"):
                await asyncio.wait((coming, refusal), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    coming.result()
        finally:
            coming.cancel()
            refusal.cancel()
            self._waiting.pop(key, None)

    async def _request(self, message: Encrypted) -> None:
        """Ask the sender's device for the key; most clients give it to their own devices only."""
        content = message.event["content"]
        sender_key, device = content.get("sender_key"), content.get("device_id")
        devices = {device: None} if isinstance(device, str) else {"*": None}
        try:
            with attempt("ask for a key"):
                await self.client.machine().request_room_key(
                    message.room_id,
                    IdentityKey(sender_key if isinstance(sender_key, str) else ""),
                    SessionID(message.session_id),
                    # A dict where mautrix says list: it deletes by device (mautrix 0.21.1).
                    {message.sender: cast("Any", devices)},
                    timeout=KEY_ON_REQUEST_WITHIN,
                )
        except MatrixError as e:
            self._log.warning("Could not ask %s for a key: %s", message.sender, e)

    async def _give_up(self, message: Encrypted) -> None:
        """Whatever else was said with this key need not wait for it again."""
        put_newest(self._missing, message.session_id, None, at_most=REMEMBERED_AT_MOST)

    # Writing

    async def forget_sessions(self, room_ids: Iterable[RoomID]) -> None:
        """Encrypt with another group session from now on, shared with whoever is there then.

        Raises:
            StoreError: the database with the keys failed.
        """
        try:
            machine = self._guarded()
        except EncryptionGone:
            return  # maubot forgets them all by itself
        if machine is not None:
            for batch in batches(sorted(room_ids), SESSIONS_AT_ONCE):
                with attempt("forget group sessions"):
                    await machine.crypto_store.remove_outbound_group_sessions(batch)

    async def has_signed_device(self, user_id: UserID) -> bool:
        """Whether somebody has signed any device of theirs, as far as is known.

        Raises:
            EncryptionGone, StoreError: it is not known now.
        """
        machine = self._guarded()
        if machine is None:
            return False
        with attempt(f"look up the devices of {user_id}"):
            devices = await machine.crypto_store.get_devices(user_id) or {}
            for device in devices.values():
                if await machine.resolve_trust(device, allow_fetch=False) >= SIGNED:
                    return True
        return False
