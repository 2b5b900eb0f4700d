"""Time for the fake homeserver: milliseconds that move only when somebody moves them.

Every event takes one tick, so `origin_server_ts` is strictly increasing and the same in every
run. Nothing here reads the real clock; only a long poll waits in real time.
"""

from __future__ import annotations

from dataclasses import dataclass

START_MS = 1_700_000_000_000


@dataclass
class Clock:
    """A clock that stands still between ticks."""

    now_ms: int = START_MS

    def tick(self) -> int:
        """Move on by one millisecond and return the new time."""
        return self.advance(1)

    def advance(self, ms: int) -> int:
        """Move on by `ms` milliseconds (never backwards) and return the new time."""
        if ms < 0:
            raise ValueError("the clock does not go backwards")
        self.now_ms += ms
        return self.now_ms
