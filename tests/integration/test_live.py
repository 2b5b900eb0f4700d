"""What changes while the bot runs is seen at once, and what looks like a command is none.

Issue 4, "Live topology". The figures that a run prints are the times from the answer of the
homeserver to a change until the plugin has drawn the conclusion.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest

from homeroom import replies
from tests.integration.homes import (
    onboard,
    reconciled,
    room_state,
    row_of,
    said_by_bot,
    say_and_hear,
    tables,
)
from tests.stack.http import ApiError
from tests.stack.stack import DEFAULT_CONFIG, MARKER_TYPE, MakeStack, MakeSynapse, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CHATS = ("General", "Ideas")
CONFIG: dict[str, Any] = {
    **DEFAULT_CONFIG,
    "rooms": {"initial_chats": list(CHATS), "version": "11"},
}
"""Version 11: from 12 on nobody can remove the bot from a room that it made."""
PROMPT_SECONDS = 10
"""Far more than it takes on a machine that does nothing else."""


class Stopwatch:
    """Waits for the consequences of changes, and remembers how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    async def until(self, what: str, look: Callable[[], Awaitable[Any]]) -> None:
        begin = time.monotonic()
        await eventually(what, look, timeout=2 * PROMPT_SECONDS)
        self.seconds[what] = time.monotonic() - begin

    def report(self) -> str:
        return ", ".join(f"{what}: {seconds:.2f} s" for what, seconds in self.seconds.items())


async def give_power_to(stack: Stack, user: MatrixUser, room_id: str) -> None:
    """Have the bot's account make somebody more powerful than itself, who can remove it then."""
    levels = (await room_state(stack, room_id))["m.room.power_levels", ""]["content"]
    users = {**levels["users"], user.user_id: 100, stack.bot.user_id: 50}
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/state/m.room.power_levels/"
    await stack.bot_api.request("PUT", path, {**levels, "users": users})


