"""Scans the homeserver: chooses the way, and sees that nothing is left out. Reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ...domain.homes.marker import MARKER_TYPE
from ...domain.homes.topology import Invite, Topology
from ...matrix.errors import HomeserverError
from ...matrix.homeserver import Homeserver
from ...runtime.clock import now
from . import by_sync
from .by_room_state import RoomByRoom
from .by_sliding_sync import SlidingScan
from .partial_topology import Found
from .progress import OnProgress

MANY: Final = 20
"""Rooms from which on sliding sync is the faster way to scan some, too."""

SECOND_LIST_AFTER: Final = 1.0
"""Seconds between two lists of joined rooms."""

Way = Callable[[SlidingScan, Sequence[RoomID]], Awaitable[None]]


class Observer:
    """Scans the homeserver: everything, or some rooms."""

    def __init__(self, homeserver: Homeserver, *, log: TraceLogger) -> None:
        self._homeserver = homeserver
        self._log = log

    async def scan(
        self,
        *,
        expected: Iterable[RoomID] = (),
        rest: float = 0.0,
        on_progress: OnProgress | None = None,
    ) -> Topology:
        """Scan everything: every joined room, every pending invite.

        Args:
            expected: rooms that the bot is in and that are Homeroom's, as far as is known.
            rest: seconds of rest for each second of asking, for a scan that is in no hurry.
            on_progress: is told every few seconds how far it is.

        Raises:
            HomeserverError: the joined rooms or the invites could not be had.
        """
        expected = frozenset(expected)
        joined = await self._joined_rooms(expected)
        found = Found.nothing(joined, on_progress=on_progress)
        invites: list[Invite] | None = None
        if await self._homeserver.about.supports_sliding_sync():
            sliding = SlidingScan(self._homeserver, found, rest=rest)
            try:
                invites = await sliding.everywhere(likely=expected)
            except HomeserverError as e:
                self._log.warning("Sliding sync failed, reading room by room instead: %s", e)
        if invites is None:
            invites = await by_sync.pending_invites(self._homeserver)
        await self._read_the_rest(found)
        return Topology(
            bot=self._homeserver.bot,
            rooms=found.rooms,
            invites=tuple(sorted(invites, key=lambda invite: invite.room_id)),
            is_whole=True,
        )

    async def scan_invites(self) -> list[Invite]:
        """Scan the pending invites only.

        Raises:
            HomeserverError: they are not to be had.
        """
        if await self._homeserver.about.supports_sliding_sync():
            try:
                return await SlidingScan(self._homeserver, Found.nothing()).invites()
            except HomeserverError as e:
                self._log.debug("Sliding sync failed, asking /sync for invites: %s", e)
        return await by_sync.pending_invites(self._homeserver)

    async def scan_by_get(self) -> Topology:
        """Scan every joined room with GET requests only, room by room; no invites."""
        return await self._scan_some(await self._homeserver.joined_rooms())

    async def scan_rooms(
        self, room_ids: Iterable[RoomID], *, expected: Iterable[RoomID] = ()
    ) -> Topology:
        """Scan these rooms only, and whether the bot is in them.

        Args:
            expected: those that the bot is in, as far as is known.
        """
        room_ids = frozenset(room_ids)
        joined = await self._joined_rooms(room_ids.intersection(expected))
        return await self._scan_some(room_ids & joined, first=SlidingScan.at)

    async def scan_others(
        self, known: frozenset[RoomID], *, expected: Iterable[RoomID] = ()
    ) -> Topology:
        """Scan the joined rooms that are not among the known ones."""
        wanted = await self._joined_rooms(frozenset(expected)) - known
        return await self._scan_some(wanted, first=SlidingScan.read_unclassified)

    async def _joined_rooms(self, expected: frozenset[RoomID]) -> frozenset[RoomID]:
        """The rooms that the bot is in.

        One list without a room that is expected there may be late. Unless it was told that the bot
        has left, a second list has to say so, too.
        """
        joined = await self._homeserver.joined_rooms()
        told = self._homeserver.told
        if any(told.is_joined(room_id, now=now()) is None for room_id in expected - joined):
            await asyncio.sleep(SECOND_LIST_AFTER)
            joined |= await self._homeserver.joined_rooms()
        return joined

    async def _scan_some(self, wanted: frozenset[RoomID], *, first: Way | None = None) -> Topology:
        """Scan rooms that are joined; if they are many, first in the fast way."""
        found = Found.nothing(wanted)
        if first is not None and len(wanted) >= MANY:
            try:
                if await self._homeserver.about.supports_sliding_sync():
                    await first(SlidingScan(self._homeserver, found), sorted(wanted))
            except HomeserverError as e:
                self._log.debug("Sliding sync failed, reading room by room instead: %s", e)
        await self._read_the_rest(found)
        return Topology(bot=self._homeserver.bot, rooms=found.rooms)

    async def _read_the_rest(self, found: Found) -> None:
        """Read what was not told yet, in whatever way it is told."""
        one_by_one = RoomByRoom(self._homeserver, found)
        await one_by_one.at(found.left)
        more = await by_sync.read_rooms(
            self._homeserver, one_by_one.not_this_way, interner=found.interner
        )
        found.rooms.update(more)  # they were counted when they could not be read

    async def could_be_ours(self, room_id: RoomID) -> bool:
        """Whether a room whose state cannot be read may be Homeroom's.

        Two single events often can be read where the whole state cannot (it is huge, or the
        server is still fetching it): who made the room, and whether it bears the bot's marker.
        That there is neither, is an answer, too: not of rooms that the bot has just made, of which
        not every worker has heard. A refusal (403) is none.
        """
        bot = self._homeserver.bot
        try:
            create = await self._homeserver.state_event(room_id, "m.room.create")
            marker = await self._homeserver.state_event(room_id, MARKER_TYPE, state_key=bot)
        except HomeserverError as e:
            self._log.warning("Nobody knows whether %s is Homeroom's: %s", room_id, e)
            return True
        if create is None and marker is None:
            return self._homeserver.told.is_created(room_id, now=now())
        sender = create.get("sender") if create else None
        return marker is not None or not isinstance(sender, str) or sender == bot
