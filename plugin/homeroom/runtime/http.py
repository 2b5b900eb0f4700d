"""What the clients of the homeserver and of the agents have in common."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

SOONEST: Final = 0.05
"""Seconds: a server that says "at once" means "not quite yet"."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait; None if the server does not say, or nothing that makes sense.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?", value, re.ASCII):
        return max(float(value), SOONEST)
    with suppress(ValueError, TypeError, OverflowError):
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
        return max(seconds, SOONEST) if seconds > 0 else None
    return None


def backoff(attempt: int, *, first: float, most: float) -> float:
    """Half to all of `first` seconds after the first attempt, twice that after every other."""
    longest = min(first * 2.0 ** min(attempt - 1, 10), most)
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret: jitter)
