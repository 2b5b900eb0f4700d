"""Guards against what mautrix 0.21.1 lets other people do to the bot's group sessions.

    the list of skipped messages    `_ratchet_session` (crypto/decrypt_megolm.py:146, from
                                    https://github.com/mautrix/python/pull/144) lists every index
                                    between the last message and this one: one short message with
                                    a high index takes all memory, and so does every later one
    a session that is written over  `put_group_session` (crypto/store/asyncpg/store.py:248) takes
                                    any later `m.room_key` (crypto/machine.py:253) of the same
                                    session: of another room, of another sender, or one that opens
                                    less than the one that is there
    unknown devices                 `get_or_fetch_device_by_key` (crypto/device_lists.py:277) asks
                                    the homeserver for them again with each of their messages
    a message that is copied        `decrypt_megolm_event` opens whoever's copy of a message comes
                                    first, and calls the real one a duplicate; also before Homeroom
                                    runs, as maubot's client syncs first

Each looks first whether mautrix still does it, and does nothing where it does not. They work on
maubot's own machine, from outside: some methods are wrapped while Homeroom runs. Whoever decrypts
with it is guarded, also mautrix's dispatcher, which opens each message for other handlers.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import ClientError
from mautrix.api import Method, Path
from mautrix.errors import DecryptionError, DuplicateMessageIndex, MatrixError
from mautrix.types import (
    EncryptedEvent,
    EncryptedMegolmEventContent,
    IdentityKey,
    RoomID,
    SessionID,
    UserID,
)
from mautrix.util.logging import TraceLogger

from ..domain.json_shapes import as_dict
from ..domain.newest import put_newest

MAX_INDEX: Final = 2**31 - 1
"""The largest index that mautrix's table of messages can hold in PostgreSQL."""
MAX_SKIPPED: Final = 1000
"""Messages between two that were read which mautrix may list. Clients change their session after
100 messages, unless a room says otherwise."""
MAX_LISTED: Final = 1000
"""Skipped messages of one session that are remembered. maubot does nothing with them."""

_KNOWN: Final = """
SELECT room_id, sender_key, session FROM crypto_megolm_inbound_session
WHERE session_id=$1 AND account_id=$2
"""
_READ_AS: Final = """
SELECT event_id FROM crypto_message_index WHERE session_id=$1 AND "index"=$2
"""
_FORGET_READ: Final = """
DELETE FROM crypto_message_index WHERE session_id=$1 AND "index"=$2 AND event_id=$3
"""
_OF_SOMEBODY_ELSE: Final = """
SELECT 1 FROM crypto_megolm_inbound_session AS used
JOIN crypto_device AS other
    ON other.identity_key=used.sender_key AND other.signing_key=used.signing_key
WHERE used.room_id=$1 AND used.session_id=$2 AND used.account_id=$3
AND used.withheld_code IS NULL AND other.user_id<>$4
AND NOT EXISTS (
    SELECT 1 FROM crypto_device AS own
    WHERE own.identity_key=used.sender_key AND own.signing_key=used.signing_key
    AND own.user_id=$4
)
LIMIT 1
"""
"""Both keys count: anybody can upload the first one as theirs, but not sign with the second."""

ASK_AGAIN_AFTER: Final = 10 * 60.0
"""Seconds after which the homeserver is asked again for a device that it did not know."""
ASKED_AT_MOST: Final = 10_000

Ratchet = Callable[[Any, int], Awaitable[None]]
Put = Callable[[RoomID, IdentityKey, SessionID, Any], Awaitable[None]]


class NotTheirs(DecryptionError):
    """The message is encrypted with a session of somebody else's device."""


class IndexTooHigh(DecryptionError):
    """The message has an index that no session gets to."""


def message_index(ciphertext: str) -> int | None:
    """The ratchet index of a Megolm message, as it says itself; None if it is not one.

    https://gitlab.matrix.org/matrix-org/olm/-/blob/master/docs/megolm.md (Message format)
    """
    head = ciphertext[:24]
    try:
        data = b64decode(head + "=" * (-len(head) % 4), validate=True)
    except (Base64Error, ValueError):
        return None
    if data[:2] != b"\x03\x08":
        return None
    index = 0
    for place, byte in enumerate(data[2:12]):
        index |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return index
    return None


def lists_what_was_skipped(machine: Any) -> bool:
    """Whether mautrix lists every index that was skipped."""
    return "list(range(" in _source(machine, "_ratchet_session")


def writes_over_sessions(machine: Any) -> bool:
    """Whether mautrix takes any key for a session that it has."""
    return "DO UPDATE" in _source(
        machine.crypto_store, "put_group_session"
    ) and "first_known_index" not in _source(machine, "_receive_room_key")


def _source(of: object, method: str) -> str:
    try:
        return inspect.getsource(getattr(type(of), method))
    except (AttributeError, OSError, TypeError):
        return ""


