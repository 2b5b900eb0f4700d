"""What many ask at once is one call, and nobody suffers from another's."""

from __future__ import annotations

import asyncio

import pytest

from homeroom.storage.coalesce import Coalescer


class Called:
    """Notes what each call was for, and returns when it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.under_way = asyncio.Event()
        self.let_go = asyncio.Event()
        self.fails = False

    async def __call__(self, items: list[int]) -> int:
        self.calls.append(items)
        self.under_way.set()
        await self.let_go.wait()
        if self.fails:
            raise ValueError(f"call {len(self.calls)}")
        return len(self.calls)


async def test_what_is_asked_meanwhile_is_asked_together() -> None:
    called = Called()
    together = Coalescer(called)
    first = asyncio.create_task(together(1))
    await called.under_way.wait()
    others = [asyncio.create_task(together(number)) for number in (2, 3, 2)]
    await asyncio.sleep(0)
    assert called.calls == [[1]]
    called.let_go.set()
    assert await asyncio.gather(first, *others) == [1, 2, 2, 2]
    assert called.calls == [[1], [2, 3, 2]]


async def test_a_failure_is_everybodys_who_asked_and_nobodys_after() -> None:
    called = Called()
    together = Coalescer(called)
    called.let_go.set()
    called.fails = True
    failures = await asyncio.gather(together(1), together(2), return_exceptions=True)
    assert [str(failure) for failure in failures] == ["call 1", "call 1"]
    called.fails = False
    assert await together(3) == 2


async def test_who_is_cancelled_stops_it_for_nobody_else() -> None:
    called = Called()
    together = Coalescer(called)
    first, second = (asyncio.create_task(together(number)) for number in (1, 2))
    await called.under_way.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    called.let_go.set()
    assert await second == 1
