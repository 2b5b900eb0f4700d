"""How a text in Markdown is divided into messages.

Where a text is divided depends on nothing but the text up to there: a growing answer keeps the
parts that it has, and an answer that is given again is divided in the same way. A code block or a
table that is divided is closed in one message and opened again in the next. Every step takes
something from the text, whatever is in it, and all of it takes linear time.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Final

MAX_WEIGHT: Final = 17_000
"""Bytes of text in one message. An edit carries it twice, and its HTML: in all below the limit of
65,536 bytes (https://spec.matrix.org/latest/client-server-api/#size-limits)."""
MAX_INFO: Final = 50
"""Characters that are kept of what stands behind the marks that open a code block."""
MAX_HEADER: Final = 250
"""Characters of a table's header, with the line below it, that are repeated."""

# A code block in a list may be indented further: in the next message it is one by that alone.
# Longer rows of marks are nobody's code block; they would have to be repeated.
_OPENS: Final = re.compile(r"( {0,3})(`{3,20}(?!`)|~{3,20}(?!~))(.*)")
_BAR: Final = re.compile(r"(?<!\\)\|")
_SEPARATORS: Final = ("\n\n", "\n", " ")


def divide(text: str, *, encrypted: bool) -> list[str]:
    """Divide a text into what fits into one message each, at paragraph ends where possible.

    Nothing is lost but the blanks at the places where it was divided. All parts but the last stay
    what they are if there is more text.
    """
    parts, start, opening = list[str](), 0, ""
    while True:
        # No character weighs less than a byte.
        window = opening + text[start : start + MAX_WEIGHT + 1]
        fits = _fitting(window, encrypted=encrypted)
        if fits == len(window):
            return [*parts, window]
        cut, separator = _cut(window, fits)
        part = window[:cut]
        parts.append(closed(part))
        start = _skip(text, start + cut - len(opening), separator)
        at_row = separator == "\n" and not window.startswith("\n\n", cut)
        opening = _opening(part, at_row=at_row)
        if len(opening) > fits // 4:  # or a part might have little else in it
            opening = ""


def closed(text: str) -> str:
    """The text with its last code block closed, if that is open."""
    text = text.rstrip()
    found = _OPENS.match(open_fence(text) or "")
    return f"{text}\n{found[1]}{found[2]}" if found else text


def open_fence(text: str) -> str | None:
    """The line that opens the code block in which a text ends; None if it ends in none.

    https://spec.commonmark.org/0.31.2/#fenced-code-blocks
    """
    opening: tuple[str, str, str] | None = None
    for line in text.split("\n"):
        if opening is not None:
            if _closes(line, opening[1]):
                opening = None
        elif (found := _OPENS.match(line)) is not None:
            indent, marks, info = found[1], found[2], found[3].strip()
            if not (marks[0] == "`" and "`" in info):
                opening = indent, marks, info[:MAX_INFO].rstrip()
    return None if opening is None else "".join(opening)


def weight(text: str, *, encrypted: bool) -> int:
    """The bytes that a text takes in an event: mautrix encrypts JSON in ASCII, Base64 follows."""
    size = _size(text, encrypted=encrypted)
    return size * 4 // 3 if encrypted else size


def _size(text: str, *, encrypted: bool) -> int:
    return len(json.dumps(text, ensure_ascii=encrypted).encode("utf-8", "replace"))


def _fitting(window: str, *, encrypted: bool) -> int:
    """How many characters fit into a message."""
    if weight(window, encrypted=encrypted) <= MAX_WEIGHT:
        return len(window)
    left = (MAX_WEIGHT * 3 // 4 if encrypted else MAX_WEIGHT) - len('""')
    low, high = 0, len(window)
    while high - low > 1:
        middle = (low + high) // 2
        size = _size(window[low:middle], encrypted=encrypted) - len('""')
        if size <= left:
            low, left = middle, left - size
        else:
            high = middle
    return low


def _cut(window: str, fits: int) -> tuple[int, str]:
    """Where a part ends, and at what: a separator, or "" in the middle of a word."""
    for separator in _SEPARATORS:
        position = window.rfind(separator, fits // 2, fits)
        if position > 0:
            return position, separator
    return fits, ""


def _skip(text: str, start: int, separator: str) -> int:
    """Pass over the blanks at which a text is divided; those that indent a line stay."""
    blanks = "\n" if separator.startswith("\n") else " \t\n"
    while start < len(text) and text[start] in blanks:
        start += 1
    return start


def _opening(part: str, *, at_row: bool) -> str:
    """The lines that have to be repeated before what follows a part."""
    fence = open_fence(part)
    if fence is not None:
        return f"{fence}\n"
    return _table_header(part) if at_row else ""


def _table_header(part: str) -> str:
    """The header of the table that a part ends in, with the line below it; "" if in none."""
    paragraph = part[part.rfind("\n\n") + 1 :].strip("\n").split("\n")
    for header, rule in pairwise(paragraph):
        if "|" in header and _is_rule(rule) and len(_cells(header)) == len(_cells(rule)):
            lines = f"{header}\n{rule}\n"
            return lines if len(lines) <= MAX_HEADER else ""
    return ""


def _is_rule(line: str) -> bool:
    """Whether this is the line below the header of a table."""
    dashes = [cell.strip().removeprefix(":").removesuffix(":") for cell in _cells(line)]
    return all(cell and not cell.strip("-") for cell in dashes)


def _cells(row: str) -> list[str]:
    return _BAR.split(row.strip().removeprefix("|").removesuffix("|"))


def _closes(line: str, marks: str) -> bool:
    """Whether a line ends the code block that these marks have opened."""
    bare = line.rstrip(" \t")
    behind = bare.lstrip(" ")
    return (
        len(bare) - len(behind) <= 3
        and len(behind) >= len(marks)
        and behind == marks[0] * len(behind)
    )
