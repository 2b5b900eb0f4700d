"""maubot's entry point: starts, stops, and takes over saved settings; decides nothing.

    start   read the settings; build everything; reconcile; only then handle events
    stop    take nothing in any more, end what is running, write the position last

Nothing that may pass makes `start()` fail, because maubot would disable the instance for good:
while the homeserver or the settings are not usable, Homeroom waits, says so in the log, and goes
on by itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from maubot.plugin_base import Plugin
from mautrix.util.async_db import Database, UpgradeTable

from . import replies
from .app import App, Instance
from .config import Config, LiveSettings
from .matrix.current_client import CurrentClient

# Importing it is what makes it listen, before the plugin starts; imported later, in a function,
# it would lose the keys of what was said to the bot while it was away.
from .matrix.early_keys import take_early_keys
from .matrix.encryption import Encryption
from .matrix.homeserver import Homeserver
from .matrix.messages import Speaker
from .platforms import PlatformError
from .runtime.clock import now
from .runtime.tasks import Background
from .runtime.timeouts import timeout
from .startup.last_good_settings import LastGoodSettings
from .startup.without_settings import WithoutSettings
from .status_page import FILES, Snapshot, StatusPage, take_without_settings
from .storage import UPGRADES, Store, StoreError
from .wiring import build

DRAIN_FOR: Final = 5.0
"""Seconds that a stop waits for the answers that are in hand."""


class Homeroom(Plugin):
    """The plugin, as maubot starts, configures and stops it."""

    store: Store
    settings: LiveSettings
    background: Background
    encryption: Encryption
    app: App | None = None
    """None: there were no settings to build it with."""
    _ending: asyncio.Task[None]

    @classmethod
    def get_config_class(cls) -> type[Config]:
        return Config

    @classmethod
    def get_db_upgrade_table(cls) -> UpgradeTable:
        return UPGRADES

    async def start(self) -> None:
        assert isinstance(self.config, Config)
        assert isinstance(self.database, Database)
        if self.log.level == logging.NOTSET:
            # maubot writes every line down; whoever wants ours names this logger in its settings.
            self.log.setLevel(logging.INFO)
        self.background = Background(log=self.log)
        self.store = Store(self.database, now=now)
        client = CurrentClient(self.client)
        self.settings = LiveSettings(
            config=self.config,
            no_encryption=client.why_not,
            last_good=LastGoodSettings(store=self.store, log=self.log),
            log=self.log,
        )
        self.encryption = Encryption(
            client, only_signed=self._only_signed, store=self.store, log=self.log
        )
        self._listen_for_keys()
        await self.settings.read()
        await self._show_status()
        if self.settings.are_usable:
            await self._come_up()
        else:
            self._stay_idle()

    def _listen_for_keys(self) -> None:
        """Even while the settings cannot be used: keys that are missed do not come again."""
        early = take_early_keys(self.client)
        self.register_handler_class(self.encryption)
        self.background.start(self.encryption.begin(early), name="taking in keys")

    def _only_signed(self) -> bool:
        return self.settings.are_usable and self.settings().only_signed_devices

    async def pre_stop(self) -> None:
        # Before maubot removes the handlers: whoever is about to register some must be gone.
        if self.app is not None:
            await self.app.inbox.drain(seconds=DRAIN_FOR)
            self.app.streamer.stop()
        await self.background.stop()
        if self.app is not None:
            await self.app.platform.close()

    async def stop(self) -> None:
        self.encryption.close()
        if self.app is not None and not self.app.watch.is_superseded:
            try:
                await self.app.inbox.save_position(now=True)
                await self.app.attempts.end_life()
            except StoreError as e:
                self.log.warning("The place in the timeline was not saved: %s", e)
            await self.app.remote_checkpoint.write_last()

    async def on_external_config_update(self) -> None:
        agent_before = self.settings().platform if self.settings.are_usable else None
        if not await self.settings.read():
            return
        if self.app is None:
            self.log.info("The settings can be used now")
            await self._come_up()
            return
        self.app.streamer.settings_changed()
        if self.settings().platform != agent_before:
            self.background.start(self._check_agent(self.app), name="asking the agent")
        if keys := self.settings.not_in_force.awaits_restart:
            self.log.info("Saved; restart the instance to apply: %s", ", ".join(keys))
        else:
            self.log.info("Saved, and in force")

    async def _check_agent(self, app: App) -> None:
        """Say in the log what is wrong before a person finds out."""
        try:
            uncertain = await app.platform.check()
        except PlatformError as e:
            self.log.error("The agent of the saved settings would not answer: %s", e)
        else:
            if uncertain:
                self.log.warning("Something answers for the agent. %s", uncertain)
            else:
                self.log.info("The agent of the saved settings is there")

    # Coming up

    async def _come_up(self) -> None:
        """Reconcile and handle events; in the background if it takes longer than a moment."""
        self.settings.note_start()
        self.app = build(
            Instance(
                client=self.client,
                name=self.id,
                store=self.store,
                version=self._version,
                register=self.register_handler_class,
                settings=self.settings,
                encryption=self.encryption,
                background=self.background,
                superseded=self._go_idle,
                log=self.log,
            )
        )
        self.background.start(self.app.account.watch_sign_in(), name="watching the account")
        self.register_handler_class(self.app.watch)
        self.background.start(self.app.watch.announce(), name="announcing this instance")
        ready = asyncio.Event()
        self.background.start(self._run(self.app, ready), name="starting")
        seconds = self.settings().start_timeout
        try:
            async with timeout(seconds):
                await ready.wait()
        except asyncio.TimeoutError:
            self.log.warning(
                "The homeserver was not looked at within %d s; going on in the background,"
                " nothing is answered until then",
                seconds,
            )

    async def _run(self, app: App, ready: asyncio.Event) -> None:
        try:
            started = await app.startup.run()
        finally:
            ready.set()
        app.maintenance.begin(started)
        self.background.start(app.account.watch_trust(), name="watching the device")

    def _go_idle(self) -> None:
        """Another instance with this account is newer."""
        assert self.app is not None
        self._ending = asyncio.create_task(self.app.go_idle(), name="homeroom: going idle")

    def _stay_idle(self) -> None:
        """Say that there are no settings, until there are some."""
        homeserver = Homeserver(self.encryption.client, log=self.log, concurrency=lambda: 1)
        idle = WithoutSettings(
            homeserver=homeserver,
            speaker=Speaker(homeserver, store=self.store),
            store=self.store,
            is_idle=lambda: self.app is None,
            admins=lambda: self.settings.admins,
            explanation=lambda: replies.bad_settings(self.settings.not_in_force.problems),
            background=self.background,
            log=self.log,
        )
        self.register_handler_class(idle)

    # The status page

    @property
    def _version(self) -> str:
        return str(self.loader.meta.version)

    async def _show_status(self) -> None:
        files = {
            name: (await self.loader.read_file(f"homeroom/status_page/{name}")).decode()
            for name in FILES
        }
        page = StatusPage(
            token=lambda: self.settings.status_token, view=self._snapshot, files=files
        )
        self.register_handler_class(page)

    async def _snapshot(self, with_rows: bool) -> Snapshot:
        if self.app is not None:
            return await self.app.snapshot(version=self._version, with_rows=with_rows)
        return await take_without_settings(
            bot=self.client.mxid,
            version=self._version,
            now=now(),
            settings=self.settings.not_in_force,
            with_rows=with_rows,
            store=self.store,
        )
