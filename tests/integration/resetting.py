"""A bot whose administrator resets it, on real servers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.integration.homes import Home, ask, configure, onboard
from tests.stack.database import Row
from tests.stack.stack import DEFAULT_CONFIG, Stack
from tests.stack.user import Message

CHATS = ("General", "Ideas")
CONFIG: Mapping[str, Any] = {
    **DEFAULT_CONFIG,
    "rooms": {"initial_chats": list(CHATS)},
    "dev": {"reset": True},
}
DONE = "!reset leave-forget: done"
UNFINISHED = "!reset leave-forget: not everything went through"
PARTS = ["**Local**", "**Server**", "**By hand**"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A bot with an administrator, who has a home like everybody."""

    stack: Stack
    ada: Home

    @property
    def office(self) -> str:
        """A room with the bot that is no part of a home."""
        return self.ada.direct

    async def tell(self, command: str, *, room: str = "") -> Message:
        """Have the administrator give a command, return the bot's next message."""
        return await ask(self.stack, self.ada.user, room or self.office, command)

    async def code(self, *, room: str = "", scope: str = "managed") -> str:
        """Ask for a plan, return the code that confirms it."""
        plan = await self.tell(f"!reset leave-forget --scope {scope}", room=room)
        return code_in(plan)

    async def leave(self, *, room: str = "") -> Message:
        """Have everything left and forgotten, return the report."""
        return await self.confirm(await self.code(room=room), room=room)

    async def confirm(self, code: str, *, room: str = "", timeout: float = 30) -> Message:
        """Give a plan's code, return the report."""
        command = f"!reset leave-forget --confirm {code}"
        event_id = await self.ada.user.send_text(room or self.office, command)
        return await self.report(event_id, room=room, timeout=timeout)

    async def report(self, event_id: str, *, room: str = "", timeout: float = 30) -> Message:
        """Wait for the report of the run that this event began."""
        return await self.ada.user.wait_for_message(
            room or self.office,
            sender=self.stack.bot.user_id,
            after=event_id,
            body=is_report,
            timeout=timeout,
        )


def is_report(body: str) -> bool:
    return DONE in body or UNFINISHED in body


def code_in(plan: Message) -> str:
    found = re.search(r"--confirm ([0-9a-f]{8})\b", plan.body)
    assert found, plan.body
    return found[1]


async def furnish(stack: Stack, *, chats: Sequence[str] = CHATS) -> Place:
    """Give the stack an administrator; `chats` are those of its configuration."""
    ada = await onboard(stack, "ada", chats=chats)
    await ada.user.wait_for_message(ada.direct, sender=stack.bot.user_id, body="your home")
    await configure(stack, {"admins": [ada.user.user_id]}, base=CONFIG)
    return Place(stack=stack, ada=ada)


async def stored(stack: Stack) -> dict[str, list[Row]]:
    """Read homes and chats to the last byte."""
    return {
        table: await stack.database.fetch(f"SELECT * FROM {table} ORDER BY 1")
        for table in ("homes", "chats")
    }


async def not_forgotten(stack: Stack) -> set[str]:
    """Ask the homeserver for the rooms that the bot has left and not forgotten."""
    query = {"filter": '{"room": {"include_leave": true, "timeline": {"limit": 1}}}'}
    answer = await stack.bot_api.request("GET", "/_matrix/client/v3/sync", query=query)
    return set(answer.get("rooms", {}).get("leave", {}))
