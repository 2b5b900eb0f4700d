"""Homes on a real stack: the steps that the integration tests share.

A `Home` is what a person sees after onboarding; `tables` is what the plugin has stored, `markers`
what the rooms themselves say. Whatever is waited for is a condition that the servers show, never
a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from tests.stack.database import Row
from tests.stack.http import ApiError
from tests.stack.stack import DEFAULT_CONFIG, MARKER_TYPE, Stack
from tests.stack.synapse import AccessLogEntry
from tests.stack.user import MatrixUser, Message, StateKey
from tests.stack.waiting import eventually

_ROOMS = "/_matrix/client/v3/rooms"
_TIMES = {"created_at", "updated_at"}
_SUMMARY = re.compile(r"Reconciled (?P<rooms>\d+) rooms in [\d.]+ s: (?P<what>.*)")
_WORDS = {
    "new": "adopted",
    "changed": "updated",
    "given ids": "backfilled",
    "left": "left",
    "unreadable": "unreadable",
    "findings": "findings",
}
_READ_BY_POST = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A person's home: they are in its Space and in its chats."""

    user: MatrixUser
    direct: str
    """The room where they invited the bot."""
    space: str
    chats: Mapping[str, str]
    """Room IDs by name, in order: C1, C2, …"""

    @property
    def chat(self) -> str:
        """The first chat."""
        return next(iter(self.chats.values()))

    @property
    def rooms(self) -> set[str]:
        """The rooms that the home consists of."""
        return {self.space, *self.chats.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """All rows of homes and chats, by their keys, in all columns but the times."""

    homes: Mapping[str, Row]
    chats: Mapping[str, Row]

    def keys(self) -> dict[str, str]:
        """Return the `platform_chat_id`s by room."""
        return {room_id: row["platform_chat_id"] for room_id, row in self.chats.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the log says about one reconcile."""

    rooms: int
    adopted: int = 0
    updated: int = 0
    backfilled: int = 0
    left: int = 0
    unreadable: int = 0
    findings: int = 0


async def invite_bot(stack: Stack, user: MatrixUser) -> str:
    """Open a direct room with the bot and wait until the bot is in it."""
    direct = await user.start_dm(stack.bot.user_id)
    await user.wait_for_member(direct, stack.bot.user_id)
    return direct


async def onboard(stack: Stack, name: str, *, chats: Sequence[str] = ("General",)) -> Home:
    """Have a new person invite the bot and move into the home that they get.

    `chats` are the initial chats of the stack's configuration. The bot has finished when this
    returns: every chat is linked, stamped and stored.
    """
    user = await stack.user(name)
    direct = await invite_bot(stack, user)
    return await move_in(stack, user, direct=direct, chats=chats)


async def welcomed(stack: Stack, user: MatrixUser, room_id: str) -> Message:
    """Wait until the bot has said in a room where somebody's home is; return that.

    What it says before that on a slow machine, after ten seconds, is no welcome.
    """
    return await user.wait_for_message(
        room_id, sender=stack.bot.user_id, body=lambda body: "is being made" not in body
    )


async def move_in(
    stack: Stack, user: MatrixUser, *, direct: str = "", chats: Sequence[str] = ("General",)
) -> Home:
    """Accept the invites to a home, wait until the bot has finished it."""
    space = await user.wait_for_invite(space=True)
    await user.join(space)
    rooms = {}
    for name in chats:
        rooms[name] = await user.wait_for_invite(name=name, space=False)
        await user.join(rooms[name])
    home = Home(user=user, direct=direct, space=space, chats=rooms)
    await finished(stack, home)
    return home


async def finished(stack: Stack, home: Home) -> None:
    """Wait until every chat of a home is linked, stamped and stored."""
    for room_id in home.chats.values():
        await marked(stack, room_id)
        await row_of(stack, room_id)

    async def linked() -> bool:
        state = await room_state(stack, home.space)
        return all(("m.space.child", room_id) in state for room_id in home.chats.values())

    await eventually(f"the Space {home.space} links its chats", linked)


async def marked(stack: Stack, room_id: str) -> dict[str, Any]:
    """Wait until a chat's marker holds its `platform_chat_id`, return the marker."""

    async def complete() -> dict[str, Any] | None:
        content = await marker(stack, room_id)
        return content if content and "platform_chat_id" in content else None

    return await eventually(f"a complete marker in {room_id}", complete)


async def marker(stack: Stack, room_id: str) -> dict[str, Any] | None:
    """Ask the homeserver for the content of a room's marker; None if there is none."""
    path = f"{_ROOMS}/{quote(room_id)}/state/{MARKER_TYPE}/{quote(stack.bot.user_id)}"
    try:
        content: dict[str, Any] = await stack.bot_api.request("GET", path)
    except ApiError as error:
        if error.errcode != "M_NOT_FOUND":
            raise
        return None
    return content


async def room_state(stack: Stack, room_id: str) -> dict[StateKey, dict[str, Any]]:
    """Ask the homeserver for a room's state as the bot sees it."""
    events = await stack.bot_api.request("GET", f"{_ROOMS}/{quote(room_id)}/state")
    return {(event["type"], event["state_key"]): event for event in events}


async def tables(stack: Stack) -> Tables:
    """Read everything that the plugin has stored about homes and chats."""
    homes = await stack.database.fetch("SELECT * FROM homes")
    chats = await stack.database.fetch("SELECT * FROM chats")
    return Tables(
        homes={row["matrix_user_id"]: _without_times(row) for row in homes},
        chats={row["room_id"]: _without_times(row) for row in chats},
    )


async def row_of(stack: Stack, room_id: str) -> Row:
    """Wait for the row of a chat."""

    async def find() -> Row | None:
        return (await tables(stack)).chats.get(room_id)

    return await eventually(f"a row of {room_id} in the table chats", find)


async def say_and_hear(stack: Stack, user: MatrixUser, room_id: str, text: str) -> str:
    """Say something in a chat, hear its echo, return the `platform_chat_id` of the row.

    It must be the first thing that the bot says after it.
    """
    event_id = await user.send_text(room_id, text)
    answer = await user.wait_for_message(room_id, sender=stack.bot.user_id, after=event_id)
    assert is_echo(text, answer.body), f"expected the echo of {text!r}, heard {answer.body!r}"
    return str((await row_of(stack, room_id))["platform_chat_id"])


def is_echo(text: str, answer: str) -> bool:
    """Whether this is what `echo` says to a text; admins hear that it is no agent."""
    return answer == text or answer.startswith(f"{text}\n\nNo agent is set up yet")


async def ask(stack: Stack, user: MatrixUser, room_id: str, command: str) -> Message:
    """Send a command, return the bot's next message, which must be a notice."""
    event_id = await user.send_text(room_id, command)
    answer = await user.wait_for_message(room_id, sender=stack.bot.user_id, after=event_id)
    assert answer.msgtype == "m.notice", answer
    return answer


def said_by_bot(stack: Stack, user: MatrixUser, room_id: str) -> list[str]:
    """Return what the bot has said in a room, as far as the person's client knows."""
    return [message.body for message in user.messages(room_id, sender=stack.bot.user_id)]


async def configure(
    stack: Stack, changes: Mapping[str, Any], *, base: Mapping[str, Any] = DEFAULT_CONFIG
) -> None:
    """Save a configuration in maubot, while the instance runs."""
    await stack.maubot.update_instance(stack.instance, config={**base, **changes})


async def make_admin(
    stack: Stack, name: str = "ada", *, base: Mapping[str, Any] = DEFAULT_CONFIG
) -> tuple[MatrixUser, str]:
    """Add an administrator; return them with a room in which they can give commands.

    They have a home then, like everybody who has invited the bot.
    """
    admin = await stack.user(name)
    await configure(stack, {"admins": [admin.user_id]}, base=base)
    office = await invite_bot(stack, admin)
    await welcomed(stack, admin, office)
    return admin, office


async def invalidate_checkpoint(stack: Stack) -> None:
    """Have the next start look at everything: the rows do not prove that they are true.

    And nothing else does.
    """
    await forget_checkpoint(stack)
    await stack.database.execute("UPDATE sync_state SET value = '' WHERE key = 'proof'")


async def lose_everything(stack: Stack) -> None:
    """Delete the plugin's database, and the checkpoint that it could be restored from."""
    await stack.database.delete()
    await forget_checkpoint(stack)


async def forget_checkpoint(stack: Stack) -> None:
    """Empty the checkpoint in the bot's account data."""
    user = quote(stack.bot.user_id, safe="")
    path = f"/_matrix/client/v3/user/{user}/account_data/dev.homeroom.checkpoint"
    await stack.bot_api.request("PUT", path, {})


async def start(stack: Stack) -> Summary:
    """Start a maubot that was stopped, return its first reconcile's summary."""
    mark = stack.maubot.mark()
    await stack.maubot.start()
    return await reconciled(stack, since=mark)


async def restart(stack: Stack) -> Summary:
    """Stop maubot as its service manager would and start it again."""
    await stack.maubot.stop()
    return await start(stack)


async def reconciled(stack: Stack, *, since: int, timeout: float = 45) -> Summary:
    """Wait for the first reconcile that the log tells of since a mark."""
    found = await stack.maubot.wait_for_log(_SUMMARY.pattern, since=since, timeout=timeout)
    counts = re.findall(rf"(\d+) ({'|'.join(_WORDS)})", found["what"])
    return Summary(
        rooms=int(found["rooms"]), **{_WORDS[what]: int(count) for count, what in counts}
    )


async def requests_of_bot(stack: Stack, *, since: int) -> list[AccessLogEntry]:
    """What the homeserver answered the bot since a mark (`synapse.mark()`)."""
    entries = await stack.synapse.requests(since=since)
    return [entry for entry in entries if entry.user_id == stack.bot.user_id]


async def writes_of_bot(stack: Stack, *, since: int, at_least: int = 0) -> list[AccessLogEntry]:
    """The bot's requests since a mark that could have changed something.

    Waits for as many as there must be: a message is heard before Synapse has answered, and
    logged, the request that sent it.

    Left out: sliding sync, a POST that only reads; and the bot's own account data, which
    nobody else sees: who the newest instance is, and a copy of the rows; and read receipts.
    maubot itself writes nothing when an account starts again: its filter (POST .../filter) was
    uploaded when the account was added and is remembered, and its profile is only read unless
    a display name or avatar is configured.
    """

    async def look() -> list[AccessLogEntry]:
        entries = await stack.synapse.writes(since=since, user_id=stack.bot.user_id)
        return [
            entry
            for entry in entries
            if entry.path != _READ_BY_POST
            and "/account_data/" not in entry.path
            and "/receipt/" not in entry.path
        ]

    async def are_enough() -> bool:
        return len(await look()) >= at_least

    await eventually(f"{at_least} writes of the bot in Synapse's log", are_enough)
    return await look()


def shown(entries: Sequence[AccessLogEntry]) -> list[str]:
    """Requests as short lines, decoded, for comparing."""
    paths = [unquote(entry.path).removeprefix("/_matrix/client") for entry in entries]
    return [f"{entry.method} {path}" for entry, path in zip(entries, paths, strict=True)]


def _without_times(row: Row) -> Row:
    row = {key: value for key, value in row.items() if key not in _TIMES}
    if isinstance(row.get("initial_chats"), str):
        row["initial_chats"] = json.loads(row["initial_chats"])
    return row
