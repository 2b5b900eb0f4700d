"""The world that is measured: a real Synapse with homes as Homeroom itself makes them.

Made once and kept: 2,500 homes take half an hour. What is made is noted home by home, so that an
interrupted run goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from mautrix.types import RoomID, UserID

from homeroom.domain.ids import child_order, derive_platform_chat_id
from homeroom.domain.marker import MARKER_TYPE, chat_marker
from homeroom.domain.model import Chat, ChatID
from homeroom.domain.provisioning import CreateChat, chat_request, child_content, space_request
from tests.stack.http import Json, JsonApi
from tests.stack.synapse import Account, Synapse

CHATS: tuple[str, ...] = ("General", "Research", "Notes")
ROOMS_PER_HOME = 1 + len(CHATS)
_AT_ONCE = 4
_ROOM_VERSION = "11"
_V3 = "/_matrix/client/v3"


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeHome:
    """A home in the world; the first chat is where its owner talks."""

    owner: str
    token: str
    space: str
    chats: list[str]


class World:
    """One Synapse with so many homes of one bot."""

    def __init__(self, directory: Path, *, homes: int) -> None:
        self.homes = homes
        self.directory = directory / f"{homes}-homes"
        self.synapse = Synapse(self.directory / "synapse")
        self._notes = self.directory / "homes.jsonl"

    @property
    def rooms(self) -> int:
        return self.homes * ROOMS_PER_HOME

    async def bot(self) -> Account:
        return await self.synapse.account("bot", password="bot")

    def made(self) -> list[MadeHome]:
        """The homes that there are."""
        if not self._notes.exists():
            return []
        lines = self._notes.read_text().splitlines()
        return [MadeHome(**json.loads(line)) for line in lines]

    async def populate(self) -> None:
        """Make the homes that are missing; says how far it is."""
        missing = range(len(self.made()), self.homes)
        if not missing:
            return
        bot = await self.bot()
        started, done = time.monotonic(), 0
        numbers = iter(missing)
        with self._noting() as note:

            async def work() -> None:
                nonlocal done
                for number in numbers:
                    note(await self._make_home(bot, number))
                    done += 1
                    if done % 25 == 0:
                        rate = done / (time.monotonic() - started)
                        left = (len(missing) - done) / rate
                        print(
                            f"  {self.homes - len(missing) + done} of {self.homes} homes,"
                            f" about {left / 60:.0f} min left",
                            flush=True,
                        )

            await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    @contextmanager
    def _noting(self) -> Iterator[Callable[[MadeHome], None]]:
        with self._notes.open("a") as notes:

            def note(home: MadeHome) -> None:
                notes.write(json.dumps(asdict(home)) + "\n")
                notes.flush()

            yield note

    async def _make_home(self, bot: Account, number: int) -> MadeHome:
        # A name that no interrupted run can have taken.
        owner = await self.synapse.register(f"owner{number}-{time.time_ns() % 10**9}")
        me, them = self._api(bot), self._api(owner)
        bot_id, owner_id = UserID(bot.user_id), UserID(owner.user_id)
        space = await _create(
            me,
            space_request(
                bot=bot_id,
                owner=owner_id,
                name="Homeroom",
                initial_chats=CHATS,
                version=_ROOM_VERSION,
            ),
        )
        await them.request("POST", f"{_V3}/join/{quote(space)}", {})
        chats = []
        for place, name in enumerate(CHATS, start=1):
            chat_id = ChatID(f"C{place}")
            request = chat_request(
                bot=bot_id,
                owner=owner_id,
                space_id=space,
                step=CreateChat(chat_id=chat_id, name=name),
                version=_ROOM_VERSION,
                encrypted=False,
            )
            room = await _create(me, request)
            chat = Chat(
                room_id=room,
                matrix_user_id=owner_id,
                space_id=space,
                chat_id=chat_id,
                platform_chat_id=derive_platform_chat_id(room),
                name=name,
            )
            await _put(me, room, MARKER_TYPE, bot_id, chat_marker(chat).to_content())
            link = child_content(bot=bot_id, order=child_order(chat_id))
            await _put(me, space, "m.space.child", room, link)
            await them.request("POST", f"{_V3}/join/{quote(room)}", {})
            chats.append(str(room))
        return MadeHome(
            owner=owner.user_id, token=owner.access_token, space=str(space), chats=chats
        )

    def _api(self, account: Account) -> JsonApi:
        return JsonApi(base_url=self.synapse.url, token=account.access_token)


async def _create(api: JsonApi, request: Json) -> RoomID:
    return RoomID((await api.request("POST", f"{_V3}/createRoom", request))["room_id"])


async def _put(api: JsonApi, room: str, kind: str, key: str, content: Json) -> None:
    path = f"{_V3}/rooms/{quote(room)}/state/{quote(kind)}/{quote(key)}"
    await api.request("PUT", path, content)
