"""Encrypted rooms: what maubot's `OlmMachine` leaves to do.

The keys are maubot's: they lie in its own database, one crypto store per account. Homeroom adds
three things to it. What maubot throws away after each start (the keys for messages that were sent
while it was down are in there) is handed on. Who can read an answer is asked of the homeserver
each time that a group session is made, and none is kept from before a start, because somebody may
have come or gone meanwhile. And a key that is not there yet is waited for, and asked for once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, cast

from maubot.handlers import event
from maubot.matrix import MaubotMatrixClient
from mautrix.api import Method, Path
from mautrix.client import InternalEventType
from mautrix.client.encryption_manager import EncryptingAPI
from mautrix.errors import DecryptionError, MatrixError, SessionNotFound
from mautrix.types import (
    JSON,
    DeviceLists,
    EncryptedEvent,
    EventID,
    EventType,
    IdentityKey,
    MessageEventContent,
    RoomID,
    SerializerError,
    SessionID,
    UserID,
)
from mautrix.util.logging import TraceLogger

from ..domain.sync.news import Encrypted
from ..runtime.batches import batches
from ..storage.errors import attempt
from .early_keys import Keys, take_keys
from .errors import Unavailable

OUR_KEYS: Final = "dev.homeroom."
"""What begins so stays readable in an encrypted event: the room itself must tell what was
answered, even to a bot that has lost its keys."""
KEY_WITHIN: Final = 5.0
"""Seconds that a key may take to come by itself: the sync loop handles it beside its message."""
KEY_ON_REQUEST_WITHIN: Final = 10.0
"""Seconds that it may take to come after it was asked for."""
MISSING_AT_MOST: Final = 10_000
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


class KeyMissing(Exception):
    """The key of a message is not there, and did not come."""


class Undecryptable(Exception):
    """There is a key, but what it opens is not a message of this room."""


def why_not(client: MaubotMatrixClient) -> str | None:
    """Why the client cannot encrypt; None if it can."""
    if client.crypto is not None:
        return None
    if not client.device_id:
        return "the bot's client in maubot has no device ID"
    return "maubot was installed without its encryption dependencies (maubot[encryption])"


class Sender(EncryptingAPI):
    """Encrypts for those who are in the room now, and leaves `OUR_KEYS` readable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._up_to_date: set[UserID] = set()

    async def send_encrypted(
        self,
        room_id: RoomID,
        content: MessageEventContent | dict[str, Any],
        *,
        txn_id: str,
        **more: Any,
    ) -> EventID:
        with attempt(f"encrypt for {room_id}"):
            encrypted = await self.encrypt(room_id, EventType.ROOM_MESSAGE, cast("Any", content))
        clear = content if isinstance(content, dict) else content.serialize()
        for key, value in cast("dict[str, Any]", clear).items():
            if key.startswith(OUR_KEYS):
                encrypted[key] = value
        return await self.send_message_event(
            room_id,
            EventType.ROOM_ENCRYPTED,
            cast("Any", encrypted),
            disable_encryption=True,
            txn_id=txn_id,
            **more,
        )

    async def share_group_session(self, room_id: RoomID) -> None:
        """Make a group session and share it with everybody who is in the room or invited.

        The members come from the homeserver, and once after each start their devices, too: what
        is stored of both may be from before the bot was away.
        """
        if not await self._share_session_lock(room_id):
            return
        try:
            assert self.crypto is not None
            members = await self._members(room_id)
            if outdated := [user for user in members if user not in self._up_to_date]:
                await self.crypto.handle_device_lists(DeviceLists(changed=outdated, left=[]))
                self._up_to_date.update(outdated)
            await self.crypto.share_group_session(room_id, members)
        finally:
            self._share_session_events.pop(room_id).set()

    async def _members(self, room_id: RoomID) -> list[UserID]:
        path = Path.v3.rooms[room_id].members
        query = {"not_membership": "leave"}
        answer = await self.api.request(Method.GET, path, query_params=query)
        try:
            return sorted(
                UserID(member["state_key"])
                for member in answer["chunk"]
                if member["content"]["membership"] in {"join", "invite"}
            )
        except (LookupError, TypeError) as e:
            raise Unavailable(f"members of {room_id}: the answer is not a list of them") from e


