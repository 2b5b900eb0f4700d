"""Time for the fake homeserver, in milliseconds.

`Clock` moves only when somebody moves it. Every event takes one tick, so `origin_server_ts` is
strictly increasing and the same in every run. `Running` moves by itself, for code that compares
the server's time with its own; a test sets it wrong. The server tells its time in the `Date`
header of each answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

START_MS = 1_700_000_000_000


@dataclass
class Clock:
    """A clock that stands still between ticks."""

    now_ms: int = START_MS

    def read(self) -> int:
        """Give the time."""
        return self.now_ms

    def tick(self) -> int:
        """Move on by one millisecond and return the new time."""
        return self.advance(1)

    def advance(self, ms: int) -> int:
        """Move on by `ms` milliseconds (never backwards) and return the new time."""
        if ms < 0:
            raise ValueError("the clock does not go backwards")
        self.now_ms += ms
        return self.now_ms


@dataclass
class Running(Clock):
    """A clock that goes with the real one, behind it or (below 0) ahead of it."""

    now_ms: int = 0
    """The time of the last event."""
    behind_ms: int = 0

    def read(self) -> int:
        return max(self.now_ms, int(time.time() * 1000) - self.behind_ms)

    def tick(self) -> int:
        self.now_ms = max(self.now_ms + 1, self.read())
        return self.now_ms

    def advance(self, ms: int) -> int:
        """Be so much less behind (never more) and return the new time."""
        if ms < 0:
            raise ValueError("the clock does not go backwards")
        self.behind_ms -= ms
        return self.tick()

    def set_behind(self, ms: int) -> None:
        """Set the clock: the only way back in time."""
        self.behind_ms = ms
        self.now_ms = 0
