"""Schema versions, as steps of mautrix's `UpgradeTable`. maubot runs them before `start()`.

The text of a step is frozen: it never changes when `tables.py` does, a new version is a new step.
mautrix runs each step and the note of the new version in one transaction, so a step that fails
leaves the older version as it was.

A database of a *newer* version is used as it is (`allow_unsupported`), because maubot disables an
instance for good when its database does not start, and going back to the build before is what an
administrator does in an emergency. So a later step may only add: tables, and columns that are
nullable or have a default. If one cannot keep to that, the statements here fail as `StoreError`,
the reconcile says so and goes on trying; nothing is routed and nothing is lost, for the database
is only a cache.
"""

from __future__ import annotations

from typing import Final

from mautrix.util.async_db import Connection, UpgradeTable

UPGRADES: Final = UpgradeTable(allow_unsupported=True, database_name="Homeroom's database")

_HOMES_AND_CHATS: Final = (
    """
    CREATE TABLE homes (
        matrix_user_id TEXT NOT NULL PRIMARY KEY,
        space_id TEXT NOT NULL,
        status TEXT,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE chats (
        room_id TEXT NOT NULL PRIMARY KEY,
        room_type TEXT,
        matrix_user_id TEXT NOT NULL,
        space_id TEXT,
        chat_id TEXT,
        platform_chat_id TEXT,
        name TEXT,
        status TEXT,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
    """,
    "CREATE INDEX chats_matrix_user_id ON chats (matrix_user_id)",
)

_INITIAL_CHATS: Final = ("ALTER TABLE homes ADD COLUMN initial_chats TEXT",)

# Of the rows that share an id the oldest keeps it; the others are read as "not known", and the
# planner fills them in again from Matrix. One pass over a sorted table: there may be thousands.
_UNIQUE_IDS: Final = (
    """
    UPDATE chats SET platform_chat_id = NULL WHERE room_id IN (
        SELECT room_id FROM (
            SELECT room_id, ROW_NUMBER() OVER (
                PARTITION BY platform_chat_id ORDER BY created_at, room_id
            ) AS place
            FROM chats
            WHERE status IN ('active', 'archived') AND platform_chat_id IS NOT NULL
        ) AS ranked
        WHERE place > 1
    )
    """,
    """
    UPDATE chats SET chat_id = NULL WHERE room_id IN (
        SELECT room_id FROM (
            SELECT room_id, ROW_NUMBER() OVER (
                PARTITION BY matrix_user_id, chat_id ORDER BY created_at, room_id
            ) AS place
            FROM chats
            WHERE status IN ('active', 'archived') AND chat_id IS NOT NULL
        ) AS ranked
        WHERE place > 1
    )
    """,
    """
    CREATE UNIQUE INDEX chats_unique_platform_chat_id ON chats (platform_chat_id)
        WHERE status IN ('active', 'archived')
    """,
    """
    CREATE UNIQUE INDEX chats_unique_chat_id ON chats (matrix_user_id, chat_id)
        WHERE status IN ('active', 'archived')
    """,
)

_DELIVERY: Final = (
    """
    CREATE TABLE handled_events (
        event_id TEXT NOT NULL PRIMARY KEY,
        room_id TEXT NOT NULL,
        handled_at BIGINT NOT NULL
    )
    """,
    "CREATE INDEX handled_events_handled_at ON handled_events (handled_at)",
    """
    CREATE TABLE sync_state (
        key TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL,
        bot TEXT NOT NULL,
        saved_at BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE notices (
        room_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        sent_at BIGINT NOT NULL,
        PRIMARY KEY (room_id, kind)
    )
    """,
)

_PAST_RECONCILES: Final = (
    """
    CREATE TABLE reconciles (
        finished_at BIGINT NOT NULL PRIMARY KEY,
        milliseconds BIGINT NOT NULL,
        rooms BIGINT NOT NULL,
        adopted BIGINT NOT NULL,
        updated BIGINT NOT NULL,
        backfilled BIGINT NOT NULL,
        rooms_left BIGINT NOT NULL,
        unreadable BIGINT NOT NULL,
        findings BIGINT NOT NULL
    )
    """,
)

