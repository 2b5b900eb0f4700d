"""Every store test runs on SQLite and, marked `postgres`, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mautrix.util.async_db import Database

from homeroom.storage import Store
from tests.storage.databases import Backend, Clock, PostgresBackend, SqliteBackend


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Empty data, before any upgrade."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "instance.db")
    return PostgresBackend(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def database(backend: Backend) -> AsyncIterator[Database]:
    """An empty database of the latest version."""
    async with backend.opened() as database:
        yield database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    return Store(database, now=clock)
