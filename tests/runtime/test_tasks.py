"""A task that dies is heard of, and a loop that dies begins again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest
from mautrix.util.logging import TraceLogger

from homeroom.runtime import tasks
from homeroom.runtime.tasks import Background

LOG = logging.getLogger("homeroom.test.tasks")


@pytest.fixture
def background() -> Background:
    assert isinstance(LOG, logging.Logger)
    log: TraceLogger = LOG  # type: ignore[assignment]
    return Background(log=log)


async def test_a_task_that_dies_is_logged_and_counted(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    async def die() -> None:
        raise KeyError("a bug")

    await asyncio.gather(*filter(None, [background.start(die(), name="dying")]))
    assert background.deaths == 1
    assert caplog.messages == ["Error while dying"]
    caplog.clear()


async def test_a_loop_that_dies_begins_again(
    background: Background, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESTART_AFTER", (0,))
    lives = 0
    at_work = asyncio.Event()

    async def loop() -> None:
        nonlocal lives
        lives += 1
        if lives < 4:
            raise KeyError("a bug")
        at_work.set()
        await asyncio.Event().wait()

    background.keep_running(loop, name="going round")
    await at_work.wait()
    await background.stop()
    assert (lives, background.deaths) == (4, 3)
    assert caplog.messages == ["Error while going round; it begins again in 0 s"] * 3
    caplog.clear()


async def test_a_loop_that_ends_by_itself_is_over(background: Background) -> None:
    lives = 0
    was_there = asyncio.Event()

    async def loop() -> None:
        nonlocal lives
        lives += 1
        was_there.set()

    background.keep_running(loop, name="going round")
    await was_there.wait()
    await background.stop()
    assert (lives, background.deaths) == (1, 0)


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.runtime.tasks.CANCEL_AGAIN_AFTER", 0.01)

    async def stubborn() -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    task = background.start(stubborn(), name="a stubborn task")
    await asyncio.sleep(0)
    await asyncio.wait_for(background.stop(), 5)
    assert task is not None
    assert task.done()
