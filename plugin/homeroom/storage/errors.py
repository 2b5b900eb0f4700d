"""The one error of the store, and the place where drivers' errors become it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg


class StoreError(Exception):
    """The database did not do what was asked; nothing of it was done. May pass, or may not."""


_DRIVER_ERRORS: Final = (
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # no connection
    asyncio.TimeoutError,  # not yet an OSError in Python 3.10
    RuntimeError,  # mautrix: the pool is not started, or stopped already
    ValueError,  # aiosqlite: the connection is closed
)


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Translate what the drivers raise inside; `what` completes "could not …"."""
    try:
        yield
    except _DRIVER_ERRORS as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"could not {what}: {type(error).__name__}: {reason}") from error
