"""From Markdown to what an event can carry: its text, and its HTML where there is any.

Rendering is bounded (`markdown.py`), but not cheap: some microseconds a character. What is longer
than a few sentences is rendered in a thread, so that nobody waits for it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeVar

from maubot.matrix import MaubotHTMLParser

from ..runtime.noted_work import noted
from .markdown import render_html

SHORT: Final = 1_000
"""Characters that are rendered at once."""

# What no event can carry (lone surrogates), and what JSON makes six bytes of.
_UNSPEAKABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

T = TypeVar("T")


async def to_html(text: str) -> str | None:
    """The `formatted_body` of a text in Markdown; None: there is none."""
    return await _rendered(text, render_html)


async def to_plain(text: str) -> str:
    """A text in Markdown as it reads without."""
    return await _rendered(text, _plain)


def speakable(text: str) -> str:
    """The text without what no event can carry; halves of a character are put together."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _UNSPEAKABLE.sub("\ufffd", whole)


async def _rendered(text: str, render: Callable[[str], T]) -> T:
    text = speakable(text)
    if len(text) <= SHORT:
        return render(text)
    async with noted():
        return await asyncio.to_thread(render, text)


def _plain(text: str) -> str:
    html = render_html(text)
    if html is None:
        return text
    # A coroutine that waits for nothing: it ends at its first step.
    parsing = MaubotHTMLParser().parse(html)
    try:
        parsing.send(None)
    except StopIteration as end:
        return str(end.value.text)
    except Exception:  # noqa: BLE001 (as in `render_html`)
        return text
    parsing.close()
    return text
