"""Resuming: going on from the rows of a checkpoint, the whole truth at its sync position.

    basis    = the database's rows, or else those in the bot's account data
    response = homeserver.sync_since(position)        while the rows are read and summed up
    reconciler.resume(rows, rooms_to_rescan(response))

What it costs grows with what has changed, not with what exists. At the least doubt (rows that
somebody touched, another build or account, a position that is old or that the homeserver does not
know) the next basis is tried, and then everything is scanned. A database with a valid checkpoint
is never overruled; without one it keeps the rows that it has, and the rooms are scanned
of which the checkpoint in the account data says something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from mautrix.types import RoomID, SyncToken
from mautrix.util.logging import TraceLogger

from ..domain.homes.checkpoint import Digest, Origin, make_checkpoint
from ..domain.homes.checkpoint_shards import Damaged
from ..domain.homes.model import ROUTED, Records
from ..domain.homes.place import Place
from ..domain.homes.restored_rows import restore
from ..domain.sync.changed_rooms import is_initial, rooms_to_rescan
from ..homes.reconciler import Reconciled, Reconciler
from ..homes.remote_checkpoint import RemoteCheckpoint
from ..homes.room_creation import RoomCreation
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..runtime.clock import now
from ..storage import Store

MAX_AGE: Final = 24 * 60 * 60 * 1000
"""Milliseconds. What happened since an older position may be more than a scan."""
MANY: Final = 100
"""Changed rooms from which on it matters how many there are in all."""
TOO_MANY: Final = 0.2
"""Of all rooms: if more have changed, a scan of everything is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a start goes on from without a full scan."""

    position: SyncToken
    response: dict[str, Any]
    """What happened since, as `/sync` tells it."""
    done: Reconciled
    room_ids: frozenset[RoomID]
    """Of all rows."""
    rescanned: frozenset[RoomID]
    """Of the rooms that have changed since; what could not be read is not among them."""
    is_restored: bool
    """Whether the rows are from the account data: then nobody remembers what was handled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basis:
    """Rows to go on from."""

    position: SyncToken
    records: Records
    digest: Digest
    response: dict[str, Any]
    in_doubt: frozenset[RoomID] = frozenset()
    """Rooms to scan, whatever happened in them."""
    is_restored: bool = False


