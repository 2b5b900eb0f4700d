"""The fast way to scan: simplified sliding sync (MSC4186).

Spaces and invites come as lists. Every other joined room is asked for by its name: those that the
bot's Spaces link, and those that a row calls a chat, at once with their members, because a second
question about a room costs the homeserver nearly as much as the first; all others without, so
that a bot in large public rooms pays nothing for them, and once more if they turn out to be the
bot's own. While one answer is read, in a thread, the homeserver makes the next; no more than two
are in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import uuid4

from mautrix.types import RoomID, UserID

from ...domain.homes.room_state import (
    STATE_TYPES,
    TYPES_WITHOUT_MEMBERS,
    add_members,
    read_invite,
    read_room,
)
from ...domain.homes.topology import Invite, Room
from ...domain.json_shapes import as_dict
from ...matrix.errors import Unavailable
from ...matrix.homeserver import Homeserver
from ...runtime.clock import now
from .partial_topology import Found

FIRST: Final = 200
"""Rooms that are asked for at first; from then on it depends on how much they have to tell, and
how long that takes."""
AT_LEAST, AT_MOST = 20, 2000
EVENTS_AT_ONCE: Final = 10_000
"""State events in one answer: some three megabytes, because every question costs the homeserver
something for each room that there is, whatever it is about. An answer is read while the next one
is made, so that only the last one costs time of its own."""
SECONDS_AT_ONCE: Final = 10.0
"""So that who waits sees how far it is, and no proxy before the homeserver gives up. `FIRST` rooms
may take longer: it may be rate limits that are waited for, and more questions would be worse."""
AT_A_TIME: Final = 2
REST_AT_MOST: Final = 4.0

SINGLE_TYPES: Final = {
    "m.room.create",
    "m.room.name",
    "m.room.tombstone",
    "m.room.power_levels",
    "m.room.encryption",
    "m.room.join_rules",
}
REQUIRED_STATE: Final = [
    [kind, "" if kind in SINGLE_TYPES else "*"] for kind in TYPES_WITHOUT_MEMBERS
]
MEMBERS: Final = [["m.room.member", "*"]]

Answer = dict[str, Any]
Reader = Callable[[Answer], "SlidingSyncResult"]
Source = Callable[[], Coroutine[Any, Any, "SlidingSyncResult"] | None]
Lists = Mapping[str, tuple[list[list[str]], dict[str, Any]]]
LISTS: Final[Lists] = {
    "spaces": (REQUIRED_STATE + MEMBERS, {"room_types": ["m.space"], "is_invite": False}),
    "invites": ([], {"is_invite": True}),
}


class SlidingSyncResult(NamedTuple):
    """What an answer says."""

    rooms: dict[RoomID, Room]
    incomplete: dict[RoomID, Room]
    """Rooms that may be Homeroom's, of whose members nothing was said."""
    invites: list[Invite]
    events: int
    """How many state events that took."""
    entries: int
    """How many rooms it is about, whether they count or not."""
    lengths: dict[str, int]
    """Of each list that tells it."""
    pos: str | None