_CONVERSATIONS: Final = (
    "ALTER TABLE chats ADD COLUMN conversation BIGINT",
    "ALTER TABLE chats ADD COLUMN conversation_since TEXT",
)

_OPEN_ANSWERS: Final = (
    """
    CREATE TABLE open_answers (
        event_id TEXT NOT NULL,
        part BIGINT NOT NULL,
        room_id TEXT NOT NULL,
        thread_root TEXT,
        answer_id TEXT,
        opened_at BIGINT NOT NULL,
        PRIMARY KEY (event_id, part)
    )
    """,
)

_ROOM_REQUESTS: Final = (
    """
    CREATE TABLE room_requests (
        alias TEXT NOT NULL PRIMARY KEY,
        purpose TEXT NOT NULL,
        room_id TEXT,
        asked_at BIGINT NOT NULL
    )
    """,
)

_SAVED_SETTINGS: Final = (
    """
    CREATE TABLE saved_settings (
        key TEXT NOT NULL PRIMARY KEY,
        text TEXT NOT NULL,
        saved_at BIGINT NOT NULL
    )
    """,
)


_PLACES: Final = (
    """
    CREATE TABLE places (
        room_id TEXT NOT NULL PRIMARY KEY,
        since TEXT,
        why TEXT NOT NULL,
        parked_at BIGINT NOT NULL
    )
    """,
)

_WITHHELD_KEYS: Final = (
    """
    CREATE TABLE withheld_keys (
        sender TEXT NOT NULL,
        session TEXT NOT NULL,
        code TEXT NOT NULL,
        told_at BIGINT NOT NULL,
        PRIMARY KEY (sender, session)
    )
    """,
)


_ATTEMPTS: Final = (
    """
    CREATE TABLE attempts (
        event_id TEXT NOT NULL PRIMARY KEY,
        deaths BIGINT NOT NULL
    )
    """,
)


_ANSWER: Final = ("ALTER TABLE chats ADD COLUMN answer TEXT",)


async def _to_version_1(connection: Connection) -> None:
    await _run(connection, _HOMES_AND_CHATS)


async def _to_version_2(connection: Connection) -> None:
    await _run(connection, _INITIAL_CHATS + _UNIQUE_IDS + _DELIVERY)


async def _to_version_3(connection: Connection) -> None:
    await _run(connection, _CONVERSATIONS + _PAST_RECONCILES + _OPEN_ANSWERS)


async def _to_version_4(connection: Connection) -> None:
    await _run(connection, _ROOM_REQUESTS)


async def _to_version_5(connection: Connection) -> None:
    await _run(connection, _SAVED_SETTINGS)


async def _to_version_6(connection: Connection) -> None:
    await _run(connection, _PLACES)


async def _to_version_7(connection: Connection) -> None:
    await _run(connection, _WITHHELD_KEYS)


async def _to_version_8(connection: Connection) -> None:
    await _run(connection, _ATTEMPTS)


async def _to_version_9(connection: Connection) -> None:
    await _run(connection, _ANSWER)


async def _run(connection: Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        await connection.execute(statement)


UPGRADES.register(_to_version_1, description="homes and chats")
UPGRADES.register(_to_version_2, description="unique ids, initial chats, delivery")
UPGRADES.register(_to_version_3, description="conversations, past reconciles, open answers")
UPGRADES.register(_to_version_4, description="rooms that were asked for")
UPGRADES.register(_to_version_5, description="the last good settings")
UPGRADES.register(_to_version_6, description="places of parked rooms")
UPGRADES.register(_to_version_7, description="keys that were withheld")
UPGRADES.register(_to_version_8, description="what the process may die of")
UPGRADES.register(_to_version_9, description="whom chats answer")
