"""Homeservers full of homes, made once and kept in `.bench/worlds`.

    world = await populate(homes=250)                # makes what is missing
    async with world.copy_to(directory).running() as (synapse, bot): ...

Every home is what Homeroom itself makes of an invite when nothing goes wrong: the same requests
in the same order, by the bot's account, and an owner who has joined all of it. The owners are the
users of an application service, which can act for all of them at once and need no passwords.

`./build.sh bench world --homes N` only makes them. A home takes a second and more, and longer the
more there are: ten thousand rooms are an hour's work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import aiohttp
from mautrix.types import RoomID, UserID
from yarl import URL

from homeroom import replies
from homeroom.domain.homes.ids import child_order, derive_platform_chat_id
from homeroom.domain.homes.marker import MARKER_TYPE, Marker
from homeroom.domain.homes.model import ChatID, RoomType
from homeroom.domain.homes.provisioning import (
    CreateChat,
    chat_request,
    child_content,
    space_request,
)
from tests.stack.console import run, step
from tests.stack.package import ROOT
from tests.stack.synapse import Account, Synapse

T = TypeVar("T")

WORLDS: Final = ROOT / ".bench" / "worlds"
CHATS: Final = ("General", "Work", "Ideas")
"""Of every home."""
ROOMS_PER_HOME: Final = 1 + len(CHATS)
AT_ONCE: Final = 6
"""Homes that are made side by side; Synapse is one process, more would only wait."""

_MEMORY: Final = Path("/dev/shm")
_TOKEN: Final = "homeroom-bench"
_CLIENT: Final = "/_matrix/client/v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Rooms that are not Homeroom's: some large public ones, and many small ones."""

    public: int = 0
    members: int = 0
    """Of each public room."""
    small: int = 0

    def __bool__(self) -> bool:
        return bool(self.public or self.small)

    def __str__(self) -> str:
        return f"{self.public} public rooms of {self.members} members, {self.small} small ones"


class Api:
    """The client-server API, as the bot or as any owner."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session

    async def __call__(
        self, method: str, path: str, body: Any = None, *, token: str, as_user: str | None = None
    ) -> Any:
        url = URL(self._base_url + path, encoded=True)
        if as_user is not None:
            url = url.update_query(user_id=as_user)
        headers = {"Authorization": f"Bearer {token}"}
        async with self._session.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            if not response.ok:
                raise RuntimeError(f"{method} {path}: {response.status} {answer}")
            return answer


class World:
    """A homeserver's directory, and what was made in it so far."""

    def __init__(self, directory: Path, *, homes: int, crowd: Crowd) -> None:
        self.directory = directory
        self.homes = homes
        self.crowd = crowd

    @property
    def name(self) -> str:
        crowd = self.crowd
        return str(self.homes) + (
            f"-{crowd.public}x{crowd.members}-{crowd.small}" if crowd else ""
        )

    @property
    def rooms(self) -> int:
        """How many of them are Homeroom's."""
        return self.homes * ROOMS_PER_HOME

    @property
    def all_rooms(self) -> int:
        """How many the bot is in."""
        return self.rooms + self.crowd.public + self.crowd.small

    @property
    def is_complete(self) -> bool:
        return (self.directory / "complete").exists()

    def copy_to(self, directory: Path) -> World:
        """The same world in another directory, for whoever changes something in it."""
        shutil.copytree(self.directory, directory)
        return World(directory, homes=self.homes, crowd=self.crowd)

    def synapse(self) -> Synapse:
        service = self.directory / "owners.json"
        self.directory.mkdir(parents=True, exist_ok=True)
        namespace = {"exclusive": False, "regex": "@(owner|guest)-.*"}
        description = {
            "id": "owners",
            "url": None,
            "as_token": _TOKEN,
            "hs_token": f"{_TOKEN}-unused",
            "sender_localpart": "owners",
            "rate_limited": False,
            "namespaces": {"users": [namespace], "rooms": [], "aliases": []},
        }
        service.write_text(json.dumps(description))
        # A large one would have its events in memory for two minutes, and whoever comes next
        # would be twice as fast.
        return Synapse(
            self.directory / "synapse", app_services=[service], keep_sync_responses=False
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Synapse, Account]]:
        """The homeserver and the bot's account."""
        async with self.synapse() as synapse:
            yield synapse, await synapse.account("homeroom", password="homeroom")

    def made(self) -> dict[str, list[str]]:
        """The rooms of every home that is complete, by the owner's name; the Space first."""
        return _lines(self.directory / "homes.jsonl")

    def made_beside(self) -> dict[str, list[str]]:
        """The rooms of the crowd, by their numbers."""
        return _lines(self.directory / "crowd.jsonl")


