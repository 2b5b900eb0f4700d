"""What every test of the whole plugin has: a homeserver, short waits, and a log without bugs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from homeroom.commands import reset
from homeroom.config import reading
from homeroom.delivery import handled, inbox, lanes, state_writes, sync_feed, welcomes
from homeroom.homes import invites, provisioner, refresher, remote_checkpoint, room_creation
from homeroom.homes.observation import observer
from homeroom.matrix import read_receipts, retry_budgets
from homeroom.matrix.retrying_api import RetryBudget
from homeroom.runtime.retry import RetryPolicy
from homeroom.startup import maintenance
from homeroom.startup import start as starting
from tests.fake import FakeHomeserver
from tests.fake.clock import Running

Present = Running
"""The time of the plugin's own clock, because messages have an age; a test may fall behind."""


@pytest.fixture
async def hs() -> AsyncIterator[FakeHomeserver]:
    async with FakeHomeserver() as server:
        server.world.clock = Present()
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure is enough to give up; what comes again comes at once.

    What a budget does is tested in `tests/matrix/test_retrying_api.py`.
    """
    impatient = RetryBudget(call=0.2, failing=0.2, attempt=10)
    for name in (
        "READING",
        "READING_ROOMS",
        "SCANNING",
        "WRITING",
        "JOINING",
        "LEAVING",
        "ACCOUNT_DATA",
    ):
        monkeypatch.setattr(retry_budgets, name, impatient)
    soon = (0.01,)
    for module, name in (
        (welcomes, "WELCOME_AGAIN"),
        (sync_feed, "READ_AGAIN"),
        (inbox, "ANSWER_AGAIN"),
        (handled, "WRITE_AGAIN"),
        (refresher, "RESCAN_AGAIN"),
        (state_writes, "WRITE_AGAIN"),
    ):
        monkeypatch.setattr(module, name, replace(getattr(module, name), pauses=soon))
    for module, name in (
        (starting, "TRY_AGAIN_AFTER"),
        (lanes, "PAUSES"),
        (maintenance, "REREAD_AFTER"),
        (maintenance, "VERIFY_AFTER"),
        (maintenance, "LIST_AGAIN_AFTER"),
    ):
        monkeypatch.setattr(module, name, soon)
    monkeypatch.setattr(invites, "JOIN_AGAIN", RetryPolicy(pauses=soon, within=0.5))
    monkeypatch.setattr(room_creation, "SETTLE", (0.01, 0.01))
    monkeypatch.setattr(reset, "SETTLE", (0.01, 0.01))
    monkeypatch.setattr(provisioner, "SETTLE", (0.01, 0.01))
    monkeypatch.setattr(observer, "SECOND_LIST_AFTER", 0.01)
    monkeypatch.setattr(inbox, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(read_receipts, "READ_AFTER", 0.0)


@pytest.fixture(autouse=True)
def no_greetings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test counts what is said in answer to something; `test_welcome.py` is about greetings."""
    monkeypatch.setattr(reading, "DEFAULTS", replace(reading.DEFAULTS, welcome=""))


@pytest.fixture(autouse=True)
def no_bugs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A traceback in the log is a bug of the plugin, whatever the test was about.

    So are rows that were taken on trust and turn out to be wrong: every resume is verified.
    """
    caplog.set_level(logging.INFO, logger="maubot.instance.homeroom")
    yield
    bugs = [
        record
        for record in caplog.get_records("call")
        if record.exc_info or "Please report" in str(record.msg)
    ]
    formatter = logging.Formatter()
    assert not bugs, "\n".join(map(formatter.format, bugs))


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right must be right before anything is verified."""
    monkeypatch.setattr(maintenance, "VERIFY_AFTER", (3600.0,))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed is written at once."""
    monkeypatch.setattr(remote_checkpoint, "WRITE_EVERY", 0.01)
