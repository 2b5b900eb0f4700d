"""Every statement of the store, compiled once, at import, to text that both databases read.

The text is PostgreSQL's with `$1`, `$2`, … for the arguments; for SQLite mautrix turns these into
`?1`, `?2`, …. Only those parts of SQLAlchemy are used that are the same from 1.3.24 to 2.1, and
only SQL that SQLite 3.24 knows too: no RETURNING, no `= ANY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table, and_, bindparam, func, literal_column, null, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql import Select

from .tables import (
    ATTEMPTS,
    CHATS,
    HANDLED_EVENTS,
    HOMES,
    METADATA,
    NOTICES,
    OPEN_ANSWERS,
    PLACES,
    RECONCILES,
    ROOM_REQUESTS,
    SAVED_SETTINGS,
    SYNC_STATE,
    WITHHELD_KEYS,
)

# The base class, because SQLAlchemy 2.1's default dialect writes `$1::VARCHAR`.
_DIALECT: Final[Any] = PGDialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")
# What a JSON text may carry and PostgreSQL (NUL) or UTF-8 (surrogates) cannot.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text and the names of its arguments in order."""

    sql: str
    names: tuple[str, ...]

    def __call__(self, **values: object) -> tuple[Any, ...]:
        """The text and the arguments, as a connection's `execute` and `fetch` take them."""
        return (self.sql, *self.arguments(values))

    def arguments(self, values: Mapping[str, object]) -> tuple[object, ...]:
        """Put the values in order; characters that no database can hold become U+FFFD."""
        if len(values) != len(self.names):
            raise TypeError(f"expected {self.names}, got {tuple(values)}")
        return tuple(_storable(values[name]) for name in self.names)


