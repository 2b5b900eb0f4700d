"""What the rooms themselves say of answers: which are given, and which are not finished.

What the bot says, edits among it, names what it answers, and whether there is more to come. So a
question that comes again, from a restored database or a repeated response, is known to be
answered although no row says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from ..content_keys import ANSWERS, ASKED, MORE_TO_COME
from ..homes.ids import is_event_id
from ..homes.marker import MARKER_TYPE, MarkerError, parse_marker
from ..json_shapes import as_dict
from ..sync.news import SAID
from ..sync.timeline import event_ids, sent_at
from .answer_parts import OpenAnswer, Question

_ANSWERING: Final = (*SAID, "m.reaction")
"""Types of events with which the bot answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The bot's answers in one timeline."""

    given: frozenset[EventID]
    """The events that are answered: questions, and what made the bot ask them once more."""
    open: tuple[OpenAnswer, ...]
    """The messages of answers that are not finished, in their order; also of those that were, and
    are given once more."""


def answers_in(room_id: RoomID, events: Iterable[object], *, bot: UserID) -> Answers:
    """Read a timeline, oldest first.

    A message of the bot's that names nothing at all is from before it did so: everything up to
    there counts as answered. So does what others than the owner said until the chat was shared:
    nobody was to answer them then.
    """
    before: list[tuple[EventID, object]] = []
    given: set[EventID] = set()
    unfinished: dict[EventID, list[OpenAnswer]] = {}
    again: dict[EventID, list[OpenAnswer]] = {}
    """By what has them given once more."""
    for event in map(as_dict, events):
        event_id = event.get("event_id")
        if not is_event_id(event_id):
            continue
        if event.get("sender") != bot:
            before.append((EventID(event_id), event.get("sender")))
            continue
        content = as_dict(event.get("content"))
        if (owner := _shared_by(event)) is not None:
            given.update(said for said, sender in before if sender != owner)
        if event.get("type") not in _ANSWERING or not content:
            continue  # what the bot does to a room answers nobody, nor does what was redacted
        answers, is_edit = content.get(ANSWERS), _relation(content).get("rel_type") == "m.replace"
        if not isinstance(answers, str) and event.get("type") not in SAID:
            continue  # a reaction of somebody else's in the bot's name
        if not isinstance(answers, str):
            given.update(() if is_edit else (said for said, _ in before))
            continue
        if not is_event_id(answers):
            continue
        if content.get(MORE_TO_COME) is not True:
            given.add(EventID(answers))
            if is_event_id(asked := content.get(ASKED)):
                given.add(EventID(asked))
            continue
        _note_again(again, room_id, EventID(event_id), content)
        if not is_edit:
            parts = unfinished.setdefault(EventID(answers), [])
            question = _question(room_id, EventID(answers), content)
            parts.append(
                OpenAnswer(question=question, part=len(parts), answer_id=EventID(event_id))
            )
    first = {event_id: parts for event_id, parts in unfinished.items() if event_id not in given}
    left = [
        *(part for parts in first.values() for part in parts),
        *(
            part
            for asked, parts in again.items()
            if asked not in given
            for part in parts
            if part.question.event_id not in first
        ),
    ]
    return Answers(given=frozenset(given), open=tuple(left))


def is_of_answers(event: object) -> bool:
    """Whether `answers_in` looks at such an event; a timeline without the others says the same."""
    return as_dict(event).get("type") in _ANSWERING or _shared_by(event) is not None


def asked_before(moment: int, events: Iterable[object], *, bot: UserID) -> frozenset[EventID]:
    """Those of these events with which somebody asked for an answer before a moment."""
    return event_ids(
        event
        for event in map(as_dict, events)
        if event.get("type") in _ANSWERING
        and event.get("sender") != bot
        and (sent := sent_at(event)) is not None
        and sent < moment
    )


def _shared_by(event: object) -> UserID | None:
    """The owner of a chat, if from this event on, its marker, everybody in it is answered.

    Only where it is known what the marker said before: one that is merely written again is none.
    """
    event = as_dict(event)
    if event.get("type") != MARKER_TYPE or event.get("sender") != event.get("state_key"):
        return None
    try:
        now = parse_marker(event.get("content"))
        before = parse_marker(as_dict(event.get("unsigned")).get("prev_content"))
    except MarkerError:
        return None
    return now.user_id if now.answer == "members" != before.answer else None


def is_finished(event: object) -> bool:
    """Whether this message of an answer, as it is now, is the last word."""
    content = as_dict(as_dict(event).get("content"))
    relations = as_dict(as_dict(as_dict(event).get("unsigned")).get("m.relations"))
    newest = as_dict(as_dict(relations.get("m.replace")).get("content")) or content
    return bool(content) and newest.get(MORE_TO_COME) is not True


def _note_again(
    again: dict[EventID, list[OpenAnswer]],
    room_id: RoomID,
    event_id: EventID,
    content: dict[str, Any],
) -> None:
    """Note a message, new or as it is edited, if it is of an answer that is given once more."""
    asked, relation = content.get(ASKED), _relation(content)
    if not is_event_id(asked) or asked == content[ANSWERS]:
        return
    parts = again.setdefault(EventID(asked), [])
    is_edit = relation.get("rel_type") == "m.replace"
    answer_id = relation.get("event_id") if is_edit else event_id
    if not is_event_id(answer_id) or any(part.answer_id == answer_id for part in parts):
        return
    question = replace(
        _question(room_id, EventID(content[ANSWERS]), content),
        asked=EventID(asked),
        is_again=True,
    )
    parts.append(OpenAnswer(question=question, part=len(parts), answer_id=EventID(answer_id)))


def _question(room_id: RoomID, event_id: EventID, content: dict[str, Any]) -> Question:
    relation = _relation(content)
    root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    return Question(
        room_id=room_id,
        event_id=event_id,
        thread_root=EventID(root) if is_event_id(root) else None,
    )


def _relation(content: dict[str, Any]) -> dict[str, Any]:
    return as_dict(content.get("m.relates_to"))