class SlidingScan:
    """One scan.

    Args:
        found: what is told is added to it as it comes.
        rest: seconds of rest for each second of asking.
    """

    def __init__(self, homeserver: Homeserver, found: Found, *, rest: float = 0.0) -> None:
        self._homeserver = homeserver
        self._bot: UserID = homeserver.bot
        self._found = found
        self._rest = rest
        self.at_once = FIRST
        """How many rooms to ask for at once."""

    async def everywhere(self, *, likely: Iterable[RoomID]) -> list[Invite]:
        """Scan everything; returns the pending invites.

        Raises:
            HomeserverError: the server does not do its part. What it told by then is in `found`.
        """
        invites: list[Invite] = []
        lists, linked = _Windows(self, LISTS), _Names(self, REQUIRED_STATE + MEMBERS)
        async for result in self._answers(lists.next, linked.next):
            self._take(result)
            invites += result.invites
            # In the Spaces' order: what was made together lies together in the database there.
            linked.add(filter(self._found.is_left, self._linked(result)))
        await self.at(filter(self._found.is_left, likely))
        await self.read_unclassified(sorted(self._found.left))
        return invites

    async def invites(self) -> list[Invite]:
        """Scan the pending invites only.

        Raises:
            HomeserverError: the server does not do its part.
        """
        lists = _Windows(self, {"invites": LISTS["invites"]})
        return [invite async for result in self._answers(lists.next) for invite in result.invites]

    async def at(self, room_ids: Iterable[RoomID]) -> None:
        """Scan rooms that most likely are Homeroom's, members and all."""
        names = _Names(self, REQUIRED_STATE + MEMBERS, room_ids)
        async for result in self._answers(names.next):
            self._take(result)

    async def read_unclassified(self, room_ids: Iterable[RoomID]) -> None:
        """Scan rooms that may be anybody's: members are asked for where they matter."""
        incomplete: dict[RoomID, Room] = {}
        unclassified = _Names(self, REQUIRED_STATE, room_ids)
        ours = _Names(self, MEMBERS, reader=partial(self._read_members, incomplete))
        async for result in self._answers(unclassified.next, ours.next):
            self._take(result)
            incomplete |= result.incomplete
            ours.add(result.incomplete)

    def _linked(self, result: SlidingSyncResult) -> Iterator[RoomID]:
        """The rooms that the bot has linked from Spaces of its own, Space by Space."""
        for space in result.rooms.values():
            if space.is_space and space.creator == self._bot:
                for child, link in space.children.items():
                    if link.linked and link.sender == self._bot:
                        yield child

    async def _answers(self, *sources: Source) -> AsyncIterator[SlidingSyncResult]:
        """The answers to all that the sources ask, the first source first; two are under way."""
        under_way: deque[asyncio.Task[SlidingSyncResult]] = deque()
        try:
            while True:
                for source in sources:
                    while len(under_way) < AT_A_TIME and (question := source()) is not None:
                        under_way.append(asyncio.create_task(question))
                if not under_way:
                    return
                result = await under_way[0]
                under_way.popleft()
                yield result
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def ask(
        self, body: dict[str, Any], *, pos: str | None = None, reader: Reader | None = None
    ) -> SlidingSyncResult:
        """Ask one question; `reader` is what makes something of the answer, in a thread."""
        started = time.monotonic()
        result = await self._homeserver.sliding_sync(body, pos=pos, read=reader or self._read)
        took = time.monotonic() - started
        if result.events:
            fitting = EVENTS_AT_ONCE * result.entries // result.events
            in_time = max(int(SECONDS_AT_ONCE * result.entries / max(took, 0.001)), FIRST)
            self.at_once = min(max(min(fitting, in_time), AT_LEAST), AT_MOST)
        if self._rest:
            await asyncio.sleep(min(self._rest * took, REST_AT_MOST))
        return result

    def _take(self, result: SlidingSyncResult) -> None:
        self._found.add(result.rooms, rescanned=len(result.rooms))

    def _read(self, answer: Answer) -> SlidingSyncResult:
        """What an answer says; called in a thread."""
        rooms: dict[RoomID, Room] = {}
        incomplete: dict[RoomID, Room] = {}
        invites: list[Invite] = []
        entries = events = 0
        for room_id, entry in _rooms(answer):
            entries += 1
            if "invite_state" in entry:
                invite = read_invite(room_id, entry["invite_state"], bot=self._bot)
                invites += [invite] if invite else []
                continue
            state = _state(entry)
            events += len(state or ())
            if room_id not in self._found.joined or state is None:
                continue
            state = self._with_told(room_id, state)
            room = read_room(room_id, state, bot=self._bot, interner=self._found.interner)
            if not isinstance(room, Room):
                continue
            if room.cached_state is None or room.membership(self._bot) == "join":
                rooms[room_id] = room
            elif not room.members:
                incomplete[room_id] = room
        return SlidingSyncResult(
            rooms, incomplete, invites, events, entries, _lengths(answer), _pos(answer)
        )

    def _read_members(self, incomplete: dict[RoomID, Room], answer: Answer) -> SlidingSyncResult:
        """What an answer says about the members of these rooms; called in a thread."""
        rooms: dict[RoomID, Room] = {}
        entries = events = 0
        for room_id, entry in _rooms(answer):
            state = _state(entry) or []
            entries, events = entries + 1, events + len(state)
            if room_id in incomplete:
                state = self._with_told(room_id, state)
                room = add_members(incomplete[room_id], state, interner=self._found.interner)
                if room.membership(self._bot) == "join":
                    rooms[room_id] = room
        return SlidingSyncResult(rooms, {}, [], events, entries, {}, None)

    def _with_told(self, room_id: RoomID, state: list[Any]) -> list[Any]:
        """Members only where members were asked for: some of them would look like all."""
        has_members = any(as_dict(event).get("type") == "m.room.member" for event in state)
        types = STATE_TYPES if has_members else TYPES_WITHOUT_MEMBERS
        return self._homeserver.told.over_state(room_id, state, types=types, now=now())


