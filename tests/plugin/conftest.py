"""What every test of the whole plugin has: a homeserver, short waits, and a log without bugs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from homeroom.delivery import (
    inbox,
)
from homeroom.delivery import (
    sync_feed as catch_up,
)
from homeroom.delivery import (
    welcomes as arrivals,
)
from homeroom.homes import provisioner as provision
from homeroom.homes import refresher
from homeroom.homes.observation import observer
from homeroom.matrix import homeserver
from homeroom.matrix.retrying_api import RetryBudget
from homeroom.startup import maintenance as upkeep
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
        monkeypatch.setattr(homeserver, name, impatient)
    monkeypatch.setattr(arrivals, "RETRY_AFTER", (0.01,))
    monkeypatch.setattr(starting, "RETRY_AFTER", (0.01,))
    monkeypatch.setattr(catch_up, "RETRY_AFTER", (0.01,))
    monkeypatch.setattr(refresher, "RESCAN_AFTER", (0.01,))
    monkeypatch.setattr(upkeep, "REREAD_AFTER", (0.01,))
    monkeypatch.setattr(upkeep, "VERIFY_AFTER", (0.01,))
    monkeypatch.setattr(provision, "SETTLE", (0.01, 0.01))
    monkeypatch.setattr(observer, "SECOND_LIST_AFTER", 0.01)
    monkeypatch.setattr(inbox, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(inbox, "RETRY_AFTER", (0.01,))


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
