"""Requests and statements that take a random while longer, in another order than usual.

`HOMEROOM_TEST_DELAYS=40 ./build.sh test tests/plugin` has one in six take up to 40 milliseconds
longer: before or after a request, after a statement. What fails then relies on an order that
nobody promises.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any, Final

import aiohttp
import aiosqlite

MILLISECONDS: Final = float(os.environ.get("HOMEROOM_TEST_DELAYS") or 0)
ONE_IN: Final = 6

_random = random.Random()
_sleep = asyncio.sleep


async def _pause() -> None:
    if _random.randrange(ONE_IN) == 0:
        await _sleep(_random.uniform(0, MILLISECONDS / 1000))


def install() -> None:
    """Delay whatever this process does from now on, if the environment says so."""
    if not MILLISECONDS:
        return
    request, execute = aiohttp.ClientSession._request, aiosqlite.Connection._execute

    async def delayed_request(*args: Any, **kwargs: Any) -> Any:
        await _pause()
        response = await request(*args, **kwargs)
        await _pause()
        return response

    async def delayed_execute(*args: Any, **kwargs: Any) -> Any:
        result = await execute(*args, **kwargs)
        await _pause()
        return result

    aiohttp.ClientSession._request = delayed_request  # type: ignore[method-assign]
    aiosqlite.Connection._execute = delayed_execute  # type: ignore[method-assign]
