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
from .commands.dispatch import Commands
from .commands.reset import Resetter
from .config import (
    Config,
    ConfigError,
    NotInForce,
    Problem,
    Settings,
    awaits_restart,
    read_admins,
    read_settings,
    read_status_token,
)
from .delivery.answer_stream import Streamer
from .delivery.decryption import Decryption
from .delivery.dispatcher import EventDispatcher
from .delivery.inbox import Inbox
from .delivery.message_handler import MessageHandler
from .delivery.room_history import RoomHistory
from .delivery.sync_feed import SyncFeed
from .delivery.welcomes import Welcomes
from .domain.homes.checkpoint import Origin
from .homes.checkpoint_state import CheckpointState
from .homes.mautrix_state import MautrixState
from .homes.observation import Observer
from .homes.owner_locks import OwnerLocks
from .homes.provisioner import Provisioner
from .homes.reconciler import Reconciler
from .homes.repairer import Repairer
from .homes.routes import Routes
from .matrix.early_keys import take_early_keys
from .matrix.encryption import Encryption, why_not
from .matrix.homeserver import Homeserver
from .matrix.messages import Speaker
from .matrix.typing_notice import TypingNotice
from .platforms.configured import ChosenPlatform
from .runtime.clock import now
from .runtime.tasks import Background
from .startup.maintenance import Maintenance
from .startup.resume import Resumption
from .startup.start import Startup
from .startup.without_settings import WithoutSettings
from .status_page import FILES, Condition, Snapshot, StatusPage, take
from .storage import UPGRADES, Store, StoreError

DRAIN_FOR: Final = 5.0
"""Seconds that a stop waits for the answers that are in hand."""


