"""Trying again ends, tells of each failure, and never hides what will not pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from homeroom.runtime import retry as module
from homeroom.runtime.retry import RetryPolicy, retry


class SignedOutError(OSError):
    """Concerns everything."""


class FinalError(OSError):
    """Will not pass."""


class Work:
    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes: list[Exception | str] = list(outcomes)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only goes on while somebody sleeps."""
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    monkeypatch.setattr(module.time, "monotonic", lambda: sum(naps))
    return naps


async def run(work: Work, *, within: float = 100) -> tuple[str | Exception, list[str]]:
    told: list[str] = []
    try:
        result: str | Exception = await retry(
            work,
            policy=RetryPolicy(pauses=(1, 2, 5), within=within),
            on=(OSError,),
            unless=(FinalError,),
            timeless=(SignedOutError,),
            failed=lambda e, seconds: told.append(f"{e}; again in {seconds:g}"),
        )
    except Exception as e:  # noqa: BLE001
        result = e
    return result, told


def errors(texts: Iterable[str]) -> list[Exception | str]:
    return [OSError(text) for text in texts]


async def test_it_goes_on_until_it_works_with_growing_pauses(naps: list[float]) -> None:
    assert await run(Work(*errors("abcd"), "done")) == (
        "done",
        ["a; again in 1", "b; again in 2", "c; again in 5", "d; again in 5"],
    )
    assert naps == [1, 2, 5, 5]


async def test_the_last_error_is_raised_when_the_time_is_over(naps: list[float]) -> None:
    result, told = await run(Work(*errors("abcde")), within=10)
    assert str(result) == "d"
    assert len(told) == 3
    assert naps == [1, 2, 5]


@pytest.mark.parametrize("error", [FinalError("no"), ValueError("a bug")])
async def test_what_will_not_pass_is_raised_at_once(naps: list[float], error: Exception) -> None:
    assert await run(Work(error, "never")) == (error, [])
    assert naps == []


async def test_what_concerns_everything_is_waited_out_however_long_it_takes(
    naps: list[float],
) -> None:
    outage = [SignedOutError("out")] * 20
    assert (await run(Work(*errors("ab"), *outage, OSError("c"), "done"), within=10))[0] == "done"
    assert sum(naps) > 100


async def test_who_is_cancelled_stops() -> None:
    work = Work(*errors("ab"), "done")
    task = asyncio.create_task(run(work))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.calls == 1
