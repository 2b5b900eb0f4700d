"""mautrix's state store after a look: as the homeserver has it, whatever was missed meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from maubot.lib.state_store import PgStateStore
from mautrix.client.state_store import StateStore
from mautrix.types import Member, Membership, RoomID
from mautrix.util.async_db import Database

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.homes.mautrix_state import MautrixState
from homeroom.homes.mautrix_state import bulk_sql as tables
from homeroom.homes.mautrix_state import via_interface as one_by_one
from homeroom.homes.observation import Observer
from homeroom.storage import StoreError, transactions
from tests.fake import FakeHomeserver
from tests.fake.clients import LOG, Connect
from tests.storage.databases import Backend
from tests.storage.state_stores import note_queries


@pytest.fixture
def a_chat(hs: FakeHomeserver) -> RoomID:
    bot, anna, bert = hs.user("bot"), hs.user("anna"), hs.user("bert")
    marker = {"version": 1, "room_type": "chat", "user_id": anna.user_id, "chat_id": "C1"}
    room_id = bot.create_room(
        name="Chat",
        room_version="11",
        initial_state=[{"type": MARKER_TYPE, "state_key": bot.user_id, "content": marker}],
        invite=[anna, bert],
    )
    anna.join(room_id)
    return room_id


class Subject:
    """A look, and what it makes of the store."""

    def __init__(self, connect: Connect, store: StateStore | None) -> None:
        self._observer = Observer(connect(), log=LOG)
        self._state = MautrixState(store, log=LOG)

    async def heal(self) -> int:
        return await self._state.heal(await self._observer.scan())


async def test_who_came_and_went_is_known(
    hs: FakeHomeserver, connect: Connect, store: StateStore, a_chat: RoomID
) -> None:
    subject = Subject(connect, store)
    assert await subject.heal() == 1
    assert await subject.heal() == 0
    assert set(await store.get_members(a_chat)) == set(hs.room(a_chat).joined) | {
        "@bert:fake.test"
    }
    bot, carl = hs.user("bot"), hs.user("carl")
    bot.kick(a_chat, hs.user("anna"))
    bot.invite(a_chat, carl)
    carl.join(a_chat)
    hs.user("bert").join(a_chat)
    assert await subject.heal() == 1
    joined = await store.get_members(a_chat, (Membership.JOIN,))
    assert set(joined) == {"@bot:fake.test", "@bert:fake.test", "@carl:fake.test"}
    assert await store.has_full_member_list(a_chat)
    assert await subject.heal() == 0


async def test_who_is_called_what_and_who_is_banned_is_known(
    hs: FakeHomeserver, connect: Connect, store: StateStore, a_chat: RoomID
) -> None:
    """The same people are in the room as before: what is known of them is not the same."""
    subject = Subject(connect, store)
    hs.user("bot").kick(a_chat, hs.user("bert"))
    await subject.heal()
    anna, bert = hs.user("anna"), hs.user("bert")
    content = {"membership": "join", "displayname": "Anna B.", "avatar_url": "mxc://fake.test/a"}
    anna.set_state(a_chat, "m.room.member", content, state_key=anna.user_id)
    hs.user("bot").ban(a_chat, bert)
    assert await subject.heal() == 1
    known = await store.get_member(a_chat, anna.user_id)
    assert known
    assert (known.displayname, known.avatar_url) == ("Anna B.", "mxc://fake.test/a")
    banned = await store.get_member(a_chat, bert.user_id)
    assert banned
    assert banned.membership is Membership.BAN
    assert await subject.heal() == 0


async def test_power_levels_are_known(
    hs: FakeHomeserver, connect: Connect, store: StateStore, a_chat: RoomID
) -> None:
    subject = Subject(connect, store)
    await subject.heal()
    levels = hs.room(a_chat).state["m.room.power_levels", ""]
    changed = {**levels, "users": {**levels["users"], "@anna:fake.test": 50}, "invite": 75}
    hs.user("bot").set_state(a_chat, "m.room.power_levels", changed)
    await subject.heal()
    known = await store.get_power_levels(a_chat)
    assert known
    assert known.get_user_level("@anna:fake.test") == 50  # type: ignore[arg-type]
    assert known.invite == 75


async def test_encryption_is_known(
    hs: FakeHomeserver, connect: Connect, store: StateStore, a_chat: RoomID
) -> None:
    subject = Subject(connect, store)
    await subject.heal()
    assert not await store.is_encrypted(a_chat)
    content = {"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 50}
    hs.user("bot").set_state(a_chat, "m.room.encryption", content)
    assert await subject.heal() == 1
    assert await store.is_encrypted(a_chat)
    info = await store.get_encryption_info(a_chat)
    assert info
    assert info.rotation_period_msgs == 50
    assert await subject.heal() == 0


@pytest.mark.postgres
@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_the_sync_loop_may_write_at_the_same_time(
    hs: FakeHomeserver,
    connect: Connect,
    backend: Backend,
    a_chat: RoomID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member who is written between deleting and writing is one too many for an INSERT."""
    bert = hs.user("bert")
    async with backend.opened(PgStateStore.upgrade_table) as database:
        store = PgStateStore(database)
        written: list[str] = []

        class Interrupted:
            """A connection, and a sync loop that writes right after a deletion."""

            def __init__(self, writing: Any) -> None:
                self._writing = writing
                self.executemany = writing.executemany

            async def execute(self, query: str, *values: Any) -> None:
                await self._writing.execute(query, *values)
                written.append(query)
                member = Member(membership=Membership.INVITE)
                await store.set_member(a_chat, bert.user_id, member)

        @asynccontextmanager
        async def transaction(of: Database) -> AsyncIterator[Interrupted]:
            async with transactions.transaction(of) as writing:
                yield Interrupted(writing)

        monkeypatch.setattr(tables, "transaction", transaction)
        subject = Subject(connect, store)
        assert await subject.heal() == 1
        assert len(written) == 1
        assert await subject.heal() == 0
        assert set(await store.get_members(a_chat)) == {*hs.room(a_chat).joined, bert.user_id}


