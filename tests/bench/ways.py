"""The ways to look at everything a reconcile needs, as bare as they can be: download and parse.

    python -m tests.bench.ways sliding-500 --url URL --user-id ID --token TOKEN

measures one of them once, in a process of its own, and prints it as JSON. The fastest that is
*complete* is the floor of a run: it tells all state of the types that Homeroom needs, members
included, of every joined room. What each told is counted, so that nothing is compared with half
an answer; the counting is not part of the time.

No request is the same twice: Synapse keeps the answer to an identical `/sync` for two minutes,
and what it has told on a sliding sync connection it does not tell again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from yarl import URL

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.homes.room_state import STATE_TYPES
from homeroom.matrix.homeserver import SLIDING_SYNC
from homeroom.matrix.sync_filters import NO_ROOMS, NOTHING, WHOLE_TIMELINES
from tests.bench.gauge import Memory

MANY_KEYS: Final = {"m.space.parent", "m.space.child", MARKER_TYPE, "m.room.member"}
"""The types of which a room has more than one event."""
REQUIRED_STATE: Final = [[kind, "*" if kind in MANY_KEYS else ""] for kind in STATE_TYPES]
EVERYTHING: Final = 1_000_000
"""A window that no world fills."""

_CLIENT: Final = "/_matrix/client/v3"
_ACCOUNT_DATA: Final = "uk.half-shot.matrix-hookshot.github.room"


class Server:
    """The homeserver as a script asks it: every answer is downloaded, parsed and counted."""

    def __init__(
        self, session: aiohttp.ClientSession, *, url: str, user_id: str, token: str
    ) -> None:
        self.url = url
        self.user_id = user_id
        self.token = token
        self._session = session
        self.requests = 0
        self.bytes = 0
        self.rooms = 0
        self.events = 0
        """Of the types that Homeroom needs."""
        self.counting = 0.0
        """Seconds."""

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return await self._ask("GET", path, query=query)

    async def post(self, path: str, body: Any, query: Mapping[str, str]) -> Any:
        return await self._ask("POST", path, body, query=query)

    async def _ask(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, str] | None
    ) -> Any:
        """The answer; None if there is no such thing."""
        url = URL(self.url + path, encoded=True).update_query(query or {})
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self._session.request(method, url, json=body, headers=headers) as response:
            raw = await response.read()
            self.requests += 1
            self.bytes += len(raw)
            if response.status == 404:
                return None
            if not response.ok:
                raise RuntimeError(f"{method} {path}: {response.status} {raw[:500]!r}")
            return json.loads(raw)

    async def sync(self, filter_: dict[str, Any], **query: str) -> Any:
        return await self.get(
            f"{_CLIENT}/sync", {"timeout": "0", "filter": json.dumps(_unique(filter_)), **query}
        )

    async def joined_rooms(self) -> list[str]:
        rooms: list[str] = (await self.get(f"{_CLIENT}/joined_rooms"))["joined_rooms"]
        return rooms

    async def state(self, room_id: str) -> None:
        self.tell(await self.get(f"{_CLIENT}/rooms/{quote(room_id)}/state"))

    def tell(self, events: Iterable[dict[str, Any]]) -> None:
        """Count what is known of one more room."""
        started = time.perf_counter()
        self.rooms += 1
        self.events += len(
            {
                (event["type"], event["state_key"])
                for event in events
                if event["type"] in STATE_TYPES and "state_key" in event
            }
        )
        self.counting += time.perf_counter() - started


Look = Callable[[Server], AsyncIterator[None]]
"""Prepares itself up to its `yield`; what follows is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to look; `title` is what the table calls it."""

    title: str
    look: Look
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One look. `memory`: megabytes over what the process held before."""

    seconds: float
    memory: float
    requests: int
    bytes: int
    rooms: int
    events: int


async def _state_one_by_one(server: Server) -> AsyncIterator[None]:
    yield
    for room_id in await server.joined_rooms():
        await server.state(room_id)


async def _state_ten_at_once(server: Server) -> AsyncIterator[None]:
    yield
    await _at_once(10, server.state, await server.joined_rooms())


async def _filtered_sync(server: Server) -> AsyncIterator[None]:
    yield
    room = {
        "timeline": {"types": [], "limit": 1},
        "state": {"types": list(STATE_TYPES), "lazy_load_members": False},
        "ephemeral": NOTHING,
        "account_data": NOTHING,
    }
    filter_ = {"room": room, "presence": NOTHING, "account_data": NOTHING}
    answer = await server.sync(filter_, full_state="true")
    for entry in answer["rooms"]["join"].values():
        server.tell(entry["state"]["events"])


