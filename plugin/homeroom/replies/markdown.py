"""Text from elsewhere made harmless, and the few shapes that replies are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from mautrix.types import RoomID

MAX_LISTED: Final = 50
"""Lines that are listed before the rest is only counted."""


def listed(lines: Sequence[str], *, rest: str = "the log has them at level debug") -> str:
    shown = [f"- {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"- … and {len(lines) - MAX_LISTED} more; {rest}")
    return "\n".join(shown)


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def link(room_id: RoomID, via: str, text: str) -> str:
    """https://spec.matrix.org/latest/appendices/#matrixto-navigation"""
    return f"[{text}](https://matrix.to/#/{quote(room_id)}?via={quote(via)})"


def code(value: str | None) -> str:
    return "nothing" if value is None else f"`{plain(value, escape=False)}`"


_MARKDOWN: Final = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>()#|~&"})


def plain(text: str, *, escape: bool = True) -> str:
    """Text from elsewhere, made harmless: one line, bounded, no Markdown, no direction tricks."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) > 200:
        text = text[:200] + "…"
    return text.translate(_MARKDOWN) if escape else text.replace("`", "'")
