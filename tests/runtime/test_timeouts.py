from __future__ import annotations

import asyncio

import pytest

from homeroom.runtime.timeouts import timeout


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(asyncio.TimeoutError):
        async with timeout(0.001):
            await asyncio.Event().wait()


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancellation_counts_at_whatever_moment_it_comes(steps: int) -> None:
    async def loop() -> None:
        while True:
            async with timeout(60):
                await asyncio.sleep(0)

    task = asyncio.create_task(loop())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.5)
    task.cancel()
    assert done
