"""`apply` and `snapshot`: what goes in comes out, all of it or nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mautrix.types import EventID, RoomID
from mautrix.util.async_db import Connection, Database

from homeroom.domain.homes.model import (
    ROUTED,
    Chat,
    ChatID,
    Conversation,
    Home,
    Records,
    RoomType,
    Status,
)
from homeroom.domain.homes.model import PlatformChatID as Key
from homeroom.storage import Store, StoreError
from homeroom.storage.statements import READ_CHATS, READ_HOMES
from homeroom.storage.transactions import snapshot
from tests.storage.databases import Backend, Clock, SqliteBackend
from tests.storage.rows import ANNA, BEN, by_room, changes, chat, home, rows_of

MAYBE_STATUS = [*Status, None]


async def test_an_empty_database_has_no_records(store: Store) -> None:
    assert await store.snapshot() == Records()


@pytest.mark.parametrize("status", MAYBE_STATUS)
@pytest.mark.parametrize("initial_chats", [(), ("Work", "Añd 🌱", 'a "quote"', "nul \x00 \ud800")])
async def test_a_home_comes_back_as_it_was_written(
    store: Store, status: Status | None, initial_chats: tuple[str, ...]
) -> None:
    written = home(status=status, initial_chats=initial_chats)
    await store.apply(changes(written))
    assert await store.snapshot() == Records(homes={ANNA: written})


@pytest.mark.parametrize("status", MAYBE_STATUS)
@pytest.mark.parametrize("room_type", [*RoomType, None])
@pytest.mark.parametrize("filled", [True, False])
async def test_a_chat_comes_back_as_it_was_written(
    store: Store, status: Status | None, room_type: RoomType | None, filled: bool
) -> None:
    written = (
        chat(
            "one",
            "C1",
            key="key-1",
            status=status,
            room_type=room_type,
            name="",
            conversation=Conversation(number=2, since=EventID("$e")),
        )
        if filled
        else chat("one", space_id=None, name=None, status=status, room_type=room_type)
    )
    await store.apply(changes(written))
    assert await store.snapshot() == Records(chats=by_room(written))


async def test_what_no_database_can_hold_is_replaced_and_not_an_error(store: Store) -> None:
    await store.apply(changes(chat("one", name="a\x00b\ud800c"), chat("two", name="fine")))
    names = [chat.name for chat in (await store.snapshot()).chats.values()]
    assert sorted(filter(None, names)) == ["a\ufffdb\ufffdc", "fine"]


async def test_writing_again_keeps_the_time_of_creation(
    store: Store, database: Database, clock: Clock
) -> None:
    both = changes(home(), chat("one", "C1", key="key-1"))
    await store.apply(both)
    before = await store.snapshot()
    clock.time += 5
    await store.apply(both)
    assert await store.snapshot() == before
    for table in ("homes", "chats"):
        (row,) = await rows_of(database, table)
        assert (row["created_at"], row["updated_at"]) == (1_000_000, 1_000_005)


async def test_only_the_last_change_of_a_row_counts(store: Store) -> None:
    # In between, both of them are C2.
    first, second = chat("one", "C1", key="key-1"), chat("two", "C2", key="key-2")
    swapped = chat("one", "C2", key="key-2"), chat("two", "C1", key="key-1")
    await store.apply(changes(first, second, *swapped))
    assert await store.snapshot() == Records(chats=by_room(*swapped))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_rows_may_swap_their_ids_in_any_order(store: Store, order: tuple[int, ...]) -> None:
    rooms = ("one", "two", "three")
    before = [chat(room, f"C{n}", key=f"key-{n}") for n, room in enumerate(rooms, start=1)]
    after = [chat(room, f"C{n % 3 + 1}", key=f"key-{n % 3}") for n, room in enumerate(rooms, 1)]
    await store.apply(changes(*before))
    await store.apply(changes(*(after[n] for n in order)))
    assert await store.snapshot() == Records(chats=by_room(*after))


async def test_a_binding_moves_to_a_new_room_and_the_old_row_keeps_its_ids(store: Store) -> None:
    await store.apply(changes(chat("old", "C1", key="key-1")))
    moved = (
        chat("new", "C1", key="key-1"),
        chat("old", "C1", key="key-1", status=Status.REPLACED),
        chat("older", "C1", key="key-1", status=Status.LEFT),
    )
    await store.apply(changes(*moved))
    assert await store.snapshot() == Records(chats=by_room(*moved))


async def test_two_owners_have_the_same_chat_ids(store: Store) -> None:
    both = chat("one", "C1", key="key-1"), chat("two", "C1", key="key-2", owner=BEN)
    await store.apply(changes(*both))
    assert await store.snapshot() == Records(chats=by_room(*both))


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(chat("two", "C1", key="key-2"), id="chat_id"),
        pytest.param(chat("two", "C2", key="key-1"), id="platform_chat_id"),
        pytest.param(chat("two", "C1", owner=BEN, key="key-1"), id="of another owner"),
        pytest.param(chat("two", "C1", status=Status.ARCHIVED), id="archived"),
    ],
)
async def test_an_id_that_another_room_has_fails_and_nothing_is_written(
    store: Store, second: Chat
) -> None:
    await store.apply(changes(chat("one", "C1", key="key-1")))
    before = await store.snapshot()
    with pytest.raises(
        StoreError, match=r"could not write 1 homes and 2 chats: (Unique|Integrity)"
    ):
        await store.apply(changes(home(), chat("three", "C3"), second))
    assert await store.snapshot() == before


@pytest.mark.timeout(600)  # of thread changes; a busy machine takes its time over them
async def test_ten_thousand_rows(store: Store) -> None:
    written = [chat(f"room{n}", f"C{n}", key=f"key-{n}") for n in range(1, 10_001)]
    await store.apply(changes(*written))
    assert await store.snapshot() == Records(chats=by_room(*written))
    archived = [chat(f"room{n}", f"C{n}", key=f"key-{n}") for n in range(10_000, 0, -1)]
    await store.apply(changes(*archived))
    assert await store.snapshot() == Records(chats=by_room(*archived))


async def test_no_changes_do_not_even_ask_the_database(store: Store, database: Database) -> None:
    await database.execute("DROP TABLE homes")
    await database.execute("DROP TABLE chats")
    await store.apply([])


async def test_a_snapshot_is_of_one_moment(backend: Backend, clock: Clock) -> None:
    async with backend.opened() as ours, backend.opened() as theirs, snapshot(ours) as reading:
        assert await reading.fetch(*READ_HOMES()) == []
        await Store(theirs, now=clock).apply(changes(home(), chat("one")))
        assert await reading.fetch(*READ_CHATS()) == []


async def test_two_that_write_at_once_wait_for_each_other(backend: Backend, clock: Clock) -> None:
    rows = [chat(f"room{n}", f"C{n}", key=f"key-{n}") for n in range(1, 2_001)]
    async with backend.opened() as ours, backend.opened() as theirs:
        await Store(ours, now=clock).apply(changes(*rows))
        await asyncio.gather(
            Store(ours, now=clock).apply(changes(*rows)),
            Store(theirs, now=clock).apply(changes(*reversed(rows))),
        )
        assert await Store(ours, now=clock).snapshot() == Records(chats=by_room(*rows))


async def test_a_store_uses_its_own_database_inside_anothers_transaction(
    store: Store, database: Database, tmp_path: Path
) -> None:
    async with (
        SqliteBackend(tmp_path / "another.db").opened() as another,
        another.acquire() as connection,
        connection.transaction(),
    ):
        await store.apply(changes(home()))
        with pytest.raises(StoreError):
            await store.apply(changes(home(BEN), chat("one", "C1"), chat("two", "C1")))
    assert await store.snapshot() == Records(homes={ANNA: home()})


class Interruption:
    """Cancels the running task in its n-th statement from now on, and `again` in the next wait."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.again = False
        self.statements: list[str] = []
        for name in ("execute", "executemany"):
            patch.setattr(Connection, name, self._wrapped(getattr(Connection, name)))

    def _wrapped(self, original: Any) -> Any:
        async def run(connection: Connection, query: str, *args: Any, **kwargs: Any) -> Any:
            if "search_path" in query:  # maubot's own
                return await original(connection, query, *args, **kwargs)
            self.left -= 1
            if self.left == 0:
                self.statements.append(query)
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                try:
                    return await original(connection, query, *args, **kwargs)
                finally:
                    if self.again:
                        task.cancel()
            return await original(connection, query, *args, **kwargs)

        return run


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
async def test_cancelled_at_any_statement_it_writes_all_or_nothing(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    before = Records(homes={ANNA: home()}, chats=by_room(chat("one", "C1"), chat("two", "C2")))
    after = Records(
        homes={ANNA: home(initial_chats=("Work",))},
        chats=by_room(chat("one", "C2"), chat("two", "C1")),
    )
    await store.apply(changes(*before.homes.values(), *before.chats.values()))
    interruption = Interruption(monkeypatch)
    interruption.again = again
    for statement in range(1, 10):
        interruption.left = statement
        task = asyncio.create_task(
            store.apply(changes(*after.homes.values(), *after.chats.values()))
        )
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        interruption.left = -1
        committed = "COMMIT" in interruption.statements
        if result is None:
            break
        assert isinstance(result, asyncio.CancelledError)
        assert await store.snapshot() == (after if committed else before)
    assert await store.snapshot() == after
    cancelled = [query.split()[0] for query in interruption.statements]
    assert cancelled in (
        ["BEGIN", "INSERT", "UPDATE", "INSERT", "INSERT", "COMMIT"],
        ["INSERT", "UPDATE", "INSERT", "INSERT"],
    )


async def test_an_error_names_what_was_attempted(store: Store, database: Database) -> None:
    await database.execute("DROP TABLE chats")
    with pytest.raises(StoreError, match=r"could not read homes and chats: .*chats") as caught:
        await store.snapshot()
    assert caught.value.__cause__ is not None
    await store.apply(changes(home()))  # the connection is usable


async def test_a_stopped_database_is_a_store_error(tmp_path: Path, clock: Clock) -> None:
    # SQLite only: on PostgreSQL maubot's proxy lets whoever comes after its end wait for ever.
    async with SqliteBackend(tmp_path / "instance.db").opened() as database:
        store = Store(database, now=clock)
    with pytest.raises(StoreError, match=r"could not count rows: RuntimeError: .*stopped"):
        await store.counts()


# --- any sequence of changes is a dict -----------------------------------------------------

_names = st.none() | st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=5
)
_chats = st.builds(
    Chat,
    room_id=st.sampled_from([RoomID(f"!{n}:x") for n in range(4)]),
    matrix_user_id=st.sampled_from([ANNA, BEN]),
    space_id=st.sampled_from([None, RoomID("!s:x")]),
    chat_id=st.sampled_from([None, ChatID("C1"), ChatID("C2"), ChatID("C3")]),
    platform_chat_id=st.sampled_from([None, Key("a"), Key("b"), Key("c")]),
    name=_names,
    status=st.sampled_from([Status.ACTIVE, *MAYBE_STATUS]),
    room_type=st.sampled_from([*RoomType, None]),
)
_homes = st.builds(
    Home,
    matrix_user_id=st.sampled_from([ANNA, BEN]),
    space_id=st.sampled_from([RoomID("!s:x"), RoomID("!t:x")]),
    status=st.sampled_from(MAYBE_STATUS),
    initial_chats=st.lists(st.text(min_size=1, max_size=5), max_size=3).map(tuple),
)
_batches = st.lists(st.lists(_chats | _homes, max_size=5), max_size=6)


def _ids(records: Records) -> Iterator[tuple[str, ...]]:
    for row in records.chats.values():
        if row.status in ROUTED:
            if row.chat_id is not None:
                yield row.matrix_user_id, row.chat_id
            if row.platform_chat_id is not None:
                yield (row.platform_chat_id,)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(batches=_batches)
async def test_any_sequence_of_changes_is_a_dict(
    store: Store, database: Database, batches: list[list[Home | Chat]]
) -> None:
    await database.execute("DELETE FROM homes")
    await database.execute("DELETE FROM chats")
    expected = Records()
    for batch in batches:
        wanted = Records(
            homes={
                **expected.homes,
                **{r.matrix_user_id: r for r in batch if isinstance(r, Home)},
            },
            chats={**expected.chats, **{r.room_id: r for r in batch if isinstance(r, Chat)}},
        )
        ids = list(_ids(wanted))
        if len(ids) == len(set(ids)):
            await store.apply(changes(*batch))
            expected = wanted
        else:
            with pytest.raises(StoreError):
                await store.apply(changes(*batch))
        assert await store.snapshot() == expected
