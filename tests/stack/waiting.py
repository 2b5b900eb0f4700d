"""Waiting for what does not announce itself: a file, a log, a database row, a server's answer.

What Matrix announces is waited for with `user.MatrixUser.wait_for`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_SECONDS = 0.02


async def eventually(
    what: str, look: Callable[[], Awaitable[T | None]], *, timeout: float = 45
) -> T:
    """Look again and again until something (that is true) is found; return it."""
    deadline = time.monotonic() + timeout
    while not (found := await look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout:g} s for: {what}")
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    return found
