"""What other people must not be able to do to the bot's group sessions."""

from __future__ import annotations

import logging
import os
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote

import pytest
from mautrix.api import Method, PathBuilder
from mautrix.types import RoomID
from typing_extensions import Self

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")

import olm
from mautrix.errors import DecryptionError, DuplicateMessageIndex

from homeroom.matrix import mautrix_guards as guards
from homeroom.matrix.mautrix_guards import IndexTooHigh, NotTheirs, SessionGuard, message_index

from .machines import LOG, ROOM, Device, give, machine_in, sealed

pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

ANNA, EVE = "@anna:test", "@eve:test"


async def nobodys_devices(*_: object, **__: object) -> Any:
    """What a homeserver answers that knows none of them."""
    parts = ("failures", "device_keys", "master_keys", "self_signing_keys", "user_signing_keys")
    return SimpleNamespace(**{part: {} for part in parts})


async def who_sent(method: Method, path: PathBuilder) -> Any:
    """What a homeserver answers of an event."""
    room, event_id = str(path).rsplit("/event/", 1)
    assert (method, f"/{room}") == (Method.GET, f"/_matrix/client/v3/rooms/{quote(ROOM)}")
    return {"sender": EVE if unquote(event_id) == "$copy" else ANNA, "type": "m.room.encrypted"}


class Setting:
    """A bot that knows Anna's and Eve's phones, and opens what they say."""

    def __init__(self, machine: Any, anna: Device, eve: Device) -> None:
        self.machine, self.anna, self.eve = machine, anna, eve
        self.guard = SessionGuard(machine, log=LOG)
        machine.client.query_keys, machine.client.api.request = nobodys_devices, who_sent

    async def opened(self, event: Any) -> Any:
        read = await self.machine.decrypt_megolm_event(sealed(event))
        return read.content.body

    async def skipped(self) -> list[int]:
        """The messages that mautrix has noted as skipped."""
        session = await self.machine.crypto_store.get_group_session(ROOM, self.anna.session.id)
        return [*session.ratchet_safety.missed_indices, *session.ratchet_safety.lost_indices]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.guard.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def postgres(request: pytest.FixtureRequest) -> str | None:
    """Run the test with mautrix's store in each of the databases that maubot may have."""
    is_on_it = request.param == "postgres"
    return request.getfixturevalue("postgres_url") if is_on_it else None


@pytest.fixture
async def bot(postgres: str | None, tmp_path: Path) -> AsyncIterator[Setting]:
    anna, eve = Device(ANNA), Device(EVE)
    async with machine_in(tmp_path, anna, eve, postgres=postgres) as machine:
        with Setting(machine, anna, eve) as setting:
            await give(machine, anna)
            yield setting


def at_index(device: Device, index: int) -> None:
    """Have a device's session go on from an index, after messages that nobody sees."""
    while device.session.message_index < index:
        device.session.encrypt("")


@pytest.mark.parametrize("index", [0, 1, 99, 300])
def test_the_index_is_what_the_message_says(index: int) -> None:
    session = olm.OutboundGroupSession()
    for _ in range(index):
        session.encrypt("")
    assert message_index(session.encrypt("Hello")) == index


@pytest.mark.parametrize("text", ["", "A", "AwgA!", "é", "Awj///////////////8=", "BAgA"])
def test_what_is_no_message_has_no_index(text: str) -> None:
    assert message_index(text) is None


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*parts, number])


def with_index(ciphertext: str, index: int) -> str:
    """The same message, claiming another index; nobody could open it."""
    data = b64decode(ciphertext + "=" * (-len(ciphertext) % 4))
    return b64encode(b"\x03\x08" + varint(index) + data[3:]).decode().rstrip("=")


async def test_a_jump_of_the_index_is_read_and_lists_nothing(bot: Setting) -> None:
    at_index(bot.anna, 5_000)
    assert await bot.opened(bot.anna.say("$1")) == "Hello"
    assert await bot.opened(bot.anna.say("$2")) == "Hello"
    assert await bot.skipped() == []


async def test_small_jumps_without_end_do_not_add_up(bot: Setting) -> None:
    for number in range(6):
        at_index(bot.anna, bot.anna.session.message_index + 900)
        await bot.opened(bot.anna.say(f"${number}"))
    assert len(await bot.skipped()) <= 2 * guards.MAX_LISTED


@pytest.mark.parametrize("index", [2**31, 2**32 - 1, 2**63])
async def test_an_index_that_no_database_holds_is_refused(bot: Setting, index: int) -> None:
    event = bot.anna.say("$1")
    event["content"]["ciphertext"] = with_index(event["content"]["ciphertext"], index)
    with pytest.raises(IndexTooHigh):
        await bot.opened(event)
    assert await bot.opened(bot.anna.say("$2")) == "Hello"


async def test_a_high_index_that_nobody_can_open_costs_nothing(bot: Setting) -> None:
    event = bot.anna.say("$1")
    event["content"]["ciphertext"] = with_index(event["content"]["ciphertext"], 2**31 - 1)
    started = time.thread_time()
    with pytest.raises(DecryptionError):
        await bot.opened(event)
    assert time.thread_time() - started < 1
    assert await bot.opened(bot.anna.say("$2")) == "Hello"


