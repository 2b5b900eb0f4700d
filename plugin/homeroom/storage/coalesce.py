"""What many tasks ask at once is one question to the database.

A hundred messages of one sync response would otherwise be a hundred statements, one after the
other, each with a flush of the disk: the last of them would wait for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Gathers items while one call is under way; the next call is for all of them.

    Args:
        call: for one or more items. What it returns or raises is everybody's.
    """

    def __init__(self, call: Callable[[list[Item]], Awaitable[Result]]) -> None:
        self._call = call
        self._one_at_a_time = asyncio.Lock()
        self._gathered: list[Item] = []
        self._next: asyncio.Task[Result] | None = None

    async def __call__(self, item: Item) -> Result:
        """Have it done for this item, too. Who is cancelled does not stop it for the others."""
        self._gathered.append(item)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._next.add_done_callback(_retrieve)
        return await asyncio.shield(self._next)

    async def _run(self) -> Result:
        async with self._one_at_a_time:
            items, self._gathered, self._next = self._gathered, [], None
            return await self._call(items)


def _retrieve(task: asyncio.Task[Result]) -> None:
    """Nobody may be left to hear of a failure."""
    if not task.cancelled():
        task.exception()
