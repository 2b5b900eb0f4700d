"""maubot in miniature: one client and one instance of Homeroom, against the fake homeserver.

    async with running(hs, tmp_path) as bot:
        anna = hs.user("anna")
        home = await bot.onboard(anna)

Everything above HTTP is real and put together as maubot does it (`miniature.py`): its client with
its own sync loop, its state store, the plugin's database, its settings. What outlives a process
(databases, sync position, text of the settings) lies in the directory and in `Bot`; the rest is
made by `start`, and ends with `stop`, or with `kill`.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import aiohttp
from maubot.lib.state_store import PgStateStore
from maubot.matrix import MaubotMatrixClient
from maubot.plugin_server import PluginWebApp
from mautrix.client.state_store import MemorySyncStore
from mautrix.types import EventID, RoomID
from mautrix.util.async_db import Database

from homeroom import Homeroom
from homeroom.app import App
from homeroom.domain.homes.checkpoint_shards import HEAD_TYPE
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Recorded, User
from tests.fake.events import Json
from tests.fake.filters import read_filter
from tests.fake.sync import sync
from tests.fake.tokens import read_token

from .agent import KeyedEcho
from .miniature import create_filter, make_client, make_plugin, read_settings, write_settings

T = TypeVar("T")
Row = dict[str, Any]

LOG = logging.getLogger("maubot.instance.homeroom")
PATIENCE_SECONDS = 60.0
"""Far more than anything takes; only a test that fails waits for so long."""
SLEEPERS = {
    "homeroom: keeping the checkpoint",
    "homeroom: listening for ourselves",
    "homeroom: pruning",
    "homeroom: reading the unreadable again",
    "homeroom: taking in responses",
    "homeroom: watching the account",
    "homeroom: watching the device",
    "homeroom: watching the event loop",
    "homeroom: watching the history",
}
"""Work that is never done."""
POSITION = "SELECT value, bot FROM sync_state WHERE key = 'position'"
"""Up to where everything is handled, and whose position that is."""

_TASKS: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("tasks", default=None)


async def until(what: str, look: Callable[[], T], *, timeout: float = PATIENCE_SECONDS) -> T:
    """Look again and again until something true is found; return it."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (found := look()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {timeout:g} s for: {what}")
        await asyncio.sleep(0.002)
    return found


def own_sync(request: Recorded) -> bool:
    """Homeroom's own syncs do not wait for news; maubot's do."""
    return request.route == "sync" and request.query.get("timeout") == "0"