async def test_a_session_is_not_taken_to_another_room(bot: Setting) -> None:
    """Nor by another device: anybody in the room has the key and can send it to the bot."""
    told = bot.anna.say("$1")
    stolen = {
        "sender_key": bot.eve.account.identity_key,
        "signing_key": bot.eve.account.signing_key,
    }
    await give(bot.machine, bot.anna, room_id=RoomID("!other:test"), **stolen)
    await give(bot.machine, bot.anna, room_id=RoomID("!other:test"))
    await give(bot.machine, bot.anna, **stolen)
    assert await bot.opened(told) == "Hello"


async def test_a_session_that_opens_less_does_not_replace_one_that_opens_more(
    bot: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    told = bot.anna.say("$1")
    await give(bot.machine, bot.anna)  # again, from where it is now
    assert await bot.opened(told) == "Hello"
    assert [r.getMessage() for r in caplog.records if "Did not" in r.msg] == [
        (
            f"Did not take a key of session {bot.anna.session.id} for {ROOM} from device key"
            f" {bot.anna.account.identity_key}: the one that is there opens more"
        )
    ]


async def test_a_session_that_opens_more_is_taken(bot: Setting) -> None:
    phone = Device(ANNA, "TABLET")
    whole = phone.session.session_key
    told = phone.say("$1")
    await bot.machine.crypto_store.put_devices(
        phone.user_id, {d.device_id: d.identity for d in (bot.anna, phone)}
    )
    await give(bot.machine, phone)
    with pytest.raises(DecryptionError):
        await bot.opened(told)
    await give(bot.machine, phone, session_key=whole)
    assert await bot.opened(told) == "Hello"


@pytest.mark.parametrize("claims_the_key", [False, True])
async def test_a_copy_of_a_message_does_not_take_its_place(
    bot: Setting, claims_the_key: bool
) -> None:
    """Also where the copier says that the other one's device key is theirs."""
    if claims_the_key:
        bot.eve.account.identity_keys["curve25519"] = bot.anna.account.identity_key
        claimed = bot.eve.identity
        claimed.identity_key = bot.anna.account.identity_key
        await bot.machine.crypto_store.put_devices(bot.eve.user_id, {"PHONE": claimed})
    told = bot.anna.say("$1")
    copy = bot.anna.event("$copy", told["content"]["ciphertext"], sender=EVE)
    with pytest.raises(NotTheirs):
        await bot.opened(copy)
    assert await bot.opened(told) == "Hello"
    with pytest.raises(DuplicateMessageIndex):
        await bot.opened({**told, "event_id": "$again"})


async def test_a_copy_that_was_read_before_anybody_guarded_gives_its_place_back(
    bot: Setting,
) -> None:
    """maubot's client may sync before its plugins run."""
    told = bot.anna.say("$1")
    copy = bot.anna.event("$copy", told["content"]["ciphertext"], sender=EVE)
    bot.guard.close()
    assert await bot.opened(copy) == "Hello"
    bot.guard = SessionGuard(bot.machine, log=LOG)
    assert await bot.opened(told) == "Hello"
    with pytest.raises(DuplicateMessageIndex):
        await bot.opened({**told, "event_id": "$again"})


async def test_the_machine_is_left_as_it_was(bot: Setting) -> None:
    bot.guard.close()
    told = bot.anna.say("$1")
    await give(bot.machine, bot.anna)
    with pytest.raises(DecryptionError):
        await bot.machine.decrypt_megolm_event(sealed(told))


async def test_an_unknown_device_is_asked_for_once_and_again_later(
    bot: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fetch(users: list[str], **_: Any) -> dict[str, Any]:
        asked.append(*users)
        return {}

    monkeypatch.setattr(bot.machine, "_fetch_keys", fetch)
    stranger = Device("@stranger:test")
    await give(bot.machine, stranger)
    assert [await bot.opened(stranger.say(f"${n}")) for n in range(3)] == ["Hello"] * 3
    assert asked == ["@stranger:test"]
    monkeypatch.setattr(guards, "ASK_AGAIN_AFTER", 0)
    await bot.opened(stranger.say("$4"))
    assert asked == ["@stranger:test"] * 2


async def test_a_guard_is_off_where_mautrix_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bounded(self: Any, sess: Any, index: int) -> None:
        first_known_index = index
        del first_known_index

    anna = Device(ANNA)
    async with machine_in(tmp_path, anna) as machine:
        assert guards.lists_what_was_skipped(machine)
        assert guards.writes_over_sessions(machine)
        monkeypatch.setattr(type(machine), "_ratchet_session", bounded)
        monkeypatch.setattr(type(machine), "_receive_room_key", bounded)
        assert not guards.lists_what_was_skipped(machine)
        assert not guards.writes_over_sessions(machine)
        guard = SessionGuard(machine, log=LOG)
        assert "put_group_session" not in vars(machine.crypto_store)
        guard.close()
        assert "get_or_fetch_device_by_key" not in vars(machine)
