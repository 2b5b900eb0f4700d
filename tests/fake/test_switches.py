"""What other homeservers, proxies and bad days are like, as a test turns it on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from mautrix.types import UserID

from tests.fake import FakeHomeserver, Late, MatrixError, Running, Twice
from tests.fake.contract import Contract, Json, Party, room

BOT = UserID("@bot:fake.test")
HELLO = {"msgtype": "m.text", "body": "hello"}


@pytest.fixture
async def bot(hs: FakeHomeserver) -> AsyncIterator[Party]:
    user = hs.user("bot")
    async with aiohttp.ClientSession() as http:
        yield Party(http, hs.url, user.token, user.user_id)


def bodies(hs: FakeHomeserver, room_id: str) -> list[str]:
    return [e.content["body"] for e in hs.timeline(room_id) if e.type == "m.room.message"]


# Transaction IDs


async def test_a_forgotten_transaction_is_sent_again(hs: FakeHomeserver, bot: Party) -> None:
    room_id = await bot.create()

    async def send(txn: str) -> str:
        return str((await bot.put(room(room_id, "send/m.room.message", txn), HELLO))["event_id"])

    hs.transactions.keep = 2
    first, second, again = [await send(txn) for txn in ("a", "b", "a")]
    assert again == first != second
    await send("c")
    assert await send("b") == second
    assert await send("a") != first
    hs.transactions.keep = None
    hs.transactions.forget()
    assert await send("b") != second
    assert len(bodies(hs, room_id)) == 5


@pytest.mark.parametrize("by_token", [False, True])
async def test_a_transaction_is_remembered_for_a_device_or_for_a_token(
    hs: FakeHomeserver, bot: Party, by_token: bool
) -> None:
    hs.transactions.by_token = by_token
    room_id = await bot.create()
    path = room(room_id, "send/m.room.message", "t")
    await bot.put(path, HELLO)
    device = (await bot.get("account/whoami"))["device_id"]
    session = hs.world.login(BOT, "password", device_id=device)
    await Party(bot.http, hs.url, session.token, BOT).put(path, HELLO)
    assert len(bodies(hs, room_id)) == 1 + by_token


# Late and repeated requests


@pytest.mark.parametrize("status", [None, 504])
async def test_what_is_late_is_done_after_the_client_has_given_up(
    hs: FakeHomeserver, bot: Party, status: int | None
) -> None:
    late = hs.fail("createRoom", Late(status=status))
    if status is None:
        with pytest.raises(aiohttp.ClientError):
            await bot.create()
    else:
        url = f"{hs.url}/_matrix/client/v3/createRoom?access_token={bot.token}"
        async with bot.http.post(url, data="{}") as response:
            assert response.status == status
    assert hs.rooms == {}
    second = await bot.create()
    await late.done()
    first, _ = sorted(hs.rooms, key=lambda room_id: room_id == second)
    assert hs.joined("bot") == {first, second}
    assert late.hits[0].answer == {"room_id": first}


async def test_a_client_that_waits_gets_the_late_answer_or_hangs_up(
    hs: FakeHomeserver, bot: Party
) -> None:
    first, second = [hs.fail("createRoom", Late(waits=True)) for _ in range(2)]
    waiting = asyncio.ensure_future(bot.create())
    await first.reached()
    leaving = asyncio.ensure_future(bot.create())
    await second.reached()
    leaving.cancel()
    await first.done()
    assert hs.joined("bot") == {await waiting}
    await second.done()
    assert len(hs.joined("bot")) == 2


async def test_a_repeated_request_is_done_twice_unless_the_server_knows_it(
    hs: FakeHomeserver, bot: Party
) -> None:
    again = hs.fail("createRoom|send", Twice(), times=None)
    room_id = await bot.create()
    await bot.create(room_alias_name="x")
    await bot.put(room(room_id, "send/m.room.message", "t"), HELLO)
    assert len(hs.rooms) == 2
    await again.done()
    assert len(hs.rooms) == 3
    assert bodies(hs, room_id) == ["hello"]


# Late reads


async def reads(c: Contract, room_id: str) -> dict[str, Any]:
    """What Bob reads: whether he is joined, the name, and how many others there are."""
    bob = c.bob
    listed = await bob.slide_over([room_id], ["m.room.name", ""])

    async def name(path: str) -> Any:
        status, answer = await bob.ask("GET", room(room_id, path))
        events = answer if path == "state" else [{"type": "m.room.name", "content": answer}]
        names = (
            [e["content"] for e in events if e["type"] == "m.room.name"] if status == 200 else []
        )
        return names[0]["name"] if names else status

    status, members = await bob.ask("GET", room(room_id, "joined_members"))
    everybody = (await bob.get(room(room_id, "members")))["chunk"]
    return {
        "joined_rooms": room_id in await bob.joined(),
        "state": await name("state"),
        "state/TYPE": await name("state/m.room.name"),
        "joined_members": len(members["joined"]) if status == 200 else status,
        "sliding": listed[room_id]["name"] if room_id in listed else None,
        "members": sum(e["content"]["membership"] == "join" for e in everybody),
    }


@pytest.fixture
async def c(hs: FakeHomeserver) -> AsyncIterator[Contract]:
    async with Contract.open(hs.url, hs.user("alice").token, hs.user("bob").token) as contract:
        yield contract


async def test_a_room_that_a_late_worker_knows_is_stale(hs: FakeHomeserver, c: Contract) -> None:
    room_id = await c.shared_room(name="old")
    lag = hs.lag()
    fresh = {
        "joined_rooms": True,
        "state": "old",
        "state/TYPE": "old",
        "joined_members": 2,
        "sliding": "old",
        "members": 2,
    }
    assert await reads(c, room_id) == fresh
    await c.alice.put(room(room_id, "state/m.room.name"), {"name": "new"})
    carl = hs.user("carl")
    await c.alice.post(room(room_id, "invite"), {"user_id": carl.user_id})
    carl.join(room_id)
    assert await reads(c, room_id) == {**fresh, "sliding": "new", "members": 3}
    await c.bob.post(room(room_id, "leave"))
    gone = await c.bob.ask("GET", "joined_rooms")
    assert gone == (200, {"joined_rooms": [room_id]})
    assert lag.stale
    lag.catch_up(hs.world.stream)
    assert await c.bob.joined() == set()


async def test_a_room_that_a_late_worker_never_read_is_fresh_but_not_listed(
    hs: FakeHomeserver, c: Contract
) -> None:
    await c.shared_room()
    hs.lag()
    room_id = await c.shared_room(name="first")
    told = await reads(c, room_id)
    assert told == {
        "joined_rooms": False,
        "state": "first",
        "state/TYPE": "first",
        "joined_members": 2,
        "sliding": None,
        "members": 2,
    }
    await c.alice.put(room(room_id, "state/m.room.name"), {"name": "second"})
    assert await reads(c, room_id) == told
    hs.no_lag()
    assert (await reads(c, room_id))["state"] == "second"


async def test_a_late_worker_catches_up_by_itself(hs: FakeHomeserver, c: Contract) -> None:
    await c.bob.create()
    hs.lag(reads=3, kinds=["joined_rooms"])
    room_id = await c.bob.create()
    seen = [room_id in await c.bob.joined() for _ in range(5)]
    assert seen == [False, False, False, True, True]
    assert (await c.bob.slide_over([room_id])).keys() == {room_id}
    hs.no_lag()
    lag = hs.lag(seconds=0.2)
    another = await c.bob.create()
    assert another not in await c.bob.joined()
    await asyncio.sleep(0.25)
    assert another in await c.bob.joined()
    assert lag.stale == 1


async def test_of_two_workers_one_may_be_late(hs: FakeHomeserver, c: Contract) -> None:
    await c.bob.create()
    hs.lag(every=2)
    room_id = await c.bob.create()
    assert [room_id in await c.bob.joined() for _ in range(4)] == [True, False, True, False]


# Positions


async def walk(bot: Party, room_id: str, *, start: str, to: str) -> int:
    count = 0
    query: dict[str, str | int] = {"dir": "b", "from": start, "to": to, "limit": 3}
    while True:
        answer = await bot.get(room(room_id, "messages"), **query)
        count += len(answer["chunk"])
        if "end" not in answer:
            return count
        query["from"] = answer["end"]


async def test_a_walk_that_is_not_bounded_goes_on_to_the_beginning(
    hs: FakeHomeserver, bot: Party
) -> None:
    room_id = await bot.create()
    since = await bot.position()
    for number in range(4):
        await bot.say(room_id, str(number))
    now = await bot.position()
    assert await walk(bot, room_id, start=now, to=since) == 4
    hs.switches.honours_to = False
    assert await walk(bot, room_id, start=now, to=since) == len(hs.timeline(room_id))


async def test_a_restored_server_has_forgotten_and_gives_positions_again(
    hs: FakeHomeserver, bot: Party
) -> None:
    kept = await bot.create()
    path = room(kept, "send/m.room.message", "early")
    await bot.put(path, HELLO)
    backup = hs.backup()
    lost = await bot.create()
    lost_event = await bot.say(kept, "lost")
    late = room(kept, "send/m.room.message", "late")
    await bot.put(late, HELLO)
    since = await bot.position()
    for _ in range(2):  # a backup can be used again
        hs.restore(backup)
        assert await bot.joined() == {kept}
        assert bodies(hs, kept) == ["hello"]
        assert lost not in hs.rooms
        await bot.put(path, HELLO)
        assert bodies(hs, kept) == ["hello"]
        await bot.put(late, HELLO)
        assert bodies(hs, kept) == ["hello", "hello"]
        assert await bot.say(kept, "lost") != lost_event
    assert "rooms" not in await bot.sync({}, since=since)
    hs.switches.future_since = "initial"
    assert kept in (await bot.sync({}, since=since))["rooms"]["join"]
    hs.switches.future_since = "refused"
    assert (await bot.ask("GET", "sync", since=since))[0] == 400


# Time


async def test_the_clock_of_the_server_can_be_set_and_is_told(
    hs: FakeHomeserver, bot: Party
) -> None:
    async def told() -> float:
        async with bot.http.get(f"{hs.url}/_matrix/client/versions") as response:
            return parsedate_to_datetime(response.headers["Date"]).timestamp()

    async def written() -> float:
        room_id = await bot.create()
        return hs.room(room_id).created_ts / 1000

    assert await told() == hs.clock.now_ms // 1000
    clock = Running(behind_ms=3_600_000)
    hs.world.clock = clock
    for _ in range(2):
        assert await told() == pytest.approx(time.time() - 3600, abs=60)
        assert await written() == pytest.approx(time.time() - 3600, abs=60)
    clock.set_behind(-86_400_000)
    assert await told() == pytest.approx(time.time() + 86_400, abs=60)
    assert await written() == pytest.approx(time.time() + 86_400, abs=60)
    clock.set_behind(0)
    assert await written() == pytest.approx(time.time(), abs=60)
    hs.switches.sends_date = False
    async with bot.http.get(f"{hs.url}/_matrix/client/versions") as response:
        assert "Date" not in response.headers


# Refusals


async def test_where_aliases_are_forbidden_nothing_is_made(hs: FakeHomeserver, bot: Party) -> None:
    hs.world.aliases.allowed = False
    assert await bot.refused("POST", "createRoom", {"room_alias_name": "x"}) == (403, "M_UNKNOWN")
    assert hs.rooms == {}
    await bot.create()


async def test_an_alias_of_a_room_that_never_came_to_be_can_be_deleted(
    hs: FakeHomeserver, bot: Party
) -> None:
    hs.world.aliases.add("#x:fake.test", "!never", BOT)
    spec: Json = {"room_alias_name": "x"}
    assert await bot.refused("POST", "createRoom", spec) == (400, "M_ROOM_IN_USE")
    path = "directory/room/%23x%3Afake.test"
    assert (await bot.get(path))["room_id"] == "!never"
    assert (await bot.ask("POST", "join/%21never", {}))[0] == 404
    assert await bot.ask("DELETE", path) == (200, {})
    await bot.create(room_alias_name="x")


async def test_a_session_ends_and_a_new_one_begins(hs: FakeHomeserver, bot: Party) -> None:
    hs.sign_out("bot", softly=True)
    status, answer = await bot.ask("GET", "joined_rooms")
    assert (status, answer["errcode"], answer["soft_logout"]) == (401, "M_UNKNOWN_TOKEN", True)
    other = Party(bot.http, hs.url, hs.user("bot").token, BOT)
    assert other.token != bot.token
    assert await other.joined() == set()
    locked = MatrixError(401, "M_USER_LOCKED", "locked", soft_logout=True)
    hs.refuse("bot", locked)
    assert await other.refused("GET", "joined_rooms") == (401, "M_USER_LOCKED")
    hs.refuse("bot", None)
    assert await other.joined() == set()


async def test_sizes_have_limits(hs: FakeHomeserver, bot: Party) -> None:
    path = f"user/{BOT}/account_data/dev.x"
    hs.switches.largest_account_data = 20
    await bot.put(path, {"a": "small"})
    too_large = (413, "M_TOO_LARGE")
    assert await bot.refused("PUT", path, {"a": "x" * 20}) == too_large
    assert await bot.get(path) == {"a": "small"}

    async def status(method: str, path: str, text: str = "") -> int:
        url = f"{hs.url}/_matrix/client/v3/{path}?access_token={bot.token}"
        async with bot.http.request(method, url, data=text) as response:
            assert response.status == 200 or "<html>" in await response.text()
            return response.status

    hs.switches.largest_request = 25
    assert await status("POST", "createRoom", '{"name": "small"}') == 200
    assert await status("POST", "createRoom", '{"name": "not quite so small"}') == 413
    assert len(hs.rooms) == 1
    hs.switches.largest_answer = 60
    assert await status("GET", "account/whoami") == 502
    hs.switches.largest_answer = None
    assert await status("GET", "account/whoami") == 200
