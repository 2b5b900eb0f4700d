"""What the rooms themselves say about messages that are not answered, or not to the end."""

from __future__ import annotations

from typing import Any

from mautrix.types import EventID, RoomID, UserID

from ..homes.ids import is_event_id
from ..json_shapes import as_dict, as_list
from ..sync.news import SAID
from .answer_parts import OpenAnswer, Question
from .content_keys import ANSWERS, MORE_TO_COME


def without_answered(response: object, *, bot: UserID) -> object:
    """The rooms of a response without the events that the bot has answered.

    What it says, edits among it, names what it answers, and whether there is more to come. A
    message of the bot's that names nothing is from before it did so: everything up to there counts
    as answered.
    Without `next_batch`: this is no account of what happened since a position.
    """
    joined: dict[str, Any] = {}
    for room_id, entry in as_dict(as_dict(as_dict(response).get("rooms")).get("join")).items():
        timeline = as_dict(as_dict(entry).get("timeline"))
        events = _still_open(as_list(timeline.get("events")), bot=bot)
        joined[room_id] = {**as_dict(entry), "timeline": {**timeline, "events": events}}
    return {"rooms": {"join": joined}}


def open_answers(response: object, *, bot: UserID) -> list[OpenAnswer]:
    """The messages of answers that the bot has not finished, by what these rooms show."""
    found: list[OpenAnswer] = []
    for room_id, entry in as_dict(as_dict(as_dict(response).get("rooms")).get("join")).items():
        parts: dict[str, list[OpenAnswer]] = {}
        finished: set[str] = set()
        for event in as_list(as_dict(as_dict(entry).get("timeline")).get("events")):
            content, event_id = (
                as_dict(as_dict(event).get("content")),
                as_dict(event).get("event_id"),
            )
            answers = content.get(ANSWERS)
            if as_dict(event).get("sender") != bot or not is_event_id(answers):
                continue
            if content.get(MORE_TO_COME) is not True:
                finished.add(answers)
            elif is_event_id(event_id) and not _is_edit(content):
                relation = as_dict(content.get("m.relates_to"))
                root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
                question = Question(
                    room_id=RoomID(room_id),
                    event_id=EventID(answers),
                    thread_root=EventID(root) if is_event_id(root) else None,
                )
                sent = parts.setdefault(answers, [])
                sent.append(
                    OpenAnswer(question=question, part=len(sent), answer_id=EventID(event_id))
                )
        found += [part for answers in parts if answers not in finished for part in parts[answers]]
    return found


def leaving_out_answered(response: object, *, bot: UserID) -> object:
    """A response without the messages in it that the bot has answered; all else stays."""
    rooms = as_dict(as_dict(response).get("rooms"))
    joined: dict[str, Any] = {}
    for room_id, entry in as_dict(rooms.get("join")).items():
        timeline = as_dict(as_dict(entry).get("timeline"))
        events = list(map(as_dict, as_list(timeline.get("events"))))
        open_ = set(map(id, _still_open(events, bot=bot)))
        kept = [
            event
            for event in events
            if id(event) in open_ or event.get("sender") == bot or event.get("type") not in SAID
        ]
        joined[room_id] = {**as_dict(entry), "timeline": {**timeline, "events": kept}}
    return {**as_dict(response), "rooms": {**rooms, "join": joined}}


def _still_open(events: list[Any], *, bot: UserID) -> list[dict[str, Any]]:
    answered: set[str] = set()
    still_open: list[dict[str, Any]] = []
    for event in events:
        if as_dict(event).get("sender") != bot:
            still_open.append(as_dict(event))
            continue
        if event.get("type") not in SAID:
            continue  # what the bot does to a room answers nobody
        content = as_dict(event.get("content"))
        answers = content.get(ANSWERS)
        if not isinstance(answers, str):
            if not _is_edit(content):
                still_open.clear()
        elif content.get(MORE_TO_COME) is not True:
            answered.add(answers)
    return [
        event
        for event in still_open
        if not (isinstance(event_id := event.get("event_id"), str) and event_id in answered)
    ]


def _is_edit(content: dict[str, Any]) -> bool:
    return as_dict(content.get("m.relates_to")).get("rel_type") == "m.replace"
