"""Connections and transactions that hold what they promise when the task is cancelled.

Not mautrix's own `transaction()`: on SQLite it rolls back for an `Exception`, and
`asyncio.CancelledError` is none. The one connection of the pool would go back with the
transaction open, so that every later one fails with "cannot start a transaction within a
transaction". It also does nothing at all inside a task that was started within a transaction,
even of another database; and `acquire()` hands such a task a connection that is not its own. So
connections are always acquired directly, and never one inside another: the pool has only one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mautrix.util.async_db import Connection, Database, Scheme


def connection(database: Database) -> AbstractAsyncContextManager[Connection]:
    """Borrow a connection for single statements."""
    return database.acquire_direct()


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[Connection]:
    """Write all that is executed inside, or nothing, whatever ends it."""
    async with database.acquire_direct() as borrowed:
        wrapped: Any = borrowed.wrapped
        if borrowed.scheme is Scheme.SQLITE:
            # IMMEDIATE waits for another process that writes (busy_timeout); a transaction that
            # begins by reading would fail at once where it begins to write.
            inside = _sqlite_transaction(borrowed, begin="BEGIN IMMEDIATE")
        else:
            inside = wrapped.transaction()
        async with inside:
            yield borrowed


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[Connection]:
    """Read the database as it is at one moment, however many statements that takes."""
    async with database.acquire_direct() as borrowed:
        wrapped: Any = borrowed.wrapped
        if borrowed.scheme is Scheme.SQLITE:
            inside = _sqlite_transaction(borrowed, begin="BEGIN")
        else:
            inside = wrapped.transaction(isolation="repeatable_read", readonly=True)
        async with inside:
            yield borrowed


@asynccontextmanager
async def _sqlite_transaction(borrowed: Connection, *, begin: str) -> AsyncIterator[None]:
    wrapped: Any = borrowed.wrapped
    try:
        await borrowed.execute(begin)
        yield
        await borrowed.execute("COMMIT")
    except BaseException:
        # Statements run in one thread, in the order in which they were asked for, and are not
        # interrupted: this comes after the one that we no longer wait for, even BEGIN, and is
        # done even if waiting for it is cancelled too. After COMMIT it does nothing.
        await wrapped.rollback()
        raise
