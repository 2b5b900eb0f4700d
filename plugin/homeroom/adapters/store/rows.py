"""Rows become types, types become rows.

A row may have been written by an older version, a newer one or a person. What means nothing is
read as None (as nothing at all, where the row's key or owner is not a text), never as an error:
the planner fills it in again from Matrix.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from mautrix.types import RoomID, SyncToken, UserID

from ...domain.ids import chat_number, is_platform_chat_id
from ...domain.model import Chat, ChatID, Home, PlatformChatID, RoomType, Status

_Word = TypeVar("_Word", bound=Enum)


class Row(Protocol):
    """What asyncpg's `Record` and `sqlite3.Row` have in common."""

    def __getitem__(self, column: str, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The sync token up to which everything was handled."""

    token: SyncToken
    bot: UserID
    """Whose sync it is: a token means nothing to another account."""
    saved_at: int
    """Milliseconds since 1970."""


def read_home(row: Row) -> Home | None:
    """Read a row of `homes`; None if it names no owner or no Space."""
    owner, space_id = _text(row["matrix_user_id"]), _text(row["space_id"])
    if owner is None or space_id is None:
        return None
    return Home(
        matrix_user_id=UserID(owner),
        space_id=RoomID(space_id),
        status=_word(row["status"], of=Status),
        initial_chats=_names(row["initial_chats"]),
    )


def read_chat(row: Row) -> Chat | None:
    """Read a row of `chats`; None if it names no room or no owner."""
    room_id, owner = _text(row["room_id"]), _text(row["matrix_user_id"])
    if room_id is None or owner is None:
        return None
    space_id = _text(row["space_id"])
    return Chat(
        room_id=RoomID(room_id),
        room_type=_word(row["room_type"], of=RoomType),
        matrix_user_id=UserID(owner),
        space_id=None if space_id is None else RoomID(space_id),
        chat_id=_chat_id(row["chat_id"]),
        platform_chat_id=_platform_chat_id(row["platform_chat_id"]),
        name=_text(row["name"], empty=True),
        status=_word(row["status"], of=Status),
    )


def read_position(row: Row) -> Position | None:
    """Read the row of `sync_state`; None if it has no token or belongs to nobody."""
    token, bot, saved_at = _text(row["value"]), _text(row["bot"]), row["saved_at"]
    if token is None or bot is None or not isinstance(saved_at, int):
        return None
    return Position(token=SyncToken(token), bot=UserID(bot), saved_at=saved_at)


def home_values(home: Home) -> dict[str, object]:
    """Give the columns of `homes` their values, except for the times."""
    return {
        "matrix_user_id": home.matrix_user_id,
        "space_id": home.space_id,
        "status": home.status and home.status.value,
        "initial_chats": json.dumps(home.initial_chats),
    }


def chat_values(chat: Chat) -> dict[str, object]:
    """Give the columns of `chats` their values, except for the times."""
    return {
        "room_id": chat.room_id,
        "room_type": chat.room_type and chat.room_type.value,
        "matrix_user_id": chat.matrix_user_id,
        "space_id": chat.space_id,
        "chat_id": chat.chat_id,
        "platform_chat_id": chat.platform_chat_id,
        "name": chat.name,
        "status": chat.status and chat.status.value,
    }


def _text(value: object, *, empty: bool = False) -> str | None:
    # SQLite holds whatever was put in, numbers and bytes too, whatever the type of the column.
    return value if isinstance(value, str) and (value or empty) else None


def _word(value: object, *, of: type[_Word]) -> _Word | None:
    try:
        return of(value)
    except ValueError:
        return None


def _chat_id(value: object) -> ChatID | None:
    text = _text(value)
    if text is None or chat_number(ChatID(text)) is None:
        return None
    return ChatID(text)


def _platform_chat_id(value: object) -> PlatformChatID | None:
    text = _text(value)
    return PlatformChatID(text) if text is not None and is_platform_chat_id(text) else None


def _names(value: object) -> tuple[str, ...]:
    text = _text(value)
    if text is None:
        return ()
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return ()
    return tuple(names)
