"""The one way to try again: pauses that grow, an end, and somebody who is told of each failure."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from .backoff import waits

T = TypeVar("T")
Errors = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again. Times are in seconds."""

    pauses: tuple[float, ...]
    """Between attempts; the last one repeats."""
    within: float = math.inf
    """From the first failure to the last attempt."""


async def retry(
    work: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy,
    on: Errors,
    failed: Callable[[Exception, float], None],
    unless: Errors = (),
    timeless: Errors = (),
) -> T:
    """Do the work until it works.

    Args:
        on: errors that may pass; every other one is raised at once.
        failed: is told of each failure, and of the seconds until the next attempt.
        unless: errors that are raised at once although they are among `on`.
        timeless: errors that do not count against the policy's time: whoever fails by one of
            these fails for a reason that concerns everything, and goes on when that is over.

    Raises:
        Exception: the last error, when the time is over.
    """
    failing_since: float | None = None
    for pause in waits(policy.pauses):
        try:
            return await work()
        except unless:
            raise
        except on as e:
            at = time.monotonic()
            if isinstance(e, timeless):
                failing_since = None
            else:
                failing_since = at if failing_since is None else failing_since
                if at + pause > failing_since + policy.within:
                    raise
            failed(e, pause)
        await asyncio.sleep(pause)
    raise AssertionError("waits() does not end")
