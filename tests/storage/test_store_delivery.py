"""What delivery remembers: events it acted on, notices it sent; bounded, and each once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mautrix.types import EventID, RoomID, SyncToken, UserID
from mautrix.util.async_db import Database

from homeroom.storage import PastReconcile, RoomRequest, Store
from tests.storage.databases import Backend, Clock
from tests.storage.rows import rows_of

ROOM = RoomID("!one:example.org")


def events(*numbers: int) -> list[EventID]:
    return [EventID(f"$event{number}") for number in numbers]


async def test_an_event_was_handled_once_it_was_marked(store: Store) -> None:
    (event_id,) = events(1)
    assert not await store.was_handled(event_id)
    await store.mark_handled(event_id, room_id=ROOM)
    assert await store.was_handled(event_id)


async def test_the_first_time_counts(store: Store, database: Database, clock: Clock) -> None:
    for _ in range(2):
        await store.mark_handled(EventID("$1"), room_id=ROOM)
        clock.time += 1
    (row,) = await rows_of(database, "handled_events")
    assert row == {"event_id": "$1", "room_id": ROOM, "handled_at": 1_000_000}


async def test_what_was_handled_last_is_told_and_can_be_forgotten(
    store: Store, clock: Clock
) -> None:
    first, second, third, fourth = events(1, 2, 3, 4)
    for event_id in (first, second, third, fourth):
        await store.mark_handled(event_id, room_id=ROOM)
        clock.time += 1
    newest = await store.newest_handled(before=clock.time - 2, at_most=2)
    assert newest == [(third, ROOM), (second, ROOM)]
    await store.forget_handled([second, third])
    newest = await store.newest_handled(before=clock.time, at_most=5)
    assert newest == [(fourth, ROOM), (first, ROOM)]


async def test_a_forgotten_position_is_none(store: Store) -> None:
    bot = UserID("@bot:test")
    await store.save_position(SyncToken("s1"), bot=bot)
    await store.forget_position(bot=bot)
    assert await store.position() is None


async def test_who_withholds_a_key_is_known_for_as_long_as_what_was_said(
    store: Store, clock: Clock
) -> None:
    await store.note_withheld_key("@anna:test", "s1", code="m.unverified")
    await store.note_withheld_key("@eve:test", "s1", code="m.blacklisted")
    clock.time += 10
    await store.note_withheld_key("@anna:test", "s1", code="m.blacklisted")
    assert list((await store.withheld_keys()).items()) == [
        (("@eve:test", "s1"), "m.blacklisted"),
        (("@anna:test", "s1"), "m.blacklisted"),
    ]
    await store.prune(older_than=5, keep=10)
    assert await store.withheld_keys() == {("@anna:test", "s1"): "m.blacklisted"}


async def test_many_at_once_each_have_their_own_answer(store: Store, database: Database) -> None:
    old, new = events(*range(150)), events(*range(150, 300))
    await asyncio.gather(*(store.mark_handled(event_id, room_id=ROOM) for event_id in old * 2))
    answers = await asyncio.gather(*map(store.was_handled, (*old, *new)))
    assert answers == [True] * len(old) + [False] * len(new)
    assert len(await rows_of(database, "handled_events")) == len(old)


@pytest.mark.parametrize("asked", [0, 1, 99, 100, 101, 250])
async def test_those_of_many_that_were_handled(store: Store, asked: int) -> None:
    for event_id in events(0, 3, 99, 100, 249):
        await store.mark_handled(event_id, room_id=ROOM)
    handled = await store.handled(events(*range(asked)) * 2)
    assert handled == frozenset(events(*(n for n in (0, 3, 99, 100, 249) if n < asked)))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    times=st.lists(st.integers(0, 10), max_size=12),
    older_than=st.integers(0, 11),
    keep=st.integers(0, 12),
)
async def test_pruning_keeps_the_youngest_of_the_young(
    store: Store,
    database: Database,
    clock: Clock,
    times: list[int],
    older_than: int,
    keep: int,
) -> None:
    await database.execute("DELETE FROM handled_events")
    for number, clock.time in enumerate(times):
        await store.mark_handled(EventID(f"${number:02}"), room_id=ROOM)
    clock.time = 10
    forgotten = await store.prune(older_than=older_than, keep=keep)
    kept = sorted(row["handled_at"] for row in await rows_of(database, "handled_events"))
    young = sorted(time for time in times if time >= 10 - older_than)
    assert kept == young[max(0, len(young) - keep) :]
    assert forgotten == len(times) - len(kept)


async def test_a_notice_may_be_sent_once_per_period(store: Store, clock: Clock) -> None:
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    clock.time += 99
    assert not await store.claim_notice(ROOM, "pointer", every_ms=100)
    clock.time += 1
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    assert not await store.claim_notice(ROOM, "pointer", every_ms=100)


async def test_a_notice_that_was_not_sent_may_be_claimed_again(store: Store) -> None:
    for kind in ("pointer", "other"):
        assert await store.claim_notice(ROOM, kind, every_ms=100)
    await store.give_back_notice(ROOM, "pointer")
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    assert not await store.claim_notice(ROOM, "other", every_ms=100)


async def test_pruning_forgets_notices_of_that_age(
    store: Store, database: Database, clock: Clock
) -> None:
    for clock.time, room in ((0, "!old:example.org"), (5, "!new:example.org")):
        assert await store.claim_notice(RoomID(room), "pointer", every_ms=100)
    clock.time = 10
    await store.prune(older_than=5, keep=10)
    (kept,) = await rows_of(database, "notices")
    assert kept["room_id"] == "!new:example.org"


async def test_every_room_and_kind_has_its_own_period(store: Store) -> None:
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    assert await store.claim_notice(ROOM, "failure", every_ms=100)
    assert await store.claim_notice(RoomID("!two:example.org"), "pointer", every_ms=100)


async def test_a_claim_from_the_future_is_void(store: Store, clock: Clock) -> None:
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    clock.time -= 1
    assert await store.claim_notice(ROOM, "pointer", every_ms=100)
    assert not await store.claim_notice(ROOM, "pointer", every_ms=100)


async def test_of_many_who_claim_a_notice_at_once_one_gets_it(
    backend: Backend, clock: Clock
) -> None:
    async with backend.opened() as ours, backend.opened() as theirs:
        for _ in range(5):
            claims = [
                Store(database, now=clock).claim_notice(ROOM, "pointer", every_ms=100)
                for database in (ours, theirs) * 10
            ]
            assert sum(await asyncio.gather(*claims)) == 1
            clock.time += 100


async def test_when_rooms_were_active_is_the_last_event_of_each(
    store: Store, clock: Clock
) -> None:
    assert await store.last_handled() == {}
    other = RoomID("!two:example.org")
    for event_id, clock.time, room_id in (("$1", 5, ROOM), ("$2", 9, ROOM), ("$3", 7, other)):
        await store.mark_handled(EventID(event_id), room_id=room_id)
    assert await store.last_handled() == {ROOM: 9, other: 7}


async def test_of_past_reconciles_the_last_are_kept(store: Store, database: Database) -> None:
    def past(at: int) -> PastReconcile:
        return PastReconcile(
            finished_at=at,
            milliseconds=2,
            rooms=3,
            adopted=4,
            updated=5,
            backfilled=6,
            left=7,
            unreadable=8,
            findings=9,
        )

    assert await store.reconciles(at_most=3) == []
    for at in (3, 1, 7, 5, 9, 9):
        await store.note_reconcile(past(at), keep=3)
    assert await store.reconciles(at_most=2) == [past(9), past(7)]
    assert len(await rows_of(database, "reconciles")) == 3


async def test_what_rooms_were_asked_for_is_remembered_as_it_was_first(
    store: Store, clock: Clock
) -> None:
    room_id = RoomID("!one:example.org")
    clock.time = 1_000
    first = RoomRequest(alias="#1:example.org", purpose="a home", room_id=None, asked_at=1_000)
    assert await store.note_room_request(first.alias, purpose="a home") == first
    clock.time = 2_000
    assert await store.note_room_request(first.alias, purpose="something else") == first
    second = await store.note_room_request("#2:example.org", purpose="a chat")
    await store.note_created_room(first.alias, room_id=room_id)
    assert await store.room_requests(since=0) == [replace(first, room_id=room_id), second]
    assert await store.room_requests(since=1_001) == [second]
    assert await store.room_requests(since=0) == [second]


async def test_what_was_under_way_counts_only_after_an_end_that_was_none(store: Store) -> None:
    assert await store.begin_life() == (False, {})
    await store.note_attempt("$one", deaths=1)
    await store.note_attempt("$two", deaths=1)
    await store.forget_attempt("$two")
    assert await store.begin_life() == (True, {"$one": 1})
    await store.note_attempt("$one", deaths=2)
    assert await store.begin_life() == (True, {"$one": 2})
    await store.end_life()
    assert await store.begin_life() == (False, {})
    assert await store.begin_life() == (True, {})