def _sliding(window: int) -> Look:
    async def look(server: Server) -> AsyncIterator[None]:
        yield
        connection, start = f"bench-{uuid4()}", 0
        position: dict[str, str] = {}
        while True:
            rooms = {
                "ranges": [[start, start + window - 1]],
                "required_state": REQUIRED_STATE,
                "timeline_limit": 0,
            }
            body = {"conn_id": connection, "lists": {"rooms": rooms}}
            answer = await server.post(f"/{SLIDING_SYNC}", body, {"timeout": "0", **position})
            for entry in answer["rooms"].values():
                if entry.get("initial"):
                    server.tell(entry["required_state"])
            position, start = {"pos": answer["pos"]}, start + window
            if start >= answer["lists"]["rooms"]["count"]:
                return

    return look


async def _incremental_sync(server: Server) -> AsyncIterator[None]:
    since = (await server.sync(NO_ROOMS))["next_batch"]
    server.requests = server.bytes = 0
    yield
    await server.sync(WHOLE_TIMELINES, since=since)


async def _nio(server: Server) -> AsyncIterator[None]:
    import nio  # noqa: PLC0415 (nothing else needs it)

    client = nio.AsyncClient(
        server.url, server.user_id, config=nio.AsyncClientConfig(encryption_enabled=False)
    )
    client.access_token = server.token
    try:
        yield
        answer = await client.sync(timeout=0, sync_filter=_unique({}), full_state=True)
        assert isinstance(answer, nio.SyncResponse), answer
        server.requests = 1
        for info in answer.rooms.join.values():
            server.tell(event.source for event in (*info.state, *info.timeline.events))
    finally:
        await client.close()


async def _hookshot(server: Server) -> AsyncIterator[None]:
    """What `Bridge.start` of matrix-hookshot asks of a room that is none of its own.

    (Its second question for account data is left out.)
    """
    yield

    async def read(room_id: str) -> None:
        room = f"{_CLIENT}/rooms/{quote(room_id)}"
        await server.get(f"{room}/state/m.room.tombstone/")
        await server.state(room_id)
        user = f"{_CLIENT}/user/{quote(server.user_id)}"
        await server.get(f"{user}/rooms/{quote(room_id)}/account_data/{_ACCOUNT_DATA}")

    await _at_once(2, read, await server.joined_rooms())


WAYS: Final[Mapping[str, Way]] = {
    "state": Way(title="/state of each room, one at a time", look=_state_one_by_one),
    "state-10": Way(title="/state of each room, 10 at once", look=_state_ten_at_once),
    "sync": Way(title="/sync with full_state, filtered", look=_filtered_sync),
    "sliding": Way(title="sliding sync, one window", look=_sliding(EVERYTHING)),
    "sliding-500": Way(title="sliding sync, windows of 500", look=_sliding(500)),
    "nio": Way(title="matrix-nio, sync(full_state=True)", look=_nio),
    "hookshot": Way(title="matrix-hookshot's way, 2 at once", look=_hookshot),
    "incremental": Way(
        title="/sync since a position, nothing new", look=_incremental_sync, is_complete=False
    ),
}


async def measure(way: Way, *, url: str, user_id: str, token: str) -> Looked:
    """Look once. The connection is there already, as maubot's is."""
    limit = aiohttp.ClientTimeout(total=3600)
    async with aiohttp.ClientSession(timeout=limit) as session:
        server = Server(session, url=url, user_id=user_id, token=token)
        await server.get("/_matrix/client/versions")
        server.requests = server.bytes = 0
        look = way.look(server)
        await anext(look)
        memory, started = Memory(), time.perf_counter()
        await anext(look, None)
        seconds = time.perf_counter() - started - server.counting
        return Looked(
            seconds=seconds,
            memory=memory.peak(),
            requests=server.requests,
            bytes=server.bytes,
            rooms=server.rooms,
            events=server.events,
        )


async def _at_once(
    number: int, work: Callable[[str], Awaitable[None]], room_ids: list[str]
) -> None:
    waiting = iter(room_ids)

    async def one_after_another() -> None:
        for room_id in waiting:
            await work(room_id)

    await asyncio.gather(*(one_after_another() for _ in range(number)))


def _unique(filter_: dict[str, Any]) -> dict[str, Any]:
    room = {**filter_.get("room", {}), "not_rooms": [f"!{uuid4()}:bench.invalid"]}
    return {**filter_, "room": room}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    for name in ("--url", "--user-id", "--token"):
        parser.add_argument(name, required=True)
    found = parser.parse_args()
    looked = asyncio.run(
        measure(WAYS[found.way], url=found.url, user_id=found.user_id, token=found.token)
    )
    print(json.dumps(asdict(looked)))


if __name__ == "__main__":
    main()
