"""How the agent is doing: figures that follow from what came in, and nothing of what was said."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from homeroom.domain.conversation.answer import End, Item, Status, Text, Trouble
from homeroom.platforms import PlatformError
from homeroom.platforms.health import BUCKETS, FAILING_AFTER, AgentHealth, Figures


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def items(clock: Clock, *values: Item | float | PlatformError) -> AsyncGenerator[Item, None]:
    """An answer; a number lets so many seconds pass."""
    for value in values:
        if isinstance(value, float):
            clock.seconds += value
        elif isinstance(value, PlatformError):
            raise value
        else:
            yield value


async def hear(health: AgentHealth, answer: AsyncGenerator[Item, None]) -> list[Item]:
    async with aclosing(health.watched(answer)) as heard:
        return [item async for item in heard]


async def test_an_answer_is_counted_with_its_times_and_tokens() -> None:
    clock = Clock()
    health = AgentHealth(clock=clock)
    end = End(tokens_in=12, tokens_out=80)
    said = [Status("Thinking…"), Text("a"), Text("b"), end]
    answer = items(clock, 0.2, said[0], 3.0, said[1], 4.0, said[2], end)
    assert await hear(health, answer) == said
    figures = health.figures
    assert (figures.answered, figures.running, figures.stopped) == (1, 0, 0)
    assert (figures.tokens_in, figures.tokens_out) == (12, 80)
    assert figures.first_word.seconds == pytest.approx(3.2)
    assert figures.whole.seconds == pytest.approx(7.2)
    assert figures.first_word.counts[BUCKETS.index(5.0)] == 1
    assert figures.whole.counts[BUCKETS.index(10.0)] == 1


async def test_a_failure_is_counted_by_its_kind_without_what_others_said() -> None:
    clock = Clock()
    health = AgentHealth(clock=clock)
    error = PlatformError("HTTP status 401: Anna said hello", trouble=Trouble.MISCONFIGURED)
    for _ in range(2):
        with pytest.raises(PlatformError):
            await hear(health, items(clock, Text("a"), error))
    figures = health.figures
    assert figures.failed == {Trouble.MISCONFIGURED: 2}
    assert figures.error == "HTTP status 401"
    assert (figures.answered, figures.stopped, figures.running) == (0, 0, 0)
    assert figures.failing_since is not None
    assert not figures.is_failing(figures.failing_since + FAILING_AFTER - 1)
    assert figures.is_failing(figures.failing_since + FAILING_AFTER)
    await hear(health, items(clock, Text("a"), End()))
    assert health.figures.failing_since is None
    assert health.figures.failed_at is not None


async def test_an_answer_that_nobody_waits_for_any_more_is_stopped() -> None:
    clock = Clock()
    health = AgentHealth(clock=clock)
    async with aclosing(health.watched(items(clock, Text("a"), Text("b"), End()))) as heard:
        assert await anext(heard) == Text("a")
        assert health.figures.running == 1
    assert (health.figures.running, health.figures.stopped) == (0, 1)
    assert health.figures.failing_since is None


async def test_what_takes_longer_than_every_bucket_counts_too() -> None:
    clock = Clock()
    health = AgentHealth(clock=clock)
    await hear(health, items(clock, 1e6, Text("a"), End()))
    assert health.figures.whole.counts == (*[0] * len(BUCKETS), 1)
    assert Figures().whole.counts == (0,) * (len(BUCKETS) + 1)
