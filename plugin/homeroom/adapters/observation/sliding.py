"""The fast way to look: simplified sliding sync (MSC4186).

Spaces and invites come as lists. Every other joined room is asked for by its name: those that the
bot's Spaces link, and those that a row calls a chat, at once with their members, because a second
question about a room costs the homeserver nearly as much as the first; all others without, so
that a bot in large public rooms pays nothing for them, and once more if they turn out to be the
bot's own. While one answer is read, in a thread, the next is on its way; no more than two are in
memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator
from typing import Any, Final, NamedTuple
from uuid import uuid4

from mautrix.types import RoomID, UserID

from ...domain.room_state import STATE_TYPES, Shared, add_members, read_invite, read_room
from ...domain.topology import Invite, Room, Unreadable
from ..errors import Unavailable
from ..homeserver import Homeserver
from .progress import Counting

FIRST: Final = 200
"""Rooms that are asked for at first; from then on it depends on how much they have to tell."""
AT_LEAST, AT_MOST = 20, 1000
EVENTS_AT_ONCE: Final = 5_000
"""State events in one answer: some megabyte and a half, which JSON's parser reads in 20 ms."""
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
    [kind, "" if kind in SINGLE_TYPES else "*"] for kind in STATE_TYPES if kind != "m.room.member"
]
MEMBERS: Final = [["m.room.member", "*"]]

Rooms = dict[RoomID, Room | Unreadable]
Answer = dict[str, Any]
LISTS: Final = {
    "spaces": (REQUIRED_STATE + MEMBERS, {"room_types": ["m.space"], "is_invite": False}),
    "invites": ([], {"is_invite": True}),
}


class Told(NamedTuple):
    """What an answer says."""

    rooms: dict[RoomID, Room]
    incomplete: dict[RoomID, Room]
    """Rooms that may be Homeroom's, of whose members nothing was said."""
    invites: list[Invite]


