"""Which events are done: in the database, and in memory while that cannot be written.

A full disk is no reason to be deaf, nor to ask an agent twice: what cannot be written down now is
known all the same, and written later. If the process dies before that, the rooms tell which
questions have answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..domain.newest import keep_newest
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import Store, StoreError

UNWRITTEN_AT_MOST: Final = 50_000
WRITE_AGAIN: Final = RetryPolicy(pauses=(2, 5, 15, 60))


@dataclass(slots=True, kw_only=True)
class HandledMarks:
    """Knows which events are done; what the database cannot take yet is written later."""

    store: Store
    background: Background
    log: TraceLogger
    _unwritten: dict[EventID, RoomID] = field(default_factory=dict, init=False)
    _trouble: str | None = field(default=None, init=False)

    @property
    def unwritten(self) -> int:
        """How many are only in memory."""
        return len(self._unwritten)

    @property
    def trouble(self) -> str | None:
        """Why the database cannot be written; None: it can, as far as is known."""
        return self._trouble

    async def has(self, event_id: EventID, *, is_news: bool) -> bool:
        """Whether the event is done.

        Args:
            is_news: it has just happened, so no earlier life can have done it.

        Raises:
            StoreError: nobody knows.
        """
        if event_id in self._unwritten:
            return True
        try:
            return await self.store.was_handled(event_id)
        except StoreError as e:
            if not is_news:
                raise
            self._note(e)
            return False

    async def add(self, event_id: EventID, *, room_id: RoomID) -> None:
        """The event is done."""
        await self.add_all([(event_id, room_id)])

    async def add_all(self, events: Iterable[tuple[EventID, RoomID]]) -> None:
        """These events are done; the first time counts."""
        events = list(events)
        if not events:
            return
        if not self._unwritten:
            try:
                await asyncio.gather(
                    *(self.store.mark_handled(event, room_id=room) for event, room in events)
                )
                self._trouble = None
            except StoreError as e:
                self._note(e)
            else:
                return
        is_first = not self._unwritten
        self._unwritten.update(events)
        keep_newest(self._unwritten, at_most=UNWRITTEN_AT_MOST)
        if is_first:
            self.background.keep_running(self._write, name="writing down what is done")

    def _note(self, error: Exception) -> None:
        if self._trouble is None:
            self.log.error(
                "What is done cannot be written down, and is kept in memory until it can: %s",
                error,
            )
        self._trouble = str(error)

    async def _write(self) -> None:
        """Write what is only in memory, until nothing is."""
        await retry(
            self._write_once,
            policy=WRITE_AGAIN,
            on=(StoreError,),
            failed=lambda e, _: self._note(e),
        )

    async def _write_once(self) -> None:
        while self._unwritten:
            some = dict(list(self._unwritten.items())[:500])
            await asyncio.gather(
                *(self.store.mark_handled(event, room_id=room) for event, room in some.items())
            )
            for event_id in some:
                self._unwritten.pop(event_id, None)
        self._trouble = None
        self.log.info("What is done is written down again")
