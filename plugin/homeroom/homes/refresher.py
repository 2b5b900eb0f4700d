"""Rescans of rooms that something was said of, until they work.

An event never edits a row: it names the rooms to scan again. Rooms that are named while a rescan
is under way are scanned together afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..matrix.errors import HomeserverError
from ..runtime.backoff import waits
from ..runtime.tasks import Background
from ..storage import StoreError
from .reconciler import Reconciler
from .repairer import Repairer
from .routes import Routes

RESCAN_AFTER: Final = (2, 5, 15, 60, 300)
"""Seconds between attempts to scan what has changed; the last one repeats."""


@dataclass(slots=True, kw_only=True)
class Refresher:
    """Rescans rooms after news of them; requests that come meanwhile are one more rescan."""

    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    background: Background
    log: TraceLogger
    _room_ids: set[RoomID] = field(init=False, default_factory=set)
    _when_done: list[Callable[[], None]] = field(init=False, default_factory=list)

    def request(self, room_ids: Iterable[RoomID], *, when_done: Callable[[], None]) -> None:
        """Ask for a rescan; never waits.

        Args:
            when_done: called when the rows say what the rooms say. Also after a bug in the rescan,
                which must not hold up the position for ever: then the rows prove nothing, and the
                next start scans everything. Not called if the plugin stops before.
        """
        if not self._room_ids:
            self.background.start(self._run(), name="looking again")
        self._room_ids.update(room_ids)
        self._when_done.append(when_done)

    async def _run(self) -> None:
        room_ids, when_done = frozenset(self._room_ids), self._when_done
        self._room_ids, self._when_done = set(), []
        try:
            await self._rescan_until_it_works(room_ids)
        except Exception:
            self.log.exception("Error while scanning %s again", ", ".join(sorted(room_ids)))
        for done in when_done:
            done()

    async def _rescan_until_it_works(self, room_ids: frozenset[RoomID]) -> None:
        for seconds in waits(RESCAN_AFTER):
            try:
                done = await self.reconciler.rescan(room_ids)
            except (HomeserverError, StoreError) as e:
                self.log.warning("Could not look again at %s: %s", ", ".join(room_ids), e)
            else:
                await self.repairer.run(done.plan.repairs)
                return
            if self.routes.is_paused:
                return  # `!reconcile` looks at everything
            await asyncio.sleep(seconds)
