"""Invites that came while the bot was down, the dead ones among them.

Issue 4, "Must be seen", 4.
"""

from __future__ import annotations

import asyncio
import re

from tests.integration.homes import move_in, onboard, say_and_hear
from tests.stack.proxy import Answer, Hold
from tests.stack.stack import MakeStack, Stack
from tests.stack.user import MatrixUser

CONFIG = {
    "access": {"allow": ["@friend*"]},
    "rooms": {"initial_chats": ["General"]},
    "reconcile": {"start_timeout": 5},
}
REASON = "You are not among the people this bot works for."
DEAD = {
    "refused": Answer(403, {"errcode": "M_FORBIDDEN", "error": "You are not invited"}),
    "gone": Answer(404, {"errcode": "M_NOT_FOUND", "error": "No known servers"}),
    "failing": Answer(502, {"errcode": "M_UNKNOWN", "error": "Failed to make_join"}),
    "failing in front": Answer(502, "<html>Bad gateway</html>"),
}
HANGING = 12
"""More than may be under way at once."""


async def rejection(stack: Stack, user: MatrixUser, room: str) -> str | None:
    """Wait until the bot has rejected the invite to a room, return the reason."""

    def found() -> list[str | None]:
        member = ("m.room.member", stack.bot.user_id)
        return [
            event["content"].get("reason")
            for event in user.timeline(room)
            if (event["type"], event.get("state_key")) == member
            and event["content"]["membership"] == "leave"
        ]

    return (await user.wait_for("the invite to be rejected", found, timeout=30))[0]


async def test_invites_of_the_time_it_was_down(make_bot: MakeStack) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    await bot.maubot.update_instance(bot.instance, started=False)
    stranger, dead = await bot.user("stranger"), await bot.user("friend-dead")
    friends = [await bot.user(f"friend{number}") for number in range(3)]
    rooms = {name: await dead.start_dm(bot.bot.user_id) for name in DEAD}
    for name, answer in DEAD.items():
        bot.proxy.rule(answer, path=f"/join/{re.escape(rooms[name])}$")
    for _ in range(HANGING):
        room = await dead.start_dm(bot.bot.user_id)
        bot.proxy.rule(Hold(), path=f"/join/{re.escape(room)}$")
    # A room that everybody has left: the real homeserver says that nobody can join it.
    rooms["deserted"] = await dead.start_dm(bot.bot.user_id)
    await dead.leave(rooms["deserted"])
    unwanted = await stranger.start_dm(bot.bot.user_id)
    directs = [await friend.start_dm(bot.bot.user_id) for friend in friends]

    async def start() -> int:
        """Start the instance; wait until the log names those that are definitely dead."""
        log = bot.maubot.mark()
        await bot.maubot.update_instance(bot.instance, started=True)
        for name in ("refused", "gone", "deserted"):
            pattern = f"Could not answer the invite of .* to {re.escape(rooms[name])}"
            await bot.maubot.wait_for_log(pattern, since=log, timeout=30)
        return log

    log = await start()
    homes = await asyncio.gather(
        *(move_in(bot, friend, direct=d) for friend, d in zip(friends, directs, strict=True))
    )
    for home in homes:
        await say_and_hear(bot, home.user, home.chat, "hello")
    assert await rejection(bot, stranger, unwanted) == REASON

    # The next start, and somebody new after it.
    await bot.maubot.update_instance(bot.instance, started=False)
    text = bot.maubot.log_text(since=log)
    for name in ("refused", "gone", "deserted"):
        assert len(re.findall(f"WARNING.*{re.escape(rooms[name])}", text)) == 1
        attempts = [r for r in bot.proxy.requests if r.path.endswith(f"/join/{rooms[name]}")]
        assert len(attempts) == 1
    await start()
    for home in homes:
        await say_and_hear(bot, home.user, home.chat, "hello again")
    await onboard(bot, "friend-new")
    # What fails for a passing reason is tried again, slower each time.
    for name in ("failing", "failing in front"):
        attempts = [r for r in bot.proxy.requests if r.path.endswith(f"/join/{rooms[name]}")]
        assert 2 <= len(attempts) < 20
    assert "Traceback" not in bot.maubot.log_text(since=log)
