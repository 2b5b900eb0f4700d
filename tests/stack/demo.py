"""`./build.sh demo`: a home survives a restart without its database, before your eyes.

Real servers on free loopback ports, thrown away afterwards; kept, with their logs, when a step
fails. An `.mbp` given as argument is shown in place of this tree's.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .console import StepFailedError, run, step
from .database import Row
from .package import build
from .stack import MARKER_TYPE, Stack
from .user import MatrixUser
from .waiting import eventually

_CHAT = "General"
_CHATS = (
    "SELECT room_id, room_type, matrix_user_id, space_id, chat_id, platform_chat_id "
    "FROM chats ORDER BY room_id"
)
_HOMES = "SELECT matrix_user_id, space_id FROM homes ORDER BY matrix_user_id, space_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """All that has to be the same after the restart: in Matrix, and in the plugin's tables."""

    rooms_of_bot: frozenset[str]
    space_children: list[str]
    markers: dict[str, object]
    homes: list[Row]
    chats: list[Row]

    def require_equal(self, before: Home) -> None:
        """Raise AssertionError that names what differs from before."""
        names = self.__dataclass_fields__
        changed = [name for name in names if getattr(self, name) != getattr(before, name)]
        lines = [
            f"{name}: expected {getattr(before, name)}, found {getattr(self, name)}"
            for name in changed
        ]
        if lines:
            raise AssertionError("\n".join(lines))


async def look(stack: Stack, user: MatrixUser, *, space: str, chat: str) -> Home:
    """Look at the home from all sides."""
    key = (MARKER_TYPE, stack.bot.user_id)
    return Home(
        rooms_of_bot=frozenset(await stack.bot_rooms()),
        space_children=await user.space_children(space),
        markers={room: (await user.state(room))[key]["content"] for room in (space, chat)},
        homes=await stack.database.fetch(_HOMES),
        chats=await stack.database.fetch(_CHATS),
    )


async def chat_row(stack: Stack, room_id: str) -> Row:
    """Wait for the plugin's row of a chat."""

    async def find() -> Row | None:
        rows = await stack.database.fetch(_CHATS) if await stack.database.tables() else []
        return next((row for row in rows if row["room_id"] == room_id), None)

    return await eventually(f"a row of {room_id} in the table chats", find)


async def linked(user: MatrixUser, *, space: str, chat: str) -> None:
    """Wait until the Space lists the chat: the bot links it right after it has made it."""

    async def look_for_link() -> bool:
        return chat in await user.space_children(space)

    await eventually(f"the Space {space} lists the chat {chat}", look_for_link)


async def answer_to(stack: Stack, user: MatrixUser, *, room_id: str, text: str) -> str:
    """Say something, return what the bot answers."""
    event_id = await user.send_text(room_id, text)
    answer = await user.wait_for_message(
        room_id, sender=stack.bot.user_id, body=lambda body: body.startswith(text), after=event_id
    )
    return answer.body


async def walk_through(stack: Stack) -> None:
    """Take every step; raises StepFailedError at the first that fails."""
    with step("A throw-away Synapse and maubot start") as current:
        await stack.start_servers()
        current.result = f"{stack.synapse.url}, {stack.maubot.url}"
    with step("The plugin is uploaded and an instance of it created") as current:
        await stack.install()
        current.result = f"as {stack.bot.user_id}"

    with step("Alice invites the bot, the bot joins"):
        alice = await stack.user("alice")
        direct = await alice.start_dm(stack.bot.user_id)
        await alice.wait_for_member(direct, stack.bot.user_id)
    with step("Alice is invited to her Space and her first chat") as current:
        space = await alice.wait_for_invite(space=True)
        chat = await alice.wait_for_invite(name=_CHAT, space=False)
        await alice.join(space)
        await alice.join(chat)
        await linked(alice, space=space, chat=chat)
        current.result = f"{space}, {_CHAT!r} {chat}"
    with step("Alice writes, the bot answers") as current:
        current.result = repr(await answer_to(stack, alice, room_id=chat, text="Hello there!"))
    with step("The conversation's key on the agent platform") as current:
        platform_chat_id = (await chat_row(stack, chat))["platform_chat_id"]
        current.result = f"platform_chat_id {platform_chat_id}"
        before = await look(stack, alice, space=space, chat=chat)

    with step("maubot is stopped, the plugin's database deleted") as current:
        await stack.maubot.stop()
        await stack.database.delete()
        if await stack.database.tables():
            raise AssertionError("the database still has tables")
        current.result = "nothing is left of it"
    with step("maubot starts again, the plugin reconciles") as current:
        mark = stack.maubot.mark()
        await stack.maubot.start()
        summary = await stack.maubot.wait_for_log(r"\] (Reconciled.*)$", since=mark)
        current.result = summary[1]
    with step("The same Space, rooms and IDs, and not one room more") as current:
        await chat_row(stack, chat)
        (await look(stack, alice, space=space, chat=chat)).require_equal(before)
        count = len(before.rooms_of_bot)
        current.result = f"{count} rooms before, {count} after, {len(before.chats)} rows rebuilt"
    with step("Alice writes again, the bot answers under the same platform_chat_id") as current:
        body = await answer_to(stack, alice, room_id=chat, text="Do you remember me?")
        (await look(stack, alice, space=space, chat=chat)).require_equal(before)
        current.result = f"{body!r}, {(await chat_row(stack, chat))['platform_chat_id']}"


async def demo(plugin: Path | None) -> int:
    """Show it all; return the exit status."""
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="homeroom-demo-"))
    try:
        if plugin is None:
            with step("The plugin is built") as current:
                plugin = build()
                current.result = plugin.name
        stack = Stack(directory, plugin=plugin)
        try:
            await walk_through(stack)
        finally:
            await stack.close()
    except StepFailedError as failure:
        print(f"\n{failure.report()}\n\nThe servers' logs are in {directory}")
        return 1
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    print(f"\nDone in {time.monotonic() - started:.0f} s; nothing was left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(run(demo(Path(sys.argv[1]) if sys.argv[1:] else None)))
