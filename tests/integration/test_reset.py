"""`!reset` on real servers: it does what it says, says what it does, and nothing else.

Issue 3, "Must be seen", 1, 2, 4, 5 and 6; 3 is in `test_reset_pace.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.integration.homes import (
    Home,
    ask,
    configure,
    invite_bot,
    move_in,
    onboard,
    restart,
    say_and_hear,
    shown,
    start,
    tables,
    welcomed,
    writes_of_bot,
)
from tests.integration.kill_points import kill_points
from tests.integration.test_crash import require_none_failed
from tests.stack.database import Row
from tests.stack.http import ApiError
from tests.stack.maubot import Maubot
from tests.stack.proxy import Answer, Delay, DropAfter, Hold, ProxiedRequest
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import Message
from tests.stack.waiting import eventually

CHATS = ("General", "Ideas")
CONFIG: Mapping[str, Any] = {
    **DEFAULT_CONFIG,
    "rooms": {"initial_chats": list(CHATS)},
    "dev": {"reset": True},
}
DONE = "!reset leave-forget: done"
UNFINISHED = "!reset leave-forget: not everything went through"
PARTS = ["**Local**", "**Server**", "**By hand**"]

When = Literal["before", "after"]


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


# 1


async def test_a_dry_run_changes_nothing(make_bot: MakeStack) -> None:
    place = await furnish(await make_bot(config=CONFIG))
    stack = place.stack
    await place.tell("!reset help")
    rows, rooms = await stored(stack), await stack.bot_rooms()
    for command, named in {
        "!reset local --dry-run": {"chats: 2 rows would be deleted"},
        "!reset leave-forget --dry-run": place.ada.rooms,
        "!reset leave-forget": place.ada.rooms,
        "!reset leave-forget --scope managed --dry-run": place.ada.rooms,
        "!reset leave-forget --scope joined --dry-run": rooms,
    }.items():
        mark = await stack.synapse.mark()
        reply = await place.tell(command)
        (write,) = shown(await writes_of_bot(stack, since=mark, at_least=1))
        assert "/send/m.room.message/" in write
        assert "nothing was changed" in reply.body
        assert [line for line in reply.body.split("\n") if line in PARTS] == PARTS
        body = reply.body.replace("`", "")
        assert {text for text in named if text not in body} == set(), reply.body
        assert await stored(stack) == rows
        assert await stack.bot_rooms() == rooms
    await stack.maubot.wait_for_log(
        rf"Reset by {place.ada.user.user_id} in {re.escape(place.office)} .*"
        r"leave-forget, scope joined, dry run, 4 rooms"
    )


# 2


async def test_after_local_a_restart_brings_the_same_homes_back(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack = place.stack
    alice = await onboard(stack, "alice", chats=CHATS)
    before, rooms = await tables(stack), await stack.bot_rooms()

    report = (await place.tell("!reset local")).body
    assert "!reset local: done" in report
    assert "homes: 2 rows deleted" in report.replace("`", "")
    assert "chats: 4 rows deleted" in report.replace("`", "")
    assert await stored(stack) == {"homes": [], "chats": []}
    assert await stack.bot_rooms() == rooms

    # Nobody is answered, nobody gets a home, and every room is told once.
    bert = await stack.user("bert")
    waiting = await bert.start_dm(stack.bot.user_id)
    for text in ("Hello?", "Are you there?", "!chat new"):
        last = await alice.user.send_text(alice.chat, text)
    assert "paused" in (await place.tell("Hello?", room=place.ada.chat)).body
    assert "on the server" in (await place.tell("!reset leave-forget --dry-run")).body
    assert await stack.bot_rooms() == rooms

    await restart(stack)
    assert await say_and_hear(stack, alice.user, alice.chat, "Back?") == before.keys()[alice.chat]
    said = alice.user.messages(alice.chat, sender=stack.bot.user_id)
    assert len([message for message in said if "paused" in message.body]) == 1, said
    assert last  # after it, nothing but the echo of "Back?"
    home = await move_in(stack, bert, direct=waiting, chats=CHATS)
    after = await tables(stack)
    assert {room: after.chats[room] for room in before.chats} == before.chats
    assert {owner: after.homes[owner] for owner in before.homes} == before.homes
    assert await stack.bot_rooms() == rooms | home.rooms | {waiting}


async def test_leave_forget_leaves_everything_and_a_new_invite_begins_anew(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack, ada = place.stack, place.ada
    alice = await onboard(stack, "alice", chats=CHATS)
    gone = alice.rooms | ada.rooms

    # From one of the rooms that are left: it comes last, with the report in it.
    report = (await place.leave(room=ada.chat)).body
    assert f"{DONE}, but for this room, which I leave now" in report
    assert "left 5, was not in it 0, forgotten 5, failed 0, skipped 0" in report
    assert {room for room in gone if room not in report} == set()

    async def left_all() -> bool:
        return await stack.bot_rooms() == {alice.direct, ada.direct}

    await eventually("the bot is in none of the rooms", left_all)
    await stack.maubot.wait_for_log(
        rf"Reset by {ada.user.user_id} in {re.escape(ada.chat)} .*"
        r"leave-forget, scope managed, ended, left 6, forgotten 6"
    )
    await stack.maubot.wait_for_log(r"Reconciled 2 rooms in .* 6 left")
    assert await not_forgotten(stack) == set()
    for room in gone:
        with pytest.raises(ApiError):
            await stack.bot_api.request("GET", f"/_matrix/client/v3/rooms/{room}/messages")
    for home in (alice, ada):
        assert await home.user.joined_rooms() >= home.rooms
        for room in home.rooms:
            assert await home.user.joined_members(room) == {home.user.user_id}
    rows = await tables(stack)
    assert {row["status"] for row in (*rows.homes.values(), *rows.chats.values())} == {"left"}

    await restart(stack)
    assert await tables(stack) == rows
    assert await stack.bot_rooms() == {alice.direct, ada.direct}

    direct = await invite_bot(stack, alice.user)
    new = await move_in(stack, alice.user, direct=direct, chats=CHATS)
    assert not new.rooms & gone
    assert await stack.bot_rooms() == {alice.direct, ada.direct, direct} | new.rooms
    await say_and_hear(stack, alice.user, new.chat, "A clean room")


# 5


def reply_to(event_id: str) -> dict[str, Any]:
    return {"m.relates_to": {"m.in_reply_to": {"event_id": event_id}}}


def in_thread(event_id: str) -> dict[str, Any]:
    relation = {"rel_type": "m.thread", "event_id": event_id, "is_falling_back": True}
    return {"m.relates_to": {**reply_to(event_id)["m.relates_to"], **relation}}


async def test_what_is_not_a_fresh_command_of_an_admin_leaves_nothing(
    make_bot: MakeStack,
) -> None:
    place = await furnish(await make_bot(config=CONFIG))
    stack, ada, bot = place.stack, place.ada.user, place.stack.bot.user_id
    alice = await onboard(stack, "alice", chats=CHATS)
    team = await ada.create_room(invite=[bot, alice.user.user_id])
    await ada.wait_for_member(team, bot)
    await welcomed(stack, ada, team)
    await alice.user.join(team)
    elsewhere = await place.code()
    code = await place.code(room=team)
    assert code != elsewhere
    confirm = f"!reset leave-forget --confirm {code}"
    rows, rooms = await stored(stack), await stack.bot_rooms()
    mark = await stack.synapse.mark()

    # Not an administrator: no reaction, and the platform never hears of it.
    await alice.user.send_text(team, confirm)
    stranger = await alice.user.send_text(alice.chat, "!reset local")
    await say_and_hear(stack, alice.user, alice.chat, "Hello")
    heard = [m.body for m in alice.user.messages(alice.chat, sender=bot, after=stranger)]
    assert len(heard) == 1, heard

    # Not a message of its own, or not from a person's hand.
    first = await ada.send_text(team, "Shall I?")
    await ada.edit(team, first, confirm)
    await ada.send_text(team, f"> {confirm}")
    await ada.send_text(team, f"> <{bot}> {confirm}\n\nyes, that one", **reply_to(first))
    await ada.send(team, {"msgtype": "m.notice", "body": confirm})
    await ada.send(team, {"msgtype": "m.emote", "body": confirm})
    secret = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": "AwgAEnACgAkLmt6qF84IK",
        "device_id": ada.account.device_id,
        "sender_key": "key",
        "session_id": "unknown",
        "msgtype": "m.text",
        "body": confirm,
    }
    await ada.send(team, secret, event_type="m.room.encrypted")
    reply = await ada.send_text(team, confirm, **reply_to(first))
    thread = await ada.send_text(team, confirm, **in_thread(first))
    for event_id in (reply, thread):
        answer = await ada.wait_for_message(team, sender=bot, after=event_id)
        assert "not taken from replies" in answer.body

    # Not understood.
    for text in (f"{confirm} now", "!reset everything", "!reset leave-forget —confirm 00000000"):
        assert "so nothing was done. Usage: " in (await place.tell(text, room=team)).body

    # The wrong code: another room's, an earlier one, another scope's.
    stale = "that code is not the one of this plan, so nothing was done"
    for text in (
        f"!reset leave-forget --confirm {elsewhere}",
        f"!reset leave-forget --scope joined --confirm {code}",
    ):
        assert stale in (await place.tell(text, room=team)).body
    assert await stored(stack) == rows
    assert await stack.bot_rooms() == rooms

    await ask(stack, alice.user, alice.chat, "!chat new Added")
    added = await stack.bot_rooms() - rooms
    rows = await stored(stack)
    refused = await place.tell(confirm, room=team)
    assert stale in refused.body
    assert code_in(refused) != code
    assert added <= set(re.findall(r"![\w:.-]+", refused.body))

    await configure(stack, {"admins": [ada.user_id], "dev": {"reset": False}}, base=CONFIG)
    for text in (f"!reset leave-forget --confirm {code_in(refused)}", "!reset local"):
        off = await place.tell(text, room=team)
        assert "dev.reset: true" in off.body
        assert "\n" not in off.body
    await alice.user.send_text(alice.chat, "!reset local")
    await say_and_hear(stack, alice.user, alice.chat, "Hello again")

    assert await stored(stack) == rows
    assert await stack.bot_rooms() == rooms | added
    writes = shown(await stack.synapse.writes(since=mark, user_id=bot))
    assert [write for write in writes if write.endswith(("/leave", "/forget"))] == []


async def test_a_command_that_was_sent_while_the_bot_was_down_is_not_taken(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack, ada = place.stack, place.ada.user
    code, rooms = await place.code(), await stack.bot_rooms()
    await stack.maubot.stop()
    late = await ada.send_text(place.office, f"!reset leave-forget --confirm {code}")
    await start(stack)
    answer = await ada.wait_for_message(place.office, sender=stack.bot.user_id, after=late)
    assert "did not reach me as it was sent" in answer.body
    assert await stack.bot_rooms() == rooms
    await restart(stack)
    await say_and_hear(stack, ada, place.ada.chat, "Still there")
    answers = ada.messages(place.office, sender=stack.bot.user_id, after=late)
    assert len(answers) == 1, answers
    assert await stack.bot_rooms() == rooms


# 4


def is_of_a_reset(request: ProxiedRequest) -> bool:
    """Whether a reset writes such things: a repair that still goes on is something else."""
    return request.writes and re.search("/(leave|forget)$|/send/", request.path) is not None


async def make_place(make_bot: MakeStack) -> Place:
    return await furnish(await make_bot(proxy=True, config=CONFIG))


async def make_larger_place(make_bot: MakeStack, maubot: Maubot) -> Place:
    """One with a chat more, on a maubot that may be killed."""
    chats = [*CHATS, "Trips"]
    config = {**CONFIG, "rooms": {"initial_chats": chats}}
    return await furnish(await make_bot(proxy=True, config=config, maubot=maubot), chats=chats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A reset that was begun from a chat, and what became of the server at one of its writes."""

    place: Place
    event_id: str

    @property
    def room(self) -> str:
        return self.place.ada.chat

    async def finish(self) -> None:
        """Run it again from elsewhere, and look that nothing is stranded."""
        stack, ada = self.place.stack, self.place.ada
        await self.place.tell("!reset help")  # the first message after a start may not count
        again = await self.place.tell("!reset leave-forget")
        if code := re.search(r"--confirm (\w+)", again.body):
            report = await self.place.confirm(code[1], timeout=60)
            assert DONE in report.body, report.body
        else:
            assert "0 rooms would be left" in again.body, again.body
        assert await stack.bot_rooms() == {ada.direct}
        assert await not_forgotten(stack) == set()

        async def all_left() -> bool:
            rows = await tables(stack)
            states = {r["status"] for r in (*rows.homes.values(), *rows.chats.values())}
            return states == {"left"} and set(rows.chats) == set(ada.chats.values())

        await eventually("all rows say left", all_left)
        for room in ada.rooms:
            assert await ada.user.joined_members(room) == {ada.user.user_id}
        said = ada.user.messages(self.room, sender=stack.bot.user_id, after=self.event_id)
        reports = [message for message in said if is_report(message.body)]
        assert len(reports) <= 1, said


