"""The marker: the state event that says "this room is Homeroom's, and this is what it is".

Event type `dev.homeroom.room`, state key = the bot's own user ID. Matrix's auth rules refuse a
state event whose state key starts with `@` and is not its sender's
(https://spec.matrix.org/latest/rooms/v11/#authorization-rules), so nobody else can write one.
Still nothing is taken on trust here: content that does not parse is a sentence about what is
wrong with it, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mautrix.types import EventID, UserID

from .ids import MAX_CONVERSATION, chat_number, is_event_id, is_platform_chat_id, read_conversation
from .model import Chat, ChatID, Conversation, PlatformChatID, RoomType, Status

MARKER_TYPE: Final = "dev.homeroom.room"
MARKER_VERSION: Final = 1
MAX_ID_LENGTH: Final = 255
MAX_INITIAL_CHATS: Final = 20
MAX_NAME_LENGTH: Final = 255
MAX_OTHERS: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What a room is to Homeroom, as written in the room itself.

    A chat is born without its `platform_chat_id`, because that follows from the room ID, which
    only exists afterwards; it is stamped right after. `initial_chats` (Spaces) is what the home
    was promised at its birth, so that a set-up that died is finished and nothing else is added.
    """

    room_type: RoomType
    user_id: UserID
    chat_id: ChatID | None = None
    platform_chat_id: PlatformChatID | None = None
    archived: bool = False
    initial_chats: tuple[str, ...] = ()
    conversation: Conversation | None = None
    """None: the room's first. Never without a `platform_chat_id`, which is the conversation's."""
    agent: str | None = None
    """The name of the agent that answers; None: the default one."""
    answer: Literal["members"] | None = None
    """Whom the bot answers, after `!chat share`; None: as the settings say."""
    made_for: EventID | None = None
    """The command that made the chat; None: the set-up of the home."""
    others: str = ""
    """What this build does not understand, as a JSON object: kept when the marker is rewritten."""

    def to_content(self) -> dict[str, Any]:
        """The event's content; `parse_marker` reads it back as an equal value."""
        content: dict[str, Any] = {
            **(json.loads(self.others) if self.others else {}),
            "version": MARKER_VERSION,
            "room_type": self.room_type.value,
            "user_id": self.user_id,
        }
        if self.chat_id is not None:
            content["chat_id"] = self.chat_id
        if self.platform_chat_id is not None:
            content["platform_chat_id"] = self.platform_chat_id
        if self.conversation is not None:
            content["conversation"] = self.conversation.number
            content["conversation_since"] = self.conversation.since
        if self.archived:
            content["archived"] = True
        if self.initial_chats:
            content["initial_chats"] = list(self.initial_chats)
        for key in _OPTIONAL:
            if (value := getattr(self, key)) is not None:
                content[key] = value
        return content

    def keeping(self, present: object) -> Marker:
        """This marker, with what it is not about as it is in the content that the room has now."""
        try:
            now = parse_marker(present)
        except MarkerError:
            return self
        return replace(
            self, agent=now.agent, answer=now.answer, made_for=now.made_for, others=now.others
        )


def chat_marker(chat: Chat, *, before: Marker | None = None) -> Marker:
    """The marker that says what this row says, and else what was there `before`."""
    return replace(
        before or Marker(room_type=RoomType.CHAT, user_id=chat.matrix_user_id),
        user_id=chat.matrix_user_id,
        chat_id=chat.chat_id,
        platform_chat_id=chat.platform_chat_id,
        archived=chat.status is Status.ARCHIVED,
        conversation=chat.conversation,
        answer=chat.answer,
    )


def is_newborn(content: dict[str, Any]) -> bool:
    """Whether this is the marker that a chat is born with: one that still lacks its key."""
    return content.get("room_type") == RoomType.CHAT.value and "platform_chat_id" not in content


class MarkerError(ValueError):
    """The content is not a marker of this version; the message says why, without quoting much."""


