"""The conversation of a room, out of its raw events.

    timeline      everything that happened in the room, as the homeserver tells it
    line          one message of it, as it reads now: edits applied, redacted ones without a text
    conversation  what people said and what was answered, in the order in which it belongs together

An answer stands after what it answers, wherever it came in the timeline: people go on writing
while the platform works. It goes where its question goes: before the conversation began, or out
of it when somebody redacts it. Nothing about the shape of events is taken for granted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mautrix.types import EventID, RoomID, UserID

from ..commands import parse_command
from ..content_keys import ANSWERS, MORE_TO_COME
from ..homes.ids import is_event_id
from ..homes.marker import is_user_id
from ..json_shapes import as_dict
from ..sync.message_words import speakable
from ..sync.news import read_encrypted, read_message
from ..sync.timeline import sent_at
from .turn import Utterance


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message of a timeline, as far as it matters to the conversation."""

    event_id: EventID
    sender: UserID
    sent_at: int
    """`origin_server_ts`; 0 if nobody says."""
    text: str | None = None
    """None: not a word: redacted, a notice, a picture, unreadable."""
    answers: EventID | None = None
    """What it answers; None: nothing, or it is from before answers said so."""
    is_unfinished: bool = False
    """Whether more of the answer is to come, in an edit or in another message."""
    is_sealed: bool = False
    """Encrypted, and not decrypted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What a message says from now on."""

    event_id: EventID
    """The message that is edited."""
    sender: UserID
    text: str | None
    is_unfinished: bool

    def apply(self, line: Line) -> Line:
        """The line as it reads now. Only its own sender can edit it; what is gone stays gone.

        A notice that there is no answer may become one.
        """
        if self.sender != line.sender or (line.text is None and line.answers is None):
            return line
        return replace(line, text=self.text, is_unfinished=self.is_unfinished)


def read_event(room_id: RoomID, event: object, *, bot: UserID) -> Line | Edit | None:
    """What an event is to the conversation; None: nothing."""
    event = as_dict(event)
    event_id, sender = event.get("event_id"), event.get("sender")
    if (
        event.get("type") not in ("m.room.message", "m.room.encrypted")
        or "state_key" in event
        or not is_event_id(event_id)
        or not (isinstance(sender, str) and is_user_id(sender))
    ):
        return None
    content = as_dict(event.get("content"))
    relation = as_dict(content.get("m.relates_to"))
    if relation.get("rel_type") == "m.replace":
        return _read_edit(content, relation, sender=UserID(sender))
    message = read_message(room_id, event, bot=bot)
    line = Line(
        event_id=EventID(event_id),
        sender=UserID(sender),
        sent_at=sent_at(event) or 0,
        text=message.text if message else None,
        is_sealed=read_encrypted(room_id, event, bot=bot) is not None,
    )
    if sender != bot:
        return line
    answers = content.get(ANSWERS)
    return replace(
        line,
        text=_text(content),
        answers=EventID(answers) if is_event_id(answers) else None,
        is_unfinished=content.get(MORE_TO_COME) is True,
    )


def read_lines(room_id: RoomID, events: Iterable[object], *, bot: UserID) -> list[Line]:
    """The messages among these events, which come oldest first, as they read now."""
    lines: dict[EventID, Line] = {}
    for event in events:
        match read_event(room_id, event, bot=bot):
            case Line() as line:
                lines.setdefault(line.event_id, line)
            case Edit() as edit if edit.event_id in lines:
                lines[edit.event_id] = edit.apply(lines[edit.event_id])
    return list(lines.values())


def conversation(
    lines: Sequence[Line],
    *,
    bot: UserID,
    owner: UserID,
    before: EventID,
    since: EventID | None,
) -> list[Utterance]:
    """What was said before an event, oldest first; nothing if the event is not among the lines.

    Args:
        owner: whose words stand for themselves; those of others begin with who said them.
        before: what was said in its stead or later is left out, answers to it among that.
        since: what was said up to this event is left out; None: nothing is.
    """
    places = {line.event_id: place for place, line in enumerate(lines)}
    end = places.get(before, 0)
    begin = places.get(since, -1) + 1 if since is not None else 0
    answers: dict[EventID, list[Line]] = {}
    for line in lines:
        if line.sender == bot and line.answers is not None and line.text is not None:
            answers.setdefault(line.answers, []).append(line)
    said: list[Utterance] = []
    for line in lines[begin:end]:
        if line.text is None or not line.text.strip():
            continue
        if line.sender == bot:
            if line.answers is None and not line.is_unfinished:
                said.append(Utterance("assistant", line.text))
        elif parse_command(line.text) is None:
            by = "" if line.sender == owner else f"{line.sender}: "
            said.append(Utterance("user", by + line.text))
            parts = answers.get(line.event_id, [])
            answer = "\n\n".join(part.text for part in parts if part.text)
            if answer.strip() and not parts[-1].is_unfinished:
                said.append(Utterance("assistant", answer))
    return said


def latest(
    said: Sequence[Utterance], *, messages: int, characters: int
) -> tuple[list[Utterance], bool]:
    """The end of a conversation, within these bounds; and whether they left out what came before.

    Of one that takes more than half of the characters, the beginning is kept: a single long
    answer must not make everything else forgotten.
    """
    kept: list[Utterance] = []
    left = characters
    for utterance in reversed(said):
        text = utterance.text
        if len(text) > characters // 2:
            text = f"{text[: max(characters // 2 - 1, 0)]}…"
        left -= len(text)
        if len(kept) == messages or left < 0:
            return kept[::-1], True
        kept.append(replace(utterance, text=text))
    return kept[::-1], False


def _read_edit(
    content: dict[str, Any], relation: dict[str, Any], *, sender: UserID
) -> Edit | None:
    event_id, new = relation.get("event_id"), content.get("m.new_content")
    if not is_event_id(event_id) or not isinstance(new, dict):
        return None
    return Edit(
        event_id=EventID(event_id),
        sender=sender,
        text=_text(new),
        is_unfinished=new.get(MORE_TO_COME, content.get(MORE_TO_COME)) is True,
    )


def _text(content: dict[str, Any]) -> str | None:
    body = content.get("body")
    if content.get("msgtype") != "m.text" or not isinstance(body, str):
        return None
    return speakable(body)
