"""Work on foreign text that, for all that is known, may kill the process.

Whoever does such work says so (`with noted()`). Whoever has it done decides whether a note of it
is worth its while (`noting`): it is written before the work, and taken back after it, so that a
note that is found at a start names work in which the process died.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    write: Callable[[], Awaitable[None]]
    take_back: Callable[[], Awaitable[None]]


_NOTE: Final[ContextVar[Note | None]] = ContextVar("note", default=None)


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """Have a note made of all such work in here, also in tasks that begin in here."""
    before = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(before)


@asynccontextmanager
async def noted() -> AsyncIterator[None]:
    """Around the work. The note stays if the work ends by anything but a result or an error."""
    note = _NOTE.get()
    if note is None:
        yield
        return
    await note.write()
    try:
        yield
    except Exception:
        await note.take_back()
        raise
    await note.take_back()