class SessionGuard:
    """Watches over the group sessions of one of maubot's machines until `close`."""

    def __init__(self, machine: Any, *, log: TraceLogger) -> None:
        self.machine = machine
        self._store = machine.crypto_store
        self._log = log
        self._put: Put | None = None
        self._asked: dict[tuple[UserID, IdentityKey], float] = {}
        self._ask = machine.get_or_fetch_device_by_key
        machine.get_or_fetch_device_by_key = self.get_or_fetch_device_by_key
        self._decrypt = machine.decrypt_megolm_event
        machine.decrypt_megolm_event = self.decrypt_megolm_event
        self._ratchet: Ratchet | None = None
        if lists_what_was_skipped(machine):
            self._ratchet = machine._ratchet_session  # noqa: SLF001
            machine._ratchet_session = self.ratchet_session  # noqa: SLF001
        if hasattr(self._store, "db") and writes_over_sessions(machine):
            self._put = self._store.put_group_session
            self._store.put_group_session = self.put_group_session

    def close(self) -> None:
        """Leave the machine as it was."""
        for of, name in (
            (self._store, "put_group_session"),
            (self.machine, "get_or_fetch_device_by_key"),
            (self.machine, "decrypt_megolm_event"),
            (self.machine, "_ratchet_session"),
        ):
            own = getattr(self, name.lstrip("_"))
            if vars(of).get(name) == own:
                delattr(of, name)

    async def get_or_fetch_device_by_key(self, user_id: UserID, identity_key: IdentityKey) -> Any:
        """Ask the homeserver for a device that is not known, but not again at once."""
        device = await self._store.find_device_by_key(user_id, identity_key)
        key, now = (user_id, identity_key), time.monotonic()
        if device is not None or now - self._asked.get(key, -math.inf) < ASK_AGAIN_AFTER:
            return device
        put_newest(self._asked, key, now, at_most=ASKED_AT_MOST)
        return await self._ask(user_id, identity_key)

    async def put_group_session(
        self, room_id: RoomID, sender_key: IdentityKey, session_id: SessionID, session: Any
    ) -> None:
        """Keep a session, unless a better one, or somebody else's, is kept under its ID."""
        assert self._put is not None
        safety = session.ratchet_safety
        del safety.missed_indices[:-MAX_LISTED], safety.lost_indices[:-MAX_LISTED]
        if reason := await self._worse(room_id, sender_key, session_id, session):
            self._log.warning(
                "Did not take a key of session %s for %s from device key %s: %s",
                session_id,
                room_id,
                sender_key,
                reason,
            )
            return
        await self._put(room_id, sender_key, session_id, session)

    async def _worse(
        self, room_id: RoomID, sender_key: IdentityKey, session_id: SessionID, session: Any
    ) -> str | None:
        """Why the session that is there is to be kept; None: there is none, or a worse one."""
        row = await self._store.db.fetchrow(_KNOWN, session_id, self._store.account_id)
        if row is None or row["session"] is None:
            return None
        if row["room_id"] != room_id:
            return "it is known from another room"
        if row["sender_key"].strip() != sender_key:
            return "it is known from another device"
        if self.machine.ratchet_keys_on_decrypt:
            return None
        known = await self._store.get_group_session(room_id, session_id)
        if known is not None and known.first_known_index < session.first_known_index:
            return "the one that is there opens more"
        return None

    async def decrypt_megolm_event(self, event: EncryptedEvent) -> Any:
        """Decrypt an event that is safe to decrypt.

        Raises:
            NotTheirs, IndexTooHigh: it is not; nothing is taken from its session.
            DecryptionError: as mautrix does.
        """
        content, index = event.content, None
        # Without an index it is no message, and mautrix says what is wrong with it.
        if isinstance(content, EncryptedMegolmEventContent) and (
            (index := message_index(content.ciphertext)) is not None
        ):
            if index > MAX_INDEX:
                raise IndexTooHigh(f"its index is {index}")
            if await self._is_of_somebody_else(event.room_id, content.session_id, event.sender):
                raise NotTheirs("its session is of a device of somebody else")
        try:
            return await self._decrypt(event)
        except DuplicateMessageIndex:
            if index is None or not await self._forget_copy(event, index):
                raise
            return await self._decrypt(event)

    async def _forget_copy(self, event: EncryptedEvent, index: int) -> bool:
        """Free the place of a message that a copy in somebody else's name took; whether it did.

        mautrix reads such a copy where nobody guards it. Who sent it only the homeserver says.
        """
        if not hasattr(self._store, "db"):
            return False
        place = event.content.session_id, index
        event_id = await self._store.db.fetchval(_READ_AS, *place)
        if event_id is None or event_id == event.event_id:
            return False
        path = Path.v3.rooms[event.room_id].event[event_id]
        try:
            # Not maubot's own `get_event`, which gives nothing of what it cannot decrypt.
            read = await self.machine.client.api.request(Method.GET, path)
        except (MatrixError, ClientError, asyncio.TimeoutError):
            return False
        sender = UserID(str(as_dict(read).get("sender")))
        is_copy = await self._is_of_somebody_else(event.room_id, place[0], sender)
        if is_copy:
            await self._store.db.execute(_FORGET_READ, *place, event_id)
        return is_copy

    async def ratchet_session(self, session: Any, index: int) -> None:
        """Note that a message was read, but not which ones were skipped before it if many were."""
        assert self._ratchet is not None
        if index - session.ratchet_safety.next_index > MAX_SKIPPED:
            session.ratchet_safety.next_index = index
        await self._ratchet(session, index)

    async def _is_of_somebody_else(
        self, room_id: RoomID, session_id: SessionID, sender: UserID
    ) -> bool:
        """Whether the session with which the sender encrypted is of another person's device."""
        if not hasattr(self._store, "db"):
            return False
        key = room_id, session_id, self._store.account_id
        return await self._store.db.fetchval(_OF_SOMEBODY_ELSE, *key, sender) is not None
