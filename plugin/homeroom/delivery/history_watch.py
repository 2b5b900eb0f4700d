"""Noticing that the homeserver has gone back in time: it was restored from an older backup.

It does not know what was said since any more, and maubot's sync goes on from a position of the
future: some homeservers say nothing from there until they have reached it, and what is said
meanwhile is never told. So every minute the event that was handled last is looked for. If it is
gone, the admin is told what to do, the rooms are scanned, and the chats' own timelines are read
every minute until maubot's sync brings something that was said, and once more after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..homes.reconciler import Reconciler
from ..homes.routes import Routes
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..runtime.clock import now
from ..storage import Store, StoreError
from .sync_feed import SyncFeed

LOOK_EVERY: Final = 60.0
"""Seconds between two looks, and between two readings."""
KNOWN_AFTER: Final = 30 * 1000
"""Milliseconds after which every worker of a homeserver knows an event."""
LOOKED_FOR: Final = 3
"""Events; what was said since the homeserver has gone back is among them, and is known."""
ROUNDS: Final = 100
"""Of looking for what else is gone."""


@dataclass(slots=True, kw_only=True)
class HistoryWatch:
    """Notices that the homeserver has forgotten what it told, and reads until that is over."""

    homeserver: Homeserver
    store: Store
    routes: Routes
    reconciler: Reconciler
    feed: SyncFeed
    admins: Callable[[], frozenset[str]]
    log: TraceLogger
    _noticed_at: int | None = field(default=None, init=False)
    """In milliseconds since 1970; None: all is well."""
    _is_scanned: bool = field(default=True, init=False)

    @property
    def noticed_at(self) -> int | None:
        """Since when the homeserver is known to have gone back; None: it has not."""
        return self._noticed_at

    async def run(self) -> None:
        """Look, and read while it has to be, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except (HomeserverError, StoreError) as e:
                self.log.debug("Could not look whether the homeserver has gone back: %s", e)

    async def _look(self) -> None:
        if self._noticed_at is None:
            gone = await self._forgotten()
            if not gone:
                return
            await self._begin(gone)
        assert self._noticed_at is not None
        if not self._is_scanned:
            await self.reconciler.run()
            self._is_scanned = True
        is_over = self.feed.maubot_told_at >= self._noticed_at
        await self.feed.read_again(since=self._noticed_at - int(LOOK_EVERY * 1000))
        if is_over:
            self._noticed_at = None
            self.feed.keeps_position = True
            self.log.info("maubot's sync tells again what is said")

    async def _forgotten(self) -> list[EventID]:
        """Those of the newest events that were acted on that the homeserver does not know."""
        newest = await self.store.newest_handled(before=now() - KNOWN_AFTER, at_most=LOOKED_FOR)
        return [
            event_id
            for event_id, room_id in newest
            if self.routes.chat(room_id) and await self._is_forgotten(room_id, event_id)
        ]

    async def _is_forgotten(self, room_id: RoomID, event_id: EventID) -> bool:
        """Only if the homeserver says so; a refusal may be about the room."""
        try:
            return await self.homeserver.message(room_id, event_id) is None
        except Refused:
            return False

    async def _begin(self, gone: list[EventID]) -> None:
        self.log.error(
            "The homeserver does not know %s any more: it was restored from an older backup. %s:"
            ' please press "Clear cache" of the client %s in maubot, because its sync may tell'
            " nothing for long. Until then I read my chats every minute; nothing is lost",
            gone[0],
            ", ".join(sorted(self.admins())) or "Admin",
            self.homeserver.bot,
        )
        self.homeserver.told.forget()
        self.feed.keeps_position = False
        await self.store.forget_position(bot=self.homeserver.bot)
        for _ in range(ROUNDS):
            if not gone:
                break
            await self.store.forget_handled(gone)  # else they would be missed again
            gone = await self._forgotten()
        self._noticed_at, self._is_scanned = now(), False
