"""Reads that are late: a worker that hears of every change after the others.

    lag = hs.lag(seconds=2)      # each change is known to this worker two seconds later
    lag = hs.lag(reads=3)        # … when it has been asked three times more
    lag = hs.lag()               # … never, until `lag.catch_up()` or `lag.end()`

As in Synapse, a worker keeps in memory what it has read, until it hears that it has changed; then
it reads again, and reads what is true *now*. So a room that it has never read is fresh, and one
that it knows is stale. It takes all reads of the kinds that were stale in a real installation;
`/members`, `/messages`, single events, aliases and `/sync` are always fresh. With `every=2` only
each second read goes to this worker, the others go to one that is up to date. Writes never wait
and are never refused because of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

JOINED_ROOMS = "joined_rooms"
STATE = "state"
"""`/state` and `/state/TYPE`, which share what they keep."""
JOINED_MEMBERS = "joined_members"
SLIDING = "sliding"
"""Sliding sync: it does not know a new room, but tells the newest of one that it knows."""
KINDS = frozenset({JOINED_ROOMS, STATE, JOINED_MEMBERS, SLIDING})

Key = tuple[str, str]


@dataclass(eq=False)
class Lag:
    """One worker that is behind, from when it was made."""

    start: int
    """The stream position at which it began to be behind; all before is known to it."""
    seconds: float | None = None
    reads: int | None = None
    kinds: frozenset[str] = KINDS
    every: int = 1
    stale: int = 0
    """How many reads did not tell the newest."""
    _position: int = field(init=False)
    _turn: int = 0
    _heard: deque[tuple[float, int]] = field(default_factory=deque)
    """When (clock or number of the read) it hears of which stream position."""
    _asked: int = 0
    _cached: dict[Key, int] = field(default_factory=dict)
    """What is kept, and the stream position at which it was read."""

    def __post_init__(self) -> None:
        self._position = self.start

    def note(self, stream: int) -> None:
        """Hear, in due course, that the stream has come this far."""
        if self.seconds is not None:
            self._heard.append((time.monotonic() + self.seconds, stream))
        elif self.reads is not None:
            self._heard.append((self._asked + self.reads + 1, stream))

    def catch_up(self, stream: int) -> None:
        """Hear of everything up to a stream position."""
        self._position = max(self._position, stream)

    def takes(self, kind: str) -> bool:
        """Whether a read is answered by this worker."""
        if kind not in self.kinds:
            return False
        self._turn += 1
        return self._turn % self.every == 0

    def as_of(self, key: Key, changes: Iterable[int], *, now: int) -> int:
        """Give the stream position as of which something is read.

        `changes` are the stream positions at which it changed, from the first on.
        """
        self._asked += 1
        reached = self._asked if self.seconds is None else time.monotonic()
        while self._heard and self._heard[0][0] <= reached:
            self.catch_up(self._heard.popleft()[1])
        streams = sorted(changes)
        was_there = bool(streams) and streams[0] <= self.start
        cached = self._cached.get(key, self.start if was_there else now)
        if any(cached < stream <= self._position for stream in streams):
            cached = now
        self._cached[key] = cached
        self.stale += any(stream > cached for stream in streams)
        return cached
