"""mautrix's state store in every place where it may lie, and what is asked of its database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client.state_store import MemoryStateStore, StateStore
from mautrix.util.async_db import Database

from homeroom.matrix import state_store_tables
from tests.storage.databases import Backend, PostgresBackend, SqliteBackend


@pytest.fixture
def sqlite(tmp_path: Path) -> Backend:
    return SqliteBackend(tmp_path / "maubot.db")


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.postgres),
        "a later schema",
        "memory",
    ]
)
def backend(
    request: pytest.FixtureRequest, sqlite: Backend, monkeypatch: pytest.MonkeyPatch
) -> Backend | None:
    """Where the state store lies; None: in memory."""
    if request.param == "postgres":
        return PostgresBackend(request.getfixturevalue("postgres_url"))
    if request.param == "a later schema":
        monkeypatch.setattr(state_store_tables, "KNOWN_VERSIONS", 3)
    return None if request.param == "memory" else sqlite


@pytest.fixture
async def store(backend: Backend | None) -> AsyncIterator[StateStore]:
    if backend is None:
        yield MemoryStateStore()
        return
    async with backend.opened(PgStateStore.upgrade_table) as database:
        yield PgStateStore(database)


def note_queries(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every query of a database noted from now on, in the list that is returned."""
    asked: list[str] = []
    for name in ("fetch", "fetchrow", "fetchval", "execute", "executemany"):
        monkeypatch.setattr(database, name, _noting(asked, getattr(database, name)))
    return asked


def _noting(asked: list[str], ask: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    async def noting(query: str, *values: Any) -> Any:
        asked.append(query)
        return await ask(query, *values)

    return noting
