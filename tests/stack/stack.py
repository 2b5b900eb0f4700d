"""Homeserver, proxy, maubot, bot account and plugin, put together.

    async with Stack(directory, plugin=build_plugin()) as stack:
        alice = await stack.user("alice")
        room = await alice.start_dm(stack.bot.user_id)

A homeserver may be handed in that others use too; it is then left running. Everything started
here is ended on the way out, whatever the way: an error, a cancellation, Ctrl-C.
"""

from __future__ import annotations

import asyncio
import functools
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from .database import PluginDatabase
from .http import JsonApi
from .maubot import Maubot
from .package import ROOT
from .proxy import FaultProxy
from .synapse import Account, Synapse
from .user import MatrixUser

if TYPE_CHECKING:
    from .encrypted_user import EncryptedUser
    from .strict_user import StrictUser

PLUGIN_ID = "dev.homeroom"
MARKER_TYPE = "dev.homeroom.room"

DEFAULT_CONFIG: Mapping[str, Any] = {
    "access": {"allow": ["*"]},
    "rooms": {"initial_chats": ["General"]},
    "texts": {"welcome": ""},  # a test counts what is said in answer to something
}


@functools.cache
def build_plugin() -> Path:
    """Build the `.mbp` as anybody would, with ./build.sh; once per process."""
    result = subprocess.run(["./build.sh"], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"./build.sh failed:\n{result.stdout}{result.stderr}")
    return ROOT / result.stdout.split()[-1]


class Stack:
    """A bot that runs the plugin, and people to talk to it."""

    def __init__(
        self,
        directory: Path,
        *,
        plugin: Path | None,
        plugin_id: str = PLUGIN_ID,
        instance: str = "homeroom",
        config: Mapping[str, Any] | str = DEFAULT_CONFIG,
        bot_name: str = "homeroom",
        suffix: str = "",
        proxy: bool = False,
        synapse: Synapse | None = None,
        maubot: Maubot | None = None,
        plugin_postgres: str | None = None,
        encryption: bool = False,
    ) -> None:
        """`proxy` puts a FaultProxy between maubot (not the people) and the homeserver.

        `suffix` ends the names of bot and people, which must be new on a shared homeserver.
        `plugin` is None where the maubot that is handed in has it already.
        `encryption`: maubot knows the bot's device ID, and so can encrypt.
        """
        self.directory = directory
        self.instance = instance
        self.bot_name = bot_name + suffix
        self.synapse = synapse or Synapse(directory / "synapse")
        self.maubot = maubot or Maubot(directory / "maubot", plugin_postgres=plugin_postgres)
        self._plugin = plugin
        self._plugin_id = plugin_id
        self._config = config
        self._suffix = suffix
        self._with_proxy = proxy
        self._encryption = encryption
        self._proxy: FaultProxy | None = None
        self._bot: Account | None = None
        self._exits = AsyncExitStack()

    @property
    def bot(self) -> Account:
        """The bot's account; there once the stack is entered."""
        if self._bot is None:
            raise RuntimeError("The stack has not been started")
        return self._bot

    @property
    def bot_api(self) -> JsonApi:
        """Matrix's API as the bot, past the proxy."""
        return JsonApi(base_url=self.synapse.url, token=self.bot.access_token)

    @property
    def proxy(self) -> FaultProxy:
        """The proxy between maubot and the homeserver, of a stack that was made with one."""
        if self._proxy is None:
            raise RuntimeError("The stack was made without a proxy")
        return self._proxy

    @property
    def bots_homeserver(self) -> str:
        """The URL by which maubot knows the homeserver."""
        return self.synapse.url if self._proxy is None else self._proxy.url

    @property
    def database(self) -> PluginDatabase:
        """The plugin's database, for looking in and for breaking it."""
        return self.maubot.plugin_database(self.instance)

    async def __aenter__(self) -> Self:
        try:
            await self.start_servers()
            await self.install()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything that was started here."""
        await self._exits.aclose()

    async def start_servers(self) -> None:
        """Start what does not run yet, register the bot; entering the stack does this first."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._with_proxy:
            self._proxy = await self._exits.enter_async_context(FaultProxy(self.synapse.url))
        starting = []
        for server in (self.synapse, self.maubot):
            if not server.running:
                self._exits.push_async_callback(server.stop)
                starting.append(server.start())
        await asyncio.gather(*starting)
        self._bot = await self.synapse.account(self.bot_name, password=self.bot_name)

    async def install(self) -> None:
        """Upload the plugin, add the bot, create the instance; the second half of entering.

        An instance that a kept maubot has already keeps its configuration.
        """
        if self._plugin is not None:
            await self.maubot.upload_plugin(self._plugin)
        device = {} if self._encryption else {"device_id": ""}
        await self.maubot.create_client(self.bot, homeserver=self.bots_homeserver, **device)
        if self.instance in {instance["id"] for instance in await self.maubot.instances()}:
            return
        await self.maubot.create_instance(
            self.instance,
            plugin_id=self._plugin_id,
            primary_user=self.bot.user_id,
            config=self._config,
        )

    async def user(self, name: str, *, admin: bool = False) -> MatrixUser:
        """Register a person (or log in as them) and start their client, until the stack ends."""
        name += self._suffix
        account = await self.synapse.account(name, password=name, admin=admin)
        client = MatrixUser(account, homeserver=self.synapse.url)
        return await self._exits.enter_async_context(client)

    async def encrypted_user(self, name: str, *, is_known: bool = False) -> EncryptedUser:
        """The same, with a client that encrypts: a new device of somebody who `is_known`."""
        from .encrypted_user import EncryptedUser  # noqa: PLC0415 (needs libolm; little else does)

        name += self._suffix
        log_in = self.synapse.log_in if is_known else self.synapse.register
        account = await log_in(name, password=name)
        client = EncryptedUser(account, homeserver=self.synapse.url)
        return await self._exits.enter_async_context(client)

    async def strict_user(self, name: str) -> StrictUser:
        """A new person whose client leaves out devices that are not cross-signed."""
        from .strict_user import StrictUser  # noqa: PLC0415 (needs Node; little else does)

        name += self._suffix
        account = await self.synapse.register(name, password=name)
        strict = await self.synapse.log_in(name, password=name)
        client = StrictUser(account, strict, homeserver=self.synapse.url)
        return await self._exits.enter_async_context(client)

    async def somebody_as_bot(self) -> StrictUser:
        """Another client of the bot's account, on a device that nothing has signed."""
        from .strict_user import StrictUser  # noqa: PLC0415 (needs Node; little else does)

        devices = [
            await self.synapse.log_in(self.bot_name, password=self.bot_name) for _ in range(2)
        ]
        client = StrictUser(*devices, homeserver=self.synapse.url, has_identity=False)
        return await self._exits.enter_async_context(client)

    async def bot_rooms(self) -> set[str]:
        """Ask the homeserver for the rooms the bot is in."""
        answer = await self.bot_api.request("GET", "/_matrix/client/v3/joined_rooms")
        return set(answer["joined_rooms"])


# What the fixtures of the same name give to a test: the constructors' arguments in, a server that
# runs until the test has ended out; a maubot is not started yet.
MakeStack = Callable[..., Awaitable[Stack]]
MakeSynapse = Callable[..., Awaitable[Synapse]]
MakeMaubot = Callable[..., Awaitable[Maubot]]
