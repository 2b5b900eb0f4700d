"""What a room tells of one question's answer, for whoever asks that question once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mautrix.types import EventID, UserID

from ..commands import Again, parse_command
from ..content_keys import ANSWERS, ASKED, MORE_TO_COME
from ..homes.ids import is_event_id
from ..json_shapes import as_dict
from ..sync.news import SAID, Edited, Encrypted, Message, edited


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a question was answered so far."""

    messages: tuple[EventID, ...] = ()
    """The answer's messages, in their order: what a new answer takes the place of."""
    keys: tuple[EventID, ...] = ()
    """Under which it was answered to the end, in their order."""
    is_unfinished: bool = False
    """Whether the last word of its newest answer is missing."""


def as_edited(message: Message, edit: Edited, event: object) -> Message:
    """The message as an edit, which is in the clear, has it; no edit makes a command of one."""
    now = edited(message, edit, event)
    return message if parse_command(now.text) is not None else now


def answer_to(question: EventID, events: Iterable[object], *, bot: UserID) -> Answered:
    """Read a timeline, oldest first, from the question on.

    A word about what made the bot ask once more, and not about the question itself, ends that as
    an answer does: it says why there is none.
    """
    messages: list[EventID] = []
    keys: list[EventID] = []
    is_unfinished = False
    for event in map(as_dict, events):
        content, event_id = as_dict(event.get("content")), event.get("event_id")
        answers = content.get(ANSWERS)
        if (
            event.get("sender") != bot
            or event.get("type") not in SAID
            or not is_event_id(event_id)
            or not is_event_id(answers)
        ):
            continue
        is_edit = as_dict(content.get("m.relates_to")).get("rel_type") == "m.replace"
        if answers != question:
            keys.append(EventID(answers))
            continue
        if not is_edit:
            messages.append(EventID(event_id))
        is_unfinished = content.get(MORE_TO_COME) is True
        if not is_unfinished:
            asked = content.get(ASKED)
            keys.append(EventID(asked) if is_event_id(asked) else question)
    return Answered(messages=tuple(messages), keys=tuple(keys), is_unfinished=is_unfinished)


def may_ask_again(message: Message | Encrypted) -> bool:
    """Whether it may have something answered once more, and only the room tells what."""
    if isinstance(message, Encrypted) or message.about is not None:
        return True
    return isinstance(parse_command(message.text), Again)
