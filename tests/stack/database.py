"""What an instance has stored, read and damaged from outside, on SQLite or PostgreSQL.

Statements write their arguments as `$1`, `$2` on both. Each call opens a connection of its own
and is one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

Row = dict[str, Any]


class PluginDatabase(Protocol):
    """The database of one instance."""

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        """Return the rows of a query."""

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run a statement and commit."""

    async def tables(self) -> set[str]:
        """Return the names of all tables; empty where there is no database."""

    async def delete(self) -> None:
        """Delete everything; a database that is not there is deleted already."""

    async def back_up(self, to: Path) -> None:
        """Copy everything to files that begin with a path; others may work with it meanwhile."""

    async def restore(self, backup: Path) -> None:
        """Put everything back as it was; nobody may work with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlitePluginDatabase:
    """A file in maubot's plugin directory."""

    path: Path

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        with self._connect() as connection:
            rows = connection.execute(_numbered(statement), arguments).fetchall()
        return [dict(row) for row in rows]

    async def execute(self, statement: str, *arguments: Any) -> None:
        with self._connect() as connection:
            connection.execute(_numbered(statement), arguments)

    async def tables(self) -> set[str]:
        if not self.path.exists():
            return set()
        rows = await self.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {row["name"] for row in rows}

    async def delete(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    async def back_up(self, to: Path) -> None:
        await asyncio.to_thread(self._copy, to)

    def _copy(self, to: Path) -> None:
        with self._connect() as connection, contextlib.closing(sqlite3.connect(to)) as copy:
            connection.backup(copy)

    async def restore(self, backup: Path) -> None:
        await self.delete()
        shutil.copy(backup, self.path)

    @contextlib.contextmanager
    def _connect(self) -> Any:
        # Opened read-write but never created: a wrong name must not look like an empty database.
        connection = sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=10)
        connection.row_factory = sqlite3.Row
        with contextlib.closing(connection), connection:
            yield connection


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresPluginDatabase:
    """A schema in the database that maubot keeps all its plugins in."""

    url: str
    schema: str

    async def fetch(self, statement: str, *arguments: Any) -> list[Row]:
        async with self._connect() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    async def execute(self, statement: str, *arguments: Any) -> None:
        async with self._connect() as connection:
            await connection.execute(statement, *arguments)

    async def tables(self) -> set[str]:
        rows = await self.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", self.schema
        )
        return {row["tablename"] for row in rows}

    async def delete(self) -> None:
        await self.execute(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')

    async def back_up(self, to: Path) -> None:
        async with self._connect() as connection:
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            for table in await self.tables():
                await connection.copy_from_table(table, output=f"{to}-{table}", format="binary")

    async def restore(self, backup: Path) -> None:
        tables = await self.tables()
        async with self._connect() as connection:
            await connection.execute(f"TRUNCATE {', '.join(tables)}")
            for table in tables:
                await connection.copy_to_table(table, source=f"{backup}-{table}", format="binary")

    @contextlib.asynccontextmanager
    async def _connect(self) -> Any:
        connection = await asyncpg.connect(
            self.url, server_settings={"search_path": f'"{self.schema}"'}
        )
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()


def _numbered(statement: str) -> str:
    return re.sub(r"\$(\d+)", r"?\1", statement)
