"""Where ids come from: pure functions of the room, so that a lost database costs nothing.

The value is the same whether it was remembered or recomputed: no counter that a lost database
could reset, nothing random.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace
from itertools import count
from typing import Final, TypeGuard
from uuid import UUID, uuid5

from mautrix.types import EventID, RoomID

from .model import Chat, ChatID, Conversation, PlatformChatID

NAMESPACE: Final = UUID("5f1a4a52-5b0e-5d0c-9d1b-6b7a3a1c2e47")
"""Never change this: every conversation key of every unmarked room follows from it."""

MAX_CHAT_NUMBER: Final = 999_999
_CHAT_ID: Final = re.compile("C[1-9][0-9]{0,5}")
_CHILD_ORDER: Final = re.compile("[0-9]{6}")
MAX_CONVERSATION: Final = 999_999
MAX_EVENT_ID_LENGTH: Final = 255
MAX_PLATFORM_CHAT_ID_LENGTH: Final = 255


def derive_platform_chat_id(
    room_id: RoomID,
    *,
    conversation: Conversation | None = None,
    taken: Container[PlatformChatID] = frozenset(),
) -> PlatformChatID:
    """Derive the key of a room's conversation: `uuid5(namespace, room_id)`.

    Later conversations have series of their own, which none of another room can run into, because
    no room ID has a blank in it. If that very value is `taken` by another room, the next value of
    the same series is used.
    """
    first = room_id if conversation is None else f"{room_id} {conversation.number}"
    for generation in count():
        name = first if generation == 0 else f"{first}#{generation}"
        value = PlatformChatID(str(uuid5(NAMESPACE, name)))
        if value not in taken:
            return value
    raise AssertionError("count() does not end")


def is_platform_chat_id(value: str) -> bool:
    """Whether this can be a conversation's key: 1 to 255 printable characters, no blanks.

    Markers and rows are held to the same rule: what a row says is stamped, and must be readable
    ever after.
    """
    return (
        1 <= len(value) <= MAX_PLATFORM_CHAT_ID_LENGTH and value.isprintable() and " " not in value
    )


def cleared(chat: Chat, *, since: EventID) -> Chat:
    """The chat as it is when its next conversation has begun, with the key that follows."""
    before = chat.conversation.number if chat.conversation else 0
    conversation = Conversation(number=before + 1, since=since)
    return replace(
        chat,
        conversation=conversation,
        platform_chat_id=derive_platform_chat_id(chat.room_id, conversation=conversation),
    )


def read_conversation(number: object, since: object) -> Conversation | None:
    """A conversation from what a marker or a row says of it; None if it means nothing."""
    if type(number) is not int or not 1 <= number <= MAX_CONVERSATION or not is_event_id(since):
        return None
    return Conversation(number=number, since=since)


def is_event_id(value: object) -> TypeGuard[EventID]:
    """Whether this can be an event's ID: `$` and more, 255 bytes at most, no blanks.

    https://spec.matrix.org/latest/appendices/#event-ids
    """
    return (
        isinstance(value, str)
        and value.startswith("$")
        and 2 <= len(value.encode("utf-8", "replace")) <= MAX_EVENT_ID_LENGTH
        and value.isprintable()
        and " " not in value
    )


def chat_number(chat_id: ChatID | None) -> int | None:
    """The number in a chat id: 7 for `C7`; None for anything that is not a chat id."""
    if chat_id is None or _CHAT_ID.fullmatch(chat_id) is None:
        return None
    return int(chat_id[1:])


def next_chat_id(taken: Container[ChatID]) -> ChatID:
    """The owner's next free chat id: the smallest number that none of `taken` uses."""
    return next(
        chat_id
        for number in range(1, MAX_CHAT_NUMBER + 1)
        if (chat_id := ChatID(f"C{number}")) not in taken
    )


def child_order(chat_id: ChatID | None) -> str:
    """The `order` of a chat in its Space, so that clients list C2 before C10.

    At most 50 characters of \\x20 to \\x7E, compared as text:
    https://spec.matrix.org/latest/client-server-api/#mspacechild
    """
    return f"{chat_number(chat_id) or MAX_CHAT_NUMBER:06d}"


def chat_id_in_order(order: object) -> ChatID | None:
    """The chat id that `child_order` made this of; None if it was none."""
    if not isinstance(order, str) or _CHILD_ORDER.fullmatch(order) is None:
        return None
    return ChatID(f"C{int(order)}") if 1 <= int(order) < MAX_CHAT_NUMBER else None
