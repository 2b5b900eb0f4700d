"""Bots and people on a homeserver with workers, judged by what its database holds.

A `Bot` has an account and an instance of its own, so that nothing that another does refreshes what
the worker has kept of its rooms, and one home that was made when nothing was late.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.homes import tables
from tests.stack.maubot import Maubot
from tests.stack.stack import DEFAULT_CONFIG, MARKER_TYPE, Stack
from tests.stack.user import MatrixUser, Message
from tests.stack.workers import WorkerSynapse

PATIENCE = 180.0
"""Seconds; much more than anything takes that comes at all."""
WRONG_WORDS = ("did not work", "could not", "refused", "went wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What the homeserver's database and the plugin's say of somebody's home."""

    spaces: int
    chats: Mapping[str, str]
    """Number (`C1`) to name, of the rooms that the bot is in and has marked."""
    doubled: Sequence[str]
    """Numbers that more than one room has."""
    rows: Mapping[str, tuple[str, str]]
    """Number to name and status, as stored, of what is not left."""
    incomplete: Sequence[str]
    """Chats without a link, a key, or with another key in the row, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """A bot, and a person of whom it has made a home."""

    workers: WorkerSynapse
    stack: Stack
    owner: MatrixUser
    direct: str
    _people: dict[str, MatrixUser] = field(default_factory=dict)

    async def person(self, name: str) -> MatrixUser:
        """Give somebody else with a client, the same one whenever asked."""
        if name not in self._people:
            self._people[name] = await self.stack.user(name)
        return self._people[name]

    @property
    def user_id(self) -> str:
        return self.stack.bot.user_id

    async def rooms_of(self, user: MatrixUser) -> dict[str, dict[str, Any]]:
        """Give the marked rooms of somebody that the bot is in: room ID to marker."""
        markers = {}
        for room_id, membership in (await self.workers.memberships(self.user_id)).items():
            state = await self.workers.state(room_id) if membership == "join" else {}
            marker = state.get((MARKER_TYPE, self.user_id), {})
            if marker.get("user_id") == user.user_id and ("m.room.tombstone", "") not in state:
                markers[room_id] = marker
        return markers

    async def home(self, user: MatrixUser | None = None) -> Home:
        """Say how somebody's home is now."""
        user = user or self.owner
        markers = await self.rooms_of(user)
        spaces = [room_id for room_id, marker in markers.items() if "chat_id" not in marker]
        linked = {
            key
            for space in spaces
            for (type_, key), content in (await self.workers.state(space)).items()
            if type_ == "m.space.child" and content.get("via")
        }
        rows = {
            room_id: row
            for room_id, row in (await tables(self.stack)).chats.items()
            if row["matrix_user_id"] == user.user_id and row["status"] in ("active", "archived")
        }
        names: dict[str, str] = {}
        doubled, incomplete = [], []
        for room_id, marker in markers.items():
            if room_id in spaces:
                continue
            number = marker["chat_id"]
            if number in names:
                doubled.append(number)
            name = (await self.workers.state(room_id)).get(("m.room.name", ""), {})
            names[number] = name.get("name", "")
            if not marker.get("archived") and room_id not in linked:
                incomplete.append(f"{number}: no link")
            if "platform_chat_id" not in marker:
                incomplete.append(f"{number}: no key")
            elif marker["platform_chat_id"] != rows.get(room_id, {}).get("platform_chat_id"):
                incomplete.append(f"{number}: another key in the row")
        return Home(
            spaces=len(spaces),
            chats=dict(sorted(names.items())),
            doubled=doubled,
            rows={
                row["chat_id"]: (row["name"], row["status"])
                for row in sorted(rows.values(), key=lambda row: str(row["chat_id"]))
            },
            incomplete=incomplete,
        )

    async def chat(self, number: str = "C1") -> str:
        """Give the room of a chat of the owner."""
        (room_id,) = [
            room_id
            for room_id, marker in (await self.rooms_of(self.owner)).items()
            if marker.get("chat_id") == number
        ]
        return room_id

    async def ask(self, command: str, *, room: str = "") -> Message:
        """Send a command as the owner, return the bot's next words."""
        room = room or await self.chat()
        event_id = await self.owner.send_text(room, command)
        return await self.owner.wait_for_message(
            room, sender=self.user_id, after=event_id, timeout=PATIENCE
        )

    async def becomes(self, right: Home, *, user: MatrixUser | None = None) -> None:
        """Wait until a home is as it should be."""

        async def look() -> Home | None:
            return await self.home(user)

        await reaches(look, right)

    async def accept(self, user: MatrixUser, *, rooms: int) -> None:
        """Join as many rooms as somebody is invited to."""
        for _ in range(rooms):
            await user.join(await user.wait_for_invite(timeout=PATIENCE))

    def complaints(self) -> list[str]:
        """Give what the log calls an error, and what no person should be told."""
        instance = re.escape(self.stack.instance)
        log = self.stack.maubot.log_text()
        errors = re.findall(rf"^.*\[ERROR@maubot\.instance\.{instance}\b.*$", log, re.MULTILINE)
        said = [
            message.body
            for room_id in self.owner.rooms()
            for message in self.owner.messages(room_id, sender=self.user_id)
        ]
        return errors + [body for body in said if any(wrong in body for wrong in WRONG_WORDS)]


def right(*names: str, archived: Sequence[str] = ()) -> Home:
    """Make the home that there should be: one Space, and these chats in this order."""
    chats = {f"C{number}": name for number, name in enumerate(names, start=1)}
    return Home(
        spaces=1,
        chats=chats,
        doubled=[],
        rows={
            number: (name, "archived" if number in archived else "active")
            for number, name in chats.items()
        },
        incomplete=[],
    )


async def make_bot(
    workers: WorkerSynapse,
    maubot: Maubot,
    directory: Path,
    *,
    proxy: bool = False,
) -> Bot:
    """Make a bot with one home, while nothing is late."""
    name = secrets.token_hex(4)
    stack = Stack(
        directory / name,
        plugin=None,
        instance=f"homeroom-{name}",
        config={
            **DEFAULT_CONFIG,
            "admins": [f"@owner-{name}:{workers.server_name}"],
            "dev": {"reset": True},
            "limits": {"waiting_messages": 1000},  # what comes after a pause comes all at once
        },
        suffix=f"-{name}",
        synapse=workers,
        maubot=maubot,
        proxy=proxy,
    )
    await stack.start_servers()
    await stack.install()
    owner = await stack.user("owner")
    bot = Bot(
        workers=workers,
        stack=stack,
        owner=owner,
        direct=await owner.start_dm(stack.bot.user_id),
    )
    await bot.accept(owner, rooms=2)
    await bot.becomes(right("General"))
    return bot


async def reaches(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Look again and again until it is as wanted; say how it is if that takes too long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while (found := await look()) != wanted:
        assert loop.time() < deadline, f"wanted {wanted}, found {found}"
        await asyncio.sleep(0.2)


async def everybody_knows(bot: Bot) -> None:
    """Wait until the worker that is behind has heard of all that was, and a little longer.

    What a bot makes twice because it does not see the first, it has made by then.
    """
    await asyncio.sleep(bot.workers.longest_lag + 1)
