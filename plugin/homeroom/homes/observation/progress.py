"""How far a scan is, for those who wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

EVERY: Final = 3.0
"""Seconds between two reports; a scan that takes less reports nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Rooms that were scanned, of all that there are."""

    done: int
    total: int
    seconds: float
    """Since the scan began."""

    @property
    def per_second(self) -> float:
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """As long as it goes on like this; None: nothing is done yet."""
        return (self.total - self.done) / self.per_second if self.done else None


OnProgress = Callable[[Progress], None]


class Counting:
    """Counts rooms, and reports from time to time."""

    def __init__(self, *, total: int, report: OnProgress | None) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._started = self._reported = time.monotonic()

    def add(self, rooms: int) -> None:
        self._done += rooms
        now = time.monotonic()
        if self._report is not None and now - self._reported >= EVERY:
            self._reported = now
            self._report(
                Progress(
                    done=min(self._done, self._total),
                    total=self._total,
                    seconds=now - self._started,
                )
            )
