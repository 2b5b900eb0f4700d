"""The tables of the latest schema version, as SQLAlchemy Core knows them.

Statements are made from these; the database itself is made by `migrations.py`, whose text is
frozen, and a test holds the two together. Only TEXT and BIGINT, because they mean the same to
SQLite and PostgreSQL. Every time is in milliseconds since 1970.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Text, text

METADATA: Final = MetaData()

HOMES: Final = Table(
    "homes",
    METADATA,
    Column("matrix_user_id", Text, primary_key=True),
    Column("space_id", Text, nullable=False),
    Column("status", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("initial_chats", Text),  # a JSON list of names
)

CHATS: Final = Table(
    "chats",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("room_type", Text),
    Column("matrix_user_id", Text, nullable=False),
    Column("space_id", Text),
    Column("chat_id", Text),
    Column("platform_chat_id", Text),
    Column("name", Text),
    Column("status", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("conversation", BigInteger),
    Column("conversation_since", Text),
    Column("answer", Text),
)

# Rows of rooms that were left or replaced keep their ids, so only routed rows are unique.
_ROUTED: Final = text("status IN ('active', 'archived')")

Index("chats_matrix_user_id", CHATS.c.matrix_user_id)
Index(
    "chats_unique_platform_chat_id",
    CHATS.c.platform_chat_id,
    unique=True,
    postgresql_where=_ROUTED,
)
Index(
    "chats_unique_chat_id",
    CHATS.c.matrix_user_id,
    CHATS.c.chat_id,
    unique=True,
    postgresql_where=_ROUTED,
)

HANDLED_EVENTS: Final = Table(
    "handled_events",
    METADATA,
    Column("event_id", Text, primary_key=True),
    Column("room_id", Text, nullable=False),
    Column("handled_at", BigInteger, nullable=False),
)
Index("handled_events_handled_at", HANDLED_EVENTS.c.handled_at)

SYNC_STATE: Final = Table(
    "sync_state",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("bot", Text, nullable=False),
    Column("saved_at", BigInteger, nullable=False),
)

SAVED_SETTINGS: Final = Table(
    "saved_settings",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("text", Text, nullable=False),  # YAML
    Column("saved_at", BigInteger, nullable=False),
)

NOTICES: Final = Table(
    "notices",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("sent_at", BigInteger, nullable=False),
)

RECONCILES: Final = Table(
    "reconciles",
    METADATA,
    Column("finished_at", BigInteger, primary_key=True, autoincrement=False),
    Column("milliseconds", BigInteger, nullable=False),
    Column("rooms", BigInteger, nullable=False),
    Column("adopted", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("backfilled", BigInteger, nullable=False),
    Column("rooms_left", BigInteger, nullable=False),
    Column("unreadable", BigInteger, nullable=False),
    Column("findings", BigInteger, nullable=False),
)

ROOM_REQUESTS: Final = Table(
    "room_requests",
    METADATA,
    Column("alias", Text, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("room_id", Text),  # NULL: the answer to the request is not there yet
    Column("asked_at", BigInteger, nullable=False),
)

OPEN_ANSWERS: Final = Table(
    "open_answers",
    METADATA,
    Column("event_id", Text, primary_key=True),
    Column("part", BigInteger, primary_key=True, autoincrement=False),
    Column("room_id", Text, nullable=False),
    Column("thread_root", Text),
    Column("answer_id", Text),  # NULL: it may have been sent, or not
    Column("opened_at", BigInteger, nullable=False),
)

PLACES: Final = Table(
    "places",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("since", Text),  # NULL: not known
    Column("why", Text, nullable=False),
    Column("parked_at", BigInteger, nullable=False),
)

WITHHELD_KEYS: Final = Table(
    "withheld_keys",
    METADATA,
    Column("sender", Text, primary_key=True),
    Column("session", Text, primary_key=True),  # or the device's key, where none is named
    Column("code", Text, nullable=False),
    Column("told_at", BigInteger, nullable=False),
)

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    Column("event_id", Text, primary_key=True),  # or `running`: no orderly end yet
    Column("deaths", BigInteger, nullable=False),
)
