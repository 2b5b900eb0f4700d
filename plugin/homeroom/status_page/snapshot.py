"""Everything that the status page shows, taken at one moment and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from mautrix.types import RoomID, UserID

from ..config import NotInForce
from ..delivery.answer_stream import Streamer
from ..delivery.handled import HandledMarks
from ..delivery.inbox import Inbox
from ..delivery.lanes import Lanes, Waiting
from ..delivery.sync_feed import SyncFeed
from ..domain.homes.model import Records
from ..domain.homes.plan import Finding
from ..homes.reconciler import Failure, Reconciler
from ..homes.remote_checkpoint import RemoteCheckpoint
from ..homes.routes import Routes
from ..matrix.homeserver import Homeserver
from ..matrix.outgoing import OutgoingFigures
from ..matrix.own_trust import OwnTrust, TrustCheck
from ..matrix.retrying_api import Health
from ..platforms.health import AgentHealth, Figures
from ..runtime.tasks import Background
from ..runtime.watchdog import Holds, Watchdog
from ..storage import PastReconcile, Store, StoreError

SILENT_AFTER: Final = 90 * 1000
"""Milliseconds without a response of `/sync`, which is asked again every half minute."""


class Condition(str, Enum):
    """Whether messages are answered; the word that `/healthz` says."""

    OK = "ok"
    SETTINGS = "settings"
    RECONCILING = "reconciling"
    CATCHING_UP = "catching-up"
    PAUSED = "paused"
    SILENT = "silent"
    STORAGE = "storage"
    SIGNED_OUT = "signed-out"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """Messages on their way; times are in milliseconds since 1970."""

    in_hand: int = 0
    waiting: int = 0
    """For the one before in the same room, or until the platform has a turn for them."""
    done: int = 0
    """Since the start."""
    responses: int = 0
    """Sync responses that are not taken in yet."""
    behind_since: int | None = None
    """When the oldest message that is not done came in; None: the position is up to date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What somebody has to wait for, and nobody else does."""

    lanes: tuple[Waiting, ...] = ()
    """Rooms that fail or are parked."""
    storage: str | None = None
    """Why what is done cannot be written down; None: it can."""
    unwritten: int = 0
    """Events that are done, and only noted in memory."""
    passed_over: int = 0
    """Messages that were too old to be answered, since the start."""
    dead_tasks: int = 0
    """Background tasks that died of a bug, since the start."""
    holds: Holds = field(default_factory=Holds)
    """Of the event loop."""
    clock_ahead: int = 0
    """Milliseconds by which this machine's clock is ahead of the homeserver's; 0: it is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the page, `status.json` and `/metrics` show."""

    bot: UserID
    version: str
    taken_at: int
    condition: Condition
    settings: NotInForce = field(default_factory=NotInForce)
    """What was saved and does not count."""
    is_observed: bool = False
    """Whether the rows were compared with what the homeserver says; if not, they are as stored."""
    failure: Failure | None = None
    """Why the last attempt to look at everything failed."""
    records: Records | None = None
    """None: unknown, or not asked for."""
    activity: Mapping[RoomID, int] = field(default_factory=dict)
    """When the last message of a room was done; rooms of which nothing is known are left out."""
    past: tuple[PastReconcile, ...] = ()
    """The newest first."""
    findings: tuple[Finding, ...] = ()
    unreadable: frozenset[RoomID] = frozenset()
    queues: Queues = field(default_factory=Queues)
    homeserver: Health = field(default_factory=Health)
    synced_at: int | None = None
    own_trust: OwnTrust = field(default_factory=OwnTrust)
    agent: Figures = field(default_factory=Figures)
    isolation: Isolation = field(default_factory=Isolation)
    outgoing: OutgoingFigures = field(default_factory=OutgoingFigures)
    checkpoint_at: int | None = None
    """Of when the checkpoint in the account data is; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where it all comes from while the bot runs."""

    agent: AgentHealth
    store: Store
    homeserver: Homeserver
    routes: Routes
    reconciler: Reconciler
    remote_checkpoint: RemoteCheckpoint
    inbox: Inbox
    streamer: Streamer
    feed: SyncFeed
    lanes: Lanes
    handled: HandledMarks
    background: Background
    watchdog: Watchdog
    own_trust: TrustCheck

    def isolation(self) -> Isolation:
        return Isolation(
            lanes=self.lanes.waiting,
            storage=self.handled.trouble,
            unwritten=self.handled.unwritten,
            passed_over=self.feed.passed_over,
            dead_tasks=self.background.deaths,
            holds=self.watchdog.holds,
            clock_ahead=self.homeserver.clock.ahead,
        )


async def take(
    sources: Sources,
    *,
    version: str,
    now: int,
    settings: NotInForce,
    opened_at: int | None,
    with_rows: bool,
) -> Snapshot:
    """Read all of it; `opened_at`: since when events are handled."""
    inbox, routes, reconciler = sources.inbox, sources.routes, sources.reconciler
    try:
        activity = dict(await inbox.activity())
    except StoreError:
        activity = {}  # unknown, and asked for again the next time
    in_hand = inbox.busy_rooms - sources.streamer.in_line
    is_observed = bool(reconciler.past) and not routes.is_paused
    snapshot = Snapshot(
        bot=sources.homeserver.bot,
        version=version,
        taken_at=now,
        condition=Condition.OK,
        settings=settings,
        is_observed=is_observed,
        failure=reconciler.failure,
        records=await _records(with_rows, routes if is_observed else None, sources.store),
        activity=activity,
        past=reconciler.past,
        findings=reconciler.findings,
        unreadable=routes.unreadable,
        queues=Queues(
            in_hand=in_hand,
            waiting=max(inbox.not_done - in_hand, 0),
            done=inbox.done,
            responses=sources.feed.waiting,
            behind_since=inbox.behind_since,
        ),
        homeserver=replace(sources.homeserver.health),
        synced_at=sources.feed.last_response_at,
        own_trust=sources.own_trust.now,
        agent=replace(sources.agent.figures, waiting=sources.streamer.in_line),
        isolation=sources.isolation(),
        outgoing=sources.homeserver.outgoing,
        checkpoint_at=sources.remote_checkpoint.written_of,
    )
    condition = _condition(snapshot, opened_at, routes.is_paused)
    if condition is Condition.OK and not sources.feed.keeps_position:
        condition = Condition.SILENT  # the homeserver has gone back in time
    return replace(snapshot, condition=condition)


async def take_without_settings(
    *,
    bot: UserID,
    version: str,
    now: int,
    settings: NotInForce,
    with_rows: bool,
    store: Store,
) -> Snapshot:
    """Read what there is to read while nothing runs."""
    return Snapshot(
        bot=bot,
        version=version,
        taken_at=now,
        condition=Condition.SETTINGS if settings.problems else Condition.RECONCILING,
        settings=settings,
        records=await _records(with_rows, None, store),
    )


async def _records(with_rows: bool, routes: Routes | None, store: Store) -> Records | None:
    """The rows as they were observed, or else as they are stored."""
    if not with_rows:
        return None
    if routes is not None:
        return routes.records
    try:
        return await store.snapshot()
    except StoreError:
        return None


def _condition(snapshot: Snapshot, opened_at: int | None, is_paused: bool) -> Condition:
    if snapshot.homeserver.signed_out is not None:
        return Condition.SIGNED_OUT
    if not snapshot.past:
        return Condition.RECONCILING
    if opened_at is None:
        return Condition.CATCHING_UP
    if is_paused:
        return Condition.PAUSED
    heard_at = max(snapshot.synced_at or 0, opened_at)
    if snapshot.taken_at - heard_at > SILENT_AFTER:
        return Condition.SILENT
    if snapshot.isolation.storage is not None:
        return Condition.STORAGE
    return Condition.OK
