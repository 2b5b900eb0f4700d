"""What goes on quietly while the bot runs: reading again what could not be read, verifying what
was resumed from, forgetting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..delivery.answer_stream import Streamer
from ..delivery.history_watch import HistoryWatch
from ..delivery.inbox import Inbox
from ..delivery.lanes import Lanes
from ..delivery.sync_feed import SyncFeed
from ..homes.checkpoint_state import CheckpointState
from ..homes.invites import Invites
from ..homes.observation import Observer
from ..homes.reconciler import Reconciler
from ..homes.remote_checkpoint import RemoteCheckpoint
from ..homes.repairer import Repairer
from ..homes.routes import Routes
from ..matrix.errors import HomeserverError
from ..runtime.backoff import waits
from ..runtime.tasks import Background
from ..runtime.watchdog import Watchdog
from ..storage import StoreError
from .start import Started

VERIFY_AFTER: Final = (30, 60, 300, 1800)
"""Seconds until what was resumed from is verified, and until it is again, if that failed or
there was something to repair; the last one repeats."""
REREAD_AFTER: Final = (5, 15, 60, 300)
"""Seconds between attempts to read rooms that could not be read; the last one repeats."""
LIST_AGAIN_AFTER: Final = (5, 15, 60)
"""Seconds from one list of joined rooms to the next, after a start that scanned all rooms."""
PRUNE_EVERY: Final = 6 * 60 * 60
"""Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """What goes on in the background from the end of the start to the stop."""

    observer: Observer
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    checkpoint_state: CheckpointState
    remote_checkpoint: RemoteCheckpoint
    inbox: Inbox
    lanes: Lanes
    feed: SyncFeed
    history_watch: HistoryWatch
    invites: Invites
    streamer: Streamer
    watchdog: Watchdog
    background: Background
    log: TraceLogger

    def begin(self, started: Started) -> None:
        """Take in what comes from now on, and begin everything that can wait until after that."""
        start, repairs = self.background.start, started.done.plan.repairs
        keep_running = self.background.keep_running
        keep_running(self.feed.run, name="taking in responses")
        keep_running(self.feed.listen_for_ourselves, name="listening for ourselves")
        keep_running(self.history_watch.run, name="watching the history")
        keep_running(self.watchdog.run, name="watching the event loop")
        self.invites.remind(started.done.topology.invites)
        start(self.repairer.run(repairs), name="repairing")
        start(self.streamer.end_abandoned(until_done=self._until_done), name="ending old answers")
        keep_running(self.reread, name="reading the unreadable again")
        keep_running(self.prune, name="pruning")
        start(self.remote_checkpoint.run(), name="keeping the checkpoint")
        if started.is_resumed:
            start(self.find_invites(), name="finding invites")
        else:
            start(self.find_late_rooms(), name="finding late rooms")
        if started.is_resumed or repairs:
            start(self.verify(since=started.position), name="verifying")

    async def _until_done(self, room_id: RoomID) -> None:
        """Wait until all that was said in a room is read and handled."""
        await self.lanes.until_idle(room_id)
        await self.inbox.until_done(room_id)

    async def reread(self) -> None:
        """Rescan rooms that could not be read, for ever, whichever scan it was."""
        pauses = waits(REREAD_AFTER)
        while True:
            await asyncio.sleep(next(pauses))
            unreadable = self.routes.unreadable
            if not unreadable:
                pauses = waits(REREAD_AFTER)
                continue
            try:
                again = await self.reconciler.rescan(unreadable)
            except (HomeserverError, StoreError) as e:
                self.log.warning("Could not read %d rooms again: %s", len(unreadable), e)
                continue
            await self.repairer.run(again.plan.repairs)

    async def find_late_rooms(self) -> None:
        """Scan what the first list of joined rooms did not have yet; a few requests.

        Without the database nobody but that list knows of a room that was just made.
        """
        for seconds in LIST_AGAIN_AFTER:
            await asyncio.sleep(seconds)
            try:
                again = await self.reconciler.scan_unknown()
            except (HomeserverError, StoreError) as e:
                self.log.debug("Could not look for late rooms: %s", e)
            else:
                await self.repairer.run(again.plan.repairs)

    async def find_invites(self) -> None:
        """Find the invites that an earlier life could not answer: nobody tells of them again."""
        for seconds in waits(REREAD_AFTER):
            try:
                self.invites.remind(await self.observer.scan_invites())
            except HomeserverError as e:
                self.log.warning("Could not ask for pending invites: %s", e)
            else:
                return
            await asyncio.sleep(seconds)

    async def verify(self, *, since: str) -> None:
        """Scan everything once, in no hurry; again until there is nothing left to repair.

        Args:
            since: the position of the checkpoint that the start went on from.
        """
        for seconds in waits(VERIFY_AFTER):
            await asyncio.sleep(seconds)
            if self.routes.is_paused:
                return  # `!reconcile` scans everything
            try:
                done = await self.reconciler.verify(partial(self.feed.changed_since, since))
            except (HomeserverError, StoreError) as e:
                self.log.warning("Could not verify what is known: %s", e)
                continue
            self.invites.remind(done.topology.invites)
            await self.repairer.run(done.plan.repairs)
            if not self.checkpoint_state.has_repairs:
                return

    async def prune(self) -> None:
        """Forget handled events that cannot come again, now and from time to time."""
        while True:
            try:
                await self.inbox.prune()
            except StoreError as e:
                self.log.warning("Could not forget old events: %s", e)
            await asyncio.sleep(PRUNE_EVERY)
