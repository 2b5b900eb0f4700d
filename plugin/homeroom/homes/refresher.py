"""Rescans of rooms that something was said of, until they work.

An event never edits a row: it names the rooms to scan again. What is named while a rescan is under
way is scanned together afterwards. Each person's rooms are scanned so many times an hour at most:
who changes something all the time waits for it longer, and nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..matrix.errors import HomeserverError
from ..runtime.hourly import Hourly
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..runtime.timeouts import timeout
from ..storage import StoreError
from .reconciler import Reconciled, Reconciler
from .repairer import Repairer
from .routes import Routes

RESCAN_AGAIN: Final = RetryPolicy(pauses=(2, 5, 15, 60))
SCANS_AN_HOUR: Final = 50
"""Of one person's rooms, half of them at once."""


def scans_of_people() -> Hourly:
    """How often each person may have their rooms scanned."""
    return Hourly(at_most=SCANS_AN_HOUR, at_once=SCANS_AN_HOUR // 2)


@dataclass(slots=True)
class _Request:
    when_done: Callable[[], None]
    people: int
    """Whose rooms are still to be scanned for it."""


@dataclass(slots=True)
class _Wanted:
    """What is to be scanned of one person's, and for which requests."""

    room_ids: set[RoomID] = field(default_factory=set)
    requests: list[_Request] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Refresher:
    """Rescans rooms after news of them; requests that come meanwhile are one more rescan."""

    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    scans: Hourly
    background: Background
    log: TraceLogger
    _wanted: dict[UserID | RoomID, _Wanted] = field(init=False, default_factory=dict)
    """By person; a room that is nobody's by itself."""
    _is_running: bool = field(init=False, default=False)
    _news: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def request(self, room_ids: Iterable[RoomID], *, when_done: Callable[[], None]) -> None:
        """Ask for a rescan; never waits.

        Args:
            when_done: called when the rows say what the rooms say. Also after a bug in the rescan,
                which must not hold up the position for ever: then there is no checkpoint, and
                the next start scans everything. Not called if the plugin stops before.
        """
        by_person: dict[UserID | RoomID, set[RoomID]] = {}
        for room_id in room_ids:
            by_person.setdefault(self.routes.owner_of(room_id) or room_id, set()).add(room_id)
        request = _Request(when_done, len(by_person))
        for person, rooms in by_person.items():
            wanted = self._wanted.setdefault(person, _Wanted())
            wanted.room_ids |= rooms
            wanted.requests.append(request)
        self._news.set()
        if not self._is_running:
            self._is_running = True
            self.background.start(self._run(), name="rescanning")

    async def _run(self) -> None:
        """Rescan what is due, until nothing is wanted any more."""
        try:
            while self._wanted:
                seconds = {person: self.scans.take(person) for person in self._wanted}
                due = [self._wanted.pop(person) for person, left in seconds.items() if left == 0]
                if due:
                    await self._rescan(due)
                    continue
                self._news.clear()
                with suppress(asyncio.TimeoutError):
                    async with timeout(min(seconds.values())):
                        await self._news.wait()
        finally:
            self._is_running = False

    async def _rescan(self, due: Iterable[_Wanted]) -> None:
        room_ids = frozenset(room_id for wanted in due for room_id in wanted.room_ids)
        requests = [request for wanted in due for request in wanted.requests]
        try:
            done = await self._rescan_until_it_works(room_ids)
        except Exception:
            self.log.exception("Error while scanning %s again", ", ".join(sorted(room_ids)))
            done = None
        if done is None:
            _finish(requests)
        else:
            self.background.start(self._repair(done, requests), name="repairing what is new")

    async def _rescan_until_it_works(self, room_ids: frozenset[RoomID]) -> Reconciled | None:
        async def once() -> Reconciled | None:
            if self.routes.is_paused:
                return None  # `!reconcile` scans everything
            return await self.reconciler.rescan(room_ids)

        def failed(error: Exception, _: float) -> None:
            self.log.warning("Could not scan %s again: %s", ", ".join(room_ids), error)

        return await retry(
            once, policy=RESCAN_AGAIN, on=(HomeserverError, StoreError), failed=failed
        )

    async def _repair(self, done: Reconciled, requests: list[_Request]) -> None:
        """Nobody else's rescan waits for repairs, which have the lowest priority."""
        try:
            await self.repairer.run(done.plan.repairs)
        finally:
            _finish(requests)


def _finish(requests: Iterable[_Request]) -> None:
    for request in requests:
        request.people -= 1
        if request.people == 0:
            request.when_done()
