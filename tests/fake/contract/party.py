"""Who takes part in the contract: a server and two users on it, and what they can do."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
VERSIONS = ("10", "11", "12")
Json = dict[str, Any]


@dataclass(frozen=True)
class Party:
    """A user, as the server knows them."""

    http: aiohttp.ClientSession
    base_url: str
    token: str
    user_id: str

    @property
    def server_name(self) -> str:
        return self.user_id.partition(":")[2]

    async def ask(
        self, method: str, path: str, body: object = None, **query: str | int
    ) -> tuple[int, Any]:
        """Send a request below `/_matrix/client/v3/` (or to a full path); give status and JSON."""
        full = path if path.startswith("/") else f"/_matrix/client/v3/{path}"
        data = None if body is None else json.dumps(body)
        params = {name: str(value) for name, value in query.items()}
        headers = {"Authorization": f"Bearer {self.token}"}
        url = URL(self.base_url + full, encoded=True).update_query(params)
        async with self.http.request(method, url, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path: str, **query: str | int) -> Any:
        """Read something that must be there."""
        return good(await self.ask("GET", path, **query))

    async def put(self, path: str, body: Json) -> Any:
        """Write something that must be allowed."""
        return good(await self.ask("PUT", path, body))

    async def post(self, path: str, body: Json | None = None, **query: str | int) -> Any:
        """Do something that must be allowed."""
        return good(await self.ask("POST", path, body or {}, **query))

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Do something; give status and errcode."""
        status, answer = await self.ask(method, path, body)
        return status, answer.get("errcode", "")

    async def create(self, **spec: Any) -> str:
        """Create a room."""
        return str((await self.post("createRoom", spec))["room_id"])

    async def say(self, room_id: str, text: str) -> str:
        """Send a message."""
        path = room(room_id, "send/m.room.message", secrets.token_hex(8))
        return str((await self.put(path, {"msgtype": "m.text", "body": text}))["event_id"])

    async def joined(self) -> set[str]:
        """Give the joined rooms."""
        return set((await self.get("joined_rooms"))["joined_rooms"])

    async def sync(self, filter_: Json, *, since: str | None = None, timeout: int = 0) -> Json:
        """Sync; the filter is varied, since Synapse remembers answers to identical requests."""
        varied = {**filter_, "event_fields": [], "x": secrets.token_hex(4)}
        quiet = {"presence": {"types": []}, "account_data": {"types": []}, **varied}
        query: dict[str, str | int] = {"filter": json.dumps(quiet), "timeout": timeout}
        if since is not None:
            query["since"] = since
        answer: Json = await self.get("sync", **query)
        return answer

    async def position(self) -> str:
        """Give a sync position of now."""
        return str((await self.sync({"room": {"rooms": []}}))["next_batch"])

    async def slide(self, body: Json, *, pos: str | None = None) -> Json:
        """Do a sliding sync."""
        query = {} if pos is None else {"pos": pos}
        answer: Json = await self.post(SLIDING, body, timeout=0, **query)
        return answer

    async def slide_over(self, room_ids: list[str], *state: list[str]) -> Json:
        """Look at some rooms by subscription, on a connection of its own."""
        wanted = {"required_state": list(state), "timeline_limit": 0}
        subscriptions = dict.fromkeys(room_ids, wanted)
        body = {"conn_id": secrets.token_hex(4), "room_subscriptions": subscriptions}
        rooms: Json = (await self.slide(body))["rooms"]
        return rooms


@dataclass(frozen=True)
class Contract:
    """A server and two users on it."""

    alice: Party
    bob: Party

    @classmethod
    @asynccontextmanager
    async def open(
        cls, base_url: str, alice_token: str, bob_token: str
    ) -> AsyncIterator[Contract]:
        """Connect as two users."""
        async with aiohttp.ClientSession() as http:
            parties = []
            for token in (alice_token, bob_token):
                party = Party(http, base_url, token, "")
                user_id = (await party.get("account/whoami"))["user_id"]
                parties.append(Party(http, base_url, token, user_id))
            yield cls(*parties)

    async def shared_room(self, **spec: Any) -> str:
        """Make a room of Alice's that Bob has joined."""
        room_id = await self.alice.create(invite=[self.bob.user_id], **spec)
        await self.bob.post(room(room_id, "join"))
        return room_id


Check = Callable[[Contract], Awaitable[None]]


def room(room_id: str, *parts: str) -> str:
    """Make a path below a room."""
    ends = [
        quote(part, safe="/") if i == 0 else quote(part, safe="") for i, part in enumerate(parts)
    ]
    return "/".join(["rooms", quote(room_id, safe=""), *ends])


def good(answer: tuple[int, Any]) -> Any:
    status, body = answer
    assert status == 200, answer
    return body


def new_alias(party: Party) -> tuple[str, str]:
    """Make up a local part that nobody has, and the path of its alias."""
    name = "x-" + secrets.token_hex(8)
    return name, "directory/room/" + quote(f"#{name}:{party.server_name}", safe="")


def types(events: list[Json]) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("state_key")) for event in events]


def only(sections: Json, section: str) -> list[str]:
    return list(sections.get("rooms", {}).get(section, {}))
