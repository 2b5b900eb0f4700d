"""Reconcile: read the rows, scan, decide, write.

    records  = store.snapshot()
    topology = observer.scan()          the homeserver, reads only
    plan     = make_plan(topology, records)
    store.apply(plan.changes)
    mautrix_state.heal(topology), routes.load(...)

The same five steps serve the start, `!reconcile`, its dry run, and every live event, which never
edits a row but names the rooms to scan again. One reconcile at a time; nobody else writes
rows, so what is in the store between the snapshot and the apply cannot change.

A start may `resume` instead: with rows that a checkpoint says were the truth at some position,
only the rooms are scanned of which something was said since. `verify` compares that with a whole
scan afterwards, while the bot works.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..domain.homes.checkpoint import Digest
from ..domain.homes.model import Records
from ..domain.homes.plan import Change, Finding, Plan, SetHome
from ..domain.homes.planner import make_plan
from ..domain.homes.topology import Topology, Unreadable
from ..matrix.errors import HomeserverError, Unavailable
from ..runtime.clock import now
from ..runtime.gc_tuning import large_garbage, many_objects
from ..storage import PastReconcile, Store, StoreError
from .change_log import sentence, summary
from .checkpoint_state import CheckpointState
from .mautrix_state import MautrixState
from .observation import Observer, Progress
from .routes import Routes

KEEP_PAST: Final = 50
"""Reconciles that are remembered."""
TOLD_AT_ONCE: Final = 5
"""Changes that are told one by one."""
LINES_AT_ONCE: Final = 100
"""More lines of log than that are written in a thread."""
UPGRADES_AT_MOST: Final = 20
"""Upgrades in a row that a look at some rooms follows; chats that have rows do not count."""
RESTS: Final = 1.0
"""Seconds of rest for each second of asking, of a scan that nobody waits for."""
OnProgress = Callable[[Progress], None]


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


@dataclass(slots=True, kw_only=True)
class Reconciler:
    """The only writer of homes and chats.

    Args:
        adopt_unmarked: asked at every reconcile, because the setting can change.
    """

    observer: Observer
    store: Store
    mautrix_state: MautrixState
    routes: Routes
    checkpoint_state: CheckpointState
    adopt_unmarked: Callable[[], bool]
    log: TraceLogger
    past: tuple[PastReconcile, ...] = field(init=False, default=())
    """The last reconciles that scanned everything, the newest first; from before restarts, too.

    Empty until there was one since the start.
    """
    findings: tuple[Finding, ...] = field(init=False, default=())
    """What is wrong in Matrix, as far as the last scan of each room goes."""
    failure: Failure | None = field(init=False, default=None)
    """Why the last attempt to scan everything failed; None: it did not."""
    _one_at_a_time: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    async def run(
        self, *, dry_run: bool = False, on_progress: OnProgress | None = None
    ) -> Reconciled:
        """Scan everything and make the store agree with it; a dry run only decides.

        Raises:
            HomeserverError: there is no complete scan. Nothing was changed.
            StoreError: the database failed. The transaction was rolled back.
        """
        async with self._one_at_a_time:
            with self._noting_failure(), many_objects():
                done = await self._run(dry_run=dry_run, on_progress=on_progress)
            if not dry_run:
                await self._remember(done)
            return done

    async def _run(self, *, dry_run: bool, on_progress: OnProgress | None) -> Reconciled:
        started = time.monotonic()
        records = await self.store.snapshot()

        def report(progress: Progress) -> None:
            self._say_how_far(progress)
            if on_progress is not None:
                on_progress(progress)

        topology = await self.observer.scan(expected=records.joined, on_progress=report)
        scanned = time.monotonic()
        plan = await self._plan(topology, records)
        decided = time.monotonic()
        if not dry_run:
            digest = await asyncio.to_thread(lambda: Digest.of(records).after(plan.changes))
            self.checkpoint_state.note_due(plan)
            await self._write(plan, digest, rescanned=topology)
            self._note_scan(topology, whole=True)
            self.routes.load(records)
            self.routes.apply(plan.changes)
            self.findings = plan.findings
            await self._note_checkpoint()
        self.log.debug(
            "Scanned for %.2f s, decided in %.2f s, wrote for %.2f s",
            scanned - started,
            decided - scanned,
            time.monotonic() - decided,
        )
        done = Reconciled(topology=topology, plan=plan, seconds=time.monotonic() - started)
        await self._report(done, title="Would reconcile" if dry_run else "Reconciled")
        return done

    async def _write(self, plan: Plan, digest: Digest | None, *, rescanned: Topology) -> None:
        """Make the databases say what the plan says. Until they do there is no checkpoint."""
        self.checkpoint_state.invalidate()
        await self.store.apply(plan.changes)
        await self.mautrix_state.heal(rescanned)
        self.checkpoint_state.digest = digest

    async def resume(
        self, records: Records, digest: Digest, changed: frozenset[RoomID], *, bot: UserID
    ) -> Reconciled:
        """Go on with rows that are true but for these rooms, which are scanned again.

        Raises:
            HomeserverError, StoreError: as `run`; then it is as if there had been no resuming.
        """
        async with self._one_at_a_time:
            started = time.monotonic()
            self.routes.resume(records)
            self.checkpoint_state.digest = digest
            try:
                done = Reconciled(topology=Topology(bot=bot), plan=Plan(), seconds=0.0)
                if changed:
                    done = await self._scan_some(changed)
            except BaseException:
                self.routes.load(Records())
                raise
            done = replace(
                done,
                plan=replace(done.plan, rooms=len(self.routes.records.room_ids)),
                seconds=time.monotonic() - started,
            )
            await self._report(done, title="Reconciled")
            await self._remember(done)
            return done

    async def verify(self, news: Callable[[], Awaitable[frozenset[RoomID]]]) -> Reconciled:
        """Compare what is known with a whole scan, in no hurry and in nobody's way.

        What differs is scanned again, as after news. If there were no news of it since the
        start, the checkpoint was wrong: that is a bug, and reported as one.

        Args:
            news: which rooms something was said of since the position of the checkpoint.

        Raises:
            HomeserverError, StoreError: there is no complete scan, or no second one.
        """
        started = time.monotonic()
        with self._noting_failure(), many_objects():
            topology = await self.observer.scan(
                expected=self.routes.records.joined, rest=RESTS, on_progress=self._say_how_far
            )
            plan = await self._plan(topology, self.routes.records)
            if plan.changes:
                self._report_drift(plan.changes, await news())
            outdated = await self.mautrix_state.outdated(topology)
            async with self._one_at_a_time:
                self._refuse_while_paused()
                self._note_scan(topology, whole=True)
                self.findings = plan.findings
                self.checkpoint_state.note_due(plan)
                self.checkpoint_state.digest = await asyncio.to_thread(
                    Digest.of, self.routes.records
                )
                differs = frozenset(map(_room_of, plan.changes)) | outdated
                if differs:
                    await self._scan_some(differs)
                await self._note_checkpoint()
            done = Reconciled(topology=topology, plan=plan, seconds=time.monotonic() - started)
            await self._report(done, title="Verified")
        await self._remember(done)
        return done

    def _report_drift(self, changes: Iterable[Change], news: frozenset[RoomID]) -> None:
        told = self.routes.owners(news) | {
            change.after.matrix_user_id for change in changes if _room_of(change) in news
        }
        drift = [change for change in changes if change.after.matrix_user_id not in told]
        if drift:
            self.log.error(
                "%d rows of the checkpoint were not true; they are mended now. Please report"
                " this: %s",
                len(drift),
                "; ".join(f"{change.before} -> {change.after}" for change in drift[:3]),
            )

    def _say_how_far(self, progress: Progress) -> None:
        left = progress.seconds_left
        self.log.info(
            "Looked at %d of %d rooms, %d a second%s",
            progress.done,
            progress.total,
            progress.per_second,
            "" if left is None else f", about {left:.0f} s to go",
        )

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except (HomeserverError, StoreError) as e:
            self.failure = Failure(at=now(), reason=str(e))
            raise
        self.failure = None

    async def _note_checkpoint(self) -> None:
        """It makes the next start faster; it is no reason to fail."""
        try:
            await self.store.note_checkpoint(self.checkpoint_state.checkpoint)
        except StoreError as e:
            self.log.warning("The next start will scan everything: %s", e)

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
        self.past = (past, *self.past)[:KEEP_PAST]
        try:
            await self.store.note_reconcile(past, keep=KEEP_PAST)
            self.past = tuple(await self.store.reconciles(at_most=KEEP_PAST))
        except StoreError as e:
            self.log.warning("This reconcile will not be remembered: %s", e)

    async def rescan(self, room_ids: Iterable[RoomID]) -> Reconciled:
        """Scan these rooms again, and everything else of the owners that they belong to."""
        async with self._one_at_a_time:
            return await self._scan_some(frozenset(room_ids))

    async def _scan_some(self, room_ids: frozenset[RoomID]) -> Reconciled:
        async def scan() -> Topology:
            records = self.routes.records_of(self.routes.owners(room_ids))
            return await self.observer.scan_rooms(
                room_ids | records.room_ids, expected=records.joined
            )

        return await self._reconcile_some(scan, room_ids)

    async def scan_for_new(self, owner: UserID) -> Reconciled:
        """Scan every joined room that was never read, and again the owner's own."""
        return await self._scan_others(frozenset({owner}))

    async def scan_unknown(self) -> Reconciled:
        """Scan every joined room that was never read."""
        return await self._scan_others(frozenset())

    async def _scan_others(self, owners: frozenset[UserID]) -> Reconciled:
        async def scan() -> Topology:
            records = self.routes.records_of(owners)
            return await self.observer.scan_others(
                self.routes.known - records.room_ids, expected=records.joined
            )

        async with self._one_at_a_time:
            return await self._reconcile_some(scan, frozenset(), also=owners)

    async def possible_homes(self) -> list[RoomID]:
        """The rooms that could not be read and may, for all that is known, be somebody's home."""
        return [
            room_id
            for room_id in sorted(self.routes.unknown)
            if await self.observer.could_be_ours(room_id)
        ]

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Forget all routes and scan nothing more until the next `run`.

        Inside the block no reconcile is under way, so that rows may be deleted.
        """
        async with self._one_at_a_time:
            self.routes.pause()
            self.findings = ()
            self.checkpoint_state.invalidate()
            yield

    def _refuse_while_paused(self) -> None:
        if self.routes.is_paused:
            raise Unavailable("paused by !reset until !reconcile or a restart")

    async def _reconcile_some(
        self,
        scan: Callable[[], Awaitable[Topology]],
        room_ids: frozenset[RoomID],
        *,
        also: frozenset[UserID] = frozenset(),
    ) -> Reconciled:
        """Compare a scan of some rooms with the rows whose rooms were all scanned.

        The rows are the routes' own, which are what the store was last made to say: a row that
        somebody put into the database meanwhile was not scanned, and has to wait for `run`.
        """
        self._refuse_while_paused()
        started = time.monotonic()
        with self.checkpoint_state.invalidated() as digest:
            topology, owners = await self._scan_as_far_as_needed(scan, room_ids, also=also)
            compared = topology.rooms.keys() | self.routes.rooms_of(owners)
            plan = await self._plan(topology, self.routes.records_of(owners))
            self.checkpoint_state.note_due(plan, instead_of=compared)
            await self._write(plan, digest and digest.after(plan.changes), rescanned=topology)
        self._note_scan(topology, whole=False)
        self.routes.apply(plan.changes)
        await self._note_checkpoint()
        compared |= self.routes.rooms_of(owners)
        older = (f for f in self.findings if f.room_id not in compared)
        self.findings = (*older, *plan.findings)
        done = Reconciled(topology=topology, plan=plan, seconds=time.monotonic() - started)
        self._tell(plan)
        return done

    async def _scan_as_far_as_needed(
        self,
        scan: Callable[[], Awaitable[Topology]],
        room_ids: frozenset[RoomID],
        *,
        also: frozenset[UserID],
    ) -> tuple[Topology, frozenset[UserID]]:
        """Scan, and also all other rooms of everybody whom it is about; and who that is."""
        topology = await scan()
        rescanned = room_ids | topology.rooms.keys()
        for step in itertools.count(1):
            owners = also | self.routes.owners(rescanned) | _owners_in(topology)
            own = self.routes.rooms_of(owners) - rescanned
            upgrades = _upgrades_in(topology) - rescanned - own
            if not own and not upgrades:
                return topology, owners
            expected = self.routes.records_of(owners).joined
            more = (await self.observer.scan_rooms(own | upgrades, expected=expected)).rooms
            if step > UPGRADES_AT_MOST:
                more = {
                    room_id: _too_far(room_id) if room_id in upgrades else room
                    for room_id, room in more.items()
                }
            topology = Topology(bot=topology.bot, rooms={**topology.rooms, **more})
            rescanned |= own | upgrades
        raise AssertionError("count() does not end")

    async def _plan(self, topology: Topology, records: Records) -> Plan:
        """Decide, in a thread: other plugins live in this event loop."""
        adopt_unmarked = self.adopt_unmarked()

        def decide() -> Plan:
            with large_garbage():
                return make_plan(topology, records, adopt_unmarked=adopt_unmarked)

        return await asyncio.to_thread(decide)

    def _note_scan(self, topology: Topology, *, whole: bool) -> None:
        before = self.routes.unreadable
        self.routes.note_scan(topology, whole=whole)
        if before and not self.routes.unreadable:
            self.log.info("Every room could be read now")

    async def _report(self, done: Reconciled, *, title: str) -> None:
        """Log what was decided in one line, and each change for whoever wants to know."""
        plan = done.plan
        if len(plan.changes) + len(plan.findings) > LINES_AT_ONCE:
            await asyncio.to_thread(self._log_each, plan)
        else:
            self._log_each(plan)
        self.log.info("%s %d rooms in %.2f s: %s", title, plan.rooms, done.seconds, summary(plan))

    def _tell(self, plan: Plan) -> None:
        """Log what has changed while the bot works: a sentence each, unless there are many."""
        self._log_each(plan)
        for change in plan.changes[:TOLD_AT_ONCE]:
            self.log.info("%s", sentence(change))
        if len(plan.changes) > TOLD_AT_ONCE:
            self.log.info("%d more rows have changed", len(plan.changes) - TOLD_AT_ONCE)

    def _log_each(self, plan: Plan) -> None:
        for change in plan.changes:
            self.log.debug("%s", sentence(change))
        for finding in plan.findings:
            self.log.debug("Finding: %s", finding)
        for room in plan.unreadable:
            self.log.warning("Could not read %s, left as it is: %s", room.room_id, room.reason)


def _room_of(change: Change) -> RoomID:
    return change.after.space_id if isinstance(change, SetHome) else change.after.room_id


def _owners_in(topology: Topology) -> frozenset[UserID]:
    """Whose these rooms are by their markers, and whose a Space without one may turn out to be."""
    marked = {room.marker.user_id for room in topology.read() if room.marker}
    companions = (
        (room.users("join") | room.users("invite")) - {topology.bot}
        for room in topology.read()
        if room.marker is None and room.is_space and room.creator == topology.bot
    )
    return frozenset(marked).union(*(users for users in companions if len(users) == 1))


def _too_far(room_id: RoomID) -> Unreadable:
    """A room that is left for a look of its own: somebody may have made a very long chain."""
    return Unreadable(
        room_id=room_id, reason=f"{UPGRADES_AT_MOST} upgrades away from what is known"
    )


def _upgrades_in(topology: Topology) -> frozenset[RoomID]:
    """What these rooms say that they replaced, or were replaced by: one does not go alone."""
    return frozenset(
        room_id
        for room in topology.read()
        for room_id in (room.predecessor, room.replacement)
        if room_id is not None
    )
