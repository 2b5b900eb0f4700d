"""What maubot throws away is kept for the keys: once, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from maubot.client import Client
from maubot.matrix import MaubotMatrixClient
from mautrix.client import InternalEventType
from mautrix.client.state_store import MemoryStateStore, MemorySyncStore
from mautrix.types import UserID

from homeroom.matrix.early_keys import _listen, take_early_keys, take_keys

KEYS = {"to_device": {"events": [{}]}, "device_lists": {}, "device_one_time_keys_count": {}}


AS_MAUBOT_DOES = """
from types import SimpleNamespace
from maubot.client import Client

class Account:
    crypto = object()
    def add_event_handler(self, kind, handler):
        print("listens")

Client.cache = {"@bot:test": SimpleNamespace(client=Account())}
import homeroom
"""
"""It imports the package while its clients begin to sync."""


def response(*, is_first: bool) -> dict[str, Any]:
    note = {"is_first": is_first, "is_initial": False}
    return {**KEYS, "rooms": {}, "net.maunium.mautrix": note}


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MaubotMatrixClient]:
    """A client that encrypts, known to maubot."""
    bot = UserID("@bot:test")
    async with aiohttp.ClientSession() as http:
        made = MaubotMatrixClient(
            mxid=bot,
            base_url="http://localhost",
            client_session=http,
            sync_store=MemorySyncStore(),
            state_store=MemoryStateStore(),
        )
        made.crypto = object()
        monkeypatch.setattr(Client, "cache", {bot: SimpleNamespace(client=made)})
        yield made


async def told(client: MaubotMatrixClient, data: dict[str, Any]) -> None:
    """A response comes in."""
    for task in client.dispatch_manual_event(
        InternalEventType.SYNC_SUCCESSFUL, {"data": data}, force_synchronous=True
    ):
        await task


def handlers(client: MaubotMatrixClient) -> int:
    return len(client.event_handlers.get(InternalEventType.SYNC_SUCCESSFUL, {}))


def test_only_what_is_thrown_away_is_taken_and_only_once() -> None:
    first, later = response(is_first=True), response(is_first=False)
    assert take_keys(later) == {}
    assert take_keys(first) == KEYS
    assert take_keys(first) == {}
    assert set(first) == {"rooms", "net.maunium.mautrix"}
    assert take_keys(None) == {}


async def test_the_first_response_is_kept_until_the_plugin_starts(
    client: MaubotMatrixClient,
) -> None:
    _listen()
    await told(client, response(is_first=True))
    assert handlers(client) == 0
    await told(client, response(is_first=False))
    assert take_early_keys(client) == KEYS
    assert take_early_keys(client) == {}


async def test_a_response_that_maubot_handles_is_left_to_it(client: MaubotMatrixClient) -> None:
    _listen()
    later = response(is_first=False)
    await told(client, later)
    assert later == response(is_first=False)
    assert take_early_keys(client) == {}


async def test_whoever_starts_first_listens_alone(client: MaubotMatrixClient) -> None:
    _listen()
    assert take_early_keys(client) == {}
    assert handlers(client) == 0


def test_importing_the_package_is_enough_to_listen() -> None:
    """Before `start()`; a test in this process would not see an import that was put off."""
    done = subprocess.run(
        [sys.executable, "-c", AS_MAUBOT_DOES],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "listens\n"
