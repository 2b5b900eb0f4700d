"""Turns are shared between people, whatever each of them asks for."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from homeroom.runtime.fair_turns import FairTurns


class Line:
    """People who take turns that end when the test says so."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.turns = FairTurns(lambda: self.limit)
        self.running: list[tuple[str, asyncio.Event]] = []
        self.began: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, *people: str) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self._take(person)) for person in people]
        self.tasks += tasks
        await self.rest()
        return tasks

    async def _take(self, person: str) -> None:
        async with self.turns.turn(person):
            self.began.append(person)
            end = asyncio.Event()
            self.running.append((person, end))
            await end.wait()

    async def end(self, number: int = 0) -> None:
        self.running.pop(number)[1].set()
        await self.rest()

    async def rest(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end_all(self) -> None:
        while self.running:
            await self.end()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_somebody_else_waits_for_at_most_one_turn() -> None:
    line = Line(2)
    await line.ask(*["anna"] * 50)
    await line.ask("bert")
    assert line.began == ["anna", "anna"]
    await line.end()
    assert line.began == ["anna", "anna", "bert"]
    await line.end_all()
    assert line.began == ["anna", "anna", "bert", *["anna"] * 48]


async def test_people_take_turns() -> None:
    line = Line(1)
    await line.ask("anna", "anna", "anna", "bert", "bert", "carl")
    await line.end_all()
    assert line.began == ["anna", "bert", "carl", "anna", "bert", "anna"]


async def test_one_person_alone_may_have_all_turns() -> None:
    line = Line(3)
    await line.ask(*["anna"] * 3)
    assert (line.turns.under_way, line.turns.waiting) == (3, 0)
    await line.end_all()


async def test_more_or_fewer_turns_count_at_once() -> None:
    line = Line(1)
    await line.ask("anna", "bert", "carl")
    line.limit = 2
    line.turns.limit_changed()
    await line.rest()
    assert line.began == ["anna", "bert"]
    line.limit = 1
    await line.end()
    assert line.began == ["anna", "bert"]
    await line.end_all()
    assert line.began == ["anna", "bert", "carl"]


async def test_who_is_cancelled_leaves_no_turn_behind() -> None:
    line = Line(1)
    _, second, _ = await line.ask("anna", "bert", "carl")
    second.cancel()
    await line.rest()
    await line.end()
    assert line.began == ["anna", "carl"]
    (last,) = await line.ask("dora")
    line.running[0][1].set()
    await asyncio.sleep(0)  # dora's turn has come, and she has not noticed
    last.cancel()
    await line.rest()
    await line.end_all()
    assert (line.turns.under_way, line.turns.waiting) == (0, 0)


@given(
    limit=st.integers(1, 4),
    steps=st.lists(st.one_of(st.sampled_from("abcd"), st.integers(0, 3)), max_size=40),
)
def test_no_turn_is_lost_and_none_is_too_many(limit: int, steps: list[str | int]) -> None:
    """A letter asks, a number cancels, and now and then one ends."""

    async def run() -> None:
        line = Line(limit)
        for step in steps:
            if isinstance(step, str):
                await line.ask(step)
            elif step < len(line.tasks) and step % 2:
                line.tasks[step].cancel()
                await line.rest()
                line.running = [r for r in line.running if r[0]]
            elif line.running:
                line.running.pop(0)[1].set()
                await line.rest()
            assert line.turns.under_way <= limit
            assert not line.turns.waiting or line.turns.under_way == limit
        await line.end_all()
        assert (line.turns.under_way, line.turns.waiting) == (0, 0)

    asyncio.run(run())


async def test_everybody_may_be_cancelled_at_once() -> None:
    """As at the end of a process: who waits is cancelled before the turn of another ends."""
    for order in (1, -1):
        line = Line(1)
        tasks = await line.ask("anna", "anna", "bert", "cleo")
        for task in tasks[:3][::order]:
            task.cancel()
        await asyncio.wait(tasks[:3])
        assert all(task.cancelled() for task in tasks[:3])
        await line.rest()
        assert line.began == ["anna", "cleo"]
        line.running.pop(0)
        await line.end_all()
        assert (line.turns.under_way, line.turns.waiting) == (0, 0)
