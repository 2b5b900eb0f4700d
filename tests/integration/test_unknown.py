"""What could not be read is not gone: nothing is retired, nothing made, and it passes by itself.

Issue 2, "Must be seen", 6. Faults are made in front of the real homeserver, at every kind of
request that a look consists of, at the start of an instance and at `!reconcile`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.homes import (
    Home,
    Tables,
    ask,
    invalidate_checkpoint,
    lose_everything,
    make_admin,
    move_in,
    onboard,
    say_and_hear,
    shown,
    tables,
    writes_of_bot,
)
from tests.stack.proxy import Action, Answer, DropAfter, DropBefore, Hold, Truncate
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.waiting import eventually

CONFIG = {**DEFAULT_CONFIG, "reconcile": {"start_timeout": 0}}
JOINED_ROOMS = r"/joined_rooms$"
SLIDING_SYNC = r"/org\.matrix\.simplified_msc3575/sync$"
NO_SUCH_REQUEST = Answer(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})
NEVER_MIND = Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 3_600_000})
"""A fault that is not worth waiting for: whoever asked is told at once."""

FAULTS: dict[str, Callable[[], Action]] = {
    "500": lambda: Answer(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "502 in HTML": lambda: Answer(502, "<html>Bad gateway</html>"),
    "404 in HTML": lambda: Answer(404, "<html>Not found</html>"),
    "429": lambda: Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}),
    "429 with a time": lambda: Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 100}),
    "429 with a long time": lambda: NEVER_MIND,
    "hangs": Hold,
    "cut off": DropBefore,
    "cut off afterwards": DropAfter,
    "truncated": Truncate,
    "200 in HTML": lambda: Answer(200, "<html>Welcome to this hotel's network</html>"),
    "wrong object": lambda: Answer(200, {"joined_rooms": {"a": 1}, "rooms": [], "lists": 5}),
    "wrong list": lambda: Answer(200, [1, "a", None, {"type": "m.room.create"}]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """A home, and all that must still be there afterwards."""

    home: Home
    rooms: set[str]
    rows: Tables
    mark: int

    async def require_untouched(self, bot: Stack) -> None:
        """Raise if a row was changed, a room made or left, or anything written."""
        assert await tables(bot) == self.rows
        assert await bot.bot_rooms() == self.rooms
        assert shown(await writes_of_bot(bot, since=self.mark)) == []
        instance = await bot.maubot.get_instance(bot.instance)
        assert (instance["enabled"], instance["started"]) == (True, True)


async def prepare(bot: Stack) -> Before:
    home = await onboard(bot, "alice")
    await home.user.wait_for_message(home.direct, sender=bot.bot.user_id, body="your home")
    return await note(bot, home)


async def note(bot: Stack, home: Home) -> Before:
    """Note what there is now, when nothing that the bot sent before is under way any more."""

    async def quiet() -> bool:
        writes = [request for request in bot.proxy.writes() if not request.path.endswith("/sync")]
        return all(request.status is not None for request in writes)

    await eventually("the answers to all that the bot has written", quiet)
    return Before(
        home=home,
        rooms=await bot.bot_rooms(),
        rows=await tables(bot),
        mark=await bot.synapse.mark(),
    )


def state_of(room_id: str) -> str:
    return f"/rooms/{re.escape(room_id)}/state$"


async def stop(bot: Stack, home: Home) -> tuple[int, Before]:
    """Stop the instance, to look at everything when it starts; the end of its log, and what is."""
    await bot.maubot.update_instance(bot.instance, started=False)
    await invalidate_checkpoint(bot)
    return bot.maubot.mark(), await note(bot, home)


async def begin(bot: Stack) -> None:
    """Start the instance; with `start_timeout: 0` this waits for nothing."""
    await bot.maubot.update_instance(bot.instance, started=True)


async def wait_for_log(bot: Stack, pattern: str, *, since: int, timeout: float = 30) -> str:
    """Wait for a line of this instance's in maubot's log."""
    line = rf"@maubot\.instance\.{bot.instance}\] (.*{pattern}.*)$"
    return (await bot.maubot.wait_for_log(line, since=since, timeout=timeout))[1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("request_", ["joined rooms", "sliding sync", "state"])
async def test_a_look_that_fails_at_the_start_changes_nothing_and_is_repeated(
    make_bot: MakeStack, request_: str
) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    home = (await prepare(bot)).home
    paths = {"joined rooms": JOINED_ROOMS, "sliding sync": SLIDING_SYNC}
    for name, fault in FAULTS.items():
        print(name)
        mark, before = await stop(bot, home)
        if request_ == "state":
            bot.proxy.rule(NO_SUCH_REQUEST, path=SLIDING_SYNC)
        rule = bot.proxy.rule(fault(), path=paths.get(request_, state_of(home.chat)))
        await begin(bot)
        await asyncio.wait_for(rule.hit.wait(), 45)
        await before.require_untouched(bot)
        bot.proxy.heal()
        await wait_for_log(bot, "Reconciled", since=mark)
        await before.require_untouched(bot)
    await say_and_hear(bot, home.user, home.chat, "hello again")


@pytest.mark.parametrize("name", ["429 with a long time", "hangs", "wrong object"])
async def test_with_no_database_a_look_that_fails_makes_no_second_home(
    make_bot: MakeStack, name: str
) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    mark, before = await stop(bot, (await prepare(bot)).home)
    await lose_everything(bot)
    rule = bot.proxy.rule(FAULTS[name](), path=JOINED_ROOMS)
    await begin(bot)
    await before.home.user.send_text(before.home.chat, "meanwhile")
    again = await before.home.user.start_dm(bot.bot.user_id)
    await asyncio.wait_for(rule.hit.wait(), 45)
    assert await tables(bot) == Tables(homes={}, chats={})
    assert shown(await writes_of_bot(bot, since=before.mark)) == []
    bot.proxy.heal()
    await wait_for_log(bot, "Reconciled", since=mark)
    await before.home.user.wait_for_message(again, sender=bot.bot.user_id, body="your home")
    await before.home.user.wait_for_message(
        before.home.chat, sender=bot.bot.user_id, body="meanwhile"
    )
    assert await tables(bot) == before.rows
    assert await bot.bot_rooms() == {*before.rooms, again}


async def test_a_reconcile_that_fails_says_so_and_changes_nothing(make_bot: MakeStack) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    home = await onboard(bot, "alice")
    admin, office = await make_admin(bot, base=CONFIG)
    before = await note(bot, home)
    wrong = {name: FAULTS[name] for name in ("429 with a long time", "wrong object", "wrong list")}
    for name, fault in wrong.items():
        bot.proxy.rule(fault(), path=JOINED_ROOMS)
        answer = await ask(bot, admin, office, "!reconcile")
        assert "nothing was changed" in answer.body, (name, answer)
        assert await tables(bot) == before.rows
        bot.proxy.heal()
    for name in [name for name in FAULTS if name not in wrong]:  # it may hit another request, too
        hold = Hold()
        action = hold if name == "hangs" else FAULTS[name]()
        rule = bot.proxy.rule(action, path=JOINED_ROOMS, times=1)
        event_id = await admin.send_text(office, "!reconcile")
        await asyncio.wait_for(rule.hit.wait(), 45)
        hold.released.set()
        answer = await admin.wait_for_message(office, sender=bot.bot.user_id, after=event_id)
        assert "Rows: no changes" in answer.body, (name, answer)
    assert await tables(bot) == before.rows
    assert await bot.bot_rooms() == before.rooms


async def test_a_reconcile_names_the_room_that_it_could_not_read(make_bot: MakeStack) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    home = await onboard(bot, "alice")
    admin, office = await make_admin(bot, base=CONFIG)
    before = await note(bot, home)
    bot.proxy.rule(NO_SUCH_REQUEST, path=SLIDING_SYNC)
    bot.proxy.rule(NEVER_MIND, path=state_of(home.chat))
    answer = await ask(bot, admin, office, "!reconcile")
    assert re.search(rf"Could not be read.*{re.escape(home.chat)}", answer.body, re.DOTALL), answer
    assert "Rows: no changes" in answer.body
    assert await tables(bot) == before.rows
    # What is remembered of the room is good enough to go on with.
    await say_and_hear(bot, home.user, home.chat, "are you there?")
    bot.proxy.heal()
    answer = await ask(bot, admin, office, "!reconcile")
    assert "Could not be read" not in answer.body
    assert await tables(bot) == before.rows
    assert await bot.bot_rooms() == before.rooms


@pytest.mark.parametrize("which", ["space", "chat", "both"])
async def test_a_home_that_cannot_be_read_is_not_made_again(
    make_bot: MakeStack, which: str
) -> None:
    """The database is empty, and what would tell of the home cannot be read."""
    bot = await make_bot(proxy=True, config=CONFIG)
    mark, before = await stop(bot, (await prepare(bot)).home)
    await lose_everything(bot)
    home, alice = before.home, before.home.user
    unreadable = {"space": {home.space}, "chat": {home.chat}, "both": home.rooms}[which]
    bot.proxy.rule(NO_SUCH_REQUEST, path=SLIDING_SYNC)
    for room_id in unreadable:
        bot.proxy.rule(NEVER_MIND, path=state_of(room_id))
    await begin(bot)
    summary = await wait_for_log(bot, "Reconciled", since=mark)
    assert f"{len(unreadable)} unreadable" in summary

    # The owner knocks at every door.
    again = await alice.start_dm(bot.bot.user_id)
    told = await alice.wait_for_message(again, sender=bot.bot.user_id)
    assert "Nothing is lost" in told.body, told
    event_id = await alice.send_text(home.direct, "Where is my home?")
    told = await alice.wait_for_message(home.direct, sender=bot.bot.user_id, after=event_id)
    assert "Nothing is lost" in told.body or which == "chat", told
    for room_id in home.rooms - unreadable - {home.space}:
        await say_and_hear(bot, alice, room_id, "hello")
    assert await bot.bot_rooms() == {*before.rooms, again}

    mark = bot.maubot.mark()
    bot.proxy.heal()
    await wait_for_log(bot, "Every room could be read now", since=mark)
    assert await tables(bot) == before.rows
    event_id = await alice.send_text(again, "And now?")
    told = await alice.wait_for_message(again, sender=bot.bot.user_id, after=event_id)
    assert "Your chats are in your home" in told.body, told
    key = before.rows.keys()[home.chat]
    assert await say_and_hear(bot, alice, home.chat, "hello again") == key
    assert await bot.bot_rooms() == {*before.rooms, again}
    assert await tables(bot) == before.rows


async def test_somebody_new_is_told_to_wait_and_gets_one_home_afterwards(
    make_bot: MakeStack,
) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    before = await prepare(bot)
    bob = await bot.user("bob")
    bot.proxy.rule(NEVER_MIND, path=JOINED_ROOMS)
    direct = await bob.start_dm(bot.bot.user_id)
    told = await bob.wait_for_message(direct, sender=bot.bot.user_id)
    assert "Nothing is lost" in told.body, told
    assert await bot.bot_rooms() == {*before.rooms, direct}
    bot.proxy.heal()
    await bob.send_text(direct, "And now?")
    theirs = await move_in(bot, bob, direct=direct)
    await bob.wait_for_message(direct, sender=bot.bot.user_id, body="your home")
    await say_and_hear(bot, bob, theirs.chat, "hello")
    assert await bot.bot_rooms() == {*before.rooms, direct, *theirs.rooms}


async def test_one_room_that_goes_on_failing_does_not_keep_the_others_waiting_for_ever(
    make_bot: MakeStack,
) -> None:
    names = ["500", "429", "hangs", "truncated"]

    async def survive(name: str) -> None:
        bot = await make_bot(proxy=True, config=CONFIG)
        home = (await prepare(bot)).home
        mark, before = await stop(bot, home)
        bot.proxy.rule(NO_SUCH_REQUEST, path=SLIDING_SYNC)
        bot.proxy.rule(FAULTS[name](), path=state_of(home.chat))
        await begin(bot)
        await wait_for_log(bot, "Reconciled .* 1 unreadable", since=mark, timeout=60)
        await before.require_untouched(bot)
        await say_and_hear(bot, home.user, home.chat, "are you there?")
        bot.proxy.heal()
        await wait_for_log(bot, "Every room could be read now", since=mark, timeout=60)
        assert await tables(bot) == before.rows
        assert await bot.bot_rooms() == before.rooms

    results: list[Any] = await asyncio.gather(*map(survive, names), return_exceptions=True)
    failures = [f"{n}: {r!r}" for n, r in zip(names, results, strict=True) if r is not None]
    assert not failures, "\n".join(failures)
