"""`async with timeout(seconds)`: raises `asyncio.TimeoutError`, and swallows no cancellation.

`asyncio.wait_for` may, before Python 3.12, where what it waits for ends at the same moment: the
task that was cancelled goes on (https://github.com/python/cpython/issues/86296), and a loop would
go on for ever.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout  # there because aiohttp needs it

__all__ = ["timeout"]
