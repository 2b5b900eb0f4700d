"""The ways to look that Homeroom is compared with: bare requests, and how other bots do it.

Run as `python -m tests.bench.ways WAY URL USER TOKEN`. A bare way downloads and parses, and does
nothing with what it got: the fastest complete one is the floor.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import aiohttp

from homeroom.adapters.observation import MEMBERS, REQUIRED_STATE
from homeroom.domain.room_state import STATE_TYPES

from .probe import measure, tell

_V3: Final = "/_matrix/client/v3"
_SLIDING: Final = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_ALL: Final = 1_000_000


class Looker:
    """Requests that are counted."""

    def __init__(self, session: aiohttp.ClientSession, url: str, user: str) -> None:
        self._session = session
        self._url = url
        self.user = user
        self.requests = 0

    async def get(self, path: str, **query: str) -> Any:
        """Send a GET request; a 404 is an answer, too."""
        return await self._ask("GET", path, query, None)

    async def post(self, path: str, body: Any, **query: str) -> Any:
        return await self._ask("POST", path, query, body)

    async def _ask(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        self.requests += 1
        async with self._session.request(
            method, self._url + path, params=query, json=body
        ) as response:
            text = await response.read()
            if response.status not in (200, 404):
                raise RuntimeError(f"{method} {path}: {response.status}")
            return json.loads(text)

    async def joined(self) -> list[str]:
        rooms: list[str] = (await self.get(f"{_V3}/joined_rooms"))["joined_rooms"]
        return rooms


Way = Callable[[Looker], Awaitable[int]]
"""Returns of how many rooms it was told."""


def sliding(window: int) -> Way:
    """Simplified sliding sync with all that a reconcile needs, members included."""

    async def look(looker: Looker) -> int:
        connection, position, start, rooms = f"bench-{uuid4()}", "", 0, 0
        while True:
            rooms_list = {
                "ranges": [[start, start + window - 1]],
                "required_state": REQUIRED_STATE + MEMBERS,
                "timeline_limit": 0,
            }
            query = {"pos": position} if position else {}
            answer = await looker.post(
                _SLIDING,
                {"conn_id": connection, "lists": {"rooms": rooms_list}},
                timeout="0",
                **query,
            )
            position = answer["pos"]
            rooms += len(answer["rooms"])
            start += window
            if start >= answer["lists"]["rooms"]["count"]:
                return rooms

    return look


def state_of_each(at_once: int) -> Way:
    """`/joined_rooms`, then `/state` of each room."""

    async def look(looker: Looker) -> int:
        async def one(room: str) -> None:
            await looker.get(f"{_V3}/rooms/{quote(room)}/state")

        return await _each(await looker.joined(), one, at_once=at_once)

    return look


async def filtered_sync(looker: Looker) -> int:
    """One `/sync` without `since`, filtered to the types that a reconcile needs."""
    nothing = {"types": []}
    filter_ = {
        "room": {
            "state": {"types": list(STATE_TYPES)},
            "timeline": {"types": [], "limit": 1},
            "ephemeral": nothing,
            "account_data": nothing,
            "not_rooms": [f"!{uuid4()}:never.test"],  # Synapse remembers answers
        },
        "presence": nothing,
        "account_data": nothing,
    }
    answer = await looker.get(
        f"{_V3}/sync", full_state="true", timeout="0", filter=json.dumps(filter_)
    )
    return len(answer["rooms"]["join"])


async def incremental_sync(looker: Looker) -> int:
    """One `/sync` from a position of this moment: the floor of a start that has a memory."""
    never = {"room": {"rooms": [], "not_rooms": [f"!{uuid4()}:never.test"]}}
    answer = await looker.get(f"{_V3}/sync", timeout="0", filter=json.dumps(never))
    quiet = {"room": {"not_rooms": [f"!{uuid4()}:never.test"]}}
    answer = await looker.get(
        f"{_V3}/sync", timeout="0", since=answer["next_batch"], filter=json.dumps(quiet)
    )
    return len(answer.get("rooms", {}).get("join", {}))


async def hookshot(looker: Looker) -> int:
    """What matrix-hookshot does at its start, with matrix-bot-sdk: two rooms at a time.

    For each joined room: is there a tombstone, the whole state, the room's account data.
    """
    kind = "uk.half-shot.matrix-hookshot.github.room"

    async def one(room: str) -> None:
        path = f"{_V3}/rooms/{quote(room)}/state"
        await looker.get(f"{path}/m.room.tombstone/")
        await looker.get(path)
        await looker.get(
            f"{_V3}/user/{quote(looker.user)}/rooms/{quote(room)}/account_data/{kind}"
        )

    return await _each(await looker.joined(), one, at_once=2)


async def _each(rooms: list[str], one: Callable[[str], Awaitable[None]], *, at_once: int) -> int:
    slots = asyncio.Semaphore(at_once)

    async def bounded(room: str) -> None:
        async with slots:
            await one(room)

    await asyncio.gather(*map(bounded, rooms))
    return len(rooms)


WAYS: Final[Mapping[str, Way]] = {
    "sliding sync, one window": sliding(_ALL),
    "sliding sync, windows of 1000": sliding(1000),
    "sliding sync, windows of 500": sliding(500),
    "sliding sync, windows of 100": sliding(100),
    "state of each room, one at a time": state_of_each(1),
    "state of each room, 10 at once": state_of_each(10),
    "one filtered /sync": filtered_sync,
    "matrix-hookshot's way": hookshot,
    "incremental /sync": incremental_sync,
}
NIO: Final = "matrix-nio, full-state sync"


async def _nio(url: str, user: str, token: str) -> tuple[int, int]:
    from nio import AsyncClient, SyncResponse  # noqa: PLC0415 (only this way pays for it)

    client = AsyncClient(url, user)
    client.restore_login(user, "BENCH", token)
    try:
        answer = await client.sync(timeout=0, full_state=True)
        if not isinstance(answer, SyncResponse):
            raise TypeError(f"matrix-nio: {answer}")
        return len(client.rooms), 1
    finally:
        await client.close()


async def _main(way: str, url: str, user: str, token: str) -> None:
    if way == NIO:
        import nio  # noqa: F401, PLC0415 (its import is not its sync)

        tell(await measure(lambda: _nio(url, user, token)))
        return
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {token}"}, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        looker = Looker(session, url, user)

        async def look() -> tuple[int, int]:
            return await WAYS[way](looker), looker.requests

        tell(await measure(look))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
