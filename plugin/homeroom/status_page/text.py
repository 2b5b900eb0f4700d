"""Values as text: names that cannot do harm, times that are quick to read."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

MAX_SHOWN: Final = 80
"""Characters of a name that are shown; of an id or a reason some more."""
MAX_LONG: Final = 200

# Controls, what only steers the direction of text, and what no JSON or HTML may carry.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+"
)


def cut(text: str, limit: int = MAX_SHOWN) -> str:
    """A text from elsewhere on one line, without what cannot be seen, at most so long."""
    # Cut twice: the first one is so that a huge text costs nothing.
    line = " ".join(_UNSEEN.sub(" ", text[: limit * 4]).split())
    return line if len(line) <= limit and len(text) <= limit * 4 else line[: limit - 1] + "…"


def ago(since: int | None, now: int) -> str:
    """How long something is past, both in milliseconds since 1970."""
    if since is None:
        return "not yet"
    seconds = (now - since) // 1000
    return "just now" if seconds < 2 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """One unit is enough: `42 s`, `3 min`, `5 h`, `12 days`."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def took(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def iso(at: int | None) -> str | None:
    """https://www.rfc-editor.org/rfc/rfc3339, in UTC; None for no time, or one that is none."""
    if at is None:
        return None
    try:
        time = datetime.fromtimestamp(at / 1000, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(at: int | None) -> str:
    """The same for people."""
    text = iso(at)
    return "" if text is None else text.replace("T", " ").replace("Z", " UTC")
