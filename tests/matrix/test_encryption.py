"""Why a message cannot be read: each cause by its name, as soon as it is known."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mautrix.types import CrossSigner, CrossSigningUsage, EventID, ToDeviceEvent, UserID

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")

from homeroom.domain.sync.news import Encrypted
from homeroom.matrix import encryption as module
from homeroom.matrix.current_client import CurrentClient
from homeroom.matrix.encryption import Cause, Encryption, Unreadable
from homeroom.storage import Store
from tests.plugin.harness import until
from tests.storage.databases import Clock, SqliteBackend

from .machines import BOT, LOG, ROOM, Device, give, machine_in

pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]
ANNA = UserID("@anna:test")


class Setting:
    """A bot that knows Anna's phone."""

    def __init__(self, machine: Any, anna: Device, store: Store) -> None:
        self.machine, self.anna, self.only_signed = machine, anna, False
        self.store = store
        self.encryption = self.made()

    def made(self) -> Encryption:
        """What a start makes."""
        client: Any = SimpleNamespace(mxid=BOT, device_id="BOT", crypto=self.machine)
        return Encryption(
            CurrentClient(client), only_signed=lambda: self.only_signed, store=self.store, log=LOG
        )

    async def text(self, event: Any) -> Any:
        opened = await self.encryption.decrypt(ROOM, event)
        return opened.event["content"]["body"], opened.is_signed

    async def cause(self, event: Any) -> Cause:
        with pytest.raises(Unreadable) as raised:
            await self.encryption.decrypt(ROOM, event)
        return raised.value.cause

    def withhold(self, code: str, *, sender: UserID = ANNA, **content: Any) -> Any:
        return ToDeviceEvent.deserialize(
            {
                "type": "m.room_key.withheld",
                "sender": sender,
                "content": {
                    "algorithm": "m.megolm.v1.aes-sha2",
                    "room_id": ROOM,
                    "session_id": self.anna.session.id,
                    "sender_key": self.anna.account.identity_key,
                    "code": code,
                    **content,
                },
            }
        )

    async def sign(self, device: Device) -> None:
        """Its owner signs a device, as the homeserver would tell it."""
        store = self.machine.crypto_store
        keys = {CrossSigningUsage.MASTER: "master", CrossSigningUsage.SELF: "self"}
        for usage, key in keys.items():
            await store.put_cross_signing_key(device.user_id, usage, key)
        for target, signer in (("self", "master"), (device.account.signing_key, "self")):
            await store.put_signature(
                CrossSigner(device.user_id, target), CrossSigner(device.user_id, signer), "s"
            )


@pytest.fixture
async def bot(tmp_path: Path) -> AsyncIterator[Setting]:
    anna = Device(ANNA)
    async with (
        machine_in(tmp_path, anna) as machine,
        SqliteBackend(tmp_path / "instance.db").opened() as database,
    ):
        yield Setting(machine, anna, Store(database, now=Clock()))


async def test_a_message_is_read_and_it_is_known_whether_its_device_is_signed(
    bot: Setting,
) -> None:
    await give(bot.machine, bot.anna)
    first, second = bot.anna.say("$1"), bot.anna.say("$2")
    assert await bot.text(first) == ("Hello", False)
    assert not await bot.encryption.has_signed_device(ANNA)
    bot.only_signed = True
    assert await bot.cause(second) is Cause.NOT_SIGNED
    await bot.sign(bot.anna)
    assert await bot.text(second) == ("Hello", True)
    assert await bot.encryption.has_signed_device(ANNA)
    bot.encryption.close()


async def test_only_signed_devices_are_given_keys_where_the_settings_say_so(bot: Setting) -> None:
    await give(bot.machine, bot.anna)
    await bot.text(bot.anna.say("$1"))
    before = bot.machine.send_keys_min_trust
    bot.only_signed = True
    await bot.sign(bot.anna)
    await bot.text(bot.anna.say("$2"))
    assert bot.machine.send_keys_min_trust == module.SIGNED > before


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("m.unverified", Cause.UNVERIFIED),
        ("m.unauthorised", Cause.UNVERIFIED),
        ("m.blacklisted", Cause.BLOCKED),
        ("com.example.mood", Cause.BLOCKED),
    ],
)
async def test_whoever_withholds_a_key_says_why(bot: Setting, code: str, cause: Cause) -> None:
    event = bot.anna.say("$1")
    assert await bot.cause(event) is Cause.MISSING
    await bot.encryption.on_withheld(bot.withhold(code, sender=UserID("@eve:test")))
    assert await bot.cause(event) is Cause.MISSING
    await bot.encryption.on_withheld(bot.withhold(code))
    assert await bot.cause(event) is cause
    await give(bot.machine, bot.anna, session_key=olm_key(bot))
    assert await bot.cause(event) is Cause.TOO_LATE


def olm_key(bot: Setting) -> str:
    """The key as it is given from now on."""
    return str(bot.anna.session.session_key)


async def test_a_refusal_ends_the_waiting_for_a_key(
    bot: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEY_WITHIN", 600)
    event = bot.anna.say("$1")
    message = Encrypted(
        room_id=ROOM,
        event_id=EventID("$1"),
        sender=ANNA,
        sent_at=1,
        session_id=bot.anna.session.id,
        event=event,
    )
    reading = asyncio.ensure_future(bot.encryption.read(message))
    await until("somebody who waits for the key", lambda: bot.encryption._waiting)
    await bot.encryption.on_withheld(bot.withhold("m.unverified"))
    with pytest.raises(Unreadable, match="does not trust this bot's device"):
        await asyncio.wait_for(reading, 30)


async def test_why_a_key_was_withheld_is_known_after_a_restart(bot: Setting) -> None:
    """Nobody says it twice."""
    event = bot.anna.say("$1")
    await bot.encryption.on_withheld(bot.withhold("m.unverified"))
    await bot.encryption.on_withheld(bot.withhold("m.blacklisted", sender=UserID("@eve:test")))
    bot.encryption.close()
    bot.encryption = bot.made()
    await bot.encryption.on_withheld(bot.withhold("m.no_olm", session_id=None))
    await bot.encryption.begin({})
    assert await bot.cause(event) is Cause.UNVERIFIED
    assert await bot.cause({**event, "sender": "@eve:test"}) is Cause.BLOCKED


async def test_refusals_without_end_are_not_kept_without_end(
    bot: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_AT_MOST", 10)
    for number in range(30):
        await bot.encryption.on_withheld(bot.withhold("m.blacklisted", session_id=f"s{number}"))
    assert len(await bot.store.withheld_keys()) <= 10


async def test_a_session_may_be_refused_by_its_device_key(bot: Setting) -> None:
    """`m.no_olm` names no session: there is no way to send any key."""
    event = bot.anna.say("$1")
    await bot.encryption.on_withheld(bot.withhold("m.no_olm", session_id=None))
    assert await bot.cause(event) is Cause.BLOCKED


async def test_a_copy_and_a_damaged_message_are_told_apart(bot: Setting) -> None:
    await give(bot.machine, bot.anna)
    told = bot.anna.say("$1")
    assert await bot.cause({**told, "sender": "@eve:test"}) is Cause.DUPLICATE
    assert await bot.text(told) == ("Hello", False)
    assert await bot.cause({**told, "event_id": "$2"}) is Cause.DUPLICATE
    broken = bot.anna.say("$3")
    broken["content"]["ciphertext"] = broken["content"]["ciphertext"][:-8] + "AAAAAAAA"
    assert await bot.cause(broken) is Cause.DAMAGED