class _Windows:
    """Lists, window after window; the last answer tells how long they are."""

    def __init__(self, scan: SlidingScan, lists: Lists) -> None:
        self._scan = scan
        self._lists = lists
        self._connection = f"homeroom-{uuid4()}"
        self._pos: str | None = None
        self._start, self._length = 0, 1
        self._is_under_way = False

    def next(self) -> Coroutine[Any, Any, SlidingSyncResult] | None:
        """The question for the next window; None: there is none, or not yet."""
        if self._is_under_way or self._start >= self._length:
            return None
        self._is_under_way = True
        return self._ask(self._start + self._scan.at_once)

    async def _ask(self, end: int) -> SlidingSyncResult:
        lists = {
            name: {
                "ranges": [[self._start, end - 1]],
                "required_state": state,
                "timeline_limit": 0,
                "filters": filters,
            }
            for name, (state, filters) in self._lists.items()
        }
        result = await self._scan.ask({"conn_id": self._connection, "lists": lists}, pos=self._pos)
        counts = [result.lengths.get(name) for name in self._lists]
        if None in counts:
            raise Unavailable("sliding sync: the answer has no count of rooms")
        self._pos, self._start = result.pos, end
        self._length = max(filter(None, counts), default=0)
        if self._start < self._length and not result.entries:
            raise Unavailable("sliding sync: the lists end before their end")
        self._is_under_way = False
        return result


class _Names:
    """Rooms by their names, each once, in the order in which they are named."""

    def __init__(
        self,
        scan: SlidingScan,
        state: list[list[str]],
        room_ids: Iterable[RoomID] = (),
        *,
        reader: Reader | None = None,
    ) -> None:
        self._scan = scan
        self._subscription = {"required_state": state, "timeline_limit": 0}
        self._reader = reader
        self._waiting: deque[RoomID] = deque()
        self._named: set[RoomID] = set()
        self.add(room_ids)

    def add(self, room_ids: Iterable[RoomID]) -> None:
        for room_id in room_ids:
            if room_id not in self._named:
                self._named.add(room_id)
                self._waiting.append(room_id)

    def next(self) -> Coroutine[Any, Any, SlidingSyncResult] | None:
        """The question for as many of them as fit into one; None: nobody is left."""
        if not self._waiting:
            return None
        count = min(self._scan.at_once, len(self._waiting))
        body = {
            "conn_id": f"homeroom-{uuid4()}",
            "room_subscriptions": {
                self._waiting.popleft(): self._subscription for _ in range(count)
            },
        }
        return self._scan.ask(body, reader=self._reader)


def _lengths(answer: Answer) -> dict[str, int]:
    lists = answer.get("lists")
    entries = lists.items() if isinstance(lists, dict) else ()
    return {
        name: count
        for name, entry in entries
        if isinstance(entry, dict)
        and type(count := entry.get("count")) is int
        and 0 <= count <= 10_000_000
    }


def _pos(answer: Answer) -> str | None:
    pos = answer.get("pos")
    return pos if isinstance(pos, str) else None


def _rooms(answer: Answer) -> Iterator[tuple[RoomID, dict[str, Any]]]:
    """Rooms that are told whole. Others are updates of rooms that were told before.

    They are taken out of the answer, which need not be all there when half of it is read.
    """
    rooms = answer.get("rooms")
    if not isinstance(rooms, dict):
        raise Unavailable("sliding sync: the answer has no rooms in it")
    for room_id in list(rooms):
        entry = rooms.pop(room_id)
        if isinstance(entry, dict) and entry.get("initial") is True:
            yield RoomID(room_id), entry


def _state(entry: dict[str, Any]) -> list[Any] | None:
    events = entry.get("required_state")
    return events if isinstance(events, list) else None
