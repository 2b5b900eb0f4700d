"""Starting: from nothing known to handling events.

    resume      if there is a checkpoint, here or in the bot's account data, that holds, ask only
                for what has happened since
    reconcile   else scan everything, as often as it takes
    deliver     what was said meanwhile

Until a scan has gone through nothing is routed and nothing is created. What may pass (an outage, a
database that is busy) is waited out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..delivery.answer_stream import Streamer
from ..delivery.attempts import Attempts
from ..delivery.lanes import Lanes
from ..delivery.parking import Parking
from ..delivery.sync_feed import SyncFeed
from ..delivery.sync_handlers import EarlyResponses, SyncHandlers
from ..domain.homes.model import Records
from ..domain.sync.timeline import is_first, next_batch
from ..homes.reconciler import Reconciled, Reconciler
from ..homes.room_creation import RoomCreation
from ..matrix.encryption import Encryption
from ..matrix.errors import HomeserverError
from ..runtime.backoff import waits
from ..runtime.clock import now
from ..storage import Position, Store, StoreError
from .resume import Resumed, Resumption

T = TypeVar("T")

FIRST_SYNC_WITHIN: Final = 120.0
"""Seconds that maubot's first sync may take, where it has no position."""
TRY_AGAIN_AFTER: Final = (1, 2, 5, 10, 30, 60)
"""Seconds between attempts; the last one repeats."""


@dataclass(frozen=True, slots=True)
class Started:
    """How a start went, and from which position it goes on."""

    done: Reconciled
    is_resumed: bool
    """Whether it went on from a checkpoint, without a full scan."""
    position: str
    """Up to which they were, or from before the scan."""


@dataclass(slots=True, kw_only=True)
class Startup:
    """Runs the start, until events are handled.

    Args:
        register: has maubot call the handlers of an object.
        maubots_position: up to where maubot's own sync has come, by its database.
    """

    bot: UserID
    register: Callable[[object], None]
    maubots_position: Callable[[], Awaitable[str | None]]
    encryption: Encryption
    store: Store
    resumption: Resumption
    reconciler: Reconciler
    room_creation: RoomCreation
    feed: SyncFeed
    lanes: Lanes
    parking: Parking
    attempts: Attempts
    streamer: Streamer
    settings: Callable[[], Settings]
    log: TraceLogger
    opened_at: int | None = field(init=False, default=None)
    """When what was said meanwhile was taken in, and news began to be; None: not yet.

    In milliseconds since 1970.
    """

    async def run(self) -> Started:
        """Go on until it is known what there is and what was said meanwhile is taken in."""
        started = await self._run()
        self.opened_at = now()
        return started

    async def _run(self) -> Started:
        early = EarlyResponses()
        self.register(early)
        try:
            return await self._start(early)
        finally:
            early.close()

    async def _start(self, early: EarlyResponses) -> Started:
        await self.attempts.begin_life()
        resumed = await self._resume()
        if resumed is not None:
            await self._until_it_works(self.streamer.load, what="read what was left open")
            if resumed.is_restored:
                # Nobody remembers who was in these rooms when the bot went away.
                forget = partial(self.encryption.forget_sessions, resumed.room_ids)
                await self._until_it_works(forget, what="forget group sessions")
            self.register(SyncHandlers(self.feed))
            for response in early.close():
                self.feed.put(response, is_live=not is_first(response))
            stored = await self._until_it_works(self.store.position, what="read the position")
            is_its = stored is not None and stored.token == resumed.position
            terms = self.feed.begin(
                since=resumed.position,
                since_at=stored.saved_at if stored is not None and is_its else None,
            )
            await self._until_it_works(self._go_on_with_parked, what="read what is parked")
            await self.feed.take(resumed.response, terms=terms, rescanned=resumed.rescanned)
            return Started(resumed.done, is_resumed=True, position=resumed.position)
        early.keep_only_first()
        position, done = await self._until_it_works(
            partial(self._reconcile, early), what="reconcile"
        )
        self.register(SyncHandlers(self.feed))
        stored = await self._until_it_works(self._remember, what="read what was left open")
        first = next(iter(early.close()), None)
        await self._deliver_since(stored, observed=position, first=first)
        return Started(done, is_resumed=False, position=position)

    async def _until_it_works(self, work: Callable[[], Awaitable[T]], *, what: str) -> T:
        """Try until it works; a bug, too, must not leave the bot dead until a restart."""
        for seconds in waits(TRY_AGAIN_AFTER):
            try:
                return await work()
            except (HomeserverError, StoreError) as e:
                self.log.warning("Could not %s: %s", what, e)
            except Exception:
                self.log.exception("Error while trying to %s", what)
            self.log.info(
                "Trying again to %s in %d s; nothing is answered until then", what, seconds
            )
            await asyncio.sleep(seconds)
        raise AssertionError("waits() does not end")

    async def _resume(self) -> Resumed | None:
        """Once: whatever is in the way, a scan of everything is the way around it."""
        try:
            return await self.resumption.run()
        except (HomeserverError, StoreError) as e:
            self.log.warning("Could not resume, scanning everything: %s", e)
        except Exception:
            self.log.exception("Error while trying to resume")
        return None

    async def _reconcile(self, early: EarlyResponses) -> tuple[str, Reconciled]:
        """Scan everything; and the position from before that, which costs no request.

        Raises:
            Unavailable: maubot has no position yet, and gets none.
        """
        position = early.newest_position or await self.maubots_position()
        if not position:
            position = await early.first_position(within=FIRST_SYNC_WITHIN)
        await self.room_creation.resolve(known=Records())
        done = await self.reconciler.run()
        # Who was in these rooms when the bot went away need not be in them now.
        await self.encryption.forget_sessions(done.topology.rooms)
        return position, done

    async def _go_on_with_parked(self) -> None:
        """Go on with the rooms that an earlier life has parked; before anything new of them."""
        for place in await self.parking.load():
            self.lanes.go_on(place, not_before=self.feed.not_before, deliver=self.feed.deliver)

    async def _remember(self) -> Position | None:
        """What an earlier life left: open answers, and the place in the timeline."""
        await self.streamer.load()
        return await self.store.position()

    async def _deliver_since(
        self, stored: Position | None, *, observed: str, first: object
    ) -> None:
        """Deliver what happened since the last position that is known to be handled.

        Without one that the homeserver understands, the chats themselves say what was not
        answered, and what maubot was told and threw away says what else came.
        """
        self.feed.begin(since=None, since_at=None)
        await self._until_it_works(self._go_on_with_parked, what="read what is parked")
        if (
            stored is not None
            and stored.bot == self.bot
            and await self.feed.since(stored.token, since_at=stored.saved_at)
        ):
            return
        await self.feed.unanswered()
        begin = observed
        if first is not None:
            await self.feed.take_first(first)
            # Not from the scan that worked: others may have failed, for hours, before it.
            begin = next_batch(first) or observed
        if not await self.feed.since(begin, since_at=None):
            await self.feed.since(observed, since_at=None)