class SlidingLook:
    """One look.

    Args:
        joined: the rooms that count; whatever else is told is passed over.
        rooms: what is told is added to it as it comes, so that it is not lost if the rest fails.
        rest: seconds of rest for each second of asking.
    """

    def __init__(
        self,
        homeserver: Homeserver,
        *,
        joined: frozenset[RoomID],
        rooms: Rooms,
        shared: Shared,
        counting: Counting,
        rest: float = 0.0,
    ) -> None:
        self._homeserver = homeserver
        self._bot: UserID = homeserver.bot
        self._joined = joined
        self._rooms = rooms
        self._shared = shared
        self._counting = counting
        self._rest = rest
        self._at_once = FIRST

    async def everywhere(self, *, likely: Collection[RoomID]) -> list[Invite]:
        """Look at everything; returns the pending invites.

        Raises:
            HomeserverError: the server does not do its part. What it told by then is in `rooms`.
        """
        invites: list[Invite] = []
        async for answer in self._windows():
            told = await self._take(answer)
            invites += told.invites
        await self.at((self._linked() | (self._joined & frozenset(likely))) - self._rooms.keys())
        await self.at_strange(self._joined - self._rooms.keys())
        return invites

    async def at(self, room_ids: Iterable[RoomID]) -> None:
        """Look at rooms that most likely are Homeroom's, members and all."""
        async for answer in self._one_by_one(sorted(room_ids), REQUIRED_STATE + MEMBERS):
            await self._take(answer)

    async def at_strange(self, room_ids: Iterable[RoomID]) -> None:
        """Look at rooms that may be anybody's: members are asked for where they matter."""
        incomplete: dict[RoomID, Room] = {}
        async for answer in self._one_by_one(sorted(room_ids), REQUIRED_STATE):
            incomplete |= (await self._take(answer)).incomplete
        await self._complete(incomplete)

    def _linked(self) -> frozenset[RoomID]:
        """The joined rooms that the bot has linked from Spaces of its own."""
        return self._joined.intersection(
            child
            for space in self._rooms.values()
            if isinstance(space, Room) and space.creator == self._bot
            for child, link in space.children.items()
            if link.linked and link.sender == self._bot
        )

    async def _windows(self) -> AsyncIterator[Answer]:
        """The lists, window after window; the last one tells how long they are."""
        connection, start, pos, length = f"homeroom-{uuid4()}", 0, None, 1
        while start < length:
            end = start + self._at_once
            answer = await self._ask(
                {
                    "conn_id": connection,
                    "lists": {
                        name: {
                            "ranges": [[start, end - 1]],
                            "required_state": state,
                            "timeline_limit": 0,
                            "filters": filters,
                        }
                        for name, (state, filters) in LISTS.items()
                    },
                },
                pos=pos,
            )
            length, pos, start = (
                max(_length(answer, name) for name in LISTS),
                answer.get("pos"),
                end,
            )
            if start < length and not answer["rooms"]:
                raise Unavailable("sliding sync: the lists end before their end")
            yield answer

    async def _one_by_one(
        self, room_ids: list[RoomID], state: list[list[str]]
    ) -> AsyncIterator[Answer]:
        """Rooms by their names, the next ones asked for before an answer is given out."""
        asked = 0

        def ask() -> asyncio.Task[Answer] | None:
            nonlocal asked
            some = room_ids[asked : asked + self._at_once]
            asked += len(some)
            return asyncio.create_task(self._ask_about(some, state)) if some else None

        under_way = ask()
        try:
            while under_way is not None:
                answer = await under_way
                under_way = ask()
                yield answer
        finally:
            if under_way is not None:
                under_way.cancel()

    def _ask_about(
        self, room_ids: list[RoomID], state: list[list[str]]
    ) -> Coroutine[Any, Any, Answer]:
        subscription = {"required_state": state, "timeline_limit": 0}
        return self._ask(
            {
                "conn_id": f"homeroom-{uuid4()}",
                "room_subscriptions": dict.fromkeys(room_ids, subscription),
            },
            pos=None,
        )

    async def _ask(self, body: dict[str, Any], *, pos: str | None) -> Answer:
        started = time.monotonic()
        answer = await self._homeserver.sliding_sync(body, pos=pos)
        counts = [len(events) for _, entry in _rooms(answer) if (events := _state(entry))]
        if counts:
            fitting = EVENTS_AT_ONCE * len(counts) // sum(counts)
            self._at_once = min(max(fitting, AT_LEAST), AT_MOST)
        if self._rest:
            await asyncio.sleep(min(self._rest * (time.monotonic() - started), REST_AT_MOST))
        return answer

    async def _take(self, answer: Answer) -> Told:
        told = await asyncio.to_thread(self._read, answer)
        self._rooms |= told.rooms
        self._counting.add(len(told.rooms))
        return told

    def _read(self, answer: Answer) -> Told:
        told = Told({}, {}, [])
        for room_id, entry in _rooms(answer):
            if "invite_state" in entry:
                invite = read_invite(room_id, entry["invite_state"], bot=self._bot)
                told.invites.extend([invite] if invite else [])
                continue
            events = _state(entry)
            if room_id not in self._joined or events is None:
                continue
            room = read_room(room_id, events, bot=self._bot, shared=self._shared)
            if not isinstance(room, Room):
                continue
            if room.mirror is None or room.membership(self._bot) == "join":
                told.rooms[room_id] = room
            elif not room.members:
                told.incomplete[room_id] = room
        return told

    async def _complete(self, incomplete: dict[RoomID, Room]) -> None:
        """Ask for the members of rooms that turned out to be possibly Homeroom's."""
        async for answer in self._one_by_one(sorted(incomplete), MEMBERS):
            for room_id, entry in _rooms(answer):
                if room_id in incomplete and (events := _state(entry)):
                    room = add_members(incomplete[room_id], events, shared=self._shared)
                    if room.membership(self._bot) == "join":
                        self._rooms[room_id] = room
                        self._counting.add(1)


def _length(answer: Answer, name: str) -> int:
    lists = answer.get("lists")
    entry = lists.get(name) if isinstance(lists, dict) else None
    count = entry.get("count") if isinstance(entry, dict) else None
    if type(count) is not int or not 0 <= count <= 10_000_000:
        raise Unavailable("sliding sync: the answer has no count of rooms")
    return count


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
