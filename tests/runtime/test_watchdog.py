"""Who holds the event loop is seen, and a machine that is busy with others is nobody's doing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from homeroom.runtime.watchdog import BUCKETS, Holds, Watchdog

LOG: Any = logging.getLogger("homeroom.test.watchdog")


def compute(seconds: float) -> None:
    """Use the CPU for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


async def watched(hold: Any) -> Holds:
    dog = Watchdog(log=LOG)
    task = asyncio.create_task(dog.run())
    await asyncio.sleep(0.2)

    async def work() -> None:
        hold()

    await asyncio.create_task(work(), name="the culprit")
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return dog.holds


async def test_a_long_computation_is_seen_and_named(caplog: pytest.LogCaptureFixture) -> None:
    holds = await watched(lambda: compute(0.6))
    assert 0.5 < holds.longest < 1.0
    assert sum(holds.counts) == 1
    assert holds.counts[BUCKETS.index(1.0)] == 1
    assert holds.longest_by.startswith("the culprit in ")
    (message,) = caplog.messages
    assert message.startswith("The event loop was held for 0.")
    assert "by the culprit in " in message


async def test_what_only_waits_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """As on a machine that gives its time to others."""
    assert await watched(lambda: time.sleep(0.6)) == Holds()
    assert caplog.messages == []
