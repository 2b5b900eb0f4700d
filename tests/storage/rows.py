"""Rows to test with, and a raw look at the tables past the store."""

from __future__ import annotations

from typing import Any

from mautrix.types import RoomID, UserID
from mautrix.util.async_db import Database

from homeroom.domain.homes.model import Chat, ChatID, Home, PlatformChatID, Status
from homeroom.domain.homes.plan import SetChat, SetHome

ANNA = UserID("@anna:example.org")
BEN = UserID("@ben:example.org")
BOT = UserID("@bot:example.org")


def home(owner: UserID = ANNA, **values: Any) -> Home:
    return Home(**{"matrix_user_id": owner, "space_id": RoomID("!space:example.org"), **values})


def chat(
    room: str,
    chat_id: str | None = None,
    *,
    key: str | None = None,
    owner: UserID = ANNA,
    status: Status | None = Status.ACTIVE,
    **values: Any,
) -> Chat:
    return Chat(
        **{
            "room_id": RoomID(f"!{room}:example.org"),
            "matrix_user_id": owner,
            "space_id": RoomID("!space:example.org"),
            "chat_id": None if chat_id is None else ChatID(chat_id),
            "platform_chat_id": None if key is None else PlatformChatID(key),
            "name": f"The {room} room",
            "status": status,
            **values,
        }
    )


def changes(*rows: Home | Chat) -> list[SetHome | SetChat]:
    return [
        SetHome(before=None, after=row)
        if isinstance(row, Home)
        else SetChat(before=None, after=row)
        for row in rows
    ]


def by_room(*chats: Chat) -> dict[RoomID, Chat]:
    return {chat.room_id: chat for chat in chats}


async def insert(database: Database, table: str, **values: object) -> None:
    """Write a row past the store."""
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await database.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values()
    )


async def rows_of(database: Database, table: str) -> list[dict[str, Any]]:
    """All rows, sorted, read past the store."""
    rows = [dict(row) for row in await database.fetch(f"SELECT * FROM {table}")]
    return sorted(rows, key=lambda row: tuple(map(str, row.values())))
