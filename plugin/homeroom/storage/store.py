"""The class that the rest of the plugin talks to.

In come `Change`s and event IDs, out come `Records`. Every method is one transaction: it is done,
or it raises `StoreError` (or is cancelled) and nothing of it is done. Only what many tasks say of
handled events at once is one transaction for all of them, and goes on for the others. Nothing is
cached here and nothing is decided here. Times are milliseconds since 1970, as `now` gives them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from itertools import islice
from typing import Final

from mautrix.types import EventID, RoomID, SyncToken, UserID
from mautrix.util.async_db import Connection, Database

from ..domain.conversation.answer_parts import OpenAnswer
from ..domain.homes.model import Chat, Home, Records
from ..domain.homes.place import Place
from ..domain.homes.plan import Change, SetChat, SetHome
from ..domain.never import assert_never
from . import statements
from .coalesce import Coalescer
from .errors import attempt
from .many_rows import affected, read_records, write_each
from .rows import (
    PastReconcile,
    Position,
    RoomRequest,
    chat_values,
    home_values,
    open_answer_values,
    read_open_answer,
    read_position,
    read_reconcile,
    read_room_request,
    reconcile_values,
)
from .transactions import connection, snapshot, transaction

_POSITION: Final = "position"
_CHECKPOINT: Final = "proof"
_LAST_GOOD: Final = "last good"
_RUNNING: Final = EventID("running")
"""The keys of the rows of `sync_state`."""
PLACE_COLUMNS: Final = tuple(column.name for column in fields(Place))
_UNKNOWN: Final = "unknown"
"""No checkpoint: whatever the database says, it is written over."""


class Store:
    """What Homeroom remembers. Raises `StoreError`, from every method."""

    def __init__(self, database: Database, *, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._checkpoint: str | None = _UNKNOWN
        """The checkpoint that the database has for its rows."""
        self._handled = Coalescer(self.handled)
        self._mark_handled = Coalescer(self._mark_all_handled)

    async def snapshot(self) -> Records:
        """Read all homes and chats, as they are at one moment."""
        with attempt("read homes and chats"):
            async with snapshot(self._database) as reading:
                home_rows = await reading.fetch(*statements.READ_HOMES())
                chat_rows = await reading.fetch(*statements.READ_CHATS())
        return await asyncio.to_thread(read_records, home_rows, chat_rows)

    async def apply(self, changes: Sequence[Change]) -> None:
        """Make every changed row its change's `after`, all or none.

        Only the last change of a row counts, otherwise the order does not matter: rows may swap
        their ids. Applying the same changes again changes nothing but `updated_at`. An id that
        an unchanged, routed row has already is an error. Changed rows have no
        checkpoint until `note_checkpoint`.
        """
        homes: dict[UserID, Home] = {}
        chats: dict[RoomID, Chat] = {}
        for change in changes:
            match change:
                case SetHome(after=home):
                    homes[home.matrix_user_id] = home
                case SetChat(after=chat):
                    chats[chat.room_id] = chat
                case _:
                    assert_never(change)
        if not homes and not chats:
            return
        now = self._now()
        times = {"created_at": now, "updated_at": now}
        # Sorted, so that two that write at once wait for each other and never both.
        with attempt(f"write {len(homes)} homes and {len(chats)} chats"):
            async with transaction(self._database) as writing:
                await write_each(
                    writing,
                    statements.WRITE_HOME,
                    ({**home_values(homes[owner]), **times} for owner in sorted(homes)),
                )
                await write_each(
                    writing,
                    statements.FREE_IDS,
                    ({"of_room_id": room_id} for room_id in sorted(chats)),
                )
                await write_each(
                    writing,
                    statements.WRITE_CHAT,
                    ({**chat_values(chats[room_id]), **times} for room_id in sorted(chats)),
                )
                await self._write_checkpoint(writing, None, at=None)
        self._checkpoint = None

    async def last_good_settings(self) -> str | None:
        """The text of the settings that could be used last; None: there were none yet."""
        with attempt("read the last good settings"):
            async with connection(self._database) as reading:
                row = await reading.fetchrow(*statements.READ_SETTINGS(key=_LAST_GOOD))
        return None if row is None else str(row["text"])

    async def keep_settings(self, text: str) -> None:
        """Keep the text of settings that can be used, in place of those before."""
        values = {"text": statements.Unlogged(text), "saved_at": self._now()}
        with attempt("keep the settings"):
            async with transaction(self._database) as writing:
                await writing.execute(*statements.WRITE_SETTINGS(key=_LAST_GOOD, **values))

    async def was_handled(self, event_id: EventID) -> bool:
        """Whether the event was acted on, as far as is still remembered."""
        return event_id in await self._handled(event_id)

    async def handled(self, event_ids: Iterable[EventID]) -> frozenset[EventID]:
        """Those of the events that were acted on, as far as is still remembered."""
        remaining = iter(dict.fromkeys(event_ids))
        handled: set[EventID] = set()
        with attempt("look up handled events"):
            async with connection(self._database) as reading:
                while batch := list(islice(remaining, statements.HANDLED_AT_ONCE)):
                    values: dict[str, EventID | None] = {
                        f"event_{n}": batch[n] if n < len(batch) else None
                        for n in range(statements.HANDLED_AT_ONCE)
                    }
                    rows = await reading.fetch(*statements.READ_HANDLED(**values))
                    handled.update(EventID(row["event_id"]) for row in rows)
        return frozenset(handled)

    async def mark_handled(self, event_id: EventID, *, room_id: RoomID) -> None:
        """Remember that the event was acted on; the first time counts."""
        await self._mark_handled((event_id, room_id))

    async def _mark_all_handled(self, events: Sequence[tuple[EventID, RoomID]]) -> None:
        now = self._now()
        with attempt("mark events as handled"):
            async with transaction(self._database) as writing:
                await write_each(
                    writing,
                    statements.MARK_HANDLED,
                    (
                        {"event_id": event_id, "room_id": room_id, "handled_at": now}
                        for event_id, room_id in events
                    ),
                )

    async def last_handled(self) -> dict[RoomID, int]:
        """Read when the last event of each room was acted on, as far as is still remembered."""
        with attempt("read when rooms were active"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(*statements.READ_LAST_HANDLED())
        return {RoomID(row["room_id"]): row["handled_at"] for row in rows}

    async def newest_handled(self, *, before: int, at_most: int) -> list[tuple[EventID, RoomID]]:
        """Read which events were acted on last, the newest first."""
        with attempt("read what was handled last"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(
                    *statements.READ_NEWEST_HANDLED(before=before, at_most=at_most)
                )
        return [(EventID(row["event_id"]), RoomID(row["room_id"])) for row in rows]

    async def forget_handled(self, event_ids: Iterable[EventID]) -> None:
        """Forget that these events were acted on: there are none such any more."""
        with attempt("forget handled events"):
            async with transaction(self._database) as writing:
                await write_each(
                    writing,
                    statements.DELETE_HANDLED,
                    ({"of_event_id": event_id} for event_id in event_ids),
                )

    async def forget_position(self, *, bot: UserID) -> None:
        """Forget up to where everything was handled: the next start asks the rooms."""
        await self.save_position(SyncToken(""), bot=bot)

    async def prune(self, *, older_than: int, keep: int) -> int:
        """Forget handled events, return how many.

        Forgotten are those that were handled more than `older_than` milliseconds ago, and the
        oldest of those that are more than `keep`. Notices and refusals of that age are forgotten,
        too.
        """
        with attempt("prune handled events"):
            async with transaction(self._database) as writing:
                forgotten = affected(
                    await writing.execute(
                        *statements.DELETE_HANDLED_BEFORE(before=self._now() - older_than)
                    )
                )
                beyond = await writing.fetchrow(*statements.READ_FIRST_BEYOND(keep=keep))
                if beyond is not None:
                    forgotten += affected(
                        await writing.execute(
                            *statements.DELETE_HANDLED_FROM(
                                handled_at=beyond["handled_at"], event_id=beyond["event_id"]
                            )
                        )
                    )
                before = self._now() - older_than
                await writing.execute(*statements.DELETE_NOTICES_BEFORE(before=before))
                await writing.execute(*statements.DELETE_WITHHELD_BEFORE(before=before))
                return forgotten

    async def position(self) -> Position | None:
        """Read the sync position that was saved last, whichever account it belongs to."""
        with attempt("read the sync position"):
            async with connection(self._database) as reading:
                row = await reading.fetchrow(*statements.READ_SYNC_STATE(key=_POSITION))
        return None if row is None else read_position(row)

    async def checkpoint(self) -> str | None:
        """Read the checkpoint of the rows; None if that was at another position."""
        with attempt("read the checkpoint"):
            async with snapshot(self._database) as reading:
                row = await reading.fetchrow(*statements.READ_SYNC_STATE(key=_CHECKPOINT))
                token = await _token(reading)
        text = None if row is None else row["value"]
        if not isinstance(text, str) or not text.endswith(f" {token}"):
            return None
        return text.removesuffix(f" {token}")

    async def note_checkpoint(self, checkpoint: str | None) -> None:
        """Remember the checkpoint (`domain/homes/checkpoint.py`): the rows are the truth at the
        position that is saved, but for what was said since. None: nothing.
        """
        if checkpoint != self._checkpoint:
            with attempt("note a checkpoint"):
                async with transaction(self._database) as writing:
                    await self._write_checkpoint(writing, checkpoint, at=await _token(writing))
            self._checkpoint = checkpoint

    async def save_position(
        self, token: SyncToken, *, bot: UserID, checkpoint: str | None = None
    ) -> None:
        """Remember up to where everything was handled, in place of what was remembered.

        Args:
            checkpoint: as in `note_checkpoint`, at this position.
        """
        with attempt("save the sync position"):
            async with transaction(self._database) as writing:
                await writing.execute(
                    *statements.WRITE_SYNC_STATE(
                        key=_POSITION, value=token, bot=bot, saved_at=self._now()
                    )
                )
                await self._write_checkpoint(writing, checkpoint, at=token)
        self._checkpoint = checkpoint

    async def _write_checkpoint(
        self, writing: Connection, checkpoint: str | None, *, at: str | None
    ) -> None:
        """In the transaction of what it is about; `_proof` is set when that is through."""
        self._checkpoint = _UNKNOWN
        text = "" if checkpoint is None else f"{checkpoint} {at}"
        await writing.execute(
            *statements.WRITE_SYNC_STATE(key=_CHECKPOINT, value=text, bot="", saved_at=self._now())
        )

    async def claim_notice(self, room_id: RoomID, kind: str, *, every_ms: int) -> bool:
        """Whether the notice may be sent now: True once per period, whoever asks at once.

        A claim from the future is void: the clock was wrong then, or is now.
        """
        now = self._now()
        with attempt("claim a notice"):
            async with connection(self._database) as writing:
                result = await writing.execute(
                    *statements.CLAIM_NOTICE(
                        room_id=room_id, kind=kind, sent_at=now, expired=now - every_ms
                    )
                )
        return affected(result) == 1

    async def give_back_notice(self, room_id: RoomID, kind: str) -> None:
        """The notice could not be sent: it may be claimed again."""
        with attempt("give back a notice"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.GIVE_BACK_NOTICE(of_room=room_id, of_kind=kind))

    async def note_room_request(self, alias: str, *, purpose: str) -> RoomRequest:
        """Remember that a room is asked for, before it is; returns what was remembered first."""
        with attempt("note that a room is asked for"):
            async with transaction(self._database) as writing:
                await writing.execute(
                    *statements.NOTE_ROOM_REQUEST(
                        alias=alias, purpose=purpose, room_id=None, asked_at=self._now()
                    )
                )
                row = await writing.fetchrow(*statements.READ_ROOM_REQUEST(of_alias=alias))
        noted = None if row is None else read_room_request(row)
        assert noted is not None
        return noted

    async def note_created_room(self, alias: str, *, room_id: RoomID) -> None:
        """Remember which room came of it."""
        with attempt("note a room that was created"):
            async with connection(self._database) as writing:
                await writing.execute(
                    *statements.NOTE_CREATED_ROOM(of_alias=alias, room_id=room_id)
                )

    async def forget_room_request(self, alias: str) -> None:
        """Forget it: the room is about to be left."""
        with attempt("forget that a room was asked for"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.DELETE_ROOM_REQUEST(of_alias=alias))

    async def room_requests(self, *, since: int) -> list[RoomRequest]:
        """Read which rooms were asked for lately, and forget the others."""
        with attempt("read which rooms were asked for"):
            async with transaction(self._database) as writing:
                await writing.execute(*statements.DELETE_ROOM_REQUESTS_BEFORE(before=since))
                rows = await writing.fetch(*statements.READ_ROOM_REQUESTS())
        return list(filter(None, map(read_room_request, rows)))

    async def note_reconcile(self, past: PastReconcile, *, keep: int) -> None:
        """Remember a reconcile; the oldest are forgotten where there are more than `keep`."""
        with attempt("note a reconcile"):
            async with transaction(self._database) as writing:
                await writing.execute(*statements.WRITE_RECONCILE(**reconcile_values(past)))
                kept = await writing.fetch(*statements.READ_RECONCILES(at_most=keep))
                await writing.execute(
                    *statements.DELETE_RECONCILES_BEFORE(before=kept[-1]["finished_at"])
                )

    async def reconciles(self, *, at_most: int) -> list[PastReconcile]:
        """Read the last reconciles, the newest first."""
        with attempt("read past reconciles"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(*statements.READ_RECONCILES(at_most=at_most))
        return list(filter(None, map(read_reconcile, rows)))

    async def open_answers(self, event_id: EventID | None = None) -> list[OpenAnswer]:
        """Read which messages belong to answers that are not finished (to one event), in order."""
        with attempt("read open answers"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(
                    *(
                        statements.READ_OPEN_ANSWERS()
                        if event_id is None
                        else statements.READ_OPEN_ANSWERS_TO(event_id=event_id)
                    )
                )
        return list(filter(None, map(read_open_answer, rows)))

    async def note_open_answer(self, answer: OpenAnswer) -> None:
        """Remember a message of an answer that is not finished."""
        with attempt("note an open answer"):
            async with connection(self._database) as writing:
                await writing.execute(
                    *statements.WRITE_OPEN_ANSWER(
                        **open_answer_values(answer), opened_at=self._now()
                    )
                )

    async def close_answer(self, event_id: EventID) -> None:
        """Forget the messages of an answer: it is finished."""
        with attempt("close an answer"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.DELETE_OPEN_ANSWERS_TO(event_id=event_id))

    async def places(self) -> list[Place]:
        """Read which rooms are parked, and where."""
        with attempt("read parked rooms"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(*statements.READ_PLACES())
        return [Place(**{key: row[key] for key in PLACE_COLUMNS}) for row in rows]

    async def park(self, place: Place) -> None:
        """Remember a room's own place."""
        with attempt(f"park {place.room_id}"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.WRITE_PLACE(**asdict(place)))

    async def unpark(self, room_id: RoomID) -> None:
        """Forget a room's own place."""
        with attempt(f"unpark {room_id}"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.DELETE_PLACE(room_id=room_id))

    async def withheld_keys(self) -> dict[tuple[str, str], str]:
        """Read who would not give which key, and the code that they gave; the oldest first."""
        with attempt("read withheld keys"):
            async with connection(self._database) as reading:
                rows = await reading.fetch(*statements.READ_WITHHELD())
        return {(row["sender"], row["session"]): row["code"] for row in rows}

    async def note_withheld_key(self, sender: str, session: str, *, code: str) -> None:
        """Remember that somebody will not give a key; nobody says so twice."""
        values = {"sender": sender, "session": session, "code": code, "told_at": self._now()}
        with attempt("note a withheld key"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.WRITE_WITHHELD(**values))

    async def begin_life(self) -> tuple[bool, dict[EventID, int]]:
        """Whether the life before this one came to no orderly end, and what it was at then."""
        with attempt("begin"):
            async with transaction(self._database) as writing:
                rows = await writing.fetch(*statements.READ_ATTEMPTS())
                deaths = {EventID(row["event_id"]): int(row["deaths"]) for row in rows}
                was_cut_off = deaths.pop(_RUNNING, None) is not None
                if not was_cut_off:
                    await writing.execute(*statements.DELETE_ATTEMPTS())
                await writing.execute(*statements.WRITE_ATTEMPT(event_id=_RUNNING, deaths=0))
        return was_cut_off, deaths if was_cut_off else {}

    async def end_life(self) -> None:
        """This is an orderly end."""
        with attempt("end"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.DELETE_ATTEMPTS())

    async def note_attempt(self, event_id: EventID, *, deaths: int) -> None:
        """If the process dies now, it has died in work on this event so often."""
        with attempt(f"note the work on {event_id}"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.WRITE_ATTEMPT(event_id=event_id, deaths=deaths))

    async def forget_attempt(self, event_id: EventID) -> None:
        """The work on an event was survived."""
        with attempt(f"forget the work on {event_id}"):
            async with connection(self._database) as writing:
                await writing.execute(*statements.DELETE_ATTEMPT(event_id=event_id))

    async def counts(self) -> dict[str, int]:
        """Count the rows of every table, at one moment."""
        with attempt("count rows"):
            async with snapshot(self._database) as reading:
                return {
                    table: await reading.fetchval(*statement())
                    for table, statement in statements.COUNT.items()
                }

    async def clear(self) -> dict[str, int]:
        """Delete every row of every table, all or nothing; return how many each had."""
        self._checkpoint = _UNKNOWN
        with attempt("delete all rows"):
            async with transaction(self._database) as writing:
                return {
                    table: affected(await writing.execute(*statement()))
                    for table, statement in statements.CLEAR.items()
                }


async def _token(reading: Connection) -> str | None:
    """The position that is saved."""
    row = await reading.fetchrow(*statements.READ_SYNC_STATE(key=_POSITION))
    return None if row is None else row["value"]
