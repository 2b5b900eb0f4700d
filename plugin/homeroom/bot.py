"""The plugin's life: builds, connects, starts and stops; decides nothing.

    start   read the settings; reconcile; then, and only then, open the doors
    doors   register the handlers, deliver what arrived meanwhile, repair in the background
    stop    close the doors, end what is running, write the position last

Nothing that may pass makes `start()` fail, because maubot would disable the instance for good:
while the homeserver or the settings are not usable, Homeroom waits, says so in the log, and goes
on by itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

from maubot.plugin_base import Plugin
from mautrix.util.async_db import Database, UpgradeTable

from . import replies
from .adapters.errors import HomeserverError
from .adapters.homeserver import Homeserver
from .adapters.observation import Observer
from .adapters.platforms.echo import EchoPlatform
from .adapters.state_mirror import StateMirror
from .adapters.store import UPGRADES, Store, StoreError
from .background import Background
from .catch_up import RETRY_AFTER, CatchUp
from .clock import now
from .commands import Commands
from .config import Config, ConfigError, Settings, read_admins, read_settings
from .deliver import Delivery
from .domain.events import next_batch
from .handlers import Doors, FirstResponse, SyncHandlers
from .idle import IdleHandlers
from .inbox import Inbox
from .locks import OwnerLocks
from .provision import Provisioner
from .reconcile import Reconciled, Reconciler
from .repair import Repairer
from .reset import Resetter
from .routes import Routes
from .speak import Speaker
from .upkeep import Upkeep
from .waits import waits

DRAIN_FOR: Final = 5.0
"""Seconds that a stop waits for the answers that are in hand."""
RESTART_KEYS: Final = ("start_timeout", "concurrency", "parallel_turns", "platform")
"""Settings that are only read at the start of the instance."""


class Homeroom(Plugin):
    settings: Settings
    config_error: ConfigError | None
    idle: IdleHandlers
    background: Background
    homeserver: Homeserver
    speaker: Speaker
    store: Store
    reconciler: Reconciler
    repairer: Repairer
    inbox: Inbox | None
    doors: Doors
    catch_up: CatchUp
    upkeep: Upkeep

    @classmethod
    def get_config_class(cls) -> type[Config]:
        return Config

    @classmethod
    def get_db_upgrade_table(cls) -> UpgradeTable:
        return UPGRADES

    async def start(self) -> None:
        self.inbox = None
        self.config_error = None
        self.background = Background(log=self.log)
        if not self._read_settings():
            self._stay_idle()
            return
        await self._come_up()

    async def pre_stop(self) -> None:
        # Before maubot removes the handlers: whoever is about to register some must be gone.
        if self.inbox is not None:
            await self.inbox.drain(seconds=DRAIN_FOR)
        await self.background.stop()

    async def stop(self) -> None:
        if self.inbox is not None:
            try:
                await self.inbox.save_position(now=True)
            except StoreError as e:
                self.log.warning("The place in the timeline was not saved: %s", e)

    async def on_external_config_update(self) -> None:
        was_idle = self.config_error is not None
        before = None if was_idle else self.settings
        if not self._read_settings():
            return
        if was_idle:
            self.log.info("The settings can be used now")
            self.idle.close()
            await self._come_up()
        elif changed := [
            key for key in RESTART_KEYS if getattr(before, key) != getattr(self.settings, key)
        ]:
            self.log.info("Saved; restart the instance to apply: %s", ", ".join(changed))

    # Settings

    def _read_settings(self) -> bool:
        """Take over the settings if they can be used; else keep the last good ones."""
        assert isinstance(self.config, Config)
        try:
            self.config.load()
            settings = read_settings(self.config.values)
            self.config.update()
        except ConfigError as e:
            if not hasattr(self, "settings"):
                self.config_error = e
            self.log.error(
                "The settings cannot be used, so Homeroom %s:%s",
                "does nothing until they are mended"
                if self.config_error
                else "goes on with the last good settings",
                "".join(f"\n- {problem}" for problem in e.problems),
            )
            return False
        self.settings = settings
        self.config_error = None
        for key in self.config.unknown_keys():
            self.log.warning("Settings: %s is not a key of Homeroom's; it is kept, not used", key)
        return True

    def _stay_idle(self) -> None:
        assert isinstance(self.config, Config)
        config = self.config
        self.idle = IdleHandlers(
            bot=self.client.mxid,
            speaker=Speaker(Homeserver(self.client, log=self.log, concurrency=1)),
            admins=lambda: read_admins(config.values),
            explanation=self._explain,
            background=self.background,
            log=self.log,
        )
        self.register_handler_class(self.idle)

    def _explain(self) -> str:
        assert self.config_error is not None
        return replies.bad_settings(self.config_error.problems)

    # Coming up

    def _build(self) -> None:
        """Make the collaborators and give each what it uses."""
        assert isinstance(self.database, Database)
        routes, locks = Routes(), OwnerLocks()
        self.homeserver = Homeserver(
            self.client, log=self.log, concurrency=self.settings.concurrency
        )
        self.speaker = Speaker(self.homeserver)
        self.store = Store(self.database, now=now)
        observer = Observer(self.homeserver, log=self.log)
        self.reconciler = Reconciler(
            observer=observer,
            store=self.store,
            mirror=StateMirror(self.client.state_store, log=self.log),
            routes=routes,
            adopt_unmarked=lambda: self.settings.adopt_unmarked,
            log=self.log,
        )
        self.repairer = Repairer(
            homeserver=self.homeserver,
            reconciler=self.reconciler,
            routes=routes,
            locks=locks,
            log=self.log,
        )
        provisioner = Provisioner(
            homeserver=self.homeserver,
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            store=self.store,
            speaker=self.speaker,
            locks=locks,
            settings=lambda: self.settings,
            log=self.log,
        )
        resetter = Resetter(
            homeserver=self.homeserver,
            observer=observer,
            store=self.store,
            reconciler=self.reconciler,
            speaker=self.speaker,
            settings=lambda: self.settings,
            log=self.log,
        )
        commands = Commands(
            homeserver=self.homeserver,
            provisioner=provisioner,
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            speaker=self.speaker,
            background=self.background,
            settings=lambda: self.settings,
            resetter=resetter,
            log=self.log,
        )
        delivery = Delivery(
            homeserver=self.homeserver,
            platform=EchoPlatform(),
            store=self.store,
            routes=routes,
            provisioner=provisioner,
            commands=commands,
            speaker=self.speaker,
            background=self.background,
            settings=lambda: self.settings,
            log=self.log,
        )
        self.inbox = Inbox(
            bot=self.client.mxid,
            handle=delivery.handle,
            turn_away=delivery.turn_away,
            store=self.store,
            background=self.background,
            settings=lambda: self.settings,
            log=self.log,
        )
        self.doors = Doors(
            bot=self.client.mxid,
            inbox=self.inbox,
            provisioner=provisioner,
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            background=self.background,
            log=self.log,
        )
        self.upkeep = Upkeep(
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            inbox=self.inbox,
            log=self.log,
        )
        self.catch_up = CatchUp(
            homeserver=self.homeserver, routes=routes, take_in=self.doors.take_in, log=self.log
        )

    async def _come_up(self) -> None:
        """Reconcile, then open the doors; in the background if it takes longer than a moment."""
        self._build()
        ready = asyncio.Event()
        self.background.start(self._reconcile_and_open(ready), name="starting")
        try:
            await asyncio.wait_for(ready.wait(), self.settings.start_timeout)
        except asyncio.TimeoutError:
            self.log.warning(
                "The homeserver was not looked at within %d s; going on in the background,"
                " nothing is answered until then",
                self.settings.start_timeout,
            )

    async def _reconcile_and_open(self, ready: asyncio.Event) -> None:
        try:
            first = FirstResponse()
            self.register_handler_class(first)
            done = await self._reconcile_until_it_works()
            self.register_handler_class(SyncHandlers(self.catch_up))
            await self._deliver_since(done, first=first)
        finally:
            ready.set()
        self.background.start(self.catch_up.run(), name="taking in responses")
        for invite in done.topology.invites:
            self.doors.invited(invite)
        self.background.start(self.repairer.run(done.plan.repairs), name="repairing")
        self.background.start(self.upkeep.reread(), name="reading the unreadable again")
        self.background.start(self.upkeep.prune(), name="pruning")

    async def _reconcile_until_it_works(self) -> Reconciled:
        for seconds in waits(RETRY_AFTER):
            try:
                return await self.reconciler.run()
            except (HomeserverError, StoreError) as e:
                self.log.warning("Could not reconcile: %s", e)
            except Exception:  # a bug must not leave the bot dead until a restart
                self.log.exception("Error while reconciling")
            self.log.info("Reconciling again in %d s; nothing is answered until then", seconds)
            await asyncio.sleep(seconds)
        raise AssertionError("waits() does not end")

    async def _deliver_since(self, done: Reconciled, *, first: FirstResponse) -> None:
        """Deliver what happened since the last position that is known to be handled.

        Without one the chats themselves say what was not answered, and what maubot was told and
        threw away says what else came.
        """
        stored = await self.store.position()
        max_age = self.settings.catch_up_max_age
        observed = done.topology.position
        assert observed is not None
        not_before = now() - max_age * 1000
        if stored is not None and stored.bot == self.client.mxid and max_age > 0:
            await self.catch_up.since(stored.token, or_else=observed, not_before=not_before)
            return
        begin = observed
        if max_age > 0:
            await self.catch_up.unanswered(not_before=not_before)
        if first.response is not None and max_age > 0:
            await self.catch_up.take(first.response, not_before=not_before, is_live=False)
            # Not from the look that worked: others may have failed, for hours, before it.
            begin = next_batch(first.response) or observed
        await self.catch_up.since(begin, or_else=observed, not_before=not_before)