class Encryption:
    """The keys of one client.

    Args:
        client: maubot's; without a device ID, or without the libraries, it has no `crypto`.
    """

    def __init__(self, client: MaubotMatrixClient, *, log: TraceLogger) -> None:
        self._client = client
        self._log = log
        self._missing: OrderedDict[str, None] = OrderedDict()

    @property
    def is_possible(self) -> bool:
        return self._client.crypto is not None

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        if self.is_possible:
            await self.hand_on(take_keys(data.get("data")))

    async def hand_on(self, keys: Keys) -> None:
        """Do with what maubot throws away as its sync loop would have done."""
        if keys:
            await asyncio.gather(*self._client.handle_sync(cast("JSON", keys)))

    async def decrypt(self, room_id: RoomID, event: dict[str, Any]) -> dict[str, Any]:
        """A raw event with its type and content in the clear; never waits for a key.

        Raises:
            KeyMissing, Undecryptable: it cannot be read.
            StoreError: the database with the keys failed.
            Unavailable: the homeserver would not tell whose key it is.
        """
        crypto = self._client.crypto
        if crypto is None:
            raise KeyMissing("there is no encryption")
        try:
            with attempt("read keys"):
                try:
                    raw = cast("JSON", {**event, "room_id": room_id})
                    read = await crypto.decrypt_megolm_event(EncryptedEvent.deserialize(raw))
                    clear = cast("dict[str, Any]", read.serialize())
                except _HOSTILE as e:
                    raise Undecryptable(type(e).__name__) from e
        except SessionNotFound as e:
            raise KeyMissing(str(e)) from e
        except DecryptionError as e:
            raise Undecryptable(str(e)) from e
        except MatrixError as e:
            raise Unavailable(f"read {event.get('event_id')}: {type(e).__name__}: {e}") from e
        return {**event, "type": clear["type"], "content": clear["content"]}

    async def read(self, message: Encrypted) -> dict[str, Any]:
        """The same for a new message: its key is waited for, and asked for once.

        Raises:
            KeyMissing, Undecryptable, StoreError, Unavailable: as `decrypt`.
        """
        for wait in (self._wait, self._request, self._give_up):
            try:
                return await self.decrypt(message.room_id, message.event)
            except KeyMissing:  # noqa: PERF203 (three times at most)
                if not self.is_possible or message.session_id in self._missing:
                    raise
                await wait(message)
        raise KeyMissing(message.session_id)

    async def forget_sessions(self, room_ids: Iterable[RoomID]) -> None:
        """Encrypt with another group session from now on, shared with whoever is there then.

        Raises:
            StoreError: the database with the keys failed.
        """
        crypto = self._client.crypto
        if crypto is not None:
            for batch in batches(sorted(room_ids), SESSIONS_AT_ONCE):
                with attempt("forget group sessions"):
                    await crypto.crypto_store.remove_outbound_group_sessions(batch)

    async def _wait(self, message: Encrypted) -> None:
        assert self._client.crypto is not None
        with attempt("look for a key"):
            await self._client.crypto.wait_for_session(
                message.room_id, SessionID(message.session_id), timeout=KEY_WITHIN
            )

    async def _request(self, message: Encrypted) -> None:
        """Ask the sender's device for the key; most clients give it to their own devices only."""
        assert self._client.crypto is not None
        content = message.event["content"]
        sender_key, device = content.get("sender_key"), content.get("device_id")
        devices = {device: None} if isinstance(device, str) else {"*": None}
        try:
            with attempt("ask for a key"):
                await self._client.crypto.request_room_key(
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
        self._missing[message.session_id] = None
        if len(self._missing) > MISSING_AT_MOST:
            self._missing.popitem(last=False)
