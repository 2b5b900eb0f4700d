"""The databases that maubot can give the plugin, made the way maubot makes them.

A `Backend` is data that outlives the `Database` objects that are opened on it, as the data of an
instance outlives maubot.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from maubot.lib.plugin_db import ProxyPostgresDatabase
from mautrix.util.async_db import Database, PostgresDatabase, UpgradeTable

from homeroom.storage import UPGRADES


class Clock:
    """The time in milliseconds; it stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.time = 1_000_000

    def __call__(self) -> int:
        return self.time


class Backend(Protocol):
    def opened(self, upgrades: UpgradeTable = UPGRADES) -> AbstractAsyncContextManager[Database]:
        """Start a database on the data, as maubot does before `start()`; stop it at the end."""


class SqliteBackend:
    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def opened(self, upgrades: UpgradeTable = UPGRADES) -> AsyncIterator[Database]:
        database = Database.create(f"sqlite:{self.path}", upgrade_table=upgrades)
        try:
            await database.start()
            yield database
        finally:
            await database.stop()


class PostgresBackend:
    """A schema of its own, which is quicker to make than a database."""

    _instances = itertools.count(1)

    def __init__(self, url: str) -> None:
        self.url = url
        self.instance = f'instance "{next(self._instances)}"'

    @asynccontextmanager
    async def opened(self, upgrades: UpgradeTable = UPGRADES) -> AsyncIterator[Database]:
        # maubot: min_size 1, max_size 10, and postgres_max_conns_per_plugin is 3.
        pool = Database.create(self.url, db_args={"min_size": 1, "max_size": 10})
        assert isinstance(pool, PostgresDatabase)
        await pool.start()
        try:
            database = ProxyPostgresDatabase(
                pool=pool,
                instance_id=self.instance,
                max_conns=3,
                upgrade_table=upgrades,
                log=pool.log,
            )
            await database.start()
            yield database
            await database.stop()
        finally:
            await pool.stop()


def steps(*wanted: int) -> UpgradeTable:
    """An upgrade table of only these steps of ours, counted from 1."""
    table = UpgradeTable()
    table.upgrades += [UPGRADES.upgrades[step - 1] for step in wanted]
    return table
