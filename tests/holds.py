"""How long the event loop is held by one step: in CPU time of its thread.

A machine that has other things to do makes the steps take longer, but not this.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(slots=True)
class Holds:
    longest: float = 0.0
    """Seconds."""
    by: str = ""


@asynccontextmanager
async def watched() -> AsyncIterator[Holds]:
    """Measure every step of the loop until the end of the block.

    But for those of the servers that the test itself runs in this loop.
    """
    holds = Holds()
    run = asyncio.Handle._run

    def run_and_measure(handle: Any) -> None:
        callback = handle._callback
        begin = time.thread_time()
        run(handle)
        seconds = time.thread_time() - begin
        if seconds > holds.longest:
            # A step of a task is a callback of the task's.
            by = repr(getattr(callback, "__self__", callback))
            if "coro=<RequestHandler." not in by:
                holds.longest, holds.by = seconds, by

    with mock.patch.object(asyncio.Handle, "_run", run_and_measure):
        gc.collect()
        gc.freeze()  # what the tests before have left is no part of any step
        try:
            await asyncio.sleep(0)
            holds.longest = 0.0
            yield holds
            await asyncio.sleep(0)  # the step in which the block ends has ended
        finally:
            gc.unfreeze()
