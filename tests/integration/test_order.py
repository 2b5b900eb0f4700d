"""Nothing happens before the homeserver was looked at, and nothing that came meanwhile is lost.

Issue 2, "Must be seen", 4. The look is held up on its way through a proxy, at each of the
requests that it consists of, while people write and invite.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.integration.homes import (
    Home,
    Tables,
    invalidate_checkpoint,
    is_echo,
    lose_everything,
    move_in,
    onboard,
    row_of,
    said_by_bot,
    say_and_hear,
    shown,
    tables,
    writes_of_bot,
)
from tests.stack.maubot import Maubot
from tests.stack.proxy import Action, Answer, Hold, Rule
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser

CONFIG = {**DEFAULT_CONFIG, "reconcile": {"start_timeout": 1}}
JOINED_ROOMS = r"/joined_rooms$"
SLIDING_SYNC = r"/org\.matrix\.simplified_msc3575/sync$"
ROOM_STATE = r"/rooms/[^/]+/state$"
NO_SUCH_REQUEST = Answer(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})


@dataclass(slots=True, kw_only=True)
class Case:
    """A bot, a home that it made, and what there was before its look was held up."""

    bot: Stack
    home: Home
    rooms: set[str]
    rows: Tables
    mark: int
    newcomer: MatrixUser
    said: list[str] = field(default_factory=lambda: ["before"])
    pending: str = ""

    async def say(self, text: str) -> None:
        """The owner says something in their chat, where it must be answered."""
        self.said.append(text)
        await self.home.user.send_text(self.home.chat, text)


async def prepare(bot: Stack) -> Case:
    """Onboard somebody and note what there is."""
    home = await onboard(bot, "alice")
    await say_and_hear(bot, home.user, home.chat, "before")
    return Case(
        bot=bot,
        home=home,
        rooms=await bot.bot_rooms(),
        rows=await tables(bot),
        mark=await bot.synapse.mark(),
        newcomer=await bot.user("bob"),
    )


def hold(case: Case, *, path: str, action: Action | None = None) -> Rule:
    """Hold up the bot's next look at requests of this path, until its proxy is healed."""
    if path == ROOM_STATE:
        case.bot.proxy.rule(NO_SUCH_REQUEST, path=SLIDING_SYNC)
    return case.bot.proxy.rule(action or Hold(), path=path)


async def live_on(case: Case) -> None:
    """People write and invite while the look is held up."""
    for number in range(3):
        await case.say(f"while held {number}")
    await case.home.user.send_text(case.home.direct, "anybody there?")
    case.pending = await case.newcomer.start_dm(case.bot.bot.user_id)


async def require_nothing_happened(case: Case, *, wiped: bool) -> None:
    """Raise unless the bot has neither written to the homeserver nor to its tables."""
    assert shown(await writes_of_bot(case.bot, since=case.mark)) == []
    assert await case.bot.bot_rooms() == case.rooms
    assert await tables(case.bot) == (Tables(homes={}, chats={}) if wiped else case.rows)


async def require_all_is_answered_once(case: Case) -> None:
    """Raise unless each message got one answer in order, and the invite one home."""
    bot, alice, newcomer = case.bot, case.home.user, case.newcomer
    key = case.rows.keys()[case.home.chat]
    # A room's messages are answered in order: when this one is, nothing more is to come.
    assert await say_and_hear_last(bot, alice, case.home.chat, "after") == key
    await alice.wait_for_message(case.home.direct, sender=bot.bot.user_id, body="I do not answer")
    theirs = await move_in(bot, newcomer, direct=case.pending)
    await newcomer.wait_for_message(case.pending, sender=bot.bot.user_id, body="your home")
    await say_and_hear(bot, newcomer, theirs.chat, "hello")

    said = said_by_bot(bot, alice, case.home.chat)
    assert said == [*case.said, "after"]
    assert await bot.bot_rooms() == {*case.rooms, case.pending, *theirs.rooms}
    rows = await tables(bot)
    assert set(rows.homes) == {alice.user_id, newcomer.user_id}
    assert rows.homes[alice.user_id] == case.rows.homes[alice.user_id]
    assert {room: rows.chats[room] for room in case.rows.chats} == case.rows.chats


async def say_and_hear_last(bot: Stack, user: MatrixUser, room_id: str, text: str) -> str:
    """Say something, wait for its echo, whatever comes before it; return the row's key."""
    await user.send_text(room_id, text)
    await user.wait_for_message(
        room_id,
        sender=bot.bot.user_id,
        body=lambda body: is_echo(text, body),
        timeout=60,
    )
    return str((await row_of(bot, room_id))["platform_chat_id"])


