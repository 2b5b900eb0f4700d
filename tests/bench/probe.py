"""What a measured piece of work costs: seconds, memory over base, the event loop's longest stall.

Every measurement runs in a process of its own, which prints one line of JSON (`Cost`).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

_BEAT = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run cost."""

    seconds: float
    rooms: int
    requests: int
    peak_mb: float
    """Memory at its peak, over what the process had before."""
    stall_ms: float
    """The longest time for which the event loop did not come round."""


async def measure(work: Callable[[], Awaitable[tuple[int, int]]]) -> Cost:
    """Run the work, which returns how many rooms it saw and how many requests it made."""
    base = _reset_peak()
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_BEAT)
            longest = max(longest, time.perf_counter() - before - _BEAT)

    heart = asyncio.create_task(beat())
    started = time.perf_counter()
    try:
        rooms, requests = await work()
        seconds = time.perf_counter() - started
    finally:
        heart.cancel()
        with suppress(asyncio.CancelledError):
            await heart
    return Cost(
        seconds=seconds,
        rooms=rooms,
        requests=requests,
        peak_mb=_status("VmHWM") - base,
        stall_ms=longest * 1000,
    )


def tell(cost: Cost) -> None:
    """Print a cost for the process that asked for it."""
    print(json.dumps(asdict(cost)))


async def ask(module: str, *arguments: str, timeout: float = 1200) -> Cost:
    """Run a module as a process of its own and read what it cost."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": ".:plugin", "PATH": ""},
    )
    output, _ = await asyncio.wait_for(process.communicate(), timeout)
    if process.returncode != 0:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {process.returncode}")
    return Cost(**json.loads(output.splitlines()[-1]))


def _reset_peak() -> float:
    """Make the peak the memory of now (Linux), and return it in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)
