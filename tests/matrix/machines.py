"""mautrix's own machine on its own store, as maubot makes it, with nobody at the other end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import olm
from mautrix.crypto import OlmMachine, PgCryptoStore
from mautrix.crypto.account import OlmAccount
from mautrix.errors import MNotFound
from mautrix.types import (
    DeviceID,
    DeviceIdentity,
    EncryptedEvent,
    RoomID,
    SessionID,
    TrustState,
    UserID,
)
from mautrix.util.async_db import Database

BOT = UserID("@bot:test")
ROOM = RoomID("!chat:test")
LOG: Any = logging.getLogger("maubot.instance.homeroom")


class Device:
    """A device of somebody, with a group session of its own."""

    def __init__(self, user_id: str, device_id: str = "PHONE") -> None:
        self.user_id, self.device_id = UserID(user_id), DeviceID(device_id)
        self.account = OlmAccount()
        self.session = olm.OutboundGroupSession()

    @property
    def identity(self) -> DeviceIdentity:
        return DeviceIdentity(
            user_id=self.user_id,
            device_id=self.device_id,
            identity_key=self.account.identity_key,
            signing_key=self.account.signing_key,
            trust=TrustState.UNVERIFIED,
            deleted=False,
            name="",
        )

    def say(self, event_id: str, text: str = '{"body": "Hello", "msgtype": "m.text"}') -> Any:
        """An event that this device encrypted."""
        clear = f'{{"type": "m.room.message", "room_id": "{ROOM}", "content": {text}}}'
        return self.event(event_id, self.session.encrypt(clear))

    def event(self, event_id: str, ciphertext: str, *, sender: str | None = None) -> Any:
        return {
            "type": "m.room.encrypted",
            "event_id": event_id,
            "room_id": ROOM,
            "sender": sender or self.user_id,
            "origin_server_ts": 1,
            "content": {
                "algorithm": "m.megolm.v1.aes-sha2",
                "ciphertext": ciphertext,
                "session_id": self.session.id,
                "sender_key": self.account.identity_key,
                "device_id": self.device_id,
            },
        }


async def give(machine: Any, device: Device, **other: Any) -> None:
    """The machine receives the key of a device's session, or of what is said instead."""
    key = {
        "sender_key": device.account.identity_key,
        "signing_key": device.account.signing_key,
        "room_id": ROOM,
        "session_id": SessionID(device.session.id),
        "session_key": device.session.session_key,
        "max_age": 604_800_000,
        "max_messages": 100,
    }
    await machine._create_group_session(**{**key, **other})


def sealed(event: Any) -> EncryptedEvent:
    return EncryptedEvent.deserialize(event)


async def nothing(*_: object) -> NoReturn:
    """A homeserver that does not know an event, or anything else."""
    raise MNotFound(404, "no such event")


@asynccontextmanager
async def machine_in(
    path: Path, *devices: Device, postgres: str | None = None
) -> AsyncIterator[Any]:
    """A machine that knows these devices; with its store in SQLite, or in a PostgreSQL database.

    A database is used again and again, so the store is an account of its own in it.
    """
    url = postgres or f"sqlite:{path / 'crypto.db'}"
    database = Database.create(url, upgrade_table=PgCryptoStore.upgrade_table)
    await database.start()
    try:
        store = PgCryptoStore(f"{BOT} {path}", "key", database)
        client: Any = SimpleNamespace(
            mxid=BOT,
            device_id=DeviceID("BOT"),
            add_event_handler=lambda *_, **__: None,
            api=SimpleNamespace(request=nothing),
        )
        state: Any = SimpleNamespace()
        machine = OlmMachine(client, store, state, log=LOG.getChild("crypto"))
        await machine.load()
        machine._cs_fetch_attempted.update(device.user_id for device in devices)
        for device in devices:
            known = {device.device_id: device.identity}
            await store.put_devices(device.user_id, known)
        yield machine
    finally:
        await database.stop()
