"""Resuming: going on where the last life ended, if its rows can prove that they are the truth.

    stored   = store.position(), store.proof()
    response = homeserver.sync_since(position)        while the rows are read and summed up
    records  = store.snapshot()
    reconciler.resume(records, rooms_to_look_at(response))

One request, and what it costs grows with what has changed, not with what exists. At the least
doubt (rows that somebody touched, another build or account, a position that is old or that the
homeserver does not know) there is no resuming, and everything is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.homes.checkpoint import Digest, Origin, make_checkpoint
from ..domain.sync.changed_rooms import rooms_to_rescan
from ..homes.reconciler import Reconciled, Reconciler
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..runtime.clock import now
from ..storage import Position, Store

MAX_AGE: Final = 24 * 60 * 60 * 1000
"""Milliseconds. What happened since an older position may be more than there is to look at."""
MANY: Final = 100
"""Changed rooms from which on it matters how many there are in all."""
TOO_MANY: Final = 0.2
"""Of all rooms: if more have changed, to look at everything is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    position: Position
    response: dict[str, Any]
    """What happened since, as `/sync` tells it."""
    done: Reconciled
    rescanned: frozenset[RoomID]
    """Of the rooms that have changed since; what could not be read is not among them."""


@dataclass(slots=True, kw_only=True)
class Resumption:
    """Args:
    origin: what the proof depends on besides the rows.
    """

    homeserver: Homeserver
    store: Store
    reconciler: Reconciler
    origin: Callable[[], Origin]
    log: TraceLogger

    async def run(self) -> Resumed | None:
        """Resume; None: there is a doubt, and nothing was done.

        Raises:
            HomeserverError: a room that has changed could not be looked at.
            StoreError: the database failed.
        """
        position, checkpoint = await self.store.position(), await self.store.checkpoint()
        if position is None or not checkpoint:
            return None
        age = now() - position.saved_at
        if position.bot != self.origin().bot or not 0 <= age <= MAX_AGE:
            return None
        asking = asyncio.create_task(self.homeserver.sync_since(position.token))
        try:
            records = await self.store.snapshot()
            digest = await asyncio.to_thread(Digest.of, records)
            if make_checkpoint(self.origin(), digest) != checkpoint:
                self.log.info("The database is not as it was left: looking at everything")
                return None
            try:
                response = await asking
            except HomeserverError as e:
                self.log.warning("Cannot resume from %s: %s", position.token[:100], e)
                return None
        finally:
            asking.cancel()
        ours = records.room_ids
        self.homeserver.told.synced(response, is_ours=ours.__contains__, now=now())
        changed = rooms_to_rescan(response, bot=position.bot, is_ours=ours.__contains__)
        if len(changed) > max(MANY, TOO_MANY * len(records.chats)):
            self.log.info("%d rooms have changed: looking at everything", len(changed))
            return None
        done = await self.reconciler.resume(records, digest, changed, bot=position.bot)
        rescanned = changed.difference(room.room_id for room in done.plan.unreadable)
        return Resumed(position=position, response=response, done=done, rescanned=rescanned)
