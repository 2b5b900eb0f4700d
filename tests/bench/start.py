"""One start of Homeroom, measured in a process of its own.

    python -m tests.bench.start --url URL --user-id ID --token TOKEN --directory DIRECTORY

puts maubot's client and the plugin together as a running maubot does (`tests/plugin/miniature.py`)
on what the directory holds from an earlier life, starts both, and waits until the doors are open:
from then on messages are answered. Prints what it saw as JSON.

What outlives the process: `homeroom.db` and `maubot.db`, or one PostgreSQL database for both; the
position of maubot's own sync, in a file instead of its table of clients; the log. A maubot that
never ran gets a position of now, because one without any reads all rooms first, whatever plugins
it has.

The process then stops in good order (`--stop`) or is gone at once, as if it were killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from maubot.lib.plugin_db import ProxyPostgresDatabase
from maubot.lib.state_store import PgStateStore
from maubot.plugin_server import PluginWebApp
from mautrix.client.state_store import SyncStore
from mautrix.types import SyncToken, UserID
from mautrix.util.async_db import Database, PostgresDatabase
from mautrix.util.logging import TraceLogger

from homeroom import Homeroom
from homeroom.matrix.sync_filters import NO_ROOMS
from tests.bench.gauge import Heartbeat, Memory, Stall
from tests.plugin.miniature import (
    create_filter,
    make_client,
    make_plugin,
    read_base,
    read_settings,
    write_settings,
)

MAX_CONNECTIONS: Final = 3
"""To PostgreSQL, of one plugin; maubot's default."""
PATIENCE: Final = 3600.0
"""Seconds."""

