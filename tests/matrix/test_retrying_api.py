"""Patience: what is waited out, what is sent again, what is given up, and what is never told."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest
from maubot.matrix import MaubotMatrixClient
from mautrix.api import Method
from mautrix.types import MessageType, RoomID, TextMessageEventContent, UserID

from homeroom.matrix import homeserver, retry_budgets
from homeroom.matrix import retrying_api as http
from homeroom.matrix.current_client import CurrentClient
from homeroom.matrix.errors import (
    HomeserverError,
    NotSignedIn,
    RateLimited,
    Refused,
    TooLarge,
    Unavailable,
)
from homeroom.matrix.homeserver import Homeserver
from homeroom.matrix.outgoing import Priority
from homeroom.matrix.retrying_api import PatientAPI, RetryBudget
from homeroom.runtime import sliced_json as large_json
from homeroom.runtime.fair_turns import FairTurns
from tests.fake import (
    DropAfter,
    DropBefore,
    FakeHomeserver,
    Hang,
    Match,
    RateLimit,
    Recorded,
    Respond,
    Truncate,
)
from tests.fake.clients import LOG, Connect, Naps
from tests.fake.faults import Action
from tests.plugin.harness import until

TRUE_JSON = '{"joined_rooms": []}'
PASSING: dict[str, Action] = {
    "500": Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "500 without a word": Respond(500, text=""),
    "502 from a proxy": Respond(502, text="<html>Bad gateway</html>"),
    "503": Respond(503, text="busy"),
    "404 from a proxy": Respond(404, text="<html>Not here</html>"),
    "403 without a code": Respond(403, {"error": "no"}),
    "a code that is no text": Respond(403, {"errcode": 7}),
    "408": Respond(408, {"errcode": "M_UNKNOWN"}),
    "a redirect": Respond(302, text="", headers={"Location": "http://127.0.0.1:1/"}),
    "dropped": DropBefore(),
    "dropped afterwards": DropAfter(),
    "cut off": Truncate(),
    "a web page": Respond(200, text="<html>Log in to the hotel</html>"),
    "nothing": Respond(200, text=""),
    "depths": Respond(200, text="[" * 200_000),
    "half of a character": Respond(200, text='{"joined_rooms": ["\\ud8'),
    "429": RateLimit(),
    "429 with a time": RateLimit(retry_after_ms=2000),
    "a limit under another status": Respond(400, {"errcode": "M_LIMIT_EXCEEDED"}),
}


@pytest.mark.parametrize("action", PASSING.values(), ids=PASSING.keys())
async def test_what_may_pass_is_tried_again(
    hs: FakeHomeserver, connect: Connect, naps: Naps, action: Action
) -> None:
    room_id = hs.user("bot").create_room()
    hs.fail("joined_rooms", action, times=4)
    assert await connect().joined_rooms() == {room_id}
    assert naps.seconds


async def test_a_large_answer_is_read_where_it_is_parsed(
    hs: FakeHomeserver, connect: Connect, naps: Naps
) -> None:
    """In a thread, once it is a good one; what the reader thinks of it is the last word."""
    room_id = hs.user("bot").create_room()
    homeserver, threads = connect(), []
    hs.fail("msc3575/sync$", Respond(500, text="no"))
    hs.fail("msc3575/sync$", Respond(200, text="[]"))
    hs.fail("msc3575/sync$", RateLimit(retry_after_ms=10))

    def read(answer: Any) -> set[str]:
        threads.append(threading.current_thread())
        return set(answer["rooms"])

    body = {"room_subscriptions": {room_id: {"required_state": [], "timeline_limit": 0}}}
    assert await homeserver.sliding_sync(body, pos=None, read=read) == {room_id}
    assert len(naps.seconds) == 3
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()

    def refuse(answer: Any) -> None:
        raise Unavailable(f"{len(answer['rooms'])} rooms are nonsense")

    with pytest.raises(Unavailable, match="1 rooms are nonsense"):
        await homeserver.sliding_sync(body, pos=None, read=refuse)
    assert await homeserver.joined_rooms() == {room_id}  # nobody else's answers are read so


async def test_what_is_hasty_is_tried_once_and_told_when_it_could_be(
    hs: FakeHomeserver, connect: Connect, naps: Naps
) -> None:
    room_id = hs.user("bot").create_room()
    homeserver, content = connect(), {"msgtype": "m.text", "body": "Hello"}
    hs.fail(Match(path="/send/"), RateLimit(retry_after_ms=7000))
    with pytest.raises(RateLimited) as limited:
        await homeserver.send(room_id, content, txn_id="1", best_effort=True)
    assert (limited.value.seconds, naps.seconds) == (7, [])
    await homeserver.send(room_id, content, txn_id="2", priority=Priority.ANSWER)
    assert naps.seconds == [pytest.approx(7, abs=0.5)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 451])
async def test_a_refusal_is_final(
    hs: FakeHomeserver, connect: Connect, naps: Naps, status: int
) -> None:
    hs.fail("joined_rooms", Respond(status, {"errcode": "M_NO", "error": "No"}), times=None)
    with pytest.raises(Refused, match=r"^M_NO: No$") as refusal:
        await connect().joined_rooms()
    assert (refusal.value.status, refusal.value.errcode) == (status, "M_NO")
    assert naps.seconds == []


async def test_a_refusal_quotes_little(hs: FakeHomeserver, connect: Connect) -> None:
    words = {"errcode": "M_" + "N" * 10_000, "error": "o" * 10_000}
    hs.fail("joined_rooms", Respond(403, words))
    with pytest.raises(Refused) as refusal:
        await connect().joined_rooms()
    assert len(str(refusal.value)) < 500


# How long is waited

WAITS = [
    ("as told in milliseconds", Respond(429, {"retry_after_ms": 1500}), 1.5),
    ("at least a moment", Respond(429, {"retry_after_ms": 0}), 0.05),
    ("as told in the header", Respond(429, {}, headers={"Retry-After": "7"}), 7),
    ("the body counts", Respond(429, {"retry_after_ms": 2000}, headers={"Retry-After": "7"}), 2),
    ("a fraction", Respond(429, {"retry_after_ms": 1.5}), 0.05),
]
NONSENSE = [
    Respond(429, {"retry_after_ms": "soon"}),
    Respond(429, {"retry_after_ms": None}),
    Respond(429, {"retry_after_ms": True}),
    Respond(429, {"retry_after_ms": -5}),
    Respond(429, {"retry_after_ms": [1]}),
    Respond(429, text='{"retry_after_ms": NaN}'),
    Respond(429, text='{"retry_after_ms": Infinity}'),
    Respond(429, text='{"retry_after_ms": 1e999}'),
    Respond(429, {}, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    Respond(429, {}, headers={"Retry-After": "-1"}),
    Respond(429, {}, headers={"Retry-After": "9" * 50}),
    Respond(429, text="<html>Slow down</html>"),
]


@pytest.mark.parametrize(
    ("action", "seconds"), [wait[1:] for wait in WAITS], ids=[wait[0] for wait in WAITS]
)
async def test_a_rate_limit_is_waited_out(
    hs: FakeHomeserver, connect: Connect, naps: Naps, action: Respond, seconds: float
) -> None:
    hs.fail("joined_rooms", action)
    await connect().joined_rooms()
    assert naps.seconds == [seconds]


@pytest.mark.parametrize("action", NONSENSE, ids=str)
async def test_a_time_that_makes_no_sense_is_a_backoff(
    hs: FakeHomeserver, connect: Connect, naps: Naps, action: Respond
) -> None:
    hs.fail("joined_rooms", action)
    await connect().joined_rooms()
    (seconds,) = naps.seconds
    assert 0.25 <= seconds <= 0.5


@pytest.mark.parametrize("milliseconds", [901_000, 10**9, 10**15, 2**53, 10**300])
async def test_nobody_waits_for_ever(
    hs: FakeHomeserver, connect: Connect, naps: Naps, milliseconds: int
) -> None:
    hs.fail("joined_rooms", Respond(429, {"retry_after_ms": milliseconds}))
    if milliseconds < 2**53:
        with pytest.raises(Unavailable, match="rate limited"):
            await connect().joined_rooms()
    else:
        await connect().joined_rooms()
    assert sum(naps.seconds) < 1


async def test_the_backoff_doubles_up_to_half_a_minute(
    hs: FakeHomeserver, connect: Connect, naps: Naps
) -> None:
    hs.fail("joined_rooms", Respond(500, text="no"), times=12)
    await connect().joined_rooms()
    for attempt, seconds in enumerate(naps.seconds):
        longest = min(0.5 * 2**attempt, 30)
        assert longest / 2 <= seconds <= longest


async def test_what_goes_on_failing_is_given_up(
    hs: FakeHomeserver, client: MaubotMatrixClient, naps: Naps
) -> None:
    hs.fail("joined_rooms", Respond(500, text="no"), times=None)
    api = PatientAPI(
        lambda: client.api,
        slots=FairTurns(lambda: 1),
        budget=RetryBudget(call=60, failing=1, attempt=60),
        log=LOG,
        sleep=naps,
    )
    with pytest.raises(Unavailable, match="HTTP status 500"):
        await api.request(Method.GET, homeserver.Path.v3.joined_rooms)


async def test_an_answer_that_does_not_come_is_given_up(
    hs: FakeHomeserver, client: MaubotMatrixClient, naps: Naps
) -> None:
    hs.fail("joined_rooms", Hang(), times=None)
    api = PatientAPI(
        lambda: client.api,
        slots=FairTurns(lambda: 1),
        budget=RetryBudget(call=0.2, failing=0.2, attempt=0.1),
        log=LOG,
        sleep=naps,
    )
    with pytest.raises(Unavailable, match="no answer came in time"):
        await api.request(Method.GET, homeserver.Path.v3.joined_rooms)


async def test_a_server_that_is_not_there_is_unavailable(
    hs: FakeHomeserver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_budgets, "SCANNING", RetryBudget(call=0.1, failing=0.1, attempt=1))
    await hs.stop()
    with pytest.raises(Unavailable, match="cannot connect"):
        await connect().joined_rooms()


async def test_an_answer_without_end_is_not_read(
    hs: FakeHomeserver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 1000)
    hs.fail("joined_rooms", Respond(200, text="x" * 100_000))
    with pytest.raises(Unavailable, match="larger than 1000 bytes"):
        await connect().joined_rooms()


async def test_a_large_answer_is_read_aside(
    hs: FakeHomeserver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_json, "LARGE", 10)
    room_id = hs.user("bot").create_room()
    assert await connect().joined_rooms() == {room_id}


async def test_of_large_answers_one_is_in_pieces_at_a_time(
    hs: FakeHomeserver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsed, one takes several times its size: memory has to bear that of one, not of ten."""
    monkeypatch.setattr(large_json, "LARGE", 10)
    at_once, most, parse = [0], [0], http._parse_now

    def slowly(*args: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        time.sleep(0.01)
        at_once[0] -= 1
        return parse(*args)

    monkeypatch.setattr(http, "_parse_now", slowly)
    user, server = hs.user("bot"), connect()
    rooms = [user.create_room() for _ in range(5)]
    states = await asyncio.gather(*map(server.room_state, rooms))
    assert all(states)
    assert most == [1]


async def test_of_a_room_so_much_state_is_read(
    hs: FakeHomeserver, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homeserver, "STATE_AT_MOST", 20_000)
    user, server = hs.user("bot"), connect()
    room_id = user.create_room()
    assert await server.room_state(room_id)
    user.set_state(room_id, "junk", {"x": "y" * 20_000})
    with pytest.raises(TooLarge, match="larger than 20000 bytes"):
        await server.room_state(room_id)
    assert await server.joined_rooms() == {room_id}


SIGNED_OUT = {
    "unknown token": Respond(401, {"errcode": "M_UNKNOWN_TOKEN", "error": "gone"}),
    "soft logout": Respond(
        401, {"errcode": "M_UNKNOWN_TOKEN", "error": "gone", "soft_logout": True}
    ),
    "missing token": Respond(401, {"errcode": "M_MISSING_TOKEN", "error": "gone"}),
    "locked": Respond(401, {"errcode": "M_USER_LOCKED", "error": "gone", "soft_logout": True}),
    "over the limit": Respond(403, {"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "gone"}),
}


@pytest.mark.parametrize("action", SIGNED_OUT.values(), ids=SIGNED_OUT.keys())
async def test_not_being_signed_in_is_a_state_and_no_refusal(
    hs: FakeHomeserver, connect: Connect, naps: Naps, action: Respond
) -> None:
    """Until something that needs an account is answered again: reads may be, all the while."""
    room_id = hs.user("bot").create_room()
    adapter = connect()
    hs.fail("/send/", action)
    content = TextMessageEventContent(msgtype=MessageType.TEXT, body="Hello")
    with pytest.raises(NotSignedIn, match="gone"):
        await adapter.send(room_id, content, txn_id="1")
    assert naps.seconds == []
    await adapter.joined_rooms()
    await adapter.signs.set_typing(room_id, milliseconds=1000)
    if action.json["errcode"] == "M_RESOURCE_LIMIT_EXCEEDED":  # Synapse lets these pass
        await adapter.account_data.set("org.example.data", {})
    assert adapter.health.signed_out == action.json["errcode"]
    assert adapter.health.signed_out_at is not None
    await adapter.send(room_id, content, txn_id="1")
    assert (adapter.health.signed_out, adapter.health.signed_out_at) == (None, None)


async def test_who_is_in_already_is_invited(hs: FakeHomeserver, connect: Connect) -> None:
    bot, anna = hs.user("bot"), hs.user("anna")
    room_id = bot.create_room(invite=[anna])
    adapter = connect()
    await adapter.invite(room_id, anna.user_id)
    anna.join(room_id)
    await adapter.invite(room_id, anna.user_id)
    bot.ban(room_id, anna)
    with pytest.raises(Refused):  # by one that was not told of the invite
        await connect().invite(room_id, anna.user_id)


# Bounds and secrets


async def test_no_more_requests_at_once_than_the_settings_allow(
    hs: FakeHomeserver, client: MaubotMatrixClient, connect: Connect
) -> None:
    fault = hs.fail("joined_rooms", Hang(), times=None)
    adapter = connect(3)
    asking = [asyncio.ensure_future(adapter.joined_rooms()) for _ in range(10)]
    await until("three have come in", lambda: len(fault.hits) == 3)
    await client.versions()  # whatever else was sent has come in before this
    assert len(fault.hits) == 3
    fault.release()
    await asyncio.gather(*asking)
    assert len(fault.hits) == 10


async def test_who_waits_for_a_rate_limit_is_in_nobodys_way(
    hs: FakeHomeserver, client: MaubotMatrixClient
) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await go_on.wait()

    adapter = Homeserver(CurrentClient(client), log=LOG, concurrency=lambda: 1, sleep=sleep)
    hs.fail("createRoom", RateLimit(retry_after_ms=60_000))
    making = asyncio.ensure_future(adapter.create_room({}))
    await waiting.wait()
    assert await adapter.joined_rooms() == frozenset()
    go_on.set()
    await making


async def test_the_clients_own_api_is_left_alone(
    hs: FakeHomeserver, client: MaubotMatrixClient, connect: Connect
) -> None:
    before = dict(vars(client.api))
    hs.fail("joined_rooms", Respond(500, text="no"))
    adapter = connect()
    await adapter.joined_rooms()
    assert vars(client.api) == before
    client.api.token = hs.world.new_session(hs.world.accounts[hs.user("anna").user_id]).token
    await adapter.joined_rooms()
    assert hs.requests[-1].user == "@anna:fake.test"


async def test_no_secret_is_logged_or_raised(
    hs: FakeHomeserver,
    client: MaubotMatrixClient,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client.api.token = "syt_topsecret"
    hs.world.sessions[client.api.token] = hs.user("bot").session
    room_id = hs.user("bot").create_room()
    content = TextMessageEventContent(msgtype=MessageType.TEXT, body="my diary")
    adapter = connect()
    told: list[str] = []

    async def listen(work: Awaitable[object]) -> None:
        try:
            await work
        except HomeserverError as e:
            told.append(f"{e!r} {e.__cause__!r}")

    for number, action in enumerate((*PASSING.values(), Respond(403, {"errcode": "M_NO"}))):
        hs.fail(Match(when=is_write), action)
        await listen(adapter.send(room_id, content, txn_id=f"t{number}"))
        await listen(adapter.put_state(room_id, "m.room.topic", {"topic": "my diary"}))
        await listen(adapter.leave(RoomID("!nowhere"), reason="my diary"))
    text = caplog.text + "".join(told)
    assert told
    assert not re.search("topsecret|diary", text)


def is_write(request: Recorded) -> bool:
    return request.changes_rooms


async def test_strange_lists_of_rooms_are_unavailable(
    hs: FakeHomeserver, connect: Connect
) -> None:
    for answer in ({}, [], {"joined_rooms": "!x"}, {"joined_rooms": [7]}, {"joined_rooms": None}):
        hs.fail("joined_rooms", Respond(200, answer))
        with pytest.raises(Unavailable):
            await connect().joined_rooms()


async def test_strange_members_are_unavailable(hs: FakeHomeserver, connect: Connect) -> None:
    room_id = hs.user("bot").create_room()
    assert await connect().joined_members(room_id) == {UserID("@bot:fake.test")}
    for answer in ({}, [], {"joined": ["@x:y"]}):
        hs.fail("joined_members", Respond(200, answer))
        with pytest.raises(Unavailable):
            await connect().joined_members(room_id)
