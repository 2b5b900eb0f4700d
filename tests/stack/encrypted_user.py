"""A person whose client encrypts: what is said in encrypted rooms is shown as what it says.

    alice = EncryptedUser(account, homeserver=url)      # else as MatrixUser

mautrix's own client and `OlmMachine` do the encrypting, with keys that live as long as the object.
Every response goes to them first, so `messages` shows what could be read; `sealed` tells how an
event came over the wire. What comes before its key is read when that is there.
"""

from __future__ import annotations

from typing import Any

from mautrix.client import Client
from mautrix.client.state_store import MemoryStateStore
from mautrix.crypto import MemoryCryptoStore, OlmMachine
from mautrix.crypto.store import StateStore
from mautrix.errors import DecryptionError
from mautrix.types import (
    DeviceID,
    DeviceIdentity,
    DeviceLists,
    DeviceOTKCount,
    EncryptedEvent,
    EventType,
    RequestedKeyInfo,
    RoomID,
    ToDeviceEvent,
    UserID,
)
from typing_extensions import Self

from .http import Json
from .synapse import Account
from .user import Event, MatrixUser

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}


class _State(MemoryStateStore, StateStore):
    """Never sure of who is in a room, so that mautrix asks the server."""

    async def has_full_member_list(self, room_id: RoomID) -> bool:
        return False

    async def find_shared_rooms(self, user_id: UserID) -> list[RoomID]:
        return [room_id for room_id, info in self.encryption.items() if info]


class EncryptedUser(MatrixUser):
    """A logged-in person with keys; `async with` starts and ends their client."""

    def __init__(self, account: Account, *, homeserver: str) -> None:
        super().__init__(account, homeserver=homeserver)
        state = _State()
        self._client = Client(
            mxid=UserID(account.user_id),
            device_id=DeviceID(account.device_id),
            base_url=homeserver,
            token=account.access_token,
            state_store=state,
        )
        self.keys = MemoryCryptoStore(account.user_id, "homeroom-tests")
        self.machine = OlmMachine(self._client, self.keys, state)
        self._client.crypto = self.machine
        self._state = state
        self._sealed: dict[str, Event] = {}
        self._unread: dict[str, tuple[str, Event]] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.machine.load()
            await self.keys.put_device_id(DeviceID(self.account.device_id))
            await self.machine.share_keys()
            return await super().__aenter__()
        except BaseException:
            await self._client.api.session.close()
            raise

    async def __aexit__(self, *args: object) -> None:
        try:
            await super().__aexit__(*args)
        finally:
            await self._client.api.session.close()

    def sealed(self, event_id: str) -> Event | None:
        """The content of an event as it came, if that was encrypted."""
        return self._sealed.get(event_id)

    def encrypts(self, room_id: str) -> bool:
        """Whether this person's client knows that a room is encrypted."""
        return self._state.encryption.get(RoomID(room_id)) is not None

    async def can_read(self, room_id: str, event: Event) -> bool:
        """Whether this person's keys open an encrypted event, wherever they have it from."""
        try:
            await self._open(room_id, event)
        except DecryptionError:
            return False
        return True

    async def change_session(self, room_id: str, *, lost: bool = False) -> None:
        """Encrypt with a new key from now on. `lost`: it reaches nobody."""
        await self.keys.remove_outbound_group_session(RoomID(room_id))
        if lost:
            await self.machine.share_group_session(RoomID(room_id), [])

    def give_keys_to_everybody(self) -> None:
        """Give keys to whoever asks for them from now on; few clients do."""

        async def allow(device: DeviceIdentity, request: RequestedKeyInfo) -> bool:
            return True

        self.machine.allow_key_share = allow

    async def create_encrypted_room(self, **content: Any) -> str:
        """Create an encrypted room; the rest is the body of `createRoom`."""
        encryption = {"type": "m.room.encryption", "state_key": "", "content": MEGOLM}
        return await self.create_room(initial_state=[encryption], **content)

    async def send(
        self, room_id: str, content: Json, *, event_type: str = "m.room.message"
    ) -> str:
        room = RoomID(room_id)
        if not await self._state.is_encrypted(room):
            return await super().send(room_id, content, event_type=event_type)
        sealed = await self._client.encrypt(room, EventType.find(event_type), content)  # type: ignore[arg-type]
        return await super().send(room_id, sealed.serialize(), event_type="m.room.encrypted")  # type: ignore[arg-type]

    async def _read(self, answer: Json) -> None:
        machine = self.machine
        count = answer.get("device_one_time_keys_count", {}).get("signed_curve25519", 0)
        await machine.handle_otk_count(DeviceOTKCount(curve25519=0, signed_curve25519=count))
        lists = answer.get("device_lists", {})
        changed = [UserID(user_id) for user_id in lists.get("changed", [])]
        await machine.handle_device_lists(DeviceLists(changed=changed, left=[]))
        for raw in answer.get("to_device", {}).get("events", []):
            event = ToDeviceEvent.deserialize(raw)
            event.type = event.type.with_class(EventType.Class.TO_DEVICE)
            if event.type == EventType.TO_DEVICE_ENCRYPTED:
                await machine.handle_to_device_event(event)
            elif event.type == EventType.ROOM_KEY_REQUEST:
                await machine.handle_room_key_request(event)
        for room_id, data in answer.get("rooms", {}).get("join", {}).items():
            await self._read_room(room_id, data)
        for event_id, (room_id, event) in list(self._unread.items()):
            if await self._reveal(room_id, event):
                del self._unread[event_id]

    async def _read_room(self, room_id: str, data: Json) -> None:
        timeline = data["timeline"]["events"]
        for event in [*data.get("state", {}).get("events", ()), *timeline]:
            if event["type"] == "m.room.encryption":
                await self._state.set_encryption_info(RoomID(room_id), event["content"])
            elif event["type"] == "m.room.member":
                await self.keys.remove_outbound_group_session(RoomID(room_id))
        for event in timeline:
            if event["type"] == "m.room.encrypted" and "ciphertext" in event["content"]:
                self._sealed[event["event_id"]] = dict(event)
                if not await self._reveal(room_id, event):
                    self._unread[event["event_id"]] = (room_id, event)

    async def _reveal(self, room_id: str, event: Event) -> bool:
        """Put what an event says in its place."""
        try:
            clear = await self._open(room_id, event)
        except DecryptionError:
            return False
        event.update(type=clear["type"], content=clear["content"])
        return True

    async def _open(self, room_id: str, event: Event) -> Event:
        raw = {**event, "room_id": room_id}
        opened = await self.machine.decrypt_megolm_event(EncryptedEvent.deserialize(raw))
        clear: Event = opened.serialize()  # type: ignore[assignment]
        return clear
