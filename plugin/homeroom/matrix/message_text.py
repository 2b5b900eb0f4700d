"""From Markdown to what an event can carry: its text, and its HTML where that is harmless.

What is said repeats what people write, and what platforms are made to write. Rendering it may
take a time that grows with the square of a paragraph, may be nested deeper than Python can go,
and may come out many times as long: then the text is said as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from maubot.matrix import MaubotHTMLParser

from .markdown import render_html

MAX_TEXT: Final = 15_000
"""Characters in one event."""
WIDE: Final = 20_000
"""Bytes from which on a text of that length is divided further: with its HTML it would not fit."""
MAX_BYTES: Final = 45_000
"""Text and HTML together, encrypted or not, below the limit of 65,536 bytes
(https://spec.matrix.org/latest/client-server-api/#size-limits)."""
MAX_COST: Final = 3_000_000
"""Some tenths of a second: a unit is one bracket or backtick times one character after it."""

# What no event can carry (lone surrogates), and what JSON makes six bytes of.
_UNSPEAKABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_CODE: Final = re.compile(r"^ {0,3}```[^`\n]*\n.*?^ {0,3}```+[ \t]*$", re.DOTALL | re.MULTILINE)
_PARAGRAPH_END: Final = re.compile(r"\n(?=[ \t]*\n| {0,3}(?:[-*+]|#{1,6}) )")
_COSTLY: Final = re.compile(r"[\[\]`]")


async def render(text: str) -> tuple[str, str | None]:
    """The `body` and the `formatted_body` of a text in Markdown; None: without formatting."""
    text, html = speakable(text), to_html(text)
    if html is None:
        return text, None
    try:
        body = (await MaubotHTMLParser().parse(html)).text
    except (RecursionError, ValueError):
        return text, None
    if len(body.encode()) + len(html.encode()) > MAX_BYTES:
        return text, None
    return body, html


def to_html(text: str) -> str | None:
    """The `formatted_body` of a text in Markdown, of any length; None: it is not to be had."""
    text = speakable(text)
    if _cost(text) > MAX_COST:
        return None
    try:
        return render_html(text)
    except (RecursionError, ValueError):
        return None


def speakable(text: str) -> str:
    """The text without what no event can carry; halves of a character are put together."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _UNSPEAKABLE.sub("\ufffd", whole)


def parts(text: str) -> list[str]:
    """Divide a text into what fits into one event each."""
    return [
        part
        for long in split(text, limit=MAX_TEXT)
        for part in (split(long, limit=MAX_TEXT // 4) if _is_wide(long) else [long])
    ]


def split(text: str, *, limit: int) -> list[str]:
    """Divide a text into parts of at most `limit` characters, at paragraph ends where possible.

    Nothing is lost but the blanks at the places where it was divided.
    """
    parts = []
    while len(text) > limit:
        cut = next(
            (
                position
                for separator in ("\n\n", "\n", " ")
                if (position := text.rfind(separator, limit // 2, limit)) > 0
            ),
            limit,
        )
        parts.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*parts, text]


def _is_wide(text: str) -> bool:
    return len(text.encode("utf-8", "replace")) > WIDE


def _cost(text: str) -> int:
    """What rendering the inline parts of a text costs at most; code in fences has none."""
    paragraphs: Iterator[str] = (
        paragraph for outside in _CODE.split(text) for paragraph in _PARAGRAPH_END.split(outside)
    )
    return sum(len(_COSTLY.findall(paragraph)) * len(paragraph) for paragraph in paragraphs)