async def run_into(place: Place, *, write: int, when: When) -> Interrupted:
    """Begin a reset; the homeserver goes away at its n-th write."""
    room = place.ada.chat
    code = await place.code(room=room)
    place.stack.proxy.sever_after(write, when=when, where=is_of_a_reset)
    mark = place.stack.proxy.mark()
    event_id = await place.ada.user.send_text(room, f"!reset leave-forget --confirm {code}")
    await asyncio.wait_for(place.stack.proxy.severed.wait(), 60)

    async def over() -> bool:
        writes = [r for r in place.stack.proxy.requests[mark:] if is_of_a_reset(r)]
        return when == "before" or writes[write - 1].forwarded

    await eventually(f"write {write} is carried out", over)
    return Interrupted(place=place, event_id=event_id)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.timeout(300)
async def test_killed_anywhere_and_run_again_it_is_finished(
    make_bot: MakeStack, maubot: Maubot, when: When
) -> None:
    """Every write of a run is a point to be killed at, before it or after it."""
    whole = await make_larger_place(make_bot, maubot)
    code = await whole.code(room=whole.ada.chat)
    mark = whole.stack.proxy.mark()
    await whole.confirm(code, room=whole.ada.chat)

    await maubot.wait_for_log(rf"{re.escape(whole.ada.chat)} .*leave-forget, .*ended, left 4")
    writes = [str(r) for r in whole.stack.proxy.requests[mark:] if is_of_a_reset(r)]
    assert len(writes) == 11, writes  # progress, 3 rooms, progress, the report, this room

    points = kill_points(len(writes), first=1 if when == "before" else 2)
    cases = [await make_larger_place(make_bot, maubot) for _ in points]
    interrupted = await asyncio.gather(
        *(run_into(place, write=n, when=when) for n, place in zip(points, cases, strict=True))
    )
    maubot.kill()
    for place in cases:
        place.stack.proxy.heal()
    await maubot.start()
    results = await asyncio.gather(
        *(case.finish() for case in interrupted), return_exceptions=True
    )
    require_none_failed([f"{when} {n}: {writes[n - 1]}" for n in points], results)