def parse_marker(content: object) -> Marker:
    """Read a marker's content.

    Raises:
        MarkerError: it is anything else than a well-formed marker of version 1.
    """
    if not isinstance(content, dict):
        raise MarkerError(f"content is {_kind(content)}, expected an object")
    version = content.get("version")
    if type(version) is not int or version != MARKER_VERSION:
        raise MarkerError(f"version is {_show(version)}, expected {MARKER_VERSION}")
    try:
        room_type = RoomType(content.get("room_type"))
    except ValueError:
        raise MarkerError(
            f"room_type is {_show(content.get('room_type'))}, expected 'space' or 'chat'"
        ) from None
    user_id = _text(content, "user_id")
    if not is_user_id(user_id):
        raise MarkerError(f"user_id is {_show(user_id)}, expected a user ID")
    if room_type is RoomType.SPACE:
        return Marker(
            room_type=room_type,
            user_id=UserID(user_id),
            initial_chats=_initial_chats(content),
            others=_others(content, known=_OF_A_SPACE),
        )
    chat_id = None
    if "chat_id" in content:
        chat_id = ChatID(_text(content, "chat_id"))
        if chat_number(chat_id) is None:
            raise MarkerError(f"chat_id is {_show(chat_id)}, expected C1, C2, …")
    platform_chat_id = None
    if "platform_chat_id" in content:
        platform_chat_id = PlatformChatID(_text(content, "platform_chat_id"))
        if not is_platform_chat_id(platform_chat_id):
            raise MarkerError("platform_chat_id has blanks or control characters in it")
    conversation = _conversation(content)
    if conversation is not None and platform_chat_id is None:
        raise MarkerError("conversation is there, but no platform_chat_id")
    archived = content.get("archived", False)
    if type(archived) is not bool:
        raise MarkerError(f"archived is {_show(archived)}, expected true or false")
    optional = {
        key: content[key] for key, is_usable in _OPTIONAL.items() if is_usable(content.get(key))
    }
    return Marker(
        room_type=room_type,
        user_id=UserID(user_id),
        chat_id=chat_id,
        platform_chat_id=platform_chat_id,
        archived=archived,
        conversation=conversation,
        others=_others(content, known=_OF_A_CHAT | optional.keys()),
        **optional,
    )


def _others(content: Mapping[str, Any], *, known: Container[str]) -> str:
    others = {key: value for key, value in content.items() if key not in known}
    try:
        text = json.dumps(
            others, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
        )
        size = len(text.encode())
    except (ValueError, RecursionError):
        raise MarkerError("there is something in it that no event can hold") from None
    if size > MAX_OTHERS:
        raise MarkerError(f"what else is in it has {size} bytes, expected at most {MAX_OTHERS}")
    return text if others else ""


def _is_agent(value: object) -> bool:
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_NAME_LENGTH
        and value.isprintable()
        and value.strip() == value
    )


_COMMON: Final = frozenset({"version", "room_type", "user_id"})
_OF_A_SPACE: Final = _COMMON | {"initial_chats"}
_OF_A_CHAT: Final = _COMMON | {
    "chat_id",
    "platform_chat_id",
    "archived",
    "conversation",
    "conversation_since",
}
_OPTIONAL: Final[Mapping[str, Callable[[object], bool]]] = {
    "agent": _is_agent,
    "answer": lambda value: value == "members",
    "made_for": is_event_id,
}
"""Keys of chats whose value, if it cannot be used, is kept and otherwise as good as absent."""


def is_user_id(value: object) -> bool:
    """Whether this is a user ID by the spec's shape: `@localpart:server`, 255 bytes at most."""
    if not isinstance(value, str) or not value.startswith("@") or ":" not in value:
        return False
    localpart, server = value[1:].split(":", 1)
    return bool(
        localpart
        and server
        and len(value.encode("utf-8", "replace")) <= MAX_ID_LENGTH
        and value.isprintable()
        and " " not in value
    )


def is_chat_name(value: object) -> bool:
    """Whether this can be the name of an initial chat, in a marker and in any database.

    PostgreSQL takes no NUL, and lone surrogates cannot be written as UTF-8; everything else may
    be in a name (emoji are joined by characters that do not count as printable).
    """
    return (
        isinstance(value, str)
        and 1 <= len(value) <= MAX_NAME_LENGTH
        and "\0" not in value
        and not any("\ud800" <= character <= "\udfff" for character in value)
    )


def _text(content: dict[str, Any], key: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH:
        raise MarkerError(
            f"{key} is {_show(value)}, expected a text of 1 to {MAX_ID_LENGTH} characters"
        )
    return value


def _initial_chats(content: dict[str, Any]) -> tuple[str, ...]:
    names = content.get("initial_chats", [])
    if not isinstance(names, list) or len(names) > MAX_INITIAL_CHATS:
        raise MarkerError(
            f"initial_chats is {_show(names)}, expected at most {MAX_INITIAL_CHATS} names"
        )
    for name in names:
        if not is_chat_name(name):
            raise MarkerError(f"initial_chats has {_show(name)} in it, expected a name")
    return tuple(names)


def _conversation(content: dict[str, Any]) -> Conversation | None:
    if "conversation" not in content and "conversation_since" not in content:
        return None
    number, since = content.get("conversation"), content.get("conversation_since")
    conversation = read_conversation(number, since)
    if conversation is None:
        raise MarkerError(
            f"conversation is {_show(number)} and conversation_since is {_show(since)}, expected"
            f" a number from 1 to {MAX_CONVERSATION} and an event ID"
        )
    return conversation


def _kind(value: object) -> str:
    return {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "missing",
    }.get(type(value), "something else")


def _show(value: object) -> str:
    """A short, harmless form of a value that came from a room."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else f"a text of {len(value)} characters"
    if isinstance(value, bool | int) and value.bit_length() < 64:
        return repr(value)
    return _kind(value)
