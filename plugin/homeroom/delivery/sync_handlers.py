"""Where maubot's sync loop hands over what it has got.

Homeroom reads every sync response raw (`SYNC_SUCCESSFUL`), the one that maubot throws away after
each start among them, so all news come in one form and in the server's order. The handlers live
on classes of their own, because maubot registers what it finds on the plugin object before
`start()`; these are registered when their time has come.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from maubot.handlers import event
from mautrix.client import InternalEventType

from ..domain.sync.timeline import is_first, next_batch
from ..matrix.errors import Unavailable
from ..runtime.timeouts import timeout
from .sync_feed import SyncFeed


class EarlyResponses:
    """Keeps what maubot's sync loop brings until events are handled.

    The first one, if the client starts, too, is the one that maubot throws away: it begins where
    maubot itself stopped listening, so it knows of messages that came while the bot was down even
    if the plugin's database is gone. Registered before the first reconcile: it handles nothing.
    """

    def __init__(self) -> None:
        self._responses: list[object] = []
        self._at_most: int | None = None
        self._newest: str | None = None
        self._has_come = asyncio.Event()

    @property
    def newest_position(self) -> str | None:
        """The position after the last response; None: there was none."""
        return self._newest

    async def first_position(self, *, within: float) -> str:
        """Wait for the position after the first response, so many seconds at most.

        Raises:
            Unavailable: there was none.
        """
        with suppress(asyncio.TimeoutError):
            async with timeout(within):
                await self._has_come.wait()
        if self._newest is None:
            raise Unavailable("maubot's sync has brought nothing yet")
        return self._newest

    def keep_only_first(self) -> None:
        """Nobody knows for how long: what comes later can be asked for, from where that ends."""
        self._at_most = 1
        del self._responses[1:]

    def close(self) -> list[object]:
        """Give the responses away, and keep none from now on: they may be large."""
        responses, self._responses, self._at_most = self._responses, [], 0
        return responses

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        self._newest = next_batch(data.get("data")) or self._newest
        self._has_come.set()
        if self._at_most is None or len(self._responses) < self._at_most:
            self._responses.append(data.get("data"))


class SyncHandlers:
    """Puts what maubot's sync loop brings in line."""

    def __init__(self, feed: SyncFeed) -> None:
        self._feed = feed

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        response = data.get("data")
        self._feed.put(response, is_live=not is_first(response))