# 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What goes wrong with one room of a reset, and what the report has to say of it."""

    name: str
    action: Any
    step: Literal["leave", "forget"]
    times: int | None
    outcome: str
    finished: bool


TROUBLES = (
    Trouble(
        name="502 on leave",
        action=Answer(502, "Bad Gateway"),
        step="leave",
        times=None,
        outcome=r"failed \(.*HTTP status 502.*\)",
        finished=False,
    ),
    Trouble(
        name="403 without text on leave",
        action=Answer(403, ""),
        step="leave",
        times=None,
        outcome=r"failed \(.*HTTP status 403.*\)",
        finished=False,
    ),
    Trouble(
        name="refused by the server",
        action=Answer(403, {"errcode": "M_FORBIDDEN", "error": "You shall not pass"}),
        step="leave",
        times=None,
        outcome=r"failed \(M.?_FORBIDDEN: You shall not pass\)",
        finished=False,
    ),
    Trouble(
        name="leaving times out once",
        action=Hold(),
        step="leave",
        times=1,
        outcome="left, forgotten",
        finished=True,
    ),
    Trouble(
        name="the answer to leaving is lost",
        action=DropAfter(),
        step="leave",
        times=1,
        outcome="(left|was not in it), forgotten",
        finished=True,
    ),
    Trouble(
        name="502 on forget",
        action=Answer(502, "Bad Gateway"),
        step="forget",
        times=None,
        outcome=r"left, not forgotten \(.*HTTP status 502.*\)",
        finished=False,
    ),
    Trouble(
        name="forgetting times out",
        action=Delay(600),
        step="forget",
        times=None,
        outcome=r"left, not forgotten \(.*\)",
        finished=False,
    ),
)