class Populating:
    """Makes what a world lacks; may be interrupted and run again."""

    def __init__(self, world: World, api: Api, bot: Account, *, version: str) -> None:
        self._world = world
        self._api = api
        self._bot = bot
        self._version = version
        self._server = bot.user_id.split(":", 1)[1]

    async def homes(self) -> None:
        made = self._world.made()
        names = [f"owner-{number}" for number in range(self._world.homes)]
        waiting = [name for name in names if name not in made]
        started, done = time.monotonic(), 0
        with (self._world.directory / "homes.jsonl").open("a") as notes:

            async def make(name: str) -> None:
                nonlocal done
                rooms = await self._home(name)
                notes.write(json.dumps([name, rooms]) + "\n")
                notes.flush()
                done += 1
                if done % 100 == 0:
                    rate = done / (time.monotonic() - started)
                    print(f"  {done} of {len(waiting)} homes, {rate:.1f} a second", flush=True)

            await _some_at_once(make, waiting)

    async def _home(self, name: str) -> list[str]:
        owner, bot = await self._register(name), UserID(self._bot.user_id)
        space_id = await self._create(
            space_request(
                bot=bot,
                owner=owner,
                name="Home",
                topic=replies.SPACE_TOPIC,
                initial_chats=CHATS,
                version=self._version,
            )
        )
        await self._join(space_id, owner)
        rooms: list[str] = [space_id]
        for number, chat_name in enumerate(CHATS, start=1):
            chat = CreateChat(purpose="benchmark", chat_id=ChatID(f"C{number}"), name=chat_name)
            room_id = await self._create(
                chat_request(
                    bot=bot,
                    owner=owner,
                    space_id=space_id,
                    step=chat,
                    version=self._version,
                    encrypted=False,
                )
            )
            marker = Marker(
                room_type=RoomType.CHAT,
                user_id=owner,
                chat_id=chat.chat_id,
                platform_chat_id=derive_platform_chat_id(room_id),
            )
            await self._put(room_id, MARKER_TYPE, bot, marker.to_content())
            link = child_content(bot=bot, order=child_order(chat.chat_id))
            await self._put(space_id, "m.space.child", room_id, link)
            await self._join(room_id, owner)
            rooms.append(room_id)
        return rooms

    async def crowd(self) -> None:
        """Rooms of other people, with the bot in them."""
        crowd, made = self._world.crowd, self._world.made_beside()
        guests = [f"guest-{number}" for number in range(max(crowd.members - 1, 1))]
        with (self._world.directory / "crowd.jsonl").open("a") as notes:
            for number in range(crowd.public + crowd.small):
                if str(number) in made:
                    continue
                host = await self._register(guests[0])
                request = {"preset": "public_chat", "name": f"Elsewhere {number}"}
                answer = await self._api(
                    "POST", f"{_CLIENT}/createRoom", request, token=_TOKEN, as_user=host
                )
                room_id = RoomID(answer["room_id"])
                if number < crowd.public:
                    await self._fill(room_id, guests[1:])
                await self._api(
                    "POST", f"{_CLIENT}/join/{quote(room_id)}", {}, token=self._bot.access_token
                )
                notes.write(json.dumps([str(number), [room_id]]) + "\n")
                notes.flush()

    async def _fill(self, room_id: RoomID, names: Sequence[str]) -> None:
        async def join(name: str) -> None:
            await self._join(room_id, await self._register(name))

        await _some_at_once(join, names)

    async def tidy(self) -> None:
        """Have the bot leave what an interruption left half made."""
        token = self._bot.access_token
        joined = (await self._api("GET", f"{_CLIENT}/joined_rooms", token=token))["joined_rooms"]
        made = [*self._world.made().values(), *self._world.made_beside().values()]
        for room_id in set(joined) - {room_id for rooms in made for room_id in rooms}:
            for what in ("leave", "forget"):
                path = f"{_CLIENT}/rooms/{quote(room_id)}/{what}"
                await self._api("POST", path, {}, token=token)

    async def _register(self, name: str) -> UserID:
        body = {"type": "m.login.application_service", "username": name}
        try:
            await self._api("POST", f"{_CLIENT}/register", body, token=_TOKEN)
        except RuntimeError as error:
            if "M_USER_IN_USE" not in str(error):
                raise
        return UserID(f"@{name}:{self._server}")

    async def _create(self, request: dict[str, Any]) -> RoomID:
        path = f"{_CLIENT}/createRoom"
        answer = await self._api("POST", path, request, token=self._bot.access_token)
        return RoomID(answer["room_id"])

    async def _put(self, room_id: str, kind: str, key: str, content: dict[str, Any]) -> None:
        path = f"{_CLIENT}/rooms/{quote(room_id)}/state/{kind}/{quote(key)}"
        await self._api("PUT", path, content, token=self._bot.access_token)

    async def _join(self, room_id: RoomID, user_id: UserID) -> None:
        path = f"{_CLIENT}/rooms/{quote(room_id)}/join"
        await self._api("POST", path, {}, token=_TOKEN, as_user=user_id)


