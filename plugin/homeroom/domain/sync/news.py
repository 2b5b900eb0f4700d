"""What a sync response says, in Homeroom's words.

`read_response` turns the raw answer of `/sync` into what there is to do: messages to take in,
invites to answer, rooms to scan again. Raw, because the answer that maubot throws away after
every start comes in the same form as every other one, and because events are partly written by
hostile members: what is not a well-formed, new message of somebody else is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from ..content_keys import ANSWERS
from ..homes.ids import is_event_id
from ..homes.marker import MARKER_TYPE, is_user_id
from ..homes.room_state import read_invite, read_predecessor
from ..homes.topology import Invite
from ..json_shapes import as_dict, as_list
from .message_words import FILES, TEXT, VERIFICATION, speakable, text_of, without_reply_fallback
from .timeline import events_in, has_gap, sent_at, timeline_of

TOPOLOGY_TYPES: Final = frozenset(
    {
        "m.room.name",
        "m.room.tombstone",
        "m.room.encryption",
        "m.space.child",
        "m.space.parent",
        MARKER_TYPE,
    }
)
"""State events of others that can change what a plan says about a room."""
SAID: Final = ("m.room.message", "m.room.encrypted")
"""Types of the events by which somebody says something."""
MAX_REASON: Final = 200
MAX_REACTION: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A new message. `sent_at` is `origin_server_ts`, in milliseconds."""

    room_id: RoomID
    event_id: EventID
    sender: UserID
    sent_at: int
    text: str
    thread_root: EventID | None = None
    is_reply: bool = False
    is_text: bool = True
    """False: a picture without a caption, a file, a place …; `text` is empty then."""
    attached: str | None = None
    """What the text is the caption of: a picture …; None: of nothing."""
    is_live: bool = False
    """Whether it came in as it was sent, and not by catching up."""
    is_signed: bool | None = None
    """Whether its sender has signed the device that encrypted it; None: nothing was encrypted."""
    is_verification: bool = False
    """Whether it asks the bot to verify each other's devices."""
    version: EventID | None = None
    """The edit that it is as; None: it is as it was sent."""
    about: EventID | None = None
    """The message that is to be answered once more, or a message of its answer: this event is a
    reaction to it that asks for that, or an edit of it. It has no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """A new encrypted event: what it says is read when its turn comes. `event` is the raw one."""

    room_id: RoomID
    event_id: EventID
    sender: UserID
    sent_at: int
    session_id: str
    event: dict[str, Any] = field(compare=False, repr=False)
    is_live: bool = False
    """As in `Message`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """Somebody else edited a message; `event_id` is that message."""

    room_id: RoomID
    event_id: EventID
    sender: UserID
    edit_id: EventID
    sent_at: int
    """When it was edited, in milliseconds; 0 if it does not say."""
    event: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The edit itself, which may be encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Somebody reacted to an event; `key` is the emoji, without variation selectors."""

    room_id: RoomID
    event_id: EventID
    sender: UserID
    target: EventID
    key: str
    sent_at: int
    """In milliseconds; 0 if it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Somebody redacted an event; `redacts` is that event."""

    room_id: RoomID
    redacts: EventID
    sender: UserID


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The bot has joined a room that somebody had invited it to. `event_id` is its own join."""

    room_id: RoomID
    event_id: EventID
    sent_at: int
    inviter: UserID | None
    """None: the homeserver does not say who it was."""
    is_space: bool = False
    predecessor: RoomID | None = None
    """The room that it says it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """Somebody's membership changed: the bot's own, or another member's."""

    room_id: RoomID
    user_id: UserID
    membership: str
    sender: str | None = None
    """Who changed it."""
    reason: str | None = None
    """What they gave as the reason, as one short line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomChange:
    """The room's name, links, marker or tombstone may have changed."""

    room_id: RoomID


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMessage:
    """A message of the bot's own, as its room shows it."""

    room_id: RoomID
    event_id: EventID
    answers: EventID
    """The question."""


News = (
    Message
    | Encrypted
    | Edited
    | Reaction
    | OwnMessage
    | Redaction
    | Arrival
    | MemberChange
    | RoomChange
    | Invite
)


def read_response(response: object, *, bot: UserID) -> Iterator[News]:
    """Everything in a sync response that concerns Homeroom, each room in the server's order."""
    rooms = as_dict(as_dict(response).get("rooms"))
    for room_id, entry in as_dict(rooms.get("invite")).items():
        events = as_dict(as_dict(entry).get("invite_state")).get("events")
        if invite := read_invite(RoomID(room_id), events, bot=bot):
            yield invite
    for section in ("join", "leave"):
        for room_id, entry in as_dict(rooms.get(section)).items():
            # maubot has members loaded lazily: with what somebody says comes who they are. Only
            # where the timeline has a gap can somebody's membership in `state` be new.
            for event in as_list(as_dict(as_dict(entry).get("state")).get("events")):
                for news in _read_state(RoomID(room_id), event, bot=bot):
                    if has_gap(entry) or not isinstance(news, MemberChange) or news.user_id == bot:
                        yield news
            for event in timeline_of(entry):
                yield from _read_state(RoomID(room_id), event, bot=bot)
                if section == "join" and (
                    message := read_message(RoomID(room_id), event, bot=bot)
                    or read_encrypted(RoomID(room_id), event, bot=bot)
                    or _read_revision(RoomID(room_id), event, bot=bot)
                    or _read_reaction(RoomID(room_id), event, bot=bot)
                    or _read_own_message(RoomID(room_id), event, bot=bot)
                    or _read_arrival(RoomID(room_id), event, as_dict(entry), bot=bot)
                ):
                    yield message


