"""Outgoing requests: whoever is waited for goes first, and what a homeserver allows is learned."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.matrix.outgoing import BURST, Outgoing, OutgoingFigures, Priority


class Time:
    """A sleep that others wake up from, one after the other, in the order of their times."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def time() -> Time:
    return Time()


async def test_what_nobody_limits_goes_at_once_but_rejections(time: Time) -> None:
    outgoing = Outgoing(sleep=time.sleep)
    for priority in set(Priority) - {Priority.REJECTION}:
        assert outgoing.try_now(priority) == 0
    assert outgoing.try_now(Priority.REJECTION) > 20


async def test_rejections_leave_the_usual_burst_to_others(time: Time) -> None:
    """Sixty of them keep no answer waiting: nearly all of the usual burst is still there."""
    outgoing = Outgoing(sleep=time.sleep)
    went = 0
    while outgoing.try_now(Priority.REJECTION) == 0:
        went += 1
    assert went == 1
    for _ in range(10):
        await outgoing.turn(Priority.REJECTION)
        assert outgoing._left >= BURST - 2
    assert sum(time.slept) >= 40
    assert outgoing.try_now(Priority.ANSWER) == 0


async def test_more_than_the_usual_without_a_word_proves_that_more_is_allowed() -> None:
    outgoing = Outgoing()
    for _ in range(21):
        assert outgoing.try_now(Priority.ANSWER) == 0
    assert [outgoing.try_now(Priority.REJECTION) for _ in range(30)] == [0] * 30


async def test_what_was_made_beyond_the_budget_is_no_debt(time: Time) -> None:
    """A homeserver that took it owes nobody a wait for it: the budget is whole after 50 s."""
    outgoing = Outgoing(sleep=time.sleep)
    for _ in range(20):
        assert outgoing.try_now(Priority.ANSWER) == 0
    await outgoing.turn(Priority.REJECTION)
    assert 40 <= sum(time.slept) <= 50


async def test_a_429_stops_the_lower_ones_first(time: Time) -> None:
    outgoing = Outgoing(sleep=time.sleep)
    outgoing.note_rate_limit(Priority.EDIT, seconds=5)
    order: list[Priority] = []

    async def ask(priority: Priority) -> None:
        await outgoing.turn(priority)
        order.append(priority)

    asked = [*reversed(Priority), *Priority]
    tasks = [asyncio.create_task(ask(priority)) for priority in asked]
    await asyncio.sleep(0)
    assert outgoing.figures == OutgoingFigures(
        waiting=dict.fromkeys(Priority, 2),
        rate_limits={**dict.fromkeys(Priority, 0), Priority.EDIT: 1},
        is_limited=True,
    )
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert order == sorted(asked)
    assert outgoing.figures.waiting == dict.fromkeys(Priority, 0)


async def test_who_gives_up_in_line_holds_up_nobody() -> None:
    outgoing = Outgoing()
    outgoing.note_rate_limit(Priority.ANSWER, seconds=0.2)
    waiting = asyncio.create_task(outgoing.turn(Priority.ANSWER))
    behind = asyncio.create_task(outgoing.turn(Priority.WAITED_FOR))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait_for(behind, 10)
