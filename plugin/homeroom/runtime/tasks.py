"""Work that nobody waits for, but that ends when the plugin does, and never dies quietly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from mautrix.util.logging import TraceLogger

from .backoff import waits

RESTART_AFTER: Final = (1, 5, 15, 60)
"""Seconds until a loop that died of a bug is begun again; the last one repeats."""
STEADY_AFTER: Final = 10 * 60
"""Seconds after which a loop that dies again counts as one that dies for the first time."""

CANCEL_AGAIN_AFTER: Final = 10.0
"""Seconds: more than a task takes that says its last word as it is cancelled."""


class Background:
    """Tasks of the plugin. An error in one is logged as the bug that it is, and counted.

    Who waits for something that a task is to do releases it in a `finally` of that task.
    """

    def __init__(self, *, log: TraceLogger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._deaths = 0

    @property
    def deaths(self) -> int:
        """How many tasks died of a bug since the start."""
        return self._deaths

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None] | None:
        """Start a task; None if the plugin is ending, and then it never runs."""
        if self._closed:
            work.close()
            return None
        task = asyncio.create_task(self._run(work, name=name), name=f"homeroom: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step never gets to its work.
        task.add_done_callback(lambda _: work.close())
        return task

    def keep_running(self, loop: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Start a task that begins again, after a pause, whenever it dies of a bug."""
        self.start(self._again_and_again(loop, name=name), name=name)

    async def _again_and_again(self, loop: Callable[[], Awaitable[None]], *, name: str) -> None:
        pauses = waits(RESTART_AFTER)
        while True:
            started = time.monotonic()
            try:
                await loop()
                return
            except Exception:  # noqa: BLE001 (as in `_run`)
                if time.monotonic() - started > STEADY_AFTER:
                    pauses = waits(RESTART_AFTER)
                pause = next(pauses)
                self._note_death(f"{name}; it begins again in {pause} s")
            await asyncio.sleep(pause)

    async def _run(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 (a task has nobody else to tell)
            self._note_death(name)

    def _note_death(self, what: str) -> None:
        self._deaths += 1
        self._log.exception("Error while %s", what)

    async def stop(self) -> None:
        """Cancel what is running and wait until it has ended. Nothing starts afterwards."""
        self._closed = True
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            # What others wrote may swallow a cancellation (see `timeouts.py`): it is asked again.
            _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_AFTER)
