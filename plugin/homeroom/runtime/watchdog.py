"""How long the event loop was held, and by whom.

Everything in this process waits while one task computes. What counts is the CPU time of the
loop's thread, so that a busy machine, or a wait for a disk, is not taken for our doing. What was
used between two ticks of which the second is late was used in one piece, or in pieces that let
nobody in. A thread looks on, to see which task it is.

Ticks are seldom while there is little to do, because they cost more than an idle instance. A short
hold that both begins and ends between two of these is not seen.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from mautrix.util.logging import TraceLogger

TICK: Final = 0.05
"""Seconds between two ticks, and what is not worth counting."""
IDLE_TICK: Final = 0.5
"""The same while there is little to do."""
LITTLE: Final = 0.05
"""Seconds of CPU time in a second of the clock."""
LOOK_EVERY: Final = 0.1
"""Seconds between two looks of the thread, or more."""
LOG_ABOVE: Final = 0.25
"""Seconds of CPU time that are worth a line in the log."""
BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: upper bounds of the histogram; beyond the last one there is one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """How long the loop was held since the start, in seconds of CPU time."""

    longest: float = 0.0
    longest_by: str = ""
    total: float = 0.0
    """Of all that are counted."""
    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    """Of holds above a tick, by `BUCKETS`."""


@dataclass(slots=True, kw_only=True)
class Watchdog:
    """Measures how long the event loop is held, and by which task.

    Args:
        log: is told of long holds, once a minute at most.
    """

    log: TraceLogger
    _holds: Holds = field(default_factory=Holds, init=False)
    _due_at: float = field(default=0.0, init=False)
    """When the next tick should be."""
    _held_by: str = field(default="", init=False)
    _logged_at: float = field(default=float("-inf"), init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)

    @property
    def holds(self) -> Holds:
        return self._holds

    async def run(self) -> None:
        """Watch the running loop until this is cancelled."""
        loop = asyncio.get_running_loop()
        self._stopped.clear()
        tick = TICK
        self._due_at = time.monotonic() + tick
        threading.Thread(
            target=self._look_on,
            args=(loop, threading.get_ident()),
            name="homeroom: watchdog",
            daemon=True,
        ).start()
        try:
            while True:
                cpu = time.thread_time()
                self._held_by, self._due_at = "", time.monotonic() + tick
                await asyncio.sleep(tick)
                late = time.monotonic() - self._due_at
                used = time.thread_time() - cpu
                held = min(used, late + tick)
                if late > TICK and held > TICK:
                    self._note(held)
                tick = IDLE_TICK if used < LITTLE * (late + tick) else TICK
        finally:
            self._stopped.set()

    def _note(self, held: float) -> None:
        by = self._held_by or "nobody knows whom"
        before = self._holds
        bucket = sum(held > bound for bound in BUCKETS)
        self._holds = Holds(
            longest=max(before.longest, held),
            longest_by=by if held > before.longest else before.longest_by,
            total=before.total + held,
            counts=tuple(n + (at == bucket) for at, n in enumerate(before.counts)),
        )
        if held > LOG_ABOVE and time.monotonic() - self._logged_at > 60:
            self._logged_at = time.monotonic()
            self.log.warning("The event loop was held for %.2f s by %s", held, by)

    def _look_on(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        """In a thread of its own: see who is at work when a tick is overdue."""
        while not self._stopped.wait(
            max(LOOK_EVERY, self._due_at + 1.5 * TICK - time.monotonic())
        ):
            if time.monotonic() > self._due_at + TICK and not self._held_by:
                frame = sys._current_frames().get(thread)  # noqa: SLF001 (the one way there is)
                self._held_by = f"{_task(loop)} in {_place(frame)}"


def _task(loop: asyncio.AbstractEventLoop) -> str:
    try:
        task = asyncio.current_task(loop)
    except RuntimeError:
        task = None
    return "no task" if task is None else task.get_name()


def _place(frame: FrameType | None) -> str:
    """The innermost place that is Homeroom's, else the innermost of all."""
    innermost = frame
    while frame is not None:
        if "homeroom" in frame.f_globals.get("__name__", ""):
            break
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "an unknown place"
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}:{frame.f_lineno}"
