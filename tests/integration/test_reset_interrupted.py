"""A reset that is killed, or in trouble with some rooms, says so; the next one finishes it."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from tests.integration.homes import tables
from tests.integration.kill_points import kill_points
from tests.integration.resetting import (
    CHATS,
    CONFIG,
    DONE,
    UNFINISHED,
    Place,
    furnish,
    is_report,
    not_forgotten,
)
from tests.integration.test_crash import require_none_failed
from tests.stack.http import ApiError
from tests.stack.maubot import Maubot
from tests.stack.proxy import Answer, Delay, DropAfter, Hold, ProxiedRequest
from tests.stack.stack import MakeStack
from tests.stack.waiting import eventually

When = Literal["before", "after"]


# Killed


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
    cases = await asyncio.gather(*(make_larger_place(make_bot, maubot) for _ in points))
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


# Trouble with rooms


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
    places = await asyncio.gather(*(make_place(make_bot) for _ in TROUBLES))
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
