"""The fake homeserver, by its front door: what a real one does too, and what only a fake can do.

The contract also runs against a real server: `CONTRACT_HOMESERVER="<url> <token> <token>"`, with
the tokens of two users whose rate is not limited.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from mautrix.api import HTTPAPI
from mautrix.client import ClientAPI
from mautrix.errors import MForbidden, MLimitExceeded
from mautrix.types import (
    EventType,
    PowerLevelStateEventContent,
    RoomCreatePreset,
    RoomID,
    UserID,
)

from tests.fake import (
    Alter,
    DropAfter,
    DropBefore,
    FakeHomeserver,
    Hang,
    Match,
    MatrixError,
    RateLimit,
    Respond,
    Truncate,
)
from tests.fake.contract import CHECKS, Check, Contract, Party

REAL = os.environ.get("CONTRACT_HOMESERVER", "").split()
BOT = UserID("@bot:fake.test")


@pytest.fixture
async def hs() -> AsyncIterator[FakeHomeserver]:
    async with FakeHomeserver() as server:
        yield server


@pytest.fixture
async def bot(hs: FakeHomeserver) -> AsyncIterator[Party]:
    user = hs.user("bot")
    async with aiohttp.ClientSession() as http:
        yield Party(http, hs.url, user.token, user.user_id)


@pytest.fixture
async def client(hs: FakeHomeserver) -> AsyncIterator[ClientAPI]:
    api = HTTPAPI(hs.url, hs.user("bot").token, default_retry_count=0)
    yield ClientAPI(BOT, api=api)
    await api.session.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: Check, hs: FakeHomeserver) -> None:
    users = hs.user("alice").token, hs.user("bob").token
    url, alice, bob = REAL or (hs.url, *users)
    async with Contract.open(url, alice, bob) as contract:
        await check(contract)


async def test_mautrix_makes_fills_and_leaves_a_room(
    hs: FakeHomeserver, client: ClientAPI
) -> None:
    alice = hs.user("alice")
    room_id = await client.create_room(
        preset=RoomCreatePreset.PRIVATE, name="N", invitees=[alice.user_id]
    )
    alice.join(room_id)
    event_id = await client.send_text(room_id, "hello")
    assert (await client.get_event(room_id, event_id)).content["body"] == "hello"
    assert alice.messages(room_id)[-1][1]["body"] == "hello"
    levels = await client.get_state_event(room_id, EventType.ROOM_POWER_LEVELS)
    assert isinstance(levels, PowerLevelStateEventContent)
    assert levels.state_default == 50
    assert set(await client.get_joined_members(room_id)) == {BOT, alice.user_id}
    assert await client.get_joined_rooms() == [room_id]
    await client.leave_room(room_id)
    await client.forget_room(room_id)
    assert hs.joined("bot") == set()
    with pytest.raises(MForbidden):
        await client.send_text(room_id, "too late")


async def test_logging_in_gives_a_session_of_its_own(hs: FakeHomeserver) -> None:
    user = hs.user("alice")
    api = HTTPAPI(hs.url)
    client = ClientAPI(api=api)
    answer = await client.login(user.user_id, password=user.password)
    assert answer.user_id == user.user_id
    assert answer.access_token != user.token
    assert (await client.whoami()).device_id == answer.device_id
    await api.session.close()


async def test_requests_are_recorded_with_what_became_of_them(
    hs: FakeHomeserver, bot: Party
) -> None:
    room_id = await bot.create(name="N")
    await bot.get("joined_rooms")
    await bot.ask("GET", "no/such")
    made, looked, lost = hs.requests
    assert (made.method, made.route, made.user, made.status) == ("POST", "createRoom", BOT, 200)
    assert (made.body, made.answer) == ({"name": "N"}, {"room_id": room_id})
    assert (looked.path, looked.body) == ("/_matrix/client/v3/joined_rooms", None)
    assert (lost.route, lost.status) == ("", 404)
    assert hs.writes == [made]


async def test_a_fault_meets_its_requests_and_no_others(hs: FakeHomeserver, bot: Party) -> None:
    hs.user("alice").create_room(preset="public_chat")
    fault = hs.fail(
        Match("get", "joined_rooms$", user=BOT, when=lambda request: not request.query),
        Respond(500, {"errcode": "M_UNKNOWN", "error": "x"}),
        skip=1,
        times=2,
    )
    statuses = [(await bot.ask("GET", "joined_rooms"))[0] for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert len(fault.hits) == 2
    assert (await bot.ask("GET", "account/whoami"))[0] == 200


@pytest.mark.parametrize(
    ("action", "rooms"), [(DropBefore(), 0), (DropAfter(), 1), (Truncate(), 1)], ids=repr
)
async def test_a_dropped_connection_hides_whether_it_was_done(
    hs: FakeHomeserver, bot: Party, action: DropBefore | DropAfter | Truncate, rooms: int
) -> None:
    hs.fail("createRoom", action)
    with pytest.raises(aiohttp.ClientError):
        await bot.create()
    assert len(hs.rooms) == rooms
    await bot.create()
    assert len(hs.joined("bot")) == rooms + 1


async def test_a_message_lost_on_the_way_back_is_sent_once(hs: FakeHomeserver, bot: Party) -> None:
    room_id = await bot.create()
    hs.fail(r"/send/", DropAfter(), times=2)  # aiohttp tries a PUT again by itself, once
    path = f"rooms/{room_id}/send/m.room.message/t"
    with pytest.raises(aiohttp.ClientError):
        await bot.put(path, {"msgtype": "m.text", "body": "once"})
    await bot.put(path, {"msgtype": "m.text", "body": "once"})
    assert len([request for request in hs.requests if "/send/" in request.route]) == 3
    assert [event.type for event in hs.timeline(room_id)].count("m.room.message") == 1


async def test_what_hangs_goes_on_when_released(hs: FakeHomeserver, bot: Party) -> None:
    before, after = hs.fail("createRoom", Hang()), hs.fail("joined_rooms", Hang(after=True))
    creating = asyncio.ensure_future(bot.create())
    assert (await before.reached()).user == BOT
    assert hs.rooms == {}
    before.release()
    room_id = await creating
    looking = asyncio.ensure_future(bot.joined())
    await after.reached()
    hs.user("bot").leave(room_id)
    after.release()
    assert await looking == {room_id}


@pytest.mark.parametrize(("retry_after_ms", "header"), [(None, None), (1500, "2")])
async def test_a_rate_limit_says_how_long_or_nothing(
    hs: FakeHomeserver, client: ClientAPI, retry_after_ms: int | None, header: str | None
) -> None:
    hs.fail("joined_rooms", RateLimit(retry_after_ms), times=2)
    with pytest.raises(MLimitExceeded):
        await client.get_joined_rooms()
    async with aiohttp.ClientSession() as http:
        token = hs.user("bot").token
        url = f"{hs.url}/_matrix/client/v3/joined_rooms?access_token={token}"
        async with http.get(url) as response:
            assert response.status == 429
            assert response.headers.get("Retry-After") == header
            assert (await response.json()).get("retry_after_ms") == retry_after_ms


async def test_an_answer_can_be_altered(hs: FakeHomeserver, bot: Party) -> None:
    room_id = await bot.create()
    hs.fail("joined_rooms", Alter(lambda body: {**body, "joined_rooms": []}), times=None)
    assert await bot.joined() == set()
    hs.faults.clear()
    assert await bot.joined() == {room_id}


async def test_a_restart_drops_connections_and_keeps_rooms(hs: FakeHomeserver, bot: Party) -> None:
    room_id = await bot.create()
    since = await bot.position()
    url = hs.url
    poll = asyncio.ensure_future(bot.sync({}, since=since, timeout=60_000))
    hanging = asyncio.ensure_future(bot.ask("GET", "joined_rooms"))
    hs.fail("joined_rooms", Hang())
    await asyncio.sleep(0.05)
    await hs.restart()
    for task in (poll, hanging):
        with pytest.raises(aiohttp.ClientError):
            await task
    assert hs.url == url
    assert await bot.joined() == {room_id}
    hs.user("bot").send(room_id, "after")
    assert room_id in (await bot.sync({}, since=since))["rooms"]["join"]


async def test_while_stopped_it_refuses_connections(hs: FakeHomeserver, bot: Party) -> None:
    await hs.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await bot.joined()
    await hs.start()
    assert await bot.joined() == set()


async def test_an_older_server_has_no_sliding_sync() -> None:
    async with FakeHomeserver(sliding_sync=False) as hs, aiohttp.ClientSession() as http:
        bot = Party(http, hs.url, hs.user("bot").token, BOT)
        features = (await bot.get("/_matrix/client/versions"))["unstable_features"]
        assert not features["org.matrix.simplified_msc3575"]
        path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
        assert await bot.refused("POST", path, {}) == (404, "M_UNRECOGNIZED")


async def test_an_identical_sync_may_get_a_stale_answer() -> None:
    async with FakeHomeserver(remember_syncs=True) as hs, aiohttp.ClientSession() as http:
        bot = Party(http, hs.url, hs.user("bot").token, BOT)
        first = await bot.get("sync")
        hs.user("alice").create_room(invite=[BOT])
        assert await bot.get("sync") == first
        assert "rooms" in await bot.get("sync", timeout=1)


async def test_the_model_and_the_door_are_one_world(hs: FakeHomeserver, bot: Party) -> None:
    alice = hs.user("alice")
    room_id = alice.create_space(name="S", invite=[BOT], room_version="11")
    assert hs.invited("bot") == {room_id}
    await bot.post(f"rooms/{room_id}/join")
    snapshot = hs.room(room_id)
    assert (snapshot.creator, snapshot.version, snapshot.room_type) == (
        alice.user_id,
        "11",
        "m.space",
    )
    assert snapshot.joined == {alice.user_id, BOT}
    assert snapshot.state["m.room.name", ""] == {"name": "S"}
    with pytest.raises(MatrixError, match="M_FORBIDDEN"):
        hs.user("bot").set_state(room_id, "m.room.name", {"name": "no"})
    forged = hs.force_state(room_id, "dev.x", {}, sender="alice", state_key=BOT)
    assert (forged.sender, forged.state_key) == (alice.user_id, BOT)
    assert hs.user("bot").state(room_id)["dev.x", BOT] == {}


def test_the_same_actions_give_the_same_ids_and_times() -> None:
    def run() -> list[tuple[RoomID, int]]:
        hs = FakeHomeserver()
        alice = hs.user("alice")
        rooms = [alice.create_room() for _ in range(3)]
        hs.clock.advance(1000)
        alice.upgrade(rooms[0], "11")
        return [(room.room_id, room.created_ts) for room in hs.rooms.values()]

    assert run() == run()
    times = [ts for _, ts in run()]
    assert times == sorted(set(times))


def test_it_is_fast_enough_for_stateful_tests() -> None:
    hs = FakeHomeserver()
    alice, bob = hs.user("alice"), hs.user("bob")
    started = time.perf_counter()
    for _ in range(200):
        room_id = alice.create_room(invite=[bob])
        bob.join(room_id)
        alice.send(room_id, "hello")
        bob.leave(room_id)
    assert time.perf_counter() - started < 5
    assert len(hs.joined("alice")) == 200
