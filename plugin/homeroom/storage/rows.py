"""Rows become types, types become rows.

A row may have been written by an older version, a newer one or a person. What means nothing is
read as None (as nothing at all, where the row's key or owner is not a text), never as an error:
the planner fills it in again from Matrix.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Protocol

from mautrix.types import EventID, RoomID, SyncToken, UserID

from ..domain.conversation.answer_parts import OpenAnswer, Question
from ..domain.homes.ids import chat_number, is_platform_chat_id, read_conversation
from ..domain.homes.model import Chat, ChatID, Home, PlatformChatID, RoomType, Status

_STATUSES: Final[dict[object, Status]] = {status.value: status for status in Status}
_ROOM_TYPES: Final[dict[object, RoomType]] = {kind.value: kind for kind in RoomType}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRequest:
    """A room that was asked for. `asked_at` is in milliseconds since 1970: the first time."""

    alias: str
    purpose: str
    room_id: RoomID | None
    """None: nobody knows yet whether there is one."""
    asked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReconcile:
    """What is remembered of a reconcile that scanned everything; counts as in `Plan`."""

    finished_at: int
    """Milliseconds since 1970."""
    milliseconds: int
    rooms: int
    adopted: int
    updated: int
    backfilled: int
    left: int
    unreadable: int
    findings: int

    @property
    def drift(self) -> int:
        """Rows that were not as Matrix had it."""
        return self.adopted + self.updated


def read_home(row: Row) -> Home | None:
    """Read a row of `homes`; None if it names no owner or no Space."""
    owner, space_id = _text(row["matrix_user_id"]), _text(row["space_id"])
    if owner is None or space_id is None:
        return None
    return Home(
        matrix_user_id=UserID(owner),
        space_id=RoomID(space_id),
        status=_STATUSES.get(row["status"]),
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
        room_type=_ROOM_TYPES.get(row["room_type"]),
        matrix_user_id=UserID(owner),
        space_id=None if space_id is None else RoomID(space_id),
        chat_id=_chat_id(row["chat_id"]),
        platform_chat_id=_platform_chat_id(row["platform_chat_id"]),
        name=_text(row["name"], empty=True),
        status=_STATUSES.get(row["status"]),
        conversation=read_conversation(row["conversation"], row["conversation_since"]),
        answer="members" if row["answer"] == "members" else None,
    )


def read_position(row: Row) -> Position | None:
    """Read the row of `sync_state`; None if it has no token or belongs to nobody."""
    token, bot, saved_at = _text(row["value"]), _text(row["bot"]), row["saved_at"]
    if not token or bot is None or not isinstance(saved_at, int):
        return None
    return Position(token=SyncToken(token), bot=UserID(bot), saved_at=saved_at)


def read_reconcile(row: Row) -> PastReconcile | None:
    """Read a row of `reconciles`; None if something in it is not a number."""
    names = [field.name for field in fields(PastReconcile)]
    values = {name: row["rooms_left" if name == "left" else name] for name in names}
    if not all(isinstance(value, int) for value in values.values()):
        return None
    return PastReconcile(**values)


def reconcile_values(past: PastReconcile) -> dict[str, object]:
    """Give the columns of `reconciles` their values."""
    return {"rooms_left" if name == "left" else name: n for name, n in asdict(past).items()}


def read_room_request(row: Row) -> RoomRequest | None:
    """Read a row of `room_requests`; None if something in it is missing."""
    alias, purpose = _text(row["alias"]), _text(row["purpose"])
    room_id, asked_at = _text(row["room_id"]), row["asked_at"]
    if alias is None or purpose is None or not isinstance(asked_at, int):
        return None
    return RoomRequest(
        alias=alias,
        purpose=purpose,
        room_id=None if room_id is None else RoomID(room_id),
        asked_at=asked_at,
    )


def read_open_answer(row: Row) -> OpenAnswer | None:
    """Read a row of `open_answers`; None if something in it is missing."""
    event_id, room_id, part = _text(row["event_id"]), _text(row["room_id"]), row["part"]
    thread_root, answer_id = _text(row["thread_root"]), _text(row["answer_id"])
    if event_id is None or room_id is None or not isinstance(part, int):
        return None
    return OpenAnswer(
        question=Question(
            room_id=RoomID(room_id),
            event_id=EventID(event_id),
            thread_root=None if thread_root is None else EventID(thread_root),
        ),
        part=part,
        answer_id=None if answer_id is None else EventID(answer_id),
    )


def open_answer_values(answer: OpenAnswer) -> dict[str, object]:
    """Give the columns of `open_answers` their values, except for the time."""
    return {
        "event_id": answer.question.event_id,
        "part": answer.part,
        "room_id": answer.question.room_id,
        "thread_root": answer.question.thread_root,
        "answer_id": answer.answer_id,
    }


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
        "conversation": chat.conversation and chat.conversation.number,
        "conversation_since": chat.conversation and chat.conversation.since,
        "answer": chat.answer,
    }


def _text(value: object, *, empty: bool = False) -> str | None:
    # SQLite holds whatever was put in, numbers and bytes too, whatever the type of the column.
    return value if isinstance(value, str) and (value or empty) else None


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
