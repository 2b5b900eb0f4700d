"""maubot's state store as the tables that it is: one question about many rooms."""

from __future__ import annotations

from typing import Final

from mautrix.client.state_store import StateStore
from mautrix.client.state_store.asyncpg import PgStateStore
from mautrix.util.async_db import Database

KNOWN_VERSIONS: Final = 4
"""Of mautrix's tables; later ones may mean something else."""


def database_of(store: StateStore | None) -> Database | None:
    """Where the tables of a state store are; None: it has none, or others than are known here."""
    if isinstance(store, PgStateStore) and len(store.upgrade_table.upgrades) == KNOWN_VERSIONS:
        return store.db
    return None


def places(number: int) -> str:
    """A list of so many values in a statement."""
    return f"({', '.join(f'${each}' for each in range(1, number + 1))})"
