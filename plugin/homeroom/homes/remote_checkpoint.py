"""The checkpoint in the bot's account data: what a lost database is restored from.

`domain/homes/checkpoint_shards.py` says what it looks like. It is written in the background, only
where something has changed, and only what the database says as well: rows, position and the text
that goes with them. If the homeserver does not take it, that is said once, and nothing else
suffers.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from mautrix.util.logging import TraceLogger

from ..domain.homes.checkpoint_shards import (
    HEAD_TYPE,
    Damaged,
    Head,
    Present,
    Write,
    erasures,
    joined,
    read_head,
    read_shard,
    shard_checksum,
    writes,
)
from ..domain.homes.model import Records
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..matrix.outgoing import Priority
from ..runtime.backoff import waits
from ..runtime.clock import now
from ..runtime.timeouts import timeout
from ..storage import Position, Store, StoreError
from .checkpoint_state import CheckpointState
from .routes import Routes

WRITE_EVERY: Final = 30.0
"""Seconds between two looks whether there is something to write."""
POSITION_EVERY: Final = 60 * 60 * 1000
"""Milliseconds after which a newer position is worth a write of its own."""
RETRY_AFTER: Final = (30, 300, 3600)
"""Seconds until what the homeserver did not take is tried again; the last one repeats."""
BEHIND_OTHERS: Final = 60.0
"""Seconds that a write waits at most until nothing more urgent is to be sent. Account data counts
against no budget of messages, so a bot that is always at its limit has a checkpoint, too."""
LAST_WITHIN: Final = 5.0
"""Seconds that the last write, at a stop, may take."""


@dataclass(slots=True, kw_only=True)
class RemoteCheckpoint:
    """Writes the checkpoint to the bot's account data, and reads it."""

    homeserver: Homeserver
    store: Store
    routes: Routes
    checkpoint_state: CheckpointState
    log: TraceLogger
    _present: Present | None = None
    """What account data holds; None: it has to be looked at."""
    _failure: str | None = None
    """Why the last write failed."""
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    written_of: int | None = field(default=None, init=False)
    """Of when what is there is, in milliseconds since 1970; None: not known in this life."""

    # Restoring

    async def head(self) -> Head | None:
        """Read the head; None: there is no checkpoint.

        Raises:
            Damaged: there is something else.
            HomeserverError: it is not to be had.
        """
        return read_head(await self.homeserver.account_data.get(HEAD_TYPE))

    async def rows(self, head: Head) -> Records:
        """Read the rows that a head is about.

        Raises:
            Damaged: they are not there, or not those.
            HomeserverError: they are not to be had.
        """
        contents = await self._shards(head)

        def read() -> Records:
            return joined(
                read_shard(content, head=head, number=number)
                for number, content in enumerate(contents)
            )

        return await asyncio.to_thread(read)

    async def _shards(self, head: Head) -> list[Any]:
        get = self.homeserver.account_data.get
        reading = [asyncio.create_task(get(kind)) for kind in head.shard_types]
        try:
            return list(await asyncio.gather(*reading))
        finally:
            for task in reading:
                task.cancel()

    # Writing

    async def run(self) -> None:
        """Write what has changed, from time to time, for ever."""
        pauses = waits(RETRY_AFTER)
        while True:
            await asyncio.sleep(WRITE_EVERY)
            with suppress(asyncio.TimeoutError):
                async with timeout(BEHIND_OTHERS):
                    await self.homeserver.until_turn(Priority.REPAIR)
            if await self.write():
                pauses = waits(RETRY_AFTER)
            else:
                await asyncio.sleep(next(pauses))

    async def write_last(self) -> None:
        """Write what has changed, before the end, if that is a matter of a moment."""
        try:
            async with timeout(LAST_WITHIN):
                await self.write(is_last=True)
        except asyncio.TimeoutError:
            self.log.info("The checkpoint was not written any more: there was no time")

    async def write(self, *, is_last: bool = False) -> bool:
        """Write what has changed; False: the homeserver does not take it."""
        try:
            async with self._one_at_a_time:
                if await self._write(is_last=is_last):
                    self._failure = None
        except (Damaged, HomeserverError) as e:
            self._present = None
            if self._failure is None:
                self.log.warning(
                    "The checkpoint in my account data could not be written; until it can, a lost"
                    " database costs a scan of all rooms: %s",
                    e,
                )
            self._failure = str(e)
            return False
        except StoreError as e:
            self.log.warning("No checkpoint was written: %s", e)
        return True

    async def _write(self, *, is_last: bool) -> bool:
        """Write what has changed; False: there is nothing to be written yet."""
        # Rows and their checkpoint, of the same moment; and only what is in the database, too.
        checkpoint, records = self.checkpoint_state.checkpoint, self.routes.records
        position = await self.store.position()
        if checkpoint is None or position is None or position.bot != self.homeserver.bot:
            return False
        if await self.store.checkpoint() != checkpoint:
            return False
        # After the position: it does not go on past a room before that room's place is stored.
        parked = await self.store.places()
        present = self._present or await self._look()
        self._present = None  # until it is known what is there
        head = present.head
        todo: list[Write] = []
        if not _is_enough(present, checkpoint, position, is_last=is_last):
            make = partial(
                writes,
                records,
                checkpoint=checkpoint,
                position=position.token,
                saved_at=position.saved_at,
                parked=parked,
                present=present,
            )
            head, todo = await asyncio.to_thread(make)
        for kind, content in todo:
            await self.homeserver.account_data.set(kind, content)
        assert head is not None
        self._present = Present(head=head, shards=head.shards, records=records)
        self.written_of = head.saved_at
        self.log.debug("Wrote %d parts of the checkpoint", len(todo))
        return True

    async def _look(self) -> Present:
        """Look at what is there: an earlier life may have ended in the middle of a write."""
        try:
            head = await self.head()
        except Damaged as e:
            self.log.info("The checkpoint in my account data is damaged: %s", e)
            return Present()
        if head is None:
            return Present()
        shards = [
            shard_checksum(await self.homeserver.account_data.get(kind))
            for kind in head.shard_types
        ]
        return Present(head=head, shards=tuple(shards))

    # Deleting

    async def parts(self) -> int:
        """Of how many account data events it consists.

        Raises:
            HomeserverError: nobody knows.
        """
        try:
            head = await self.head()
        except Damaged:
            return 1
        return 0 if head is None else 1 + len(head.shards)

    async def erase(self) -> int:
        """Empty it; returns how many account data events that were.

        Raises:
            HomeserverError: it was not emptied, or not all of it. It is no checkpoint any more,
                or it is whole.
        """
        async with self._one_at_a_time:
            self._present = None
            parts = await self.parts()
            for kind, content in erasures(parts - 1) if parts else ():
                await self.homeserver.account_data.set(kind, content)
            return parts


def _is_enough(present: Present, checkpoint: str, position: Position, *, is_last: bool) -> bool:
    """Whether what is there can stay as it is: the same rows, and a position young enough."""
    head = present.head
    return (
        head is not None
        and (head.checkpoint, head.shards) == (checkpoint, present.shards)
        and (
            head.position == position.token
            or (not is_last and now() - head.saved_at < POSITION_EVERY)
        )
    )
