"""What wiring builds from, and what it returns: one instance of maubot's, and the app for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from maubot.matrix import MaubotMatrixClient
from mautrix.util.logging import TraceLogger

from .config import LiveSettings
from .delivery.answer_stream import Streamer
from .delivery.attempts import Attempts
from .delivery.handled import HandledMarks
from .delivery.inbox import Inbox
from .delivery.lanes import Lanes
from .delivery.parking import Parking
from .delivery.sync_feed import SyncFeed
from .domain.homes.checkpoint import Origin
from .homes.reconciler import Reconciler
from .homes.remote_checkpoint import RemoteCheckpoint
from .homes.routes import Routes
from .matrix.encryption import Encryption
from .platforms.configured import ChosenPlatform
from .runtime.clock import now
from .runtime.tasks import Background
from .startup.account_watch import AccountWatch
from .startup.instance_watch import InstanceWatch
from .startup.maintenance import Maintenance
from .startup.start import Startup
from .status_page import Condition, Snapshot, Sources, take
from .storage import UPGRADES, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What maubot gives to one instance, and what lives as long as it.

    `register` has maubot call the handlers of an object; `superseded` is called when another
    instance with the same account is newer.
    """

    client: MaubotMatrixClient
    name: str
    store: Store
    version: str
    register: Callable[[object], None]
    settings: LiveSettings
    encryption: Encryption
    background: Background
    superseded: Callable[[], None]
    log: TraceLogger

    def origin(self) -> Origin:
        """What a checkpoint depends on besides the rows."""
        return Origin(
            bot=self.client.mxid,
            homeserver=str(self.client.api.base_url),
            version=self.version,
            schema=len(UPGRADES.upgrades),
            adopt_unmarked=self.settings().adopt_unmarked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that has to be started, stopped or shown."""

    settings: LiveSettings
    store: Store
    routes: Routes
    reconciler: Reconciler
    remote_checkpoint: RemoteCheckpoint
    platform: ChosenPlatform
    streamer: Streamer
    inbox: Inbox
    handled: HandledMarks
    lanes: Lanes
    parking: Parking
    attempts: Attempts
    feed: SyncFeed
    startup: Startup
    maintenance: Maintenance
    account: AccountWatch
    watch: InstanceWatch
    status: Sources

    async def snapshot(self, *, version: str, with_rows: bool) -> Snapshot:
        """What the status page shows."""
        snapshot = await take(
            self.status,
            version=version,
            now=now(),
            settings=self.settings.not_in_force,
            opened_at=self.startup.opened_at,
            with_rows=with_rows,
        )
        if self.watch.is_superseded:
            return replace(snapshot, condition=Condition.SUPERSEDED)
        return snapshot

    async def go_idle(self) -> None:
        """Answer nothing any more, and leave what is open to the instance that is newer."""
        self.feed.close()
        self.streamer.stop()
        await self.watch.background.stop()
