"""How an answer is cut into messages while it grows.

What a message holds must not depend on how fast the answer came: asked again, the platform says
the same, and the same messages must come of it. So where a text is divided depends on nothing but
the text up to there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from mautrix.types import EventID, RoomID

from ..json_shapes import as_dict

MAX_WEIGHT: Final = 17_000
"""Bytes of text in one message. An edit carries it twice, and its HTML: in all below the limit of
65,536 bytes (https://spec.matrix.org/latest/client-server-api/#size-limits)."""
MAX_INFO: Final = 50
"""Characters that are kept of what stands behind the marks that open a code block."""

_FENCE: Final = re.compile(r"([ \t]*)(`{3,}|~{3,})(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The event that an answer answers, and the thread that it stands in (None: in none)."""

    room_id: RoomID
    event_id: EventID
    thread_root: EventID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAnswer:
    """One message of an answer that is not finished.

    Args:
        part: which one of the answer's messages, from 0.
        answer_id: the message; None if it is not known whether it was sent.
    """

    question: Question
    part: int
    answer_id: EventID | None


def divide(text: str, *, encrypted: bool) -> list[str]:
    """Divide a text into what fits into one message each, at paragraph ends where possible.

    A code block that is divided ends in one message and begins again in the next. Else nothing is
    lost but the blanks at the places where it was divided. All parts but the last stay what they
    are if there is more text.
    """
    parts = []
    while weight(text, encrypted=encrypted) > MAX_WEIGHT:
        limit = _fitting(text, encrypted=encrypted)
        cut, skip = limit, ""
        for separator in ("\n\n", "\n", " "):
            position = text.rfind(separator, limit // 2, limit)
            if position > 0:
                cut, skip = position, separator[0]
                break
        part, text = text[:cut], text[cut:].lstrip(skip) if skip == "\n" else text[cut:].lstrip()
        fence = open_fence(part)
        parts.append(closed(part))
        if fence is not None:
            text = f"{fence}\n{text}"
    return [*parts, text]


def closed(text: str) -> str:
    """The text with its last code block closed, if that is open."""
    text = text.rstrip()
    fence = open_fence(text)
    found = fence and _FENCE.match(fence)
    return f"{text}\n{found[1]}{found[2]}" if found else text


def open_fence(text: str) -> str | None:
    """The line that opens the code block in which a text ends; None if it ends in none.

    https://spec.commonmark.org/0.31.2/#fenced-code-blocks
    """
    opening: tuple[str, str, str] | None = None
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            continue
        indent, marks, info = found[1], found[2], found[3].strip()
        if opening is None:
            if not (marks[0] == "`" and "`" in info):
                opening = indent, marks, info[:MAX_INFO]
        elif not info and marks[0] == opening[1][0] and len(marks) >= len(opening[1]):
            opening = None
    return None if opening is None else "".join(opening)


def shown_text(event: object) -> str | None:
    """What a message shows: its latest edit, if it has any; None: that cannot be told."""
    event = as_dict(event)
    relations = as_dict(as_dict(event.get("unsigned")).get("m.relations"))
    edit = as_dict(as_dict(relations.get("m.replace")).get("content"))
    for content in (as_dict(edit.get("m.new_content")), as_dict(event.get("content"))):
        if isinstance(body := content.get("body"), str):
            return body
    return None


def _fitting(text: str, *, encrypted: bool) -> int:
    """How many characters of a text that is too long fit; room is left to close a code block."""
    low, high = 1, min(len(text), MAX_WEIGHT)
    while low < high:
        middle = (low + high + 1) // 2
        if weight(text[:middle], encrypted=encrypted) <= MAX_WEIGHT:
            low = middle
        else:
            high = middle - 1
    return low


def weight(text: str, *, encrypted: bool) -> int:
    """The bytes that a text takes in an event: mautrix encrypts JSON in ASCII, Base64 follows."""
    size = len(json.dumps(text, ensure_ascii=encrypted).encode("utf-8", "replace"))
    return size * 4 // 3 if encrypted else size
