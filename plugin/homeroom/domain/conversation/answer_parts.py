"""The messages that an answer consists of while it grows."""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.types import EventID, RoomID

from ..json_shapes import as_dict


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The event that an answer answers, and the thread that it stands in (None: in none)."""

    room_id: RoomID
    event_id: EventID
    thread_root: EventID | None = None
    asked: EventID | None = None
    """The key under which it is asked, where that is not its own ID."""
    note: str = ""
    """A sentence of our own that stands below the answer."""
    is_again: bool = False
    """Whether it was answered before, and its answer is replaced."""


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


def shown_text(event: object) -> str | None:
    """What a message shows: its latest edit, if it has any; None: that cannot be told."""
    event = as_dict(event)
    relations = as_dict(as_dict(event.get("unsigned")).get("m.relations"))
    edit = as_dict(as_dict(relations.get("m.replace")).get("content"))
    for content in (as_dict(edit.get("m.new_content")), as_dict(event.get("content"))):
        if isinstance(body := content.get("body"), str):
            return body
    return None
