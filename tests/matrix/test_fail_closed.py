"""An encrypted room gets no plain text, whatever maubot does with the client's keys meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from maubot.client import Client
from maubot.matrix import MaubotMatrixClient
from mautrix.types import DeviceID, RoomID

from homeroom.matrix.current_client import CurrentClient, EncryptionGone
from homeroom.matrix.errors import Refused
from homeroom.matrix.homeserver import Homeserver
from tests.fake import FakeHomeserver
from tests.fake.clients import LOG

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}
HELLO = {"msgtype": "m.notice", "body": "Hello"}
KEYS: Any = SimpleNamespace(account=object())
"""As much of a machine as is looked at before anything is encrypted."""


def encrypted_room(hs: FakeHomeserver) -> RoomID:
    state = [{"type": "m.room.encryption", "state_key": "", "content": MEGOLM}]
    return hs.user("bot").create_room(initial_state=state)


def said(hs: FakeHomeserver, room_id: RoomID) -> list[str]:
    return [event.type for event in hs.timeline(room_id) if "body" in event.content]


@pytest.mark.parametrize("fixed_words", [False, True])
async def test_what_was_encrypted_once_waits_for_its_encryption(
    hs: FakeHomeserver, client: MaubotMatrixClient, fixed_words: bool
) -> None:
    room_id = encrypted_room(hs)
    client.crypto = KEYS
    current = CurrentClient(client)
    homeserver = Homeserver(current, log=LOG, concurrency=lambda: 1)
    client._crypto = None  # as maubot does it (client.py:510)
    with pytest.raises(EncryptionGone, match="has no device ID"):
        await homeserver.send(room_id, HELLO, txn_id="1", fixed_words=fixed_words)
    assert said(hs, room_id) == []
    assert not current.can_encrypt


async def test_a_bot_that_never_could_encrypt_says_fixed_words_only(
    hs: FakeHomeserver, client: MaubotMatrixClient
) -> None:
    room_id = encrypted_room(hs)
    current = CurrentClient(client)
    homeserver = Homeserver(current, log=LOG, concurrency=lambda: 1)
    with pytest.raises(EncryptionGone):  # nobody knows yet
        await homeserver.send(room_id, HELLO, txn_id="1", fixed_words=True)
    current.had_encryption = False
    with pytest.raises(Refused, match="cannot encrypt"):
        await homeserver.send(room_id, HELLO, txn_id="1")
    assert said(hs, room_id) == []
    await homeserver.send(room_id, HELLO, txn_id="1", fixed_words=True)
    assert said(hs, room_id) == ["m.room.message"]


async def test_a_client_that_maubot_has_put_in_its_place_is_used(
    hs: FakeHomeserver, client: MaubotMatrixClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token and its keys: maubot has taken them from the old one."""
    room_id = encrypted_room(hs)
    client.crypto = KEYS
    current = CurrentClient(client)
    homeserver = Homeserver(current, log=LOG, concurrency=lambda: 1)
    new = MaubotMatrixClient(
        mxid=client.mxid,
        device_id=DeviceID("NEW"),
        base_url=hs.url,
        token=client.api.token,
        client_session=client.api.session,
        state_store=client.state_store,
    )
    monkeypatch.setattr(Client, "cache", {client.mxid: SimpleNamespace(client=new)})
    client._crypto = None
    assert current.is_replaced
    with pytest.raises(EncryptionGone, match="has not made the new client ready"):
        await homeserver.send(room_id, HELLO, txn_id="1")
    new.crypto = KEYS
    assert current.machine() is KEYS
    client.api.token = "the old one"
    assert room_id in await homeserver.joined_rooms()
    assert said(hs, room_id) == []


class Loop:
    """As much of maubot's `Client` as says how its sync goes."""

    def __init__(self, client: MaubotMatrixClient, *, is_over: bool, sync_ok: bool) -> None:
        client.syncing_task = SimpleNamespace(done=lambda: is_over)  # type: ignore[assignment]
        self.client, self.started, self.sync, self.sync_ok = client, True, True, sync_ok
        self.starts = 0

    def start_sync(self) -> None:
        self.starts += 1


@pytest.mark.parametrize(
    ("is_over", "sync_ok", "starts"), [(True, True, 1), (False, False, 1), (False, True, 0)]
)
async def test_a_sync_loop_that_has_ended_or_waits_begins_anew_and_one_that_runs_does_not(
    client: MaubotMatrixClient,
    monkeypatch: pytest.MonkeyPatch,
    is_over: bool,
    sync_ok: bool,
    starts: int,
) -> None:
    loop = Loop(client, is_over=is_over, sync_ok=sync_ok)
    monkeypatch.setattr(Client, "cache", {client.mxid: loop})
    current = CurrentClient(client)
    assert current.sync_has_ended is is_over
    current.revive_sync()
    assert loop.starts == starts
