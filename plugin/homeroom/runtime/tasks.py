"""Work that nobody waits for, but that ends when the plugin does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from mautrix.util.logging import TraceLogger


class Background:
    """Tasks of the plugin. An error in one is logged as the bug that it is."""

    def __init__(self, *, log: TraceLogger) -> None:
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

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

    async def _run(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 (a task has nobody else to tell)
            self._log.exception("Error while %s", name)

    async def stop(self) -> None:
        """Cancel what is running and wait until it has ended. Nothing starts afterwards."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