async def run_through(place: Place, trouble: Trouble) -> None:
    ada, stack = place.ada, place.stack
    victim = ada.chats["Ideas"]
    code = await place.code()
    rule = stack.proxy.rule(
        trouble.action,
        method="POST",
        where=lambda request: victim in request.path and request.path.endswith(trouble.step),
        times=trouble.times,
    )
    report = (await place.confirm(code, timeout=100)).body
    assert rule.hits
    lines = {
        room: line
        for line in report.replace("`", "").split("\n")
        for room in ada.rooms
        if room in line
    }
    assert re.search(rf": {trouble.outcome}$", lines.pop(victim)), report
    assert all(line.endswith(": left, forgotten") for line in lines.values()), report
    assert len(lines) == 2, report
    assert (DONE in report) == trouble.finished, report
    assert (UNFINISHED in report) != trouble.finished, report

    stack.proxy.heal()
    if not trouble.finished:
        assert f"{DONE}" in (await place.leave()).body
    assert await stack.bot_rooms() == {ada.direct}
    assert await not_forgotten(stack) == set()


@pytest.mark.timeout(300)
async def test_trouble_with_one_room_has_a_name_and_stops_no_other(make_bot: MakeStack) -> None:
    places = [await make_place(make_bot) for _ in TROUBLES]
    results = await asyncio.gather(
        *(run_through(*case) for case in zip(places, TROUBLES, strict=True)),
        return_exceptions=True,
    )
    require_none_failed([trouble.name for trouble in TROUBLES], results)