async def test_while_the_first_look_is_held_up_nothing_happens_and_maubot_answers(
    make_bot: MakeStack, maubot: Maubot
) -> None:
    ways = [
        (JOINED_ROOMS, Hold(), False),
        (JOINED_ROOMS, Answer(500), True),
        (SLIDING_SYNC, Hold(), True),
        (ROOM_STATE, Hold(), False),
    ]
    """Which request fails how, and whether the rows are lost, too."""
    bots = [await make_bot(maubot=maubot, proxy=True, config=CONFIG) for _ in ways]
    cases = await asyncio.gather(*(prepare(bot) for bot in bots))
    await maubot.stop()
    holds = [
        hold(case, path=path, action=action)
        for case, (path, action, _) in zip(cases, ways, strict=True)
    ]
    for case, (_, _, wiped) in zip(cases, ways, strict=True):
        if wiped:
            await lose_everything(case.bot)
        else:
            await invalidate_checkpoint(case.bot)
            await case.say("while maubot was down")

    await maubot.start()  # returns when the management API answers
    await asyncio.gather(*(live_on(case) for case in cases))
    assert all(rule.hits for rule in holds)
    for case, (_, _, wiped) in zip(cases, ways, strict=True):
        await require_nothing_happened(case, wiped=wiped)
        instance = await maubot.get_instance(case.bot.instance)
        assert (instance["enabled"], instance["started"]) == (True, True)

    for case in cases:
        case.bot.proxy.heal()
    await asyncio.gather(*(require_all_is_answered_once(case) for case in cases))


async def test_while_the_look_of_an_instance_is_held_up_the_sync_that_goes_on_loses_nothing(
    make_bot: MakeStack,
) -> None:
    """The instance is restarted, not maubot: its sync loop brings everything meanwhile."""
    bot = await make_bot(proxy=True, config=CONFIG)
    case = await prepare(bot)
    await bot.maubot.update_instance(bot.instance, started=False)
    await lose_everything(bot)
    rule = hold(case, path=JOINED_ROOMS)
    mark = bot.maubot.mark()
    await bot.maubot.update_instance(bot.instance, started=True)
    await bot.maubot.wait_for_log(
        rf"{bot.instance}\] The homeserver was not looked at within 1 s", since=mark
    )
    await live_on(case)
    assert rule.hits
    await require_nothing_happened(case, wiped=True)
    bot.proxy.heal()
    await require_all_is_answered_once(case)


async def test_an_instance_that_is_stopped_while_its_look_is_held_up_stays_silent(
    make_bot: MakeStack,
) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    case = await prepare(bot)
    await bot.maubot.update_instance(bot.instance, started=False)
    await invalidate_checkpoint(bot)
    rule = hold(case, path=JOINED_ROOMS)
    await bot.maubot.update_instance(bot.instance, started=True)
    await asyncio.wait_for(rule.hit.wait(), 45)
    await bot.maubot.update_instance(bot.instance, started=False)
    bot.proxy.heal()
    await live_on(case)
    await require_nothing_happened(case, wiped=False)
    await bot.maubot.update_instance(bot.instance, started=True)
    await require_all_is_answered_once(case)


async def test_no_other_home_is_made_while_nobody_knows_whose_the_rooms_are(
    make_bot: MakeStack,
) -> None:
    """An owner writes and invites again right after a start with an empty database."""
    bot = await make_bot(proxy=True, config=CONFIG)
    case = await prepare(bot)
    alice = case.home.user
    await bot.maubot.update_instance(bot.instance, started=False)
    await lose_everything(bot)
    hold(case, path=JOINED_ROOMS)
    again = await alice.start_dm(bot.bot.user_id)
    await bot.maubot.update_instance(bot.instance, started=True)
    await case.say("while held")
    assert await bot.bot_rooms() == case.rooms
    bot.proxy.heal()
    welcome = await alice.wait_for_message(again, sender=bot.bot.user_id)
    assert case.home.space in formatted(alice, again, welcome.event_id)
    await say_and_hear_last(bot, alice, case.home.chat, "after")
    said = said_by_bot(bot, alice, case.home.chat)
    assert said == [*case.said, "after"]
    assert await bot.bot_rooms() == {*case.rooms, again}
    assert await tables(bot) == case.rows


def formatted(user: MatrixUser, room_id: str, event_id: str) -> str:
    """Return the HTML of a message, links and all, with their escapes undone."""
    events = {event["event_id"]: event for event in user.timeline(room_id)}
    return unquote(events[event_id]["content"]["formatted_body"])