@pytest.mark.parametrize("backend", ["a later schema", "memory"], indirect=True)
@pytest.mark.parametrize("times", [1, one_by_one.WRITES_AT_MOST])
async def test_room_by_room_it_is_tried_again(
    hs: FakeHomeserver,
    connect: Connect,
    store: StateStore,
    a_chat: RoomID,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    """There mautrix itself writes the members, and fails where the sync loop comes between."""
    failures = iter([asyncpg.UniqueViolationError("mx_user_profile_pkey")] * times)
    write = store.set_members

    async def set_members(*arguments: Any) -> None:
        for failure in failures:
            raise failure
        await write(*arguments)

    monkeypatch.setattr(store, "set_members", set_members)
    subject = Subject(connect, store)
    if times < one_by_one.WRITES_AT_MOST:
        assert await subject.heal() == 1
    else:
        with pytest.raises(StoreError, match="pkey"):
            await subject.heal()
    assert await subject.heal() == (times == one_by_one.WRITES_AT_MOST)
    assert await store.has_full_member_list(a_chat)
    assert set(await store.get_members(a_chat)) == {*hs.room(a_chat).joined, "@bert:fake.test"}


async def test_other_peoples_rooms_are_left_alone(
    hs: FakeHomeserver, connect: Connect, store: StateStore
) -> None:
    bot, anna = hs.user("bot"), hs.user("anna")
    room_id = anna.create_room(invite=[bot])
    bot.join(room_id)
    assert await Subject(connect, store).heal() == 0
    assert not await store.has_full_member_list(room_id)
    assert await store.get_power_levels(room_id) is None


async def test_rooms_that_are_known_cost_two_queries_for_many(
    hs: FakeHomeserver,
    connect: Connect,
    sqlite: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thousands of rooms, and nothing to write after most starts."""
    bot, anna = hs.user("bot"), hs.user("anna")
    marker = {"version": 1, "room_type": "chat", "user_id": anna.user_id}
    for number in range(1, 8):
        content = {**marker, "chat_id": f"C{number}"}
        event = {"type": MARKER_TYPE, "state_key": bot.user_id, "content": content}
        bot.create_room(room_version="11", initial_state=[event], invite=[anna])
    async with sqlite.opened(PgStateStore.upgrade_table) as database:
        subject = Subject(connect, PgStateStore(database))
        assert await subject.heal() == 7
        monkeypatch.setattr(tables, "ROOMS_AT_ONCE", 5)
        asked = note_queries(database, monkeypatch)
        assert await subject.heal() == 0
        assert len(asked) == 4
        anna.join(next(iter(hs.rooms)))
        assert await subject.heal() == 1


async def test_hostile_state_is_no_obstacle(
    hs: FakeHomeserver, connect: Connect, store: StateStore, a_chat: RoomID
) -> None:
    force = hs.force_state
    force(a_chat, "m.room.encryption", {"algorithm": ["x"]}, sender="bot")
    force(a_chat, "m.room.power_levels", {"users": 7, "invite": "many"}, sender="bot")
    force(
        a_chat,
        "m.room.member",
        {"membership": "join", "displayname": {"x": 1}, "avatar_url": 7},
        sender="anna",
        state_key="@anna:fake.test",
    )
    subject = Subject(connect, store)
    for _ in range(2):
        await subject.heal()
    assert "@anna:fake.test" in await store.get_members(a_chat)
    good = {"users": {"@bot:fake.test": 100}, "invite": 75}
    force(a_chat, "m.room.power_levels", good, sender="bot")
    force(a_chat, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}, sender="bot")
    await subject.heal()
    levels = await store.get_power_levels(a_chat)
    assert levels
    assert levels.invite == 75
    assert await store.is_encrypted(a_chat)


async def test_without_a_store_there_is_nothing_to_do(
    hs: FakeHomeserver, connect: Connect, a_chat: RoomID
) -> None:
    del hs, a_chat
    assert await Subject(connect, None).heal() == 0


async def test_an_error_of_the_database_is_a_store_error(
    connect: Connect, a_chat: RoomID, tmp_path: Path
) -> None:
    database = Database.create(f"sqlite:{tmp_path / 'empty.db'}")
    await database.start()
    with pytest.raises(StoreError, match=a_chat.split(":", maxsplit=1)[0]):
        await Subject(connect, PgStateStore(database)).heal()
    await database.stop()