class Unlogged(str):
    """A text with secrets in it. aiosqlite logs the `repr` of every argument, and not of this."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'...'"


def _storable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return type(value)(_UNSTORABLE.sub("\ufffd", value))


def _compile(statement: Any) -> Statement:
    text = str(statement.compile(dialect=_DIALECT))
    names = tuple(dict.fromkeys(_PLACEHOLDER.findall(text)))
    numbers = {name: number for number, name in enumerate(names, start=1)}
    return Statement(_PLACEHOLDER.sub(lambda match: f"${numbers[match[1]]}", text), names)


def _select(*columns: Any) -> Any:
    """`select`, which took one list before SQLAlchemy 1.4."""
    make: Any = select
    return make(*columns) if hasattr(Select, "add_columns") else make(list(columns))


def _insert(table: Table) -> Any:
    return insert(table).values({column.name: bindparam(column.name) for column in table.columns})


def _upsert(table: Table, *, kept: Iterable[str] = ()) -> Statement:
    """Insert a row, or write over the one with its key, except for the columns `kept`."""
    statement = _insert(table)
    kept = {*kept, *(column.name for column in table.primary_key)}
    return _compile(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_={
                column.name: statement.excluded[column.name]
                for column in table.columns
                if column.name not in kept
            },
        )
    )


def _claim() -> Statement:
    """Insert a notice; or renew one from before `expired`, or from a future that is none."""
    statement = _insert(NOTICES)
    sent_at = NOTICES.c.sent_at
    return _compile(
        statement.on_conflict_do_update(
            index_elements=list(NOTICES.primary_key),
            set_={"sent_at": statement.excluded.sent_at},
            where=or_(sent_at <= bindparam("expired"), sent_at > bindparam("sent_at")),
        )
    )


def _note_room_request() -> Statement:
    """Insert a request; one that has led to a room begins anew."""
    statement = _insert(ROOM_REQUESTS)
    return _compile(
        statement.on_conflict_do_update(
            index_elements=list(ROOM_REQUESTS.primary_key),
            set_={
                "room_id": statement.excluded.room_id,
                "asked_at": statement.excluded.asked_at,
            },
            where=ROOM_REQUESTS.c.room_id.isnot(None),
        )
    )


_OF_HOMES: Final = {
    name: table
    for name, table in METADATA.tables.items()
    if table not in (SAVED_SETTINGS, ATTEMPTS)
}
"""What is known of homes and of what was said; the administrator's settings and the process's
own end are neither."""

COUNT: Final = {
    name: _compile(func.count().select().select_from(table)) for name, table in _OF_HOMES.items()
}

CLEAR: Final = {name: _compile(table.delete()) for name, table in _OF_HOMES.items()}

READ_HOMES: Final = _compile(HOMES.select())
READ_CHATS: Final = _compile(CHATS.select())
WRITE_HOME: Final = _upsert(HOMES, kept=("created_at",))
WRITE_CHAT: Final = _upsert(CHATS, kept=("created_at",))
FREE_IDS: Final = _compile(
    CHATS.update()
    .where(CHATS.c.room_id == bindparam("of_room_id"))
    .values(chat_id=null(), platform_chat_id=null())
)

HANDLED_AT_ONCE: Final = 100
"""How many event IDs `READ_HANDLED` takes, as `event_0`, `event_1`, …; NULL matches none."""

READ_HANDLED: Final = _compile(
    HANDLED_EVENTS.select().where(
        HANDLED_EVENTS.c.event_id.in_([bindparam(f"event_{n}") for n in range(HANDLED_AT_ONCE)])
    )
)
MARK_HANDLED: Final = _compile(
    _insert(HANDLED_EVENTS).on_conflict_do_nothing(index_elements=[HANDLED_EVENTS.c.event_id])
)
READ_FIRST_BEYOND: Final = _compile(
    HANDLED_EVENTS.select()
    .order_by(HANDLED_EVENTS.c.handled_at.desc(), HANDLED_EVENTS.c.event_id.desc())
    .limit(literal_column("1"))
    .offset(bindparam("keep"))
)
DELETE_HANDLED_BEFORE: Final = _compile(
    HANDLED_EVENTS.delete().where(HANDLED_EVENTS.c.handled_at < bindparam("before"))
)
DELETE_HANDLED_FROM: Final = _compile(
    HANDLED_EVENTS.delete().where(
        or_(
            HANDLED_EVENTS.c.handled_at < bindparam("handled_at"),
            and_(
                HANDLED_EVENTS.c.handled_at == bindparam("handled_at"),
                HANDLED_EVENTS.c.event_id <= bindparam("event_id"),
            ),
        )
    )
)
READ_LAST_HANDLED: Final = _compile(
    _select(
        HANDLED_EVENTS.c.room_id, func.max(HANDLED_EVENTS.c.handled_at).label("handled_at")
    ).group_by(HANDLED_EVENTS.c.room_id)
)
DELETE_HANDLED: Final = _compile(
    HANDLED_EVENTS.delete().where(HANDLED_EVENTS.c.event_id == bindparam("of_event_id"))
)
READ_NEWEST_HANDLED: Final = _compile(
    HANDLED_EVENTS.select()
    .where(HANDLED_EVENTS.c.handled_at <= bindparam("before"))
    .order_by(HANDLED_EVENTS.c.handled_at.desc(), HANDLED_EVENTS.c.event_id.desc())
    .limit(bindparam("at_most"))
)

READ_SYNC_STATE: Final = _compile(SYNC_STATE.select().where(SYNC_STATE.c.key == bindparam("key")))
WRITE_SYNC_STATE: Final = _upsert(SYNC_STATE)

READ_SETTINGS: Final = _compile(
    SAVED_SETTINGS.select().where(SAVED_SETTINGS.c.key == bindparam("key"))
)
WRITE_SETTINGS: Final = _upsert(SAVED_SETTINGS)

CLAIM_NOTICE: Final = _claim()
GIVE_BACK_NOTICE: Final = _compile(
    NOTICES.delete()
    .where(NOTICES.c.room_id == bindparam("of_room"))
    .where(NOTICES.c.kind == bindparam("of_kind"))
)

WRITE_OPEN_ANSWER: Final = _upsert(OPEN_ANSWERS, kept=("opened_at",))
READ_OPEN_ANSWERS: Final = _compile(
    OPEN_ANSWERS.select().order_by(OPEN_ANSWERS.c.event_id, OPEN_ANSWERS.c.part)
)
READ_OPEN_ANSWERS_TO: Final = _compile(
    OPEN_ANSWERS.select()
    .where(OPEN_ANSWERS.c.event_id == bindparam("event_id"))
    .order_by(OPEN_ANSWERS.c.part)
)
DELETE_OPEN_ANSWERS_TO: Final = _compile(
    OPEN_ANSWERS.delete().where(OPEN_ANSWERS.c.event_id == bindparam("event_id"))
)
DELETE_NOTICES_BEFORE: Final = _compile(
    NOTICES.delete().where(NOTICES.c.sent_at < bindparam("before"))
)

NOTE_ROOM_REQUEST: Final = _note_room_request()
READ_ROOM_REQUEST: Final = _compile(
    ROOM_REQUESTS.select().where(ROOM_REQUESTS.c.alias == bindparam("of_alias"))
)
READ_ROOM_REQUESTS: Final = _compile(ROOM_REQUESTS.select().order_by(ROOM_REQUESTS.c.asked_at))
NOTE_CREATED_ROOM: Final = _compile(
    ROOM_REQUESTS.update()
    .where(ROOM_REQUESTS.c.alias == bindparam("of_alias"))
    .values(room_id=bindparam("room_id"))
)
DELETE_ROOM_REQUEST: Final = _compile(
    ROOM_REQUESTS.delete().where(ROOM_REQUESTS.c.alias == bindparam("of_alias"))
)
DELETE_ROOM_REQUESTS_BEFORE: Final = _compile(
    ROOM_REQUESTS.delete().where(ROOM_REQUESTS.c.asked_at < bindparam("before"))
)

WRITE_RECONCILE: Final = _upsert(RECONCILES)
READ_RECONCILES: Final = _compile(
    RECONCILES.select().order_by(RECONCILES.c.finished_at.desc()).limit(bindparam("at_most"))
)
DELETE_RECONCILES_BEFORE: Final = _compile(
    RECONCILES.delete().where(RECONCILES.c.finished_at < bindparam("before"))
)

READ_PLACES: Final = _compile(PLACES.select().order_by(PLACES.c.parked_at))
WRITE_PLACE: Final = _upsert(PLACES)
DELETE_PLACE: Final = _compile(PLACES.delete().where(PLACES.c.room_id == bindparam("room_id")))

READ_WITHHELD: Final = _compile(WITHHELD_KEYS.select().order_by(WITHHELD_KEYS.c.told_at))
WRITE_WITHHELD: Final = _upsert(WITHHELD_KEYS)
DELETE_WITHHELD_BEFORE: Final = _compile(
    WITHHELD_KEYS.delete().where(WITHHELD_KEYS.c.told_at < bindparam("before"))
)

READ_ATTEMPTS: Final = _compile(ATTEMPTS.select())
WRITE_ATTEMPT: Final = _upsert(ATTEMPTS)
DELETE_ATTEMPT: Final = _compile(
    ATTEMPTS.delete().where(ATTEMPTS.c.event_id == bindparam("event_id"))
)
DELETE_ATTEMPTS: Final = _compile(ATTEMPTS.delete())
