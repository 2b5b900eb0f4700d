"""What a start asks the homeserver, and what happens while the bot is away."""

from __future__ import annotations

from unittest import mock

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.sync.instance import INSTANCE_TYPE
from tests.fake import Match, Recorded, Respond, User
from tests.plugin import harness
from tests.plugin.harness import Bot

CONFIG = 'rooms: {version: "11", initial_chats: [Work, Play]}'
LOOK = Match(path="joined_rooms$")
FORBIDDEN = Respond(403, {"errcode": "M_FORBIDDEN", "error": "No"})


async def settled(bot: Bot) -> None:
    """As `Bot.settled`, while a verification waits for its time."""
    with mock.patch.object(harness, "SLEEPERS", {*harness.SLEEPERS, "homeroom: verifying"}):
        await bot.settled()


def asked(bot: Bot, mark: int) -> list[Recorded]:
    """What the plugin has asked the homeserver for since, about the rooms.

    Without maubot's own, and what says which instance is the newest.
    """
    return [
        request
        for request in bot.hs.requests[mark:]
        if request.user == bot.me.user_id
        and not bot.is_long_poll(request)
        and not request.route.endswith("/profile/{user}")
        and not request.path.endswith(INSTANCE_TYPE)
    ]


async def asked_at_start(bot: Bot) -> list[Recorded]:
    mark = len(bot.hs.requests)
    await bot.start()
    return asked(bot, mark)


def looked_at_everything(requests: list[Recorded]) -> bool:
    return any("spaces" in (request.body or {}).get("lists", {}) for request in requests)


def rename(bot: Bot, anna: User) -> None:
    anna.set_state(bot.chats_of(anna)[0], "m.room.name", {"name": "Renamed"})


def redact_the_marker(bot: Bot, anna: User) -> None:
    chat_id = bot.chats_of(anna)[0]
    marker = next(e for e in bot.hs.timeline(chat_id)[::-1] if e.type == MARKER_TYPE)
    bot.me.redact(chat_id, marker.event_id)


def throw_the_bot_out(bot: Bot, anna: User) -> None:
    chat_id = bot.chats_of(anna)[0]
    levels = bot.hs.room(chat_id).state["m.room.power_levels", ""]
    levels = {**levels, "users": {**levels["users"], anna.user_id: 101}}
    bot.hs.force_state(chat_id, "m.room.power_levels", levels, sender=bot.me.user_id)
    anna.kick(chat_id, bot.me)
