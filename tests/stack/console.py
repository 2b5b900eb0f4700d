"""What the demo and the sandbox have in common: steps on a terminal, and an end on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any


class StepFailedError(Exception):
    """A step did not do what it should; the cause says what was expected and seen."""

    def report(self) -> str:
        """Describe the failure for the terminal."""
        cause = self.__cause__
        return f"This step failed: {self}\n\n{type(cause).__name__}: {cause}"


@dataclass(slots=True)
class Step:
    """A step that is being taken; `result` is printed behind its name."""

    name: str
    result: str = ""


@contextlib.contextmanager
def step(name: str) -> Iterator[Step]:
    """Print a line for the step when it is done: a tick or a cross, what, and how long."""
    current, started = Step(name), time.monotonic()
    if _on_terminal():
        print(f"  … {name}", end="", flush=True)
    try:
        yield current
    except Exception as error:
        _finish(_coloured("✗", 31), current, started)
        raise StepFailedError(name) from error
    except BaseException:
        print()
        raise
    _finish(_coloured("✓", 32), current, started)


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run to the end and return the exit status; SIGINT and SIGTERM cancel it in good order."""

    async def with_signals() -> int:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return 130

    return asyncio.run(with_signals())


def _finish(sign: str, current: Step, started: float) -> None:
    clear = "\r\x1b[K" if _on_terminal() else ""
    seconds = _coloured(f"{time.monotonic() - started:5.1f} s", 2)
    result = f": {current.result}" if current.result else ""
    print(f"{clear}  {sign} {seconds}  {current.name}{result}", flush=True)


def _coloured(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if _on_terminal() else text


def _on_terminal() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
