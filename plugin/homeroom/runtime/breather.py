"""Long work in small steps, so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Final

AT_ONCE: Final = 0.005
"""Seconds of CPU time between two breaths."""
LOOKS_AT_THE_CLOCK: Final = 32
"""After so many steps."""


class Breather:
    """Gives way to others as soon as the steps between have taken a moment.

    A loop over what others sent may have nothing to wait for: no timeout can end it then, and
    nobody else is served.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._since = time.thread_time()

    async def step(self) -> None:
        """Between two pieces of work, each a fraction of a millisecond."""
        self._steps += 1
        if self._steps % LOOKS_AT_THE_CLOCK == 0 and time.thread_time() - self._since > AT_ONCE:
            await asyncio.sleep(0)
            self._since = time.thread_time()