def _read_state(room_id: RoomID, event: object, *, bot: UserID) -> Iterator[News]:
    event = as_dict(event)
    kind, key = event.get("type"), event.get("state_key")
    if kind == "m.room.redaction" and event.get("sender") != bot:
        yield RoomChange(room_id=room_id)  # what was taken back is not said: maybe state
    if not isinstance(kind, str) or not isinstance(key, str):
        return
    if kind == "m.room.member" and is_user_id(key):
        content = as_dict(event.get("content"))
        membership, sender = content.get("membership"), event.get("sender")
        before = as_dict(as_dict(event.get("unsigned")).get("prev_content")).get("membership")
        if isinstance(membership, str) and membership != before:  # not only another name
            yield MemberChange(
                room_id=room_id,
                user_id=UserID(key),
                membership=membership,
                sender=sender if isinstance(sender, str) else None,
                reason=_line(content.get("reason")),
            )
    elif kind == "m.room.create":
        # Nobody tells of a room before the bot is in it: the one that it replaces has changed.
        predecessor = read_predecessor(as_dict(event.get("content")))
        if predecessor is not None:
            yield RoomChange(room_id=predecessor)
    elif kind == "m.room.tombstone" or (kind in TOPOLOGY_TYPES and event.get("sender") != bot):
        # Homeroom closes no rooms, but somebody may upgrade one in the bot's name.
        yield RoomChange(room_id=room_id)


def read_message(room_id: RoomID, event: object, *, bot: UserID) -> Message | None:
    """A new message of somebody else; None for everything else, edits and notices among it."""
    event = as_dict(event)
    content = as_dict(event.get("content"))
    event_id, sender, body = event.get("event_id"), event.get("sender"), text_of(event)
    sent_at = event.get("origin_server_ts")
    relation = as_dict(content.get("m.relates_to"))
    if (
        "state_key" in event
        or relation.get("rel_type") == "m.replace"
        or not is_event_id(event_id)
        or not (isinstance(sender, str) and is_user_id(sender) and sender != bot)
        or not isinstance(body, str)
        or type(sent_at) is not int
    ):
        return None
    body = speakable(body)
    if "m.in_reply_to" in relation:
        body = without_reply_fallback(body)
    root = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    return Message(
        room_id=room_id,
        event_id=EventID(event_id),
        sender=UserID(sender),
        sent_at=sent_at,
        text=body,
        thread_root=EventID(root) if is_event_id(root) else None,
        is_reply="m.in_reply_to" in relation,
        is_text=event.get("type") == "m.room.message"
        and (content.get("msgtype") in TEXT or bool(body)),
        attached=FILES.get(str(content.get("msgtype"))) if body else None,
        is_verification=content.get("msgtype") == VERIFICATION,
    )


def asked_again(news: Edited | Reaction, *, is_live: bool) -> Message:
    """What has a message answered once more, in its room's line."""
    if isinstance(news, Edited):
        by, about, version = news.edit_id, news.event_id, news.edit_id
    else:
        by, about, version = news.event_id, news.target, None
    return Message(
        room_id=news.room_id,
        event_id=by,
        sender=news.sender,
        sent_at=news.sent_at,
        text="",
        about=about,
        version=version,
        is_live=is_live,
    )


def edited(message: Message, edit: Edited, event: object) -> Message:
    """The message as its sender's edit, which is in the clear, has it.

    What is no edit of theirs, or none that can be read, changes nothing.
    """
    content = as_dict(as_dict(as_dict(event).get("content")).get("m.new_content"))
    text = text_of({"type": as_dict(event).get("type"), "content": content})
    if edit.sender != message.sender or not isinstance(text, str) or not message.is_text:
        return message
    is_text = content.get("msgtype") in TEXT or bool(text)
    if not is_text:
        return message
    return replace(message, text=speakable(text), version=edit.edit_id)


def read_encrypted(room_id: RoomID, event: object, *, bot: UserID) -> Encrypted | None:
    """A new encrypted event of somebody else; None for edits, and for what was redacted."""
    event = as_dict(event)
    content = as_dict(event.get("content"))
    event_id, sender, sent_at = (
        event.get("event_id"),
        event.get("sender"),
        event.get("origin_server_ts"),
    )
    session_id = content.get("session_id")
    if (
        event.get("type") != "m.room.encrypted"
        or "state_key" in event
        or as_dict(content.get("m.relates_to")).get("rel_type") == "m.replace"
        or not is_event_id(event_id)
        or not (isinstance(sender, str) and is_user_id(sender) and sender != bot)
        or not isinstance(session_id, str)
        or not isinstance(content.get("ciphertext"), str)
        or type(sent_at) is not int
    ):
        return None
    return Encrypted(
        room_id=room_id,
        event_id=EventID(event_id),
        sender=UserID(sender),
        sent_at=sent_at,
        session_id=session_id,
        event=event,
    )


