"""What a process can tell about itself and others: memory, stalls of its event loop, CPU time.

All of it as Linux counts it. A stall is measured by a task that wants to run every other
millisecond and notes how late it came; on a machine that has more to do than CPUs, part of that
is the machine's. So the CPU time that the loop's own thread used meanwhile is noted as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from typing_extensions import Self

BEAT: Final = 0.002
"""Seconds between two beats."""

_PEAK: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"


class Memory:
    """How far the process grows beyond what it holds now."""

    def __init__(self) -> None:
        gc.collect()
        _PEAK.write_text(_RESET_PEAK)
        self._base = _status("VmRSS")

    def peak(self) -> float:
        """Return the most that it held beyond the base so far, in megabytes."""
        return (_status("VmHWM") - self._base) / 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """How long the event loop ran nothing else between two beats, at most; in seconds."""

    seconds: float = 0.0
    cpu: float = 0.0
    """What the loop's thread itself worked between two beats, at most: it may wait for a CPU, or
    for the GIL, as well."""


@dataclass
class Heartbeat:
    """Beats while its block runs, and notes the longest stall since the last `begin`.

    Args:
        on_beat: called with every beat; must be quick.
        explain: a stall that is longer than so many seconds is explained by where the loop's
            thread was then; None: do not look. Looking takes time of its own.
    """

    on_beat: Callable[[], None] = lambda: None
    explain: float | None = None
    longest: Stall = field(default_factory=Stall, init=False)
    explanations: list[str] = field(default_factory=list, init=False)
    _last: float = field(default=0.0, init=False)
    _beating: asyncio.Task[None] | None = field(default=None, init=False)
    _over: threading.Event = field(default_factory=threading.Event, init=False)

    async def __aenter__(self) -> Self:
        self._last = time.perf_counter()
        self._beating = asyncio.create_task(self._beat())
        if self.explain is not None:
            threading.Thread(target=self._watch, args=(threading.get_ident(),)).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        assert self._beating is not None
        self._beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._beating

    def begin(self) -> None:
        """Forget the stalls so far."""
        self.longest = Stall()

    async def _beat(self) -> None:
        while True:
            cpu = time.thread_time()
            await asyncio.sleep(BEAT)
            now = time.perf_counter()
            self.longest = Stall(
                seconds=max(self.longest.seconds, now - self._last - BEAT),
                cpu=max(self.longest.cpu, time.thread_time() - cpu),
            )
            self._last = now
            self.on_beat()

    def _watch(self, watched: int) -> None:
        assert self.explain is not None
        explained = 0.0
        while not self._over.wait(self.explain / 4):
            last = self._last
            if last != explained and time.perf_counter() - last > self.explain:
                explained = last
                frames = traceback.format_stack(sys._current_frames()[watched], limit=10)
                self.explanations.append("".join(frames))


def cpu_seconds(pid: int | None) -> float:
    """Return the CPU time that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until_idle(pid: int | None, *, timeout: float = 300) -> None:
    """Wait until a process has done nearly nothing for a while: its earlier work is over."""
    deadline = time.monotonic() + timeout
    while True:
        before = cpu_seconds(pid)
        await asyncio.sleep(0.4)
        if cpu_seconds(pid) - before <= 0.04:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} was still busy after {timeout:g} s")


def _status(key: str) -> int:
    """A line of /proc/self/status, in kilobytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)
