"""Reconcile: look, remember, decide, write.

    topology = observer.look()          the homeserver, reads only
    records  = store.snapshot()
    plan     = make_plan(topology, records)
    store.apply(plan.changes)
    mirror.heal(topology), routes.load(...)

The same five steps serve the start, `!reconcile`, its dry run, and every live event, which never
edits a row but names the rooms to look at again. One reconcile at a time; nobody else writes
rows, so what is in the store between the snapshot and the apply cannot change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .adapters.errors import HomeserverError, Unavailable
from .adapters.observation import Observer
from .adapters.state_mirror import StateMirror
from .adapters.store import PastReconcile, Store, StoreError
from .clock import now
from .domain.model import Records
from .domain.plan import Finding, Plan
from .domain.planner import make_plan
from .domain.topology import Topology
from .routes import Routes

KEEP_PAST: Final = 50
"""Reconciles that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """One reconcile that went through. `seconds` is how long it took."""

    topology: Topology
    plan: Plan
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that did not go through; `at` is in milliseconds since 1970."""

    at: int
    reason: str


class Reconciler:
    """The only writer of homes and chats.

    Args:
        adopt_unmarked: asked at every reconcile, because the setting can change.
    """

    def __init__(
        self,
        *,
        observer: Observer,
        store: Store,
        mirror: StateMirror,
        routes: Routes,
        adopt_unmarked: Callable[[], bool],
        log: TraceLogger,
    ) -> None:
        self._observer = observer
        self._store = store
        self._mirror = mirror
        self._routes = routes
        self._adopt_unmarked = adopt_unmarked
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._past: tuple[PastReconcile, ...] = ()
        self._findings: tuple[Finding, ...] = ()
        self._failure: Failure | None = None

    @property
    def past(self) -> tuple[PastReconcile, ...]:
        """The last reconciles that looked at everything, the newest first; before restarts, too.

        Empty until there was one since the start.
        """
        return self._past

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong in Matrix, as far as the last look at each room goes."""
        return self._findings

    @property
    def failure(self) -> Failure | None:
        """Why the last attempt to look at everything failed; None: it did not."""
        return self._failure

    async def run(self, *, dry_run: bool = False) -> Reconciled:
        """Look at everything and make the store agree with it; a dry run only decides.

        Raises:
            HomeserverError: there is no complete look. Nothing was changed.
            StoreError: the database failed. The transaction was rolled back.
        """
        async with self._one_at_a_time:
            try:
                done = await self._run(dry_run=dry_run)
            except (HomeserverError, StoreError) as e:
                self._failure = Failure(at=now(), reason=str(e))
                raise
            self._failure = None
            if not dry_run:
                await self._remember(done)
            return done

    async def _run(self, *, dry_run: bool) -> Reconciled:
        started = time.monotonic()
        topology = await self._observer.look()
        records = await self._store.snapshot()
        plan = await self._plan(topology, records)
        if not dry_run:
            await self._store.apply(plan.changes)
            await self._mirror.heal(topology)
            self._note_look(topology, whole=True)
            self._routes.load(records)
            self._routes.apply(plan.changes)
            self._findings = plan.findings
        done = Reconciled(topology=topology, plan=plan, seconds=time.monotonic() - started)
        self._report(done, title="Would reconcile" if dry_run else "Reconciled")
        return done

    async def _remember(self, done: Reconciled) -> None:
        """Keep what the status page shows; it is no reason to fail."""
        past = PastReconcile(
            finished_at=now(),
            milliseconds=round(done.seconds * 1000),
            rooms=done.plan.rooms,
            adopted=done.plan.adopted,
            updated=done.plan.updated,
            backfilled=done.plan.backfilled,
            left=done.plan.left,
            unreadable=len(done.plan.unreadable),
            findings=len(done.plan.findings),
        )
        self._past = (past, *self._past)[:KEEP_PAST]
        try:
            await self._store.note_reconcile(past, keep=KEEP_PAST)
            self._past = tuple(await self._store.reconciles(at_most=KEEP_PAST))
        except StoreError as e:
            self._log.warning("This reconcile will not be remembered: %s", e)

    async def look_again(self, room_ids: Iterable[RoomID]) -> Reconciled:
        """Look again at these rooms, and at everything else of the owners they belong to."""
        room_ids = frozenset(room_ids)

        async def look() -> Topology:
            owners = self._routes.owners(room_ids)
            return await self._observer.look_at(room_ids | self._routes.rooms_of(owners))

        async with self._one_at_a_time:
            return await self._reconcile_some(look, room_ids)

    async def look_for_new(self, owner: UserID) -> Reconciled:
        """Look at every joined room that was never read, and again at the owner's own."""

        async def look() -> Topology:
            return await self._observer.look_beyond(
                self._routes.known - self._routes.rooms_of(frozenset({owner}))
            )

        async with self._one_at_a_time:
            return await self._reconcile_some(look, frozenset(), also=frozenset({owner}))

    async def possible_homes(self) -> list[RoomID]:
        """The rooms that could not be read and may, for all that is known, be somebody's home."""
        return [
            room_id
            for room_id in sorted(self._routes.unknown)
            if await self._observer.could_be_ours(room_id)
        ]

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Forget all routes and look at nothing more until the next `run`.

        Inside the block no reconcile is under way, so that rows may be deleted.
        """
        async with self._one_at_a_time:
            self._routes.pause()
            self._findings = ()
            yield

    def _refuse_while_paused(self) -> None:
        if self._routes.is_paused:
            raise Unavailable("paused by !reset until !reconcile or a restart")

    async def _reconcile_some(
        self,
        look: Callable[[], Awaitable[Topology]],
        room_ids: frozenset[RoomID],
        *,
        also: frozenset[UserID] = frozenset(),
    ) -> Reconciled:
        """A look at some rooms is only compared with rows whose rooms were all looked at.

        The rows are the routes' own, which are what the store was last made to say: a row that
        somebody put into the database meanwhile was not looked at, and has to wait for `run`.
        """
        self._refuse_while_paused()
        started = time.monotonic()
        topology = await look()
        looked_at = room_ids | topology.rooms.keys()
        while True:
            owners = also | self._routes.owners(looked_at) | _owners_in(topology)
            missing = (self._routes.rooms_of(owners) | _upgrades_in(topology)) - looked_at
            if not missing:
                break
            more = await self._observer.look_at(missing)
            topology = Topology(bot=topology.bot, rooms={**topology.rooms, **more.rooms})
            looked_at |= missing

        plan = await self._plan(topology, self._routes.records_of(owners))
        await self._store.apply(plan.changes)
        await self._mirror.heal(topology)
        self._note_look(topology, whole=False)
        self._routes.apply(plan.changes)
        compared = topology.rooms.keys() | self._routes.rooms_of(owners)
        older = (f for f in self._findings if f.room_id not in compared)
        self._findings = (*older, *plan.findings)
        done = Reconciled(topology=topology, plan=plan, seconds=time.monotonic() - started)
        self._report(done, title="Looked again at" if plan.changes else None)
        return done

    async def _plan(self, topology: Topology, records: Records) -> Plan:
        """Decide, in a thread: other plugins live in this event loop."""
        return await asyncio.to_thread(
            make_plan, topology, records, adopt_unmarked=self._adopt_unmarked()
        )

    def _note_look(self, topology: Topology, *, whole: bool) -> None:
        before = self._routes.unreadable
        self._routes.note_look(topology, whole=whole)
        if before and not self._routes.unreadable:
            self._log.info("Every room could be read now")

    def _report(self, done: Reconciled, *, title: str | None) -> None:
        """Log what was decided; the summary only under a title."""
        plan = done.plan
        for change in plan.changes:
            self._log.debug("%s: %s -> %s", type(change).__name__, change.before, change.after)
        for finding in plan.findings:
            self._log.debug("Finding: %s", finding)
        for room in plan.unreadable:
            self._log.warning("Could not read %s, left as it is: %s", room.room_id, room.reason)
        if title is not None:
            self._log.info(
                "%s %d rooms: adopted %d, updated %d, backfilled %d, left %d, unreadable %d,"
                " findings %d, in %.2f s",
                title,
                plan.rooms,
                plan.adopted,
                plan.updated,
                plan.backfilled,
                plan.left,
                len(plan.unreadable),
                len(plan.findings),
                done.seconds,
            )


def _owners_in(topology: Topology) -> frozenset[UserID]:
    """Whose these rooms are by their markers, and whose a Space without one may turn out to be."""
    marked = {room.marker.user_id for room in topology.read() if room.marker}
    companions = (
        (room.users("join") | room.users("invite")) - {topology.bot}
        for room in topology.read()
        if room.marker is None and room.is_space and room.creator == topology.bot
    )
    return frozenset(marked).union(*(users for users in companions if len(users) == 1))


def _upgrades_in(topology: Topology) -> frozenset[RoomID]:
    """What these rooms say that they replaced, or were replaced by: one does not go alone."""
    return frozenset(
        room_id
        for room in topology.read()
        for room_id in (room.predecessor, room.replacement)
        if room_id is not None
    )