async def membership_of_bot(stack: Stack, user: MatrixUser, room_id: str, change: str) -> None:
    """`ban` or `unban` the bot."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/{change}"
    body = {"user_id": stack.bot.user_id, "reason": f"a {change}\nfor a test"}
    await user.api.request("POST", path, body)


def has_status(stack: Stack, room_id: str, status: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return bool((await tables(stack)).chats[room_id]["status"] == status)

    return look


async def test_members_names_links_and_marks_change_while_it_runs(make_bot: MakeStack) -> None:
    stack, watch = await make_bot(config=CONFIG), Stopwatch()
    log = stack.maubot.mark()
    home = await onboard(stack, "alice", chats=CHATS)
    alice, bob = home.user, await stack.user("bob")
    general, ideas = home.chats.values()
    before, rooms = await tables(stack), await stack.bot_rooms()
    keys = before.keys()

    async def renamed() -> bool:
        return bool((await row_of(stack, ideas))["name"] == "Plans")

    await alice.set_state(home.space, "m.space.child", {}, state_key=ideas)
    await alice.set_state(ideas, "m.room.name", {"name": "Plans"})
    await watch.until("a new name", renamed)
    # With that look the removed link was seen, too: it stays as its owner wants it.
    assert await alice.space_children(home.space) == [general]

    mark = (await room_state(stack, general))[MARKER_TYPE, stack.bot.user_id]
    for key in (stack.bot.user_id, f"{stack.bot.user_id} "):
        with pytest.raises(ApiError) as refused:
            await alice.set_state(general, MARKER_TYPE, {**mark["content"]}, state_key=key)
        assert refused.value.status == 403
    forged = {**mark["content"], "user_id": bob.user_id}
    await alice.set_state(general, MARKER_TYPE, forged, state_key=alice.user_id)

    async def marked_again() -> bool:
        now = (await room_state(stack, general)).get((MARKER_TYPE, stack.bot.user_id))
        return now is not None and now["content"] == mark["content"]

    await alice.redact(general, mark["event_id"])
    await watch.until("a redacted mark", marked_again)

    await alice.invite(general, bob.user_id)
    await bob.join(general)
    await bob.send_text(general, "Do you talk to me?")
    told = replies.only_the_owner(may_share=False)
    await bob.wait_for_message(general, sender=stack.bot.user_id, body=told)
    await alice.leave(ideas)
    await alice.join(ideas)
    assert await say_and_hear(stack, alice, ideas, "back again") == keys[ideas]
    assert await say_and_hear(stack, alice, general, "and here?") == keys[general]
    assert said_by_bot(stack, alice, general) == [told, "and here?"]

    renamed_ideas = {**before.chats[ideas], "name": "Plans"}
    now = await tables(stack)
    assert (now.homes, now.chats) == (before.homes, {**before.chats, ideas: renamed_ideas})
    assert await stack.bot_rooms() == rooms
    assert "Traceback" not in stack.maubot.log_text(since=log)
    print(f"\nseen after: {watch.report()}")
    assert max(watch.seconds.values()) < PROMPT_SECONDS


async def test_a_bot_that_is_removed_says_why_and_comes_back_with_the_same_ids(
    make_bot: MakeStack,
) -> None:
    stack, watch = await make_bot(config=CONFIG), Stopwatch()
    home = await onboard(stack, "alice", chats=CHATS)
    alice, (general, ideas) = home.user, home.chats.values()
    for room_id in (general, home.space):
        await give_power_to(stack, alice, room_id)
    before, rooms = await tables(stack), await stack.bot_rooms()
    first = stack.maubot.mark()

    def says(text: str, room_id: str, since: int) -> Callable[[], Awaitable[bool]]:
        line = f"Not in {room_id} of {alice.user_id} any more: {text}"

        async def look() -> bool:
            return line in stack.maubot.log_text(since=since)

        return look

    for change in ("kick", "ban"):
        log = stack.maubot.mark()
        if change == "kick":
            await alice.kick(general, stack.bot.user_id, reason="spring\ncleaning")
            reason = f"removed by {alice.user_id} (spring cleaning)"
        else:
            await membership_of_bot(stack, alice, general, "ban")
            reason = f"banned by {alice.user_id} (a ban for a test)"
        await watch.until(f"{change} in the log", says(reason, general, log))
        await watch.until(f"{change} in the row", has_status(stack, general, "left"))
        heard = len(said_by_bot(stack, alice, general))
        await alice.send_text(general, "Anybody there?")
        assert await say_and_hear(stack, alice, ideas, "and here?") == before.keys()[ideas]
        assert len(said_by_bot(stack, alice, general)) == heard
        log = stack.maubot.mark()
        await stack.maubot.restart_instance(stack.instance)
        assert (await reconciled(stack, since=log)).updated == 0
        if change == "ban":
            await membership_of_bot(stack, alice, general, "unban")
        await alice.invite(general, stack.bot.user_id)
        await watch.until(f"back after a {change}", has_status(stack, general, "active"))
        text = f"back after the {change}?"
        await alice.send_text(general, text)
        await alice.wait_for_message(general, sender=stack.bot.user_id, body=text)
        assert (await tables(stack)).keys()[general] == before.keys()[general]

    async def home_has(status: str) -> bool:
        return bool((await tables(stack)).homes[alice.user_id]["status"] == status)

    log = stack.maubot.mark()
    await alice.kick(home.space, stack.bot.user_id)
    await watch.until("kick from the Space", says(f"removed by {alice.user_id};", home.space, log))
    await eventually("the home is left", lambda: home_has("left"))
    assert await say_and_hear(stack, alice, ideas, "homeless?") == before.keys()[ideas]
    await alice.invite(home.space, stack.bot.user_id)
    await watch.until("back in the Space", lambda: home_has("active"))

    assert await tables(stack) == before
    assert await stack.bot_rooms() == rooms
    assert "Traceback" not in stack.maubot.log_text(since=first)
    print(f"\nseen after: {watch.report()}")
    assert max(watch.seconds.values()) < PROMPT_SECONDS


async def test_only_new_plain_text_is_a_command(make_bot: MakeStack) -> None:
    """The owner's own words, in a form in which nobody gives a command."""
    stack = await make_bot(config=CONFIG)
    home = await onboard(stack, "alice", chats=CHATS)
    alice, chat = home.user, home.chat
    before, rooms = await tables(stack), await stack.bot_rooms()
    command = "!chat new Secret"

    words = await alice.send_text(chat, "plain words")
    await alice.wait_for_message(chat, sender=stack.bot.user_id, body="plain words")
    await alice.edit(chat, words, command)
    for msgtype in ("m.notice", "m.emote", "m.image", "m.file"):
        content = {"msgtype": msgtype, "body": command, "url": "mxc://homeroom.test/x"}
        await alice.send(chat, content)
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": words}}}
    quoting = f"> <{alice.user_id}> {command}\n\nwhat did I say?"
    await alice.send_text(chat, quoting, **reply)
    await alice.send(chat, {"body": command}, event_type="m.sticker")
    await alice.set_state(chat, "m.room.topic", {"topic": command})
    await alice.set_state(chat, "m.room.message", {"msgtype": "m.text", "body": command})
    await alice.wait_for_message(chat, sender=stack.bot.user_id, body="what did I say?")

    await stack.maubot.set_client_started(stack.bot.user_id, started=False)
    taken_back = await alice.send_text(chat, command)
    await alice.redact(chat, taken_back)
    await alice.edit(chat, words, f"{command} again")
    await stack.maubot.set_client_started(stack.bot.user_id, started=True)
    await alice.send_text(chat, "did you do anything?")
    await alice.wait_for_message(chat, sender=stack.bot.user_id, body="did you do anything?")

    assert await tables(stack) == before
    assert await stack.bot_rooms() == rooms


async def test_an_answer_calls_nobody_whomever_it_names(
    make_bot: MakeStack, make_synapse: MakeSynapse
) -> None:
    """By older push rules a text calls whose name is in it, and everybody by "@room"."""
    stack = await make_bot(synapse=await make_synapse(push=True), config=CONFIG)
    home = await onboard(stack, "alice", chats=CHATS)
    alice, name = home.user, home.user.user_id[1:].partition(":")[0]
    cases = {"Is it late?": None, f"Where is {name.title()}?": {}, "Is @room here?": {}}
    for text, mentions in cases.items():
        await say_and_hear(stack, alice, home.chat, text)
        answer = await notified(alice)
        assert answer["event"]["content"]["body"] == text
        assert answer["event"]["content"].get("m.mentions") == mentions
        assert {"set_tweak": "highlight"} not in answer["actions"]


async def notified(user: MatrixUser) -> dict[str, Any]:
    """The newest event that the homeserver has notified a person of."""

    async def newest() -> Any:
        found = await user.api.request("GET", "/_matrix/client/v3/notifications?limit=1")
        return next(iter(found["notifications"]), None)

    answer: dict[str, Any] = await eventually("a notification", newest)
    return answer