async def rename(
    api: Api, rooms: Iterable[tuple[str, str]], *, name: str, server_name: str
) -> None:
    """Have owners rename their rooms: pairs of the owner's name and the room's ID."""

    async def put(pair: tuple[str, str]) -> None:
        owner, room_id = pair
        path = f"{_CLIENT}/rooms/{quote(room_id)}/state/m.room.name/"
        owner = f"@{owner}:{server_name}"
        await api("PUT", path, {"name": name}, token=_TOKEN, as_user=owner)

    await _some_at_once(put, list(rooms))


async def populate(*, homes: int, crowd: Crowd | None = None) -> World:
    """Return a world with so many homes; what it lacks is made first."""
    crowd = crowd or Crowd()
    world = World(WORLDS / "unnamed", homes=homes, crowd=crowd)
    world.directory = WORLDS / world.name
    if world.is_complete:
        return world
    making = world
    if os.access(_MEMORY, os.W_OK) and not world.directory.exists():
        # In memory while it is made: SQLite flushes every transaction to the disk.
        making = World(_MEMORY / "homeroom-worlds" / world.name, homes=homes, crowd=crowd)
    begun = None
    if not making.directory.exists():
        begun = await populate(homes=homes) if crowd else _largest_below(homes)
    if begun is not None:
        begun.copy_to(making.directory)
        (making.directory / "complete").unlink()
    with step(f"Making {homes} homes" + (f" and {crowd}" if crowd else "")):
        await _make(making)
    if making is not world:
        world.directory.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(making.directory, world.directory)
    (world.directory / "complete").touch()
    return world


def _largest_below(homes: int) -> World | None:
    """Return the largest world with fewer homes: what it has needs not be made again."""
    known = (
        World(path, homes=int(path.name), crowd=Crowd())
        for path in WORLDS.glob("[0-9]*")
        if path.name.isdigit()
    )
    smaller = [world for world in known if world.is_complete and world.homes < homes]
    return max(smaller, key=lambda world: world.homes, default=None)


async def _make(world: World) -> None:
    limit = aiohttp.ClientTimeout(total=600)
    async with (
        world.running() as (synapse, bot),
        aiohttp.ClientSession(timeout=limit) as session,
    ):
        api = Api(synapse.url, session)
        answer = await api("GET", f"{_CLIENT}/capabilities", token=bot.access_token)
        version = answer["capabilities"]["m.room_versions"]["default"]
        populating = Populating(world, api, bot, version=version)
        await populating.homes()
        await populating.crowd()
        await populating.tidy()


async def _some_at_once(work: Callable[[T], Awaitable[None]], things: Sequence[T]) -> None:
    waiting = list(things)

    async def one_after_another() -> None:
        while waiting:
            await work(waiting.pop())

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


def _lines(path: Path) -> dict[str, list[str]]:
    if not path.exists():
        return {}
    return dict(json.loads(line) for line in path.read_text().splitlines())


async def _main(options: argparse.Namespace) -> int:
    crowd = Crowd(public=options.public, members=options.members, small=options.small)
    world = await populate(homes=options.homes, crowd=crowd)
    print(f"{world.all_rooms} rooms in {world.directory}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="./build.sh bench world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--homes", type=int, default=250)
    parser.add_argument("--public", type=int, default=0, help="large public rooms besides")
    parser.add_argument("--members", type=int, default=0, help="of each public room")
    parser.add_argument("--small", type=int, default=0, help="small rooms of others besides")
    sys.exit(run(_main(parser.parse_args())))