class Homeroom(Plugin):
    settings: Settings
    started_with: Settings
    config_error: ConfigError | None
    """Why there are no settings at all."""
    rejected: tuple[Problem, ...]
    """What is wrong with what was saved last, while the last good settings are in force."""
    idle: WithoutSettings
    background: Background
    encryption: Encryption
    homeserver: Homeserver
    speaker: Speaker
    store: Store
    routes: Routes
    platform: ChosenPlatform
    streamer: Streamer
    reconciler: Reconciler
    repairer: Repairer
    inbox: Inbox | None
    dispatcher: EventDispatcher
    feed: SyncFeed
    maintenance: Maintenance
    startup: Startup
    opened_at: int | None
    """When what was said meanwhile was taken in, and news began to be; None: not yet."""

    @classmethod
    def get_config_class(cls) -> type[Config]:
        return Config

    @classmethod
    def get_db_upgrade_table(cls) -> UpgradeTable:
        return UPGRADES

    async def start(self) -> None:
        self.inbox = None
        self.config_error = None
        self.rejected = ()
        self.opened_at = None
        self.background = Background(log=self.log)
        self._listen_for_keys()
        usable = self._read_settings()
        await self._show_status()
        if not usable:
            self._stay_idle()
            return
        await self._come_up()

    def _listen_for_keys(self) -> None:
        """Even while the settings cannot be used: keys that are missed do not come again."""
        self.encryption = Encryption(self.client, log=self.log)
        early = take_early_keys(self.client)
        self.register_handler_class(self.encryption)
        self.background.start(self.encryption.hand_on(early), name="taking in keys")

    async def pre_stop(self) -> None:
        # Before maubot removes the handlers: whoever is about to register some must be gone.
        if self.inbox is not None:
            await self.inbox.drain(seconds=DRAIN_FOR)
            self.streamer.stop()
        await self.background.stop()
        if self.inbox is not None:
            await self.platform.close()

    async def stop(self) -> None:
        if self.inbox is not None:
            try:
                await self.inbox.save_position(now=True)
            except StoreError as e:
                self.log.warning("The place in the timeline was not saved: %s", e)

    async def on_external_config_update(self) -> None:
        was_idle = self.config_error is not None
        if not self._read_settings():
            return
        if was_idle:
            self.log.info("The settings can be used now")
            self.idle.close()
            await self._come_up()
        elif keys := self._not_in_force().awaits_restart:
            self.log.info("Saved; restart the instance to apply: %s", ", ".join(keys))
        else:
            self.log.info("Saved, and in force")

    # Settings

    def _read_settings(self) -> bool:
        """Take over the settings if they can be used; else keep the last good ones."""
        assert isinstance(self.config, Config)
        try:
            self.config.load()
            settings = read_settings(self.config.values, no_encryption=why_not(self.client))
            self.config.update()
        except ConfigError as e:
            if hasattr(self, "settings"):
                self.rejected = e.problems
            else:
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
        self.rejected = ()
        for key in self.config.unknown_keys():
            self.log.warning("Settings: %s is not a key of Homeroom's; it is kept, not used", key)
        return True

    def _stay_idle(self) -> None:
        assert isinstance(self.config, Config)
        config = self.config
        self.idle = WithoutSettings(
            bot=self.client.mxid,
            speaker=Speaker(Homeserver(self.client, log=self.log, concurrency=1)),
            admins=lambda: read_admins(config.values),
            explanation=self._explain,
            background=self.background,
            log=self.log,
        )
        self.register_handler_class(self.idle)

    def _not_in_force(self) -> NotInForce:
        return NotInForce(
            problems=self.rejected,
            awaits_restart=awaits_restart(saved=self.settings, started_with=self.started_with),
        )

    def _explain(self) -> str:
        assert self.config_error is not None
        return replies.bad_settings(self.config_error.problems)

    # The status page

    async def _show_status(self) -> None:
        files = {
            name: (await self.loader.read_file(f"homeroom/status_page/{name}")).decode()
            for name in FILES
        }
        page = StatusPage(token=self._status_token, view=self._snapshot, files=files)
        self.register_handler_class(page)

    def _status_token(self) -> str:
        assert isinstance(self.config, Config)
        if self.config_error is not None:
            return read_status_token(self.config.values)
        return self.settings.status_token

    async def _snapshot(self) -> Snapshot:
        version = str(self.loader.meta.version)
        if self.config_error is not None or self.inbox is None:
            problems = self.config_error.problems if self.config_error else ()
            return Snapshot(
                bot=self.client.mxid,
                version=version,
                taken_at=now(),
                condition=Condition.SETTINGS if problems else Condition.RECONCILING,
                problems=problems,
            )
        return await take(
            bot=self.client.mxid,
            version=version,
            now=now(),
            opened_at=self.opened_at,
            homeserver=self.homeserver,
            routes=self.routes,
            reconciler=self.reconciler,
            inbox=self.inbox,
            streamer=self.streamer,
            catch_up=self.feed,
        )

    # Coming up

    def _build(self) -> None:
        """Make the collaborators and give each what it uses."""
        assert isinstance(self.database, Database)
        self.started_with = self.settings
        routes, locks = Routes(), OwnerLocks()
        checkpoint_state = CheckpointState(routes=routes, origin=self._origin)
        self.routes = routes
        self.homeserver = Homeserver(
            self.client, log=self.log, concurrency=self.settings.concurrency
        )
        self.speaker = Speaker(self.homeserver)
        self.store = Store(self.database, now=now)
        observer = Observer(self.homeserver, log=self.log)
        self.reconciler = Reconciler(
            observer=observer,
            store=self.store,
            mautrix_state=MautrixState(self.client.state_store, log=self.log),
            routes=routes,
            checkpoint_state=checkpoint_state,
            adopt_unmarked=lambda: self.settings.adopt_unmarked,
            log=self.log,
        )
        self.repairer = Repairer(
            homeserver=self.homeserver,
            reconciler=self.reconciler,
            routes=routes,
            checkpoint_state=checkpoint_state,
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
            background=self.background,
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
            not_in_force=self._not_in_force,
            resetter=resetter,
            log=self.log,
        )
        history = RoomHistory(
            homeserver=self.homeserver,
            routes=routes,
            decrypt=self.encryption.decrypt,
            settings=lambda: self.settings,
            log=self.log,
        )
        self.homeserver.on_sent = history.on_sent
        self.platform = ChosenPlatform(
            settings=lambda: self.settings, history=history, log=self.log
        )
        self.streamer = Streamer(
            homeserver=self.homeserver,
            platform=self.platform,
            speaker=self.speaker,
            typing=TypingNotice(homeserver=self.homeserver, background=self.background),
            store=self.store,
            settings=lambda: self.settings,
            log=self.log,
        )
        message_handler = MessageHandler(
            streamer=self.streamer,
            store=self.store,
            routes=routes,
            provisioner=provisioner,
            commands=commands,
            speaker=self.speaker,
            background=self.background,
            settings=lambda: self.settings,
            log=self.log,
        )
        decryption = Decryption(
            bot=self.client.mxid,
            encryption=self.encryption,
            store=self.store,
            routes=routes,
            provisioner=provisioner,
            speaker=self.speaker,
            settings=lambda: self.settings,
            log=self.log,
        )
        self.inbox = Inbox(
            bot=self.client.mxid,
            handle=message_handler.handle,
            turn_away=message_handler.turn_away,
            open_=decryption.open,
            withdraw=message_handler.withdraw,
            checkpoint=lambda: checkpoint_state.checkpoint,
            store=self.store,
            background=self.background,
            settings=lambda: self.settings,
            log=self.log,
        )
        welcomes = Welcomes(
            provisioner=provisioner,
            inbox=self.inbox,
            store=self.store,
            background=self.background,
            log=self.log,
        )
        self.dispatcher = EventDispatcher(
            bot=self.client.mxid,
            inbox=self.inbox,
            history=history,
            welcomes=welcomes,
            provisioner=provisioner,
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            background=self.background,
            settings=lambda: self.settings,
            log=self.log,
        )
        self.feed = SyncFeed(
            homeserver=self.homeserver,
            encryption=self.encryption,
            routes=routes,
            checkpoint_state=checkpoint_state,
            take_in=self.dispatcher.take_in,
            found_open=self.streamer.remember,
            log=self.log,
        )
        self.maintenance = Maintenance(
            observer=observer,
            reconciler=self.reconciler,
            repairer=self.repairer,
            routes=routes,
            checkpoint_state=checkpoint_state,
            inbox=self.inbox,
            feed=self.feed,
            log=self.log,
        )
        self.startup = Startup(
            bot=self.client.mxid,
            register=self.register_handler_class,
            encryption=self.encryption,
            store=self.store,
            resumption=Resumption(
                homeserver=self.homeserver,
                store=self.store,
                reconciler=self.reconciler,
                origin=self._origin,
                log=self.log,
            ),
            reconciler=self.reconciler,
            feed=self.feed,
            streamer=self.streamer,
            settings=lambda: self.settings,
            log=self.log,
        )

    def _origin(self) -> Origin:
        return Origin(
            bot=self.client.mxid,
            homeserver=str(self.client.api.base_url),
            version=str(self.loader.meta.version),
            schema=len(UPGRADES.upgrades),
            adopt_unmarked=self.settings.adopt_unmarked,
        )

    async def _come_up(self) -> None:
        """Reconcile, then open the doors; in the background if it takes longer than a moment."""
        self._build()
        ready = asyncio.Event()
        self.background.start(self._start_and_open(ready), name="starting")
        try:
            await asyncio.wait_for(ready.wait(), self.settings.start_timeout)
        except asyncio.TimeoutError:
            self.log.warning(
                "The homeserver was not looked at within %d s; going on in the background,"
                " nothing is answered until then",
                self.settings.start_timeout,
            )

    async def _start_and_open(self, ready: asyncio.Event) -> None:
        try:
            started = await self.startup.run()
            self.opened_at = now()
        finally:
            ready.set()
        start, repairs = self.background.start, started.done.plan.repairs
        start(self.feed.run(), name="taking in responses")
        self.dispatcher.remind(started.done.topology.invites)
        start(self.repairer.run(repairs), name="repairing")
        assert self.inbox is not None
        start(self.streamer.end_abandoned(is_coming=self.inbox.has), name="ending old answers")
        start(self.maintenance.reread(), name="reading the unreadable again")
        start(self.maintenance.prune(), name="pruning")
        if started.is_resumed:
            start(
                self.maintenance.find_invites(see_to=self.dispatcher.remind),
                name="finding invites",
            )
        if started.is_resumed or repairs:
            verifying = self.maintenance.verify(
                since=started.position, see_to=self.dispatcher.remind
            )
            start(verifying, name="verifying")