_LOG: Final[Any] = logging.getLogger("maubot.instance.homeroom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    url: str
    user_id: str
    token: str
    directory: Path
    postgres: str | None
    stop: bool
    linger: float
    """Seconds to go on for, after the doors are open."""
    explain: float | None
    """Milliseconds: the stack of every stall that is longer is printed as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lingered:
    """What was seen after the doors were open. `memory`: the peak since the start."""

    longest_stall: Stall
    memory: float
    log: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """One start. Seconds, and megabytes over what the process held before."""

    seconds: float
    """Until the doors were open."""
    reconciled: float | None
    """Until Homeroom said that its rows were those of the homeserver."""
    reconcile: float | None
    """What Homeroom itself says about the reconcile; None: it says nothing."""
    rooms: int | None
    memory: float
    longest_stall: Stall
    log: list[str]
    """What it said about it, from INFO on."""
    lingered: Lingered | None
    stalls: list[str]


class Position(SyncStore):
    """The position of maubot's sync, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def put_next_batch(self, next_batch: SyncToken) -> None:
        self._path.write_text(next_batch)

    async def get_next_batch(self) -> SyncToken:
        return SyncToken(self._path.read_text() if self._path.exists() else "")


class Notes(logging.Handler):
    """Keeps what the plugin says to an administrator."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.lines: list[str] = []
        self.reconciled_at: float | None = None
        self.failure: str | None = None
        """That something did not work; Homeroom tries again then, which is not to be measured."""

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.lines.append(line)
        if line.startswith("Reconciled") and self.reconciled_at is None:
            self.reconciled_at = time.perf_counter()
        if record.levelno >= logging.ERROR or line.startswith("Could not"):
            self.failure = line

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


async def open_databases(options: Options, exits: AsyncExitStack) -> tuple[Database, Database]:
    """Open maubot's own database and the plugin's, as maubot does."""
    if options.postgres is None:
        own = Database.create(
            f"sqlite:{options.directory / 'maubot.db'}", upgrade_table=PgStateStore.upgrade_table
        )
        plugins = Database.create(
            f"sqlite:{options.directory / 'homeroom.db'}",
            upgrade_table=Homeroom.get_db_upgrade_table(),
        )
    else:
        own = Database.create(options.postgres, upgrade_table=PgStateStore.upgrade_table)
        assert isinstance(own, PostgresDatabase)
        plugins = ProxyPostgresDatabase(
            pool=own,
            instance_id="homeroom",
            max_conns=MAX_CONNECTIONS,
            upgrade_table=Homeroom.get_db_upgrade_table(),
        )
    for database in (own, plugins):
        await database.start()
        exits.push_async_callback(database.stop)
    return own, plugins


async def start(options: Options) -> Started:
    """Start, wait until the doors are open, end."""
    notes = Notes()
    async with AsyncExitStack() as exits:
        session = await exits.enter_async_context(aiohttp.ClientSession())
        own, database = await open_databases(options, exits)
        position = Position(options.directory / "position")
        client = make_client(
            user_id=UserID(options.user_id),
            url=options.url,
            token=options.token,
            session=session,
            sync_store=position,
            state=own,
            log=_child("maubot.client", options.user_id),
        )
        filter_id = await create_filter(client)
        if not await position.get_next_batch():
            now: Any = await client.sync(filter_id=json.dumps(NO_ROOMS), timeout=0)  # type: ignore[arg-type]
            await position.put_next_batch(now["next_batch"])
        text = write_settings(read_base())  # what maubot keeps after the first start
        plugin = make_plugin(
            client,
            database=database,
            load=lambda: read_settings(text),
            save=write_settings,
            webapp=PluginWebApp(),
            log=_LOG,
        )
        _LOG.addHandler(notes)
        started = await _measure(plugin, filter_id, notes, options)
        if not options.stop:
            _print(started)
            os._exit(0)
        client.stop()
        await plugin.internal_stop()
    return started


async def _measure(plugin: Homeroom, filter_id: Any, notes: Notes, options: Options) -> Started:
    is_open = asyncio.Event()

    def look() -> None:
        if notes.failure is not None or (
            plugin.app is not None and plugin.app.startup.opened_at is not None
        ):
            is_open.set()

    explain = None if options.explain is None else options.explain / 1000
    memory = Memory()
    began = time.perf_counter()
    async with Heartbeat(on_beat=look, explain=explain) as heart:
        plugin.client.start(filter_id)
        starting = asyncio.create_task(plugin.internal_start())
        await asyncio.wait_for(is_open.wait(), PATIENCE)
        seconds = time.perf_counter() - began
        peak, stall, log = memory.peak(), heart.longest, notes.take()
        if notes.failure is not None:
            raise RuntimeError(notes.failure)
        # Now, because what verifies it in the background is a reconcile as well.
        assert plugin.app is not None
        past = next(iter(plugin.app.reconciler.past), None)
        await starting
        lingered = None
        if options.linger:
            heart.begin()
            await asyncio.sleep(options.linger)
            lingered = Lingered(
                longest_stall=heart.longest, memory=memory.peak(), log=notes.take()
            )
    return Started(
        seconds=seconds,
        reconciled=notes.reconciled_at and notes.reconciled_at - began,
        reconcile=past.milliseconds / 1000 if past else None,
        rooms=past.rooms if past else None,
        memory=peak,
        longest_stall=stall,
        log=log,
        lingered=lingered,
        stalls=heart.explanations,
    )


def _write_log(path: Path) -> None:
    """As much as maubot writes by default, in a file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("[%(asctime)s] [%(levelname)s@%(name)s] %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("maubot", "mau"):
        logging.getLogger(name).setLevel(logging.DEBUG)


def _child(name: str, child: str) -> TraceLogger:
    log: Any = logging.getLogger(name).getChild(child)
    assert isinstance(log, TraceLogger)
    return log


def _print(started: Started) -> None:
    print(json.dumps(asdict(started)), flush=True)


def read_options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--user-id", "--token"):
        parser.add_argument(name, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--postgres", help="URL of a database, in place of SQLite files")
    parser.add_argument("--stop", action="store_true", help="in good order, instead of dying")
    parser.add_argument(
        "--linger", type=float, default=0, help="seconds to go on for, with the doors open"
    )
    parser.add_argument(
        "--explain", type=float, help="milliseconds: print where longer stalls were"
    )
    return Options(**vars(parser.parse_args()))


def main() -> None:
    options = read_options()
    options.directory.mkdir(parents=True, exist_ok=True)
    _write_log(options.directory / "maubot.log")
    started = asyncio.run(start(options))
    _print(started)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