async def test_a_room_that_the_bot_is_out_of_meanwhile_was_not_left_by_it(
    make_bot: MakeStack,
) -> None:
    place = await make_place(make_bot)
    ada, stack = place.ada, place.stack
    victim = ada.chats["Ideas"]
    code = await place.code()
    hold = Hold()
    rule = stack.proxy.rule(hold, method="POST", path="/leave$", times=1)
    run = await ada.user.send_text(place.office, f"!reset leave-forget --confirm {code}")
    await asyncio.wait_for(rule.hit.wait(), 45)
    with suppress(ApiError):
        await stack.bot_api.request("POST", f"/_matrix/client/v3/rooms/{victim}/leave", {})
    await stack.bot_api.request("POST", f"/_matrix/client/v3/rooms/{victim}/forget", {})
    hold.released.set()
    report = (await place.report(run)).body.replace("`", "")
    (line,) = [line for line in report.split("\n") if victim in line]
    assert re.search(": was not in it, ", line), report
    assert await stack.bot_rooms() == {ada.direct}


async def test_without_a_second_look_it_does_not_say_done(make_bot: MakeStack) -> None:
    place = await make_place(make_bot)
    stack = place.stack
    code = await place.code()
    hold = Hold()
    rule = stack.proxy.rule(hold, method="POST", path="/forget$", times=1)
    run = await place.ada.user.send_text(place.office, f"!reset leave-forget --confirm {code}")
    await asyncio.wait_for(rule.hit.wait(), 45)
    forbidden = Answer(403, {"errcode": "M_FORBIDDEN", "error": "No"})
    stack.proxy.rule(forbidden, method="GET", path="/joined_rooms$")
    hold.released.set()
    report = (await place.report(run)).body
    assert UNFINISHED in report
    assert "There was no second look" in report
    stack.proxy.heal()
    assert await stack.bot_rooms() == {place.ada.direct}
