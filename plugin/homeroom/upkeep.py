"""What goes on quietly while the bot runs: reading again what could not be read, forgetting."""

from __future__ import annotations

import asyncio
from typing import Final

from mautrix.util.logging import TraceLogger

from .adapters.errors import HomeserverError
from .adapters.store import StoreError
from .inbox import Inbox
from .reconcile import Reconciler
from .repair import Repairer
from .routes import Routes
from .waits import waits

REREAD_AFTER: Final = (5, 15, 60, 300)
"""Seconds between attempts to read rooms that could not be read; the last one repeats."""
PRUNE_EVERY: Final = 6 * 60 * 60
"""Seconds."""


class Upkeep:
    def __init__(
        self,
        *,
        reconciler: Reconciler,
        repairer: Repairer,
        routes: Routes,
        inbox: Inbox,
        log: TraceLogger,
    ) -> None:
        self._reconciler = reconciler
        self._repairer = repairer
        self._routes = routes
        self._inbox = inbox
        self._log = log

    async def reread(self) -> None:
        """Look again at rooms that could not be read, for ever, whichever look it was."""
        pauses = waits(REREAD_AFTER)
        while True:
            await asyncio.sleep(next(pauses))
            unreadable = self._routes.unreadable
            if not unreadable:
                pauses = waits(REREAD_AFTER)
                continue
            try:
                again = await self._reconciler.look_again(unreadable)
            except (HomeserverError, StoreError) as e:
                self._log.warning("Could not read %d rooms again: %s", len(unreadable), e)
                continue
            await self._repairer.run(again.plan.repairs)

    async def prune(self) -> None:
        """Forget handled events that cannot come again, now and from time to time."""
        while True:
            try:
                await self._inbox.prune()
            except StoreError as e:
                self._log.warning("Could not forget old events: %s", e)
            await asyncio.sleep(PRUNE_EVERY)