def _read_revision(room_id: RoomID, event: object, *, bot: UserID) -> Edited | Redaction | None:
    """An edit of somebody else, or anybody's redaction; None for any other event."""
    event = as_dict(event)
    content, kind, sender = as_dict(event.get("content")), event.get("type"), event.get("sender")
    if "state_key" in event or not (isinstance(sender, str) and is_user_id(sender)):
        return None
    if kind == "m.room.redaction":
        # In the content from room version 11 on: https://spec.matrix.org/latest/rooms/v11/
        redacts = content.get("redacts", event.get("redacts"))
        if is_event_id(redacts):
            return Redaction(room_id=room_id, redacts=EventID(redacts), sender=UserID(sender))
    elif kind in ("m.room.message", "m.room.encrypted") and sender != bot:
        relation = as_dict(content.get("m.relates_to"))
        edited, edit_id = relation.get("event_id"), event.get("event_id")
        if (
            relation.get("rel_type") == "m.replace"
            and is_event_id(edited)
            and is_event_id(edit_id)
        ):
            return Edited(
                room_id=room_id,
                event_id=EventID(edited),
                sender=UserID(sender),
                edit_id=EventID(edit_id),
                sent_at=sent_at(event) or 0,
                event=event,
            )
    return None


def _read_reaction(room_id: RoomID, event: object, *, bot: UserID) -> Reaction | None:
    """Somebody else's reaction; None for any other event.

    It is in the clear in encrypted rooms, too:
    https://spec.matrix.org/latest/client-server-api/#event-annotations-and-reactions
    """
    event = as_dict(event)
    event_id, sender = event.get("event_id"), event.get("sender")
    relation = as_dict(as_dict(event.get("content")).get("m.relates_to"))
    target, key = relation.get("event_id"), relation.get("key")
    if (
        event.get("type") != "m.reaction"
        or "state_key" in event
        or relation.get("rel_type") != "m.annotation"
        or not is_event_id(event_id)
        or not is_event_id(target)
        or not (isinstance(sender, str) and is_user_id(sender) and sender != bot)
        or not (isinstance(key, str) and len(key) <= MAX_REACTION)
    ):
        return None
    return Reaction(
        room_id=room_id,
        event_id=EventID(event_id),
        sender=UserID(sender),
        target=EventID(target),
        key=key.replace("\ufe0f", ""),
        sent_at=sent_at(event) or 0,
    )


def _read_own_message(room_id: RoomID, event: object, *, bot: UserID) -> OwnMessage | None:
    """A message by which the bot answers somebody; None for any other event, edits among them."""
    event = as_dict(event)
    content = as_dict(event.get("content"))
    event_id, answers = event.get("event_id"), content.get(ANSWERS)
    if (
        event.get("sender") != bot
        or event.get("type") not in SAID
        or "state_key" in event
        or as_dict(content.get("m.relates_to")).get("rel_type") == "m.replace"
        or not is_event_id(event_id)
        or not is_event_id(answers)
    ):
        return None
    return OwnMessage(room_id=room_id, event_id=EventID(event_id), answers=EventID(answers))


def _read_arrival(
    room_id: RoomID, event: object, entry: dict[str, Any], *, bot: UserID
) -> Arrival | None:
    """The bot's own join in answer to an invite; None for any other event."""
    event = as_dict(event)
    unsigned = as_dict(event.get("unsigned"))
    event_id, sent_at, inviter = (
        event.get("event_id"),
        event.get("origin_server_ts"),
        unsigned.get("prev_sender"),
    )
    if (
        event.get("type") != "m.room.member"
        or event.get("state_key") != bot
        or as_dict(event.get("content")).get("membership") != "join"
        or as_dict(unsigned.get("prev_content")).get("membership") != "invite"
        or not is_event_id(event_id)
        or type(sent_at) is not int
    ):
        return None
    create = _read_create(entry)
    return Arrival(
        room_id=room_id,
        event_id=EventID(event_id),
        sent_at=sent_at,
        inviter=UserID(inviter) if isinstance(inviter, str) and is_user_id(inviter) else None,
        is_space=create.get("type") == "m.space",
        predecessor=read_predecessor(create),
    )


def _read_create(entry: dict[str, Any]) -> dict[str, Any]:
    """The content of the create event, as a room that is new to the bot is told whole."""
    for event in events_in(entry):
        if event.get("type") == "m.room.create":
            return as_dict(event.get("content"))
    return {}


def _line(value: object) -> str | None:
    """Somebody's text as one short line for the log; None if there is none."""
    if not isinstance(value, str):
        return None
    text = "".join(c if c.isprintable() else " " for c in value[:MAX_REASON]).strip()
    return text or None
