"""Requests and statements that take a random while longer, in another order than usual.

`HOMEROOM_TEST_DELAYS=40 ./build.sh test tests/plugin` has one in six take up to 40 milliseconds
longer: before or after a request, after a statement. One in three answers of `/sync` is late by up
to fifteen times that, so what it tells is known from elsewhere by then. What fails then relies on
an order that nobody promises.
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
SYNCS_ONE_IN: Final = 3
SYNCS_TIMES: Final = 15

_random = random.Random()
_sleep = asyncio.sleep


async def _pause(*, one_in: int = ONE_IN, times: int = 1) -> None:
    if _random.randrange(one_in) == 0:
        await _sleep(_random.uniform(0, times * MILLISECONDS / 1000))


def install() -> None:
    """Delay whatever this process does from now on, if the environment says so."""
    if not MILLISECONDS:
        return
    request, execute = aiohttp.ClientSession._request, aiosqlite.Connection._execute

    async def delayed_request(self: Any, method: str, url: Any, **kwargs: Any) -> Any:
        await _pause()
        response = await request(self, method, url, **kwargs)
        await _pause()
        if str(url).split("?")[0].endswith("/v3/sync"):
            await _pause(one_in=SYNCS_ONE_IN, times=SYNCS_TIMES)
        return response

    async def delayed_execute(*args: Any, **kwargs: Any) -> Any:
        result = await execute(*args, **kwargs)
        await _pause()
        return result

    aiohttp.ClientSession._request = delayed_request  # type: ignore[method-assign]
    aiosqlite.Connection._execute = delayed_execute  # type: ignore[method-assign]
