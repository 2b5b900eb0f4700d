"""Which of many writes a test kills at: every third one; each with `HOMEROOM_TEST_KILLS=all`."""

from __future__ import annotations

import os

ALL_KILLS = os.environ.get("HOMEROOM_TEST_KILLS") == "all"


def kill_points(count: int, *, first: int) -> list[int]:
    """The numbers of the writes to be killed at, from 1 to `count`.

    Three tests that begin with 1, 2 and 3 leave none out between them.
    """
    return list(range(1, count + 1) if ALL_KILLS else range(first, count + 1, 3))
