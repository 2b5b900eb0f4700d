"""What a life of Homeroom leaves for the next: made, copied, damaged, counted, removed.

A life is a directory (`start.py` says what is in it) and, on PostgreSQL, a database besides. Only
lives that are over are touched here.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.stack.database import PluginDatabase, PostgresPluginDatabase, SqlitePluginDatabase
from tests.stack.postgres import Postgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    directory: Path
    postgres: str | None
    """URL of the database; None: SQLite files in the directory."""

    @property
    def database(self) -> PluginDatabase:
        """The plugin's."""
        if self.postgres is not None:
            return PostgresPluginDatabase(url=self.postgres, schema="mbp_homeroom")
        return SqlitePluginDatabase(path=self.directory / "homeroom.db")


class Lives:
    """All lives of a run, in one directory and one cluster."""

    def __init__(self, directory: Path, *, postgres: Postgres | None) -> None:
        self._directory = directory
        self._postgres = postgres

    async def new(self, database: str) -> Life:
        """A life without a past; `database`: `sqlite` or `postgres`."""
        url = await self._cluster().create_database() if database == "postgres" else None
        directory = self._place()
        directory.mkdir()
        return Life(directory=directory, postgres=url)

    async def copy(self, life: Life) -> Life:
        url = life.postgres and await self._cluster().create_database(like=life.postgres)
        directory = self._place()
        shutil.copytree(life.directory, directory)
        return Life(directory=directory, postgres=url)

    async def remove(self, life: Life) -> None:
        shutil.rmtree(life.directory)
        if life.postgres is not None:
            await self._cluster().drop_database(life.postgres)

    async def lose(self, life: Life) -> None:
        """Delete the plugin's database; maubot's own is kept."""
        await life.database.delete()

    async def lose_rows(self, life: Life, number: int) -> None:
        """Delete so many chats."""
        chosen = "SELECT room_id FROM chats ORDER BY room_id LIMIT $1"
        await life.database.execute(f"DELETE FROM chats WHERE room_id IN ({chosen})", number)

    async def count(self, life: Life, *, name: str | None = None) -> int:
        """How many chats there are, or how many of that name."""
        rows = await life.database.fetch("SELECT name FROM chats")
        return len([row for row in rows if name in (None, row["name"])])

    def _place(self) -> Path:
        return self._directory / f"life-{uuid4()}"

    def _cluster(self) -> Postgres:
        assert self._postgres is not None
        return self._postgres
