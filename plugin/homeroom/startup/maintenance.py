"""What goes on quietly while the bot runs: reading again what could not be read, verifying what
was taken on trust, forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from mautrix.util.logging import TraceLogger

from ..delivery.inbox import Inbox
from ..delivery.sync_feed import SyncFeed
from ..domain.homes.topology import Invite
from ..homes.checkpoint_state import CheckpointState
from ..homes.observation import Observer
from ..homes.reconciler import Reconciler
from ..homes.repairer import Repairer
from ..homes.routes import Routes
from ..matrix.errors import HomeserverError
from ..runtime.backoff import waits
from ..storage import StoreError

VERIFY_AFTER: Final = (30, 60, 300, 1800)
"""Seconds until what a resume took on trust is verified, and until it is again, if that failed or
there was something to repair; the last one repeats."""
REREAD_AFTER: Final = (5, 15, 60, 300)
"""Seconds between attempts to read rooms that could not be read; the last one repeats."""
PRUNE_EVERY: Final = 6 * 60 * 60
"""Seconds."""


SeeTo = Callable[[Iterable[Invite]], None]
"""Answers invites; what was seen to before is passed over."""


class Maintenance:
    def __init__(
        self,
        *,
        observer: Observer,
        reconciler: Reconciler,
        repairer: Repairer,
        routes: Routes,
        checkpoint_state: CheckpointState,
        inbox: Inbox,
        feed: SyncFeed,
        log: TraceLogger,
    ) -> None:
        self._observer = observer
        self._reconciler = reconciler
        self._repairer = repairer
        self._routes = routes
        self._checkpoint_state = checkpoint_state
        self._inbox = inbox
        self._feed = feed
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
                again = await self._reconciler.rescan(unreadable)
            except (HomeserverError, StoreError) as e:
                self._log.warning("Could not read %d rooms again: %s", len(unreadable), e)
                continue
            await self._repairer.run(again.plan.repairs)

    async def find_invites(self, *, see_to: SeeTo) -> None:
        """Find the invites that an earlier life could not answer: nobody tells of them again."""
        for seconds in waits(REREAD_AFTER):
            try:
                see_to(await self._observer.look_for_invites())
            except HomeserverError as e:
                self._log.warning("Could not ask for pending invites: %s", e)
            else:
                return
            await asyncio.sleep(seconds)

    async def verify(self, *, since: str, see_to: SeeTo) -> None:
        """Look at everything once, in no hurry; again until there is nothing left to repair.

        Args:
            since: the position up to which the start took the rows on trust.
            see_to: is given the invites that are pending.
        """
        for seconds in waits(VERIFY_AFTER):
            await asyncio.sleep(seconds)
            if self._routes.is_paused:
                return  # `!reconcile` looks at everything
            try:
                done = await self._reconciler.verify(partial(self._feed.changed_since, since))
            except (HomeserverError, StoreError) as e:
                self._log.warning("Could not verify what is known: %s", e)
                continue
            see_to(done.topology.invites)
            await self._repairer.run(done.plan.repairs)
            if not self._checkpoint_state.has_repairs:
                return

    async def prune(self) -> None:
        """Forget handled events that cannot come again, now and from time to time."""
        while True:
            try:
                await self._inbox.prune()
            except StoreError as e:
                self._log.warning("Could not forget old events: %s", e)
            await asyncio.sleep(PRUNE_EVERY)