class Bot:
    """One bot account, its maubot, and everything that they leave on disk."""

    def __init__(self, hs: FakeHomeserver, path: Path, *, config: str = "") -> None:
        self.hs = hs
        self.me = hs.user("bot")
        self._saved: str | Any = config
        self.platform: Any = KeyedEcho()
        """Stands in for the echo platform; None: that one itself."""
        self.database_path = path / "homeroom.db"
        self._state_path = path / "maubot.db"
        self._sync_store = MemorySyncStore()
        self._filter_id: Any = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.plugin: Homeroom | None = None
        self.client: MaubotMatrixClient | None = None
        self.webapp = PluginWebApp()
        """What answers at the instance's web address; `tests/plugin/web.py` puts it on the web."""

    @property
    def app(self) -> App:
        """What the instance is made of; only while it has settings."""
        assert self.plugin is not None
        assert self.plugin.app is not None
        return self.plugin.app

    # The life of the process

    async def start(self) -> None:
        """Start maubot: its client, whose sync begins at once, then the plugin."""
        asyncio.get_running_loop().set_task_factory(_remember)
        await self._inside(self._start())

    async def _start(self) -> None:
        http = aiohttp.ClientSession()
        self._closing.append(http.close)
        state = Database.create(
            f"sqlite:{self._state_path}", upgrade_table=PgStateStore.upgrade_table
        )
        await state.start()
        self._closing.append(state.stop)
        client = make_client(
            user_id=self.me.user_id,
            url=self.hs.url,
            token=self.me.token,
            session=http,
            sync_store=self._sync_store,
            state=state,
            log=LOG.getChild("client"),
        )
        client.api.default_retry_count = 0
        if self._filter_id is None:
            self._filter_id = await create_filter(client)
        client.start(self._filter_id)
        self.client = client
        await self.start_plugin()

    async def start_plugin(self) -> None:
        """Start the instance as maubot does when its client runs."""
        assert self.client is not None
        database = Database.create(
            f"sqlite:{self.database_path}", upgrade_table=Homeroom.get_db_upgrade_table()
        )
        await database.start()
        self._closing.append(database.stop)
        self.plugin = make_plugin(
            self.client,
            database=database,
            load=self._load,
            save=self._save,
            webapp=self.webapp,
            log=LOG,
        )
        if self.platform is None:
            await self.plugin.internal_start()
            return
        choose = "homeroom.platforms.configured"
        with mock.patch(f"{choose}.EchoPlatform", return_value=self.platform):
            await self.plugin.internal_start()

    async def stop(self) -> None:
        """End everything in maubot's order: first the sync, then the plugin."""
        if self.plugin is not None:
            await self._inside(self._stop(self.plugin))
        await self.kill()

    async def _stop(self, plugin: Homeroom) -> None:
        assert self.client is not None
        self.client.stop()
        await plugin.internal_stop()

    async def kill(self) -> None:
        """End everything in the middle of what it does."""
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self.plugin is not None and self.plugin.app is not None:
            await self.plugin.app.platform.close()  # a process that dies leaves no connection open
        while self._closing:
            await self._closing.pop()()
        self.webapp.clear()
        self.plugin = self.client = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def configure(self, text: str) -> None:
        """Save other settings in maubot's web UI."""
        assert self.plugin is not None
        self.config = text
        await self._inside(self.plugin.on_external_config_update())

    @property
    def config(self) -> str:
        """The text in maubot's web UI; written and read only where a test looks at it."""
        return self._saved if isinstance(self._saved, str) else write_settings(self._saved)

    @config.setter
    def config(self, text: str) -> None:
        self._saved = text

    def _load(self) -> Any:
        saved = self._saved
        return (
            read_settings(saved) if isinstance(saved, str) else pickle.loads(pickle.dumps(saved))
        )

    def _save(self, data: Any) -> None:
        self._saved = data

    async def _inside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in a task whose descendants are known to be the process's."""
        context = copy_context()
        context.run(_TASKS.set, self._tasks)
        await context.run(asyncio.ensure_future, work)

    # Its database

    def tables(self) -> dict[str, list[Row]]:
        """The homes and the chats as they are stored, without the times."""
        return {
            "homes": self.query("SELECT * FROM homes ORDER BY matrix_user_id"),
            "chats": self.query("SELECT * FROM chats ORDER BY room_id"),
        }

    def query(self, sql: str, *values: object) -> list[Row]:
        with closing(sqlite3.connect(self.database_path)) as database:
            database.row_factory = sqlite3.Row
            rows = [dict(row) for row in database.execute(sql, values)]
        times = ("created_at", "updated_at")
        return [{key: row[key] for key in row if key not in times} for row in rows]

    def alter(self, sql: str, *values: object) -> int:
        """Damage the stored rows; how many there were."""
        with closing(sqlite3.connect(self.database_path)) as database, database:
            return database.execute(sql, values).rowcount

    def invalidate_checkpoint(self) -> None:
        """Have the next start look at everything: the rows do not prove that they are true."""
        self.forget_checkpoint()
        self.alter("UPDATE sync_state SET value = '' WHERE key = 'proof'")

    def forget_checkpoint(self) -> None:
        """Empty what the account data has of the rows."""
        account_data = self.hs.world.accounts[self.me.user_id].account_data
        for kind in [kind for kind in account_data if kind.startswith(HEAD_TYPE)]:
            self.hs.world.set_account_data(self.me.user_id, kind, {})

    def wipe(self, *, checkpoint: bool = True) -> None:
        """Delete the plugin's database, and its checkpoint; only while nothing runs."""
        assert self.plugin is None
        if checkpoint:
            self.forget_checkpoint()
        for file in self.database_path.parent.glob(f"{self.database_path.name}*"):
            file.unlink()

    # What it does

    async def settled(self) -> None:
        """Wait until it has read everything there is to read, and has nothing left to do."""
        await until("nothing left to do", lambda: self.has_read_all() and not self.is_busy())

    def is_busy(self) -> bool:
        """Whether it works at anything; what hangs in a fault does not count."""
        names = {task.get_name() for task in self._tasks if not task.done()}
        app = self.plugin and self.plugin.app
        return (
            any(name.startswith("homeroom: ") and name not in SLEEPERS for name in names)
            or (app is not None and app.feed.waiting > 0)
            or any(
                request.status is None and not request.fault and not self.is_long_poll(request)
                for request in self.hs.requests[-50:]
            )
        )

    def has_read_all(self) -> bool:
        """Whether maubot's sync is waiting for news that there are none of."""
        poll = next(filter(self.is_long_poll, reversed(self.hs.requests)), None)
        if poll is None or poll.status is not None or "since" not in poll.query:
            return False
        account = self.hs.world.accounts[self.me.user_id]
        answer = sync(
            self.hs.world,
            self.me.session,
            read_filter(account, poll.query.get("filter")),
            since=read_token(poll.query["since"]),
            full_state=False,
        )
        return not answer.has_news

    def is_long_poll(self, request: Recorded) -> bool:
        """Whether this is a request of maubot's own sync, not one of Homeroom's."""
        return (
            request.route == "sync"
            and request.user == self.me.user_id
            and request.query.get("timeout") != "0"
        )

    # People

    async def onboard(self, user: User) -> RoomID:
        """Invite the bot, wait for the home and join all of it; returns the Space."""
        room_id = user.create_room(invite=[self.me])
        await until(f"a word in {room_id}", lambda: self.words(room_id))
        await self.settled()
        space_id = self.space_of(user)
        for invited in self.hs.invited(user.user_id):
            user.join(invited)
        await self.settled()
        return space_id

    def space_of(self, user: User) -> RoomID:
        """The user's Space, by its marker; that there is just one is asserted."""
        (space_id,) = self.spaces_of(user)
        return space_id

    def spaces_of(self, user: User) -> list[RoomID]:
        return [room_id for room_id, marker in self._marked(user) if "chat_id" not in marker]

    def chats_of(self, user: User) -> list[RoomID]:
        """The user's chats, by their markers, in the order of their numbers."""
        chats = [item for item in self._marked(user) if "chat_id" in item[1]]
        return [
            room_id for room_id, _ in sorted(chats, key=lambda item: int(item[1]["chat_id"][1:]))
        ]

    def _marked(self, user: User) -> list[tuple[RoomID, Json]]:
        """The rooms of which the bot, which is in them, says that they are this user's."""
        markers = {
            room_id: room.state.get((MARKER_TYPE, self.me.user_id), {})
            for room_id, room in self.hs.rooms.items()
            if self.me.user_id in room.joined
        }
        return [
            (r, marker) for r, marker in markers.items() if marker.get("user_id") == user.user_id
        ]

    async def ask(self, user: User, room_id: str, text: str) -> str:
        """Say something and wait for the bot's next words in the room."""
        before = len(self.words(room_id))
        user.send(room_id, text)
        return (await self.hear(room_id, before + 1))[before]

    async def hear(self, room_id: str, count: int) -> list[str]:
        """Wait until the bot has said so many things in the room."""
        await until(f"{count} words in {room_id}", lambda: len(self.words(room_id)) >= count)
        return self.words(room_id)

    def words(self, room_id: str) -> list[str]:
        """What the bot said in a room, oldest first."""
        return [content["body"] for content in self.said(room_id)]

    def said(self, room_id: str) -> list[Json]:
        """The contents of what the bot said in a room, oldest first."""
        return [
            event.content
            for event in self.hs.timeline(room_id)
            if event.type == "m.room.message" and event.sender == self.me.user_id
        ]

    def key(self, room_id: str) -> str:
        """The stored conversation key of a chat."""
        (row,) = self.query("SELECT * FROM chats WHERE room_id = ?", room_id)
        return str(row["platform_chat_id"])

    def echo(self, room_id: str, text: str) -> str:
        """What is said to a message in a chat, unless a test has another platform."""
        return f"{text}\n\n({self.key(room_id)})"


@asynccontextmanager
async def running(
    hs: FakeHomeserver, path: Path, *, config: str = "", platform: Any = None
) -> AsyncIterator[Bot]:
    """Run a bot until the end of the block."""
    bot = Bot(hs, path, config=config)
    bot.platform = platform or bot.platform
    try:
        await bot.start()
        yield bot
        await bot.stop()
    finally:
        await bot.kill()


def last_event(hs: FakeHomeserver, room_id: str) -> EventID:
    return EventID(hs.timeline(room_id)[-1].event_id)


def _remember(loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
    tasks = _TASKS.get()
    if tasks is not None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    return task