class _DoubtError(Exception):
    """Why there is no going on from here; None: there is nothing to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Tries to go on from stored rows instead of scanning everything.

    Args:
        origin: what a checkpoint depends on besides the rows.
    """

    homeserver: Homeserver
    store: Store
    remote: RemoteCheckpoint
    reconciler: Reconciler
    room_creation: RoomCreation
    origin: Callable[[], Origin]
    log: TraceLogger

    async def run(self) -> Resumed | None:
        """Resume; None: there is a doubt about all rows, and no event was handled.

        Raises:
            HomeserverError: a room that has changed could not be scanned.
            StoreError: the database failed.
        """
        try:
            basis = await self._basis()
        except _DoubtError as e:
            self.log.info("%s; scanning all rooms", e)
            return None
        if basis is None:
            return None
        ours = basis.records.room_ids
        bot = self.homeserver.bot
        created = await self.room_creation.resolve(known=basis.records)
        self.homeserver.told.synced(basis.response, is_ours=ours.__contains__, now=now())
        changed = rooms_to_rescan(basis.response, bot=bot, is_ours=ours.__contains__)
        changed |= basis.in_doubt | (created - ours)
        if len(changed) > max(MANY, TOO_MANY * len(basis.records.chats)):
            self.log.info("%d rooms have changed: scanning everything", len(changed))
            return None
        done = await self.reconciler.resume(basis.records, basis.digest, changed, bot=bot)
        return Resumed(
            position=basis.position,
            response=basis.response,
            done=done,
            room_ids=ours,
            rescanned=changed.difference(room.room_id for room in done.plan.unreadable),
            is_restored=basis.is_restored,
        )

    async def _basis(self) -> _Basis | None:
        try:
            if (basis := await self._from_database()) is not None:
                return basis
        except _DoubtError as e:
            self.log.info("%s", e)
        return await self._from_account_data()

    async def _from_database(self) -> _Basis | None:
        position, checkpoint = await self.store.position(), await self.store.checkpoint()
        if position is None or not checkpoint or position.bot != self.homeserver.bot:
            return None
        if not _is_young(position.saved_at):
            return None
        async with self._asked_since(position.token) as asking:
            records = await self.store.snapshot()
            digest = await self._digest(records, checkpoint)
            if digest is None:
                raise _DoubtError(
                    "The database was written by another version, or changed from outside"
                )
            return _Basis(
                position=position.token,
                records=records,
                digest=digest,
                response=await self._answer(asking, records, position.token),
            )

    async def _from_account_data(self) -> _Basis | None:
        """Put the rows into the database that it has lost.

        The position is not: until all is answered that was said since, only the rooms know what
        is answered, and a next start has to ask them, too.
        """
        try:
            head = await self.remote.head()
            if head is None:
                return None
            if not _is_young(head.saved_at):
                raise _DoubtError("The checkpoint in my account data is too old")
            async with self._asked_since(head.position) as asking:
                joined = asyncio.create_task(self.homeserver.joined_rooms())
                try:
                    rows = await self.remote.rows(head)
                    if await self._digest(rows, head.checkpoint) is None:
                        raise _DoubtError(
                            "The checkpoint in my account data is of another build, account or"
                            " setting"
                        )
                    restored = restore(rows, stored=await self.store.snapshot())
                    await self.store.apply(restored.missing)
                    digest = await asyncio.to_thread(Digest.of, restored.records)
                    response = await self._answer(asking, rows, head.position)
                    self._require_rooms(rows, response, joined=await joined)
                    await self._park(head.parked)
                finally:
                    joined.cancel()
        except Damaged as e:
            raise _DoubtError(f"The checkpoint in my account data is damaged: {e}") from e
        except HomeserverError as e:
            raise _DoubtError(f"There is no checkpoint in my account data: {e}") from e
        self.log.info(
            "Restored %d rows from the checkpoint in my account data", len(restored.missing)
        )
        return _Basis(
            position=head.position,
            records=restored.records,
            digest=digest,
            response=response,
            in_doubt=restored.in_doubt,
            is_restored=True,
        )

    async def _park(self, places: Iterable[Place]) -> None:
        """Park what the database does not know to be parked: its own places are later ones."""
        known = {place.room_id for place in await self.store.places()}
        for place in places:
            if place.room_id not in known:
                await self.store.park(place)

    async def _digest(self, records: Records, checkpoint: str) -> Digest | None:
        """The digest of the rows; None: the checkpoint is not theirs."""
        digest = await asyncio.to_thread(Digest.of, records)
        return digest if make_checkpoint(self.origin(), digest) == checkpoint else None

    @asynccontextmanager
    async def _asked_since(
        self, position: SyncToken
    ) -> AsyncIterator[asyncio.Task[dict[str, Any]]]:
        asking = asyncio.create_task(self.homeserver.sync_since(position))
        try:
            yield asking
        finally:
            asking.cancel()

    async def _answer(
        self, asking: asyncio.Task[dict[str, Any]], records: Records, position: SyncToken
    ) -> dict[str, Any]:
        try:
            response = await asking
        except HomeserverError as e:
            raise _DoubtError(f"Cannot resume from {position[:100]}: {e}") from e
        if is_initial(response, ours=_live_rooms(records)):
            raise _DoubtError(f"The homeserver does not know the position {position[:100]}")
        return response

    def _require_rooms(
        self, records: Records, response: dict[str, Any], *, joined: frozenset[RoomID]
    ) -> None:
        """The bot is in the rooms that the rows are about, unless it was told otherwise."""
        told = rooms_to_rescan(response, bot=self.homeserver.bot, is_ours=lambda _: True)
        missing = _live_rooms(records) - joined - told
        if missing:
            raise _DoubtError(
                f"The checkpoint in my account data knows {len(missing)} rooms that I am not in"
            )


def _is_young(saved_at: int) -> bool:
    return 0 <= now() - saved_at <= MAX_AGE


def _live_rooms(records: Records) -> frozenset[RoomID]:
    """The rooms that the bot is in, by these rows."""
    spaces = (home.space_id for home in records.homes.values() if home.status in ROUTED)
    chats = (chat.room_id for chat in records.chats.values() if chat.status in ROUTED)
    return frozenset((*spaces, *chats))
