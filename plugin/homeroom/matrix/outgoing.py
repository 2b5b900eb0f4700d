"""Who may ask the homeserver next: outgoing requests have priorities.

Homeservers limit what an account sends: messages, state events and leaves together, on Synapse a
burst of 10 and then one in five seconds. Whatever is sent there keeps an answer waiting that comes
a moment later. So the less urgent a request is, the more of that is left over for the others.

What a homeserver allows is learned: it allows everything until it says 429. From then on the
requests that wait for nobody go at the pace that it names, while the budget is nearly whole. Only
rejections assume the usual limits from the beginning: they can always wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

BURST: Final = 10.0
"""Requests that are allowed at once, unless more were."""
PER_SECOND: Final = 0.2
"""Requests that are allowed from then on."""
FASTEST: Final = 20.0
"""Requests per second that a homeserver's word is taken for."""
UNLIMITED: Final = BURST
"""More requests than so many beyond those allowed, without a 429, prove that more is allowed."""
ASK_ANYWAY: Final = 60.0
"""Seconds: a longer wait that another request was told keeps no answer back; it asks itself."""
SOON: Final = 0.1
"""Seconds: what is told of a wait for others in line, which nobody can know."""


class Priority(IntEnum):
    """The urgent ones first."""

    ANSWER = 0
    WAITED_FOR = 1
    """A person waits for it: a command, a home."""
    NOTICE = 2
    EDIT = 3
    """Of a growing answer: the next one has fresher text."""
    REPAIR = 4
    REJECTION = 5
    RECEIPT = 6
    """Left out while any of the others waits; itself it counts against nothing."""


LEFT_OVER: Final[Mapping[Priority, float]] = {
    Priority.ANSWER: 0,
    Priority.WAITED_FOR: 0,
    Priority.NOTICE: 1,
    Priority.EDIT: 4,
    Priority.REPAIR: 6,
    Priority.REJECTION: 9,
    Priority.RECEIPT: 0,
}
"""How much of the burst stays for the others after a request of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingFigures:
    """How busy the way out is."""

    waiting: Mapping[Priority, int] = field(default_factory=dict)
    """Requests in line."""
    rate_limits: Mapping[Priority, int] = field(default_factory=dict)
    """Answers that asked to wait, since the start."""
    is_limited: bool = False
    """Whether the homeserver is known to limit what the bot sends."""


class Outgoing:
    """The line of requests that count against one budget of the homeserver's.

    Args:
        sleep: `asyncio.sleep`, or one of the tests' that takes no time.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._slept_ahead = 0.0
        """Seconds that were slept, and did not pass."""
        self._left = BURST
        """Of the budget, as far as that is known."""
        self._beyond = 0
        """Requests that were made when nothing was left: there may be more than is known."""
        self._left_at = self._blocked_until = self._clock()
        self._per_second = PER_SECOND
        self._is_limited = self._is_unlimited = False
        self._lines = {priority: asyncio.Lock() for priority in Priority}
        self._waiting: Counter[Priority] = Counter()
        self._moved = asyncio.Event()
        """Set when somebody leaves the line."""
        self._rate_limits: Counter[Priority] = Counter()

    @property
    def figures(self) -> OutgoingFigures:
        return OutgoingFigures(
            waiting={priority: self._waiting[priority] for priority in Priority},
            rate_limits={priority: self._rate_limits[priority] for priority in Priority},
            is_limited=self._is_limited,
        )

    async def turn(self, priority: Priority) -> None:
        """Wait until a request may be made; among equals, whoever came first goes first."""
        await self.until_turn(priority)
        self.begin()

    async def until_turn(self, priority: Priority) -> None:
        """Wait until a request might be made, for one that is then made as a more urgent one.

        So nobody waits here who keeps others waiting, by a lock.
        """
        self._waiting[priority] += 1
        try:
            async with self._lines[priority]:
                while True:
                    if self._is_behind(priority):
                        await self._moved.wait()
                    elif (seconds := self._seconds_until(priority)) > 0:
                        until = self._clock() + seconds
                        await self._sleep(seconds)
                        self._slept_ahead += max(0, until - self._clock())
                    else:
                        return
        finally:
            self._waiting[priority] -= 1
            self._moved.set()
            self._moved = asyncio.Event()

    def seconds_until(self, priority: Priority) -> float:
        """Seconds until such a request may be made, behind all that wait; 0: now."""
        seconds = self._seconds_until(priority)
        return max(seconds, SOON) if self._is_behind(priority) else seconds

    def try_now(self, priority: Priority) -> float:
        """Begin a request if it need not wait: then 0; else the seconds until it may be made."""
        seconds = self._seconds_until(priority)
        if self._lines[priority].locked() or self._is_behind(priority):
            return max(seconds, SOON)
        if seconds == 0:
            self.begin()
        return seconds

    def _is_behind(self, priority: Priority) -> bool:
        """Whether somebody more urgent is in line."""
        return any(self._waiting[urgent] for urgent in Priority if urgent < priority)

    def _seconds_until(self, priority: Priority) -> float:
        """When a request may be made, as far as can be told; 0: now."""
        now = self._clock()
        blocked = self._blocked_until - now
        if blocked > 0 and (priority > Priority.WAITED_FOR or blocked <= ASK_ANYWAY):
            return blocked
        if priority <= Priority.WAITED_FOR or self._is_unlimited:
            return 0
        if not self._is_limited and priority is not Priority.REJECTION:
            return 0
        self._refill(now)
        missing = LEFT_OVER[priority] + 1 - self._left
        return max(0, missing / self._per_second)

    def begin(self) -> None:
        """A request is made now."""
        self._refill(self._clock())
        if self._left >= 1:
            self._left -= 1
        else:
            self._beyond += 1
        if self._beyond > UNLIMITED:
            self._is_limited, self._is_unlimited = False, True

    def note_rate_limit(self, priority: Priority, *, seconds: float) -> None:
        """The homeserver wants us to wait; it names the time until the next request is allowed."""
        self._rate_limits[priority] += 1
        self._refill(self._clock())
        self._is_limited, self._is_unlimited = True, False
        self._left, self._beyond = 0, 0
        self._per_second = min(max(1 / max(seconds, 0.001), PER_SECOND / 4), FASTEST)
        self._blocked_until = max(self._blocked_until, self._left_at + seconds)

    def _refill(self, now: float) -> None:
        gained = (now - self._left_at) * self._per_second
        self._left, self._left_at = min(BURST, self._left + gained), now
        if self._left == BURST:
            self._beyond = 0

    def _clock(self) -> float:
        return time.monotonic() + self._slept_ahead
