"""So many at a time, shared between people.

Whoever has the fewest turns under way is next; among equals, whoever has waited longest. So one
person's fifty chats take the turns that nobody else wants, and somebody else waits for at most
one of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress


class FairTurns:
    """Gives out a limited number of turns, one person after the other.

    Args:
        limit: how many turns at a time; asked each time, because it may change.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._under_way: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        """In the order in which they had their last turn."""

    @property
    def under_way(self) -> int:
        return self._under_way.total()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def turn(self, person: Hashable) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the length of the block."""
        await self._wait(person)
        try:
            yield
        finally:
            self._end(person)

    def limit_changed(self) -> None:
        """Begin what may begin now."""
        while self._waiting and self.under_way < self._limit():
            # `min` takes the first of equals.
            person = min(self._waiting, key=lambda person: self._under_way[person])
            futures = self._waiting[person]
            future = futures.popleft()
            if not futures:
                del self._waiting[person]
            if not future.done():  # who waited may be cancelled, and not know it yet
                future.set_result(None)
                self._under_way[person] += 1

    async def _wait(self, person: Hashable) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(person, deque()).append(future)
        self.limit_changed()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._end(person)  # it came just now, and nobody wants it
            else:
                self._leave(person, future)
            raise

    def _leave(self, person: Hashable, future: asyncio.Future[None]) -> None:
        futures = self._waiting.get(person, deque())
        with suppress(ValueError):  # it had its turn already, and nobody was there
            futures.remove(future)
            if not futures:
                del self._waiting[person]

    def _end(self, person: Hashable) -> None:
        self._under_way[person] -= 1
        if not self._under_way[person]:
            del self._under_way[person]
        if person in self._waiting:
            self._waiting[person] = self._waiting.pop(person)  # behind the others
        self.limit_changed()
