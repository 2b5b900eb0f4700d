"""So many times an hour, for each of those who ask."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

HOUR: Final = 3600.0


@dataclass(slots=True, kw_only=True)
class Hourly:
    """Counts how often each asker was let through within an hour.

    Args:
        at_most: times in any hour.
        at_once: so many of them without a pause, the others evenly; None: all of them.
    """

    at_most: int
    at_once: int | None = None
    clock: Callable[[], float] = time.monotonic
    _times: dict[Hashable, deque[float]] = field(default_factory=dict, init=False)

    def take(self, key: Hashable) -> float:
        """Take one time of somebody's; 0, or the seconds until there is one."""
        at = self.clock()
        times = self._times.setdefault(key, deque())
        while times and times[0] <= at - HOUR:
            times.popleft()
        if (due := self._due(times)) > at:
            return due - at
        times.append(at)
        if len(self._times) > 1000:
            self._forget(at)
        return 0.0

    def _due(self, times: deque[float]) -> float:
        """When the next one is."""
        if len(times) >= self.at_most:
            return times[0] + HOUR
        if self.at_once is not None and len(times) >= self.at_once:
            return times[-1] + HOUR / (self.at_most - self.at_once)
        return 0.0

    def _forget(self, at: float) -> None:
        """Forget who has not asked for an hour."""
        self._times = {key: times for key, times in self._times.items() if times[-1] > at - HOUR}
