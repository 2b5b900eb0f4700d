"""Many rows at once: made ready and written in batches, read into records, counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from mautrix.util.async_db import Connection

from ..domain.homes.model import Records
from ..runtime.batches import batches
from .rows import Row, read_chat, read_home
from .statements import Statement

BATCH: Final = 500
"""Rows that are made ready, or handed to the database, at once: others live in this process."""
FEW: Final = 20
"""Rows that are made ready sooner than a thread would have begun."""


async def write_each(
    writing: Connection, statement: Statement, rows: Iterable[dict[str, object]]
) -> None:
    """Execute a statement for each of these rows."""
    for batch in batches(rows, BATCH):
        make: Callable[[], list[Any]] = partial(list, map(statement.arguments, batch))
        arguments = make() if len(batch) <= FEW else await asyncio.to_thread(make)
        await writing.executemany(statement.sql, arguments)


def read_records(home_rows: Iterable[Row], chat_rows: Iterable[Row]) -> Records:
    """The records of these rows; rows that say nothing sensible are left out."""
    homes = filter(None, map(read_home, home_rows))
    chats = filter(None, map(read_chat, chat_rows))
    return Records(
        homes={home.matrix_user_id: home for home in homes},
        chats={chat.room_id: chat for chat in chats},
    )


def affected(result: Any) -> int:
    """How many rows a statement wrote: asyncpg says `INSERT 0 1`, aiosqlite gives a cursor."""
    if isinstance(result, str):
        return int(result.rpartition(" ")[2])
    return int(result.rowcount)
