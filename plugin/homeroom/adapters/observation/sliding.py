"""The fast way to look: simplified sliding sync (MSC4186).

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
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import uuid4

from mautrix.types import RoomID, UserID

from ...domain.room_state import TYPES_WITHOUT_MEMBERS, add_members, read_invite, read_room
from ...domain.topology import Invite, Room
from ..errors import Unavailable
from ..homeserver import Homeserver
from .found import Found

FIRST: Final = 200
"""Rooms that are asked for at first; from then on it depends on how much they have to tell."""
AT_LEAST, AT_MOST = 20, 1000
EVENTS_AT_ONCE: Final = 5_000
"""State events in one answer: some megabyte and a half. An answer is read while the next one is
made, so that only the last one costs time of its own."""
REST_AT_MOST: Final = 2.0

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
Reader = Callable[[Answer], "Told"]
Lists = Mapping[str, tuple[list[list[str]], dict[str, Any]]]
LISTS: Final[Lists] = {
    "spaces": (REQUIRED_STATE + MEMBERS, {"room_types": ["m.space"], "is_invite": False}),
    "invites": ([], {"is_invite": True}),
}


class Told(NamedTuple):
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


class SlidingLook:
    """One look.

    Args:
        found: what is told is added to it as it comes.
        rest: seconds of rest for each second of asking.
    """

    def __init__(self, homeserver: Homeserver, found: Found, *, rest: float = 0.0) -> None:
        self._homeserver = homeserver
        self._bot: UserID = homeserver.bot
        self._found = found
        self._rest = rest
        self._at_once = FIRST

    async def everywhere(self, *, likely: Iterable[RoomID]) -> list[Invite]:
        """Look at everything; returns the pending invites.

        Raises:
            HomeserverError: the server does not do its part. What it told by then is in `found`.
        """
        invites: list[Invite] = []
        async for told in self._windows(LISTS):
            self._take(told)
            invites += told.invites
        # In the order of the Spaces: what was made together lies together in the database there.
        expected = dict.fromkeys((*self._linked(), *likely))
        left = self._found.left
        await self.at([room_id for room_id in expected if room_id in left])
        await self.at_strange(sorted(self._found.left))
        return invites

    async def invites(self) -> list[Invite]:
        """Look at the pending invites only.

        Raises:
            HomeserverError: the server does not do its part.
        """
        only = {"invites": LISTS["invites"]}
        return [invite async for told in self._windows(only) for invite in told.invites]

    async def at(self, room_ids: Sequence[RoomID]) -> None:
        """Look at rooms that most likely are Homeroom's, members and all."""
        async for told in self._one_by_one(room_ids, REQUIRED_STATE + MEMBERS):
            self._take(told)

    async def at_strange(self, room_ids: Sequence[RoomID]) -> None:
        """Look at rooms that may be anybody's: members are asked for where they matter."""
        incomplete: dict[RoomID, Room] = {}
        async for told in self._one_by_one(room_ids, REQUIRED_STATE):
            self._take(told)
            incomplete |= told.incomplete
        reader = partial(self._read_members, incomplete)
        async for told in self._one_by_one(sorted(incomplete), MEMBERS, reader=reader):
            self._take(told)

    def _linked(self) -> Iterator[RoomID]:
        """The rooms that the bot has linked from Spaces of its own, Space by Space."""
        for space in self._found.rooms.values():
            if isinstance(space, Room) and space.creator == self._bot:
                for child, link in space.children.items():
                    if link.linked and link.sender == self._bot:
                        yield child

    async def _windows(self, lists: Lists) -> AsyncIterator[Told]:
        """The lists, window after window; the last one tells how long they are."""
        connection, start, length, pos = f"homeroom-{uuid4()}", 0, 1, None
        while start < length:
            end = start + self._at_once
            told = await self._ask(
                {
                    "conn_id": connection,
                    "lists": {
                        name: {
                            "ranges": [[start, end - 1]],
                            "required_state": state,
                            "timeline_limit": 0,
                            "filters": filters,
                        }
                        for name, (state, filters) in lists.items()
                    },
                },
                pos=pos,
                reader=self._read,
            )
            counts = [told.lengths.get(name) for name in lists]
            if None in counts:
                raise Unavailable("sliding sync: the answer has no count of rooms")
            length, pos, start = max(filter(None, counts), default=0), told.pos, end
            if start < length and not told.entries:
                raise Unavailable("sliding sync: the lists end before their end")
            yield told

    async def _one_by_one(
        self,
        room_ids: Sequence[RoomID],
        state: list[list[str]],
        *,
        reader: Reader | None = None,
    ) -> AsyncIterator[Told]:
        """Rooms by their names, two requests under way: one is made while one is read."""
        asked = 0

        def ask() -> Iterator[asyncio.Task[Told]]:
            nonlocal asked
            if some := room_ids[asked : asked + self._at_once]:
                asked += len(some)
                about = self._ask_about(some, state, reader=reader or self._read)
                yield asyncio.create_task(about)

        under_way = deque([*ask(), *ask()])
        try:
            while under_way:
                told = await under_way[0]
                under_way.popleft()
                under_way.extend(ask())
                yield told
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _ask_about(
        self, room_ids: Sequence[RoomID], state: list[list[str]], *, reader: Reader
    ) -> Told:
        subscription = {"required_state": state, "timeline_limit": 0}
        body = {
            "conn_id": f"homeroom-{uuid4()}",
            "room_subscriptions": dict.fromkeys(room_ids, subscription),
        }
        return await self._ask(body, pos=None, reader=reader)

    async def _ask(self, body: dict[str, Any], *, pos: str | None, reader: Reader) -> Told:
        started = time.monotonic()
        told = await self._homeserver.sliding_sync(body, pos=pos, read=reader)
        if told.events:
            fitting = EVENTS_AT_ONCE * told.entries // told.events
            self._at_once = min(max(fitting, AT_LEAST), AT_MOST)
        if self._rest:
            await asyncio.sleep(min(self._rest * (time.monotonic() - started), REST_AT_MOST))
        return told

    def _take(self, told: Told) -> None:
        self._found.add(told.rooms, looked_at=len(told.rooms))

    def _read(self, answer: Answer) -> Told:
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
            room = read_room(room_id, state, bot=self._bot, shared=self._found.shared)
            if not isinstance(room, Room):
                continue
            if room.mirror is None or room.membership(self._bot) == "join":
                rooms[room_id] = room
            elif not room.members:
                incomplete[room_id] = room
        return Told(rooms, incomplete, invites, events, entries, _lengths(answer), _pos(answer))

    def _read_members(self, incomplete: dict[RoomID, Room], answer: Answer) -> Told:
        """What an answer says about the members of these rooms; called in a thread."""
        rooms: dict[RoomID, Room] = {}
        entries = events = 0
        for room_id, entry in _rooms(answer):
            state = _state(entry) or []
            entries, events = entries + 1, events + len(state)
            if room_id in incomplete:
                room = add_members(incomplete[room_id], state, shared=self._found.shared)
                if room.membership(self._bot) == "join":
                    rooms[room_id] = room
        return Told(rooms, {}, [], events, entries, {}, None)


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
    """Rooms that are told whole. Others are updates of rooms that were told before."""
    rooms = answer.get("rooms")
    if not isinstance(rooms, dict):
        raise Unavailable("sliding sync: the answer has no rooms in it")
    for room_id, entry in rooms.items():
        if isinstance(entry, dict) and entry.get("initial") is True:
            yield RoomID(room_id), entry


def _state(entry: dict[str, Any]) -> list[Any] | None:
    events = entry.get("required_state")
    return events if isinstance(events, list) else None
