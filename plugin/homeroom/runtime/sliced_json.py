"""JSON that is large, parsed so that other threads have their turn.

`json.loads` is one call into C, and nothing else in the process runs until it is over: a megabyte
and a half stops every event loop for 30 ms, in whatever thread that is. So the outer levels of an
answer are walked by the parser in Python that the standard library has beside the one in C, and
only what lies below is C's: one room at a time, or one event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from json.decoder import JSONArray, JSONObject  # type: ignore[attr-defined]
from json.scanner import make_scanner, py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final

LARGE: Final = 256 * 1024
"""Bytes. What is larger is parsed in a thread, so that other plugins go on running."""
LEVELS: Final = 3
"""Objects inside objects that are walked: `rooms`, then `join`, then the rooms of a `/sync`."""

Scan = Callable[[str, int], tuple[Any, int]]
"""Reads one value of a text from a place on; returns it, and the place after it."""


def loads(body: bytes) -> Any:
    """Parse JSON, as `json.loads` would; if it is large, slice by slice.

    Raises:
        ValueError, RecursionError: it is none.
    """
    if len(body) <= LARGE:
        return json.loads(body)
    return _WALKER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))


async def parse(body: bytes) -> Any:
    """Parse JSON, in a thread if it is large.

    Raises:
        ValueError: it is none, or nested too deep.
    """
    try:
        return await asyncio.to_thread(loads, body) if len(body) > LARGE else loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None


class _Walker(json.JSONDecoder):
    """Walks one level: what objects hold is read by `below`, what lists hold by `in_lists`."""

    scan_once: Scan

    def __init__(self, below: Scan, *, in_lists: Scan) -> None:
        super().__init__()
        self.parse_object = lambda start, strict, _, *rest: JSONObject(start, strict, below, *rest)
        self.parse_array = lambda start, _, *rest: JSONArray(start, in_lists, *rest)
        self.scan_once = py_make_scanner(self)


def _walker() -> _Walker:
    in_c: Scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
    walker = _Walker(in_c, in_lists=in_c)
    for _ in range(LEVELS - 1):
        walker = _Walker(walker.scan_once, in_lists=in_c)
    return walker


_WALKER: Final = _walker()
