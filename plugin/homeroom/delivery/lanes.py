"""One lane per room: what one room has to wait for, nobody else waits for.

Most of what a response says of a room is taken in at once. A lane exists where that cannot be:
older events were left out and have to be read (`/messages`), or somebody came or went and the
keys of an encrypted room have to be changed first. What comes after it in the same room waits
behind it, in order; other rooms go on. A lane that fails tries again by itself; after a minute it
is parked (`parking.py`), keeps nothing in memory, and reads the room back to its place when that
works. One that is older than `catch_up.max_age` is given up. Idle rooms have no lane.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.homes.place import Place
from ..domain.json_shapes import as_dict
from ..domain.sync.timeline import begins_before, event_id_of
from ..matrix.encryption import Encryption
from ..matrix.errors import HomeserverError, NotSignedIn, Refused
from ..matrix.homeserver import Homeserver
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import StoreError
from .inbox import Inbox
from .parking import Parking

PAUSES: Final = (1, 2, 5, 10, 30, 60, 300)
"""Seconds between attempts; the last one repeats."""
GIVE_UP_AFTER: Final = 10 * 60
"""Seconds that a lane is tried at least, whatever `catch_up.max_age` says."""
PAGES_AT_MOST: Final = 20
"""Pages of `/messages`, 100 events each, that are read to fill one gap."""
BYTES_AT_MOST: Final = 16_000_000
"""Of text in the events of one gap, or so."""
EVENTS_AT_MOST: Final = 1_000
"""Events that wait in one lane; if they are more, they are read again when it goes on."""
FIRST_TRIES_AT_ONCE: Final = 4
TRIES_AGAIN_AT_ONCE: Final = 2
"""Rooms that are read at once. What failed before takes no place from what has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one response says of one room."""

    room_id: RoomID
    events: list[Any] = field(default_factory=list)
    """Of its timeline, oldest first."""
    work: tuple[Hashable, ...] = ()
    """What the inbox is told to be finished when the part is taken in."""
    gap: str | None = None
    """Where what was left out before `events` ends; None: nothing was, unless `is_from_place`."""
    is_from_place: bool = False
    """Whether everything from now back to `since` is to be read."""
    is_told_again: bool = False
    """Whether `events` may be answered, or not be all: everything from now back to the first of
    them is read in place of them; further back, if there is a gap or no position to trust."""
    since: str | None = None
    """The position before the response."""
    since_at: int | None = None
    """When the bot had seen everything up to there, in milliseconds since 1970."""
    not_before: int | None = None
    """What is older is passed over; None: nothing is."""
    read_back_to: int = 0
    """What is older is not looked for."""
    is_live: bool = False
    has_other_members: bool = False
    """Whether keys have to be changed first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A lane that waits, as the status page shows it. Times are in milliseconds since 1970."""

    room_id: RoomID
    since: int
    why: str
    is_parked: bool


@dataclass(slots=True)
class _Lane:
    """What waits in one room, and since when it fails."""

    parts: deque[Part] = field(default_factory=deque)
    failing_since: int | None = None
    why: str = ""
    began: float = field(default_factory=time.monotonic)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


Deliver = Callable[[Part, list[Any]], None]
"""Takes in a part and the older events before it."""


@dataclass(slots=True, kw_only=True)
class Lanes:
    """The lanes of all rooms that have to wait for something."""

    homeserver: Homeserver
    encryption: Encryption
    inbox: Inbox
    parking: Parking
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    _lanes: dict[RoomID, _Lane] = field(default_factory=dict, init=False)
    _seen: dict[RoomID, EventID] = field(default_factory=dict, init=False)
    """The newest event of each room that was taken in, in this life."""
    _first_tries: asyncio.Semaphore = field(init=False)
    _tries_again: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._first_tries = asyncio.Semaphore(FIRST_TRIES_AT_ONCE)
        self._tries_again = asyncio.Semaphore(TRIES_AGAIN_AT_ONCE)

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """The lanes that fail or are parked."""
        places = {place.room_id: place for place in self.parking.places}
        failing = {
            room_id: Waiting(
                room_id=room_id,
                since=lane.failing_since,
                why=lane.why,
                is_parked=room_id in places,
            )
            for room_id, lane in self._lanes.items()
            if lane.failing_since is not None
        }
        parked = {
            room_id: Waiting(room_id=room_id, since=place.parked_at, why=place.why, is_parked=True)
            for room_id, place in places.items()
        }
        return tuple({**parked, **failing}.values())

    def __len__(self) -> int:
        return len(self._lanes)

    def is_busy(self, room_id: RoomID) -> bool:
        """Whether what is new in the room has to wait for its lane."""
        return room_id in self._lanes

    async def until_idle(self, room_id: RoomID) -> None:
        """Wait until nothing of the room is in its lane."""
        while (lane := self._lanes.get(room_id)) is not None:
            await lane.is_over.wait()

    def note_seen(self, room_id: RoomID, event: object) -> None:
        """This is the newest event of a room that was taken in."""
        if (event_id := event_id_of(event)) is not None:
            self._seen[room_id] = event_id

    def put(self, part: Part, *, deliver: Deliver) -> None:
        """Put a part behind the others of its room; never waits."""
        lane = self._lanes.get(part.room_id)
        if lane is None:
            lane = self._lanes[part.room_id] = _Lane(deque([part]))
            self.background.start(
                self._work(part.room_id, lane, deliver), name=f"filling in {part.room_id}"
            )
            return
        if self.parking.has(part.room_id):
            self._finish(part)  # the room remembers its own place
            part = replace(part, work=())
        lane.parts.append(part)
        if sum(len(part.events) for part in lane.parts) > EVENTS_AT_MOST:
            self._collapse(lane)

    def go_on(self, place: Place, *, not_before: int, deliver: Deliver) -> None:
        """Go on with a room that an earlier life has parked."""
        part = Part(
            room_id=place.room_id,
            is_from_place=True,
            since=place.since,
            not_before=not_before,
            read_back_to=not_before,
        )
        self.put(part, deliver=deliver)

    async def _work(self, room_id: RoomID, lane: _Lane, deliver: Deliver) -> None:
        """Take in the parts of one room, one after the other, until there are none."""
        try:
            while lane.parts:
                part, older = await self._older(room_id, lane)
                if lane.parts[0] is not part:
                    continue  # more has come than is kept: all of it is read again
                lane.parts.popleft()
                deliver(part, older)
                self._finish(part)
                if part.is_from_place:
                    await self.inbox.until_done(room_id)
                    await self.parking.leave(room_id)
        except Exception:
            self.log.exception("Error while filling in %s", room_id)
            for part in lane.parts:
                self._finish(part)
        finally:
            del self._lanes[room_id]
            lane.is_over.set()

    def _finish(self, part: Part) -> None:
        for work in part.work:
            self.inbox.finish(work)

    async def _older(self, room_id: RoomID, lane: _Lane) -> tuple[Part, list[Any]]:
        """The first part, and what has to be there before it is taken in, oldest first."""
        lane.failing_since, lane.why, lane.began = None, "", time.monotonic()

        async def attempt() -> tuple[Part, list[Any]]:
            is_failing = lane.failing_since is not None
            if is_failing and time.monotonic() - lane.began >= self.parking.PARK_AFTER:
                await self._park(room_id, lane)
            part = lane.parts[0]
            if part.has_other_members:
                await self.encryption.forget_sessions([room_id])
                lane.parts[0] = part = replace(part, has_other_members=False)
            if part.gap is None and not part.is_from_place and not part.is_told_again:
                return part, []
            async with self._tries_again if is_failing else self._first_tries:
                return part, await self._read_back(part)

        def failed(error: Exception, seconds: float) -> None:
            if lane.failing_since is None:
                lane.failing_since = self.homeserver.clock.now()
            lane.why = str(error)
            self.log.warning(
                "Could not catch up in %s: %s; trying again in %d s", room_id, error, seconds
            )

        max_age = max(self.settings().catch_up_max_age, GIVE_UP_AFTER)
        try:
            return await retry(
                attempt,
                policy=RetryPolicy(pauses=PAUSES, within=max_age),
                on=(HomeserverError, StoreError),
                unless=(Refused,),
                timeless=(NotSignedIn,),
                failed=failed,
            )
        except Refused as e:
            self.log.warning("Older events of %s are not to be had: %s", room_id, e)
        except (HomeserverError, StoreError) as e:
            self.log.error("What was said in %s is given up: %s", room_id, e)
        finally:
            lane.failing_since = None
        return lane.parts[0], []

    async def _park(self, room_id: RoomID, lane: _Lane) -> None:
        """Let the position go on without this room."""
        since = lane.parts[0].since
        if await self.parking.park(room_id, since=since, why=lane.why):
            self._collapse(lane)
            self._finish(lane.parts[0])
            lane.parts[0] = replace(lane.parts[0], work=())

    def _collapse(self, lane: _Lane) -> None:
        """Keep nothing but where the lane goes on: all of it can be read again."""
        first = lane.parts[0]
        work = tuple(each for part in lane.parts for each in part.work)
        not_before = [each.not_before for each in lane.parts]
        lane.parts = deque(
            [
                replace(
                    first,
                    events=[],
                    gap=None,
                    is_from_place=True,
                    is_told_again=False,
                    is_live=False,
                    work=work,
                    not_before=None if None in not_before else first.not_before,
                    has_other_members=any(part.has_other_members for part in lane.parts),
                )
            ]
        )

    async def _read_back(self, part: Part) -> list[Any]:
        """The events before a part, oldest first: back to what was seen, and never without end."""
        room_id, server = part.room_id, self.homeserver.server_name
        start, until, ends = part.gap, part.since, {self._seen.get(room_id)}
        if part.is_told_again:
            # All of it may be older than what was seen, and than the position.
            start = until = None
            ends = ends if part.gap or not part.since else set()
            ends.add(event_id_of(part.events[0]))
        events: list[Any] = []
        size, is_whole = 0, False
        async for page, older in self.homeserver.pages_back(
            room_id, start=start, until=until, at_most=PAGES_AT_MOST
        ):
            last = _last_of(page, ends)
            events += page if last is None else page[: last + part.is_told_again]
            size += sum(map(_size, page))
            is_old = begins_before(page, part.read_back_to, server=server)
            is_whole = older is None or last is not None or is_old
            if is_whole or size > BYTES_AT_MOST:
                break
        if not is_whole:
            self.log.error(
                "More than %d events of %s were left out; the older ones stay unread",
                len(events),
                room_id,
            )
        what = "Read again" if part.is_told_again else "Filled a gap of"
        self.log.info("%s %d events in %s", what, len(events), room_id)
        return events[::-1]


def _last_of(page: list[Any], ends: set[EventID | None]) -> int | None:
    """Where the last of these is found in a page; those found earlier are taken out."""
    for number, event in enumerate(page):
        ends.discard(event_id_of(event) or EventID(""))
        if not ends:
            return number
    return None


def _size(event: object) -> int:
    """Of the text in an event, or so."""
    content = as_dict(as_dict(event).get("content"))
    return sum(len(value) for value in content.values() if isinstance(value, str))
