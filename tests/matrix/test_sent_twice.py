"""Requests that may have been carried out: what is sent twice, and what is not."""

from __future__ import annotations

import pytest
from maubot.matrix import MaubotMatrixClient
from mautrix.types import MessageType, TextMessageEventContent

from homeroom.matrix import retry_budgets
from homeroom.matrix.current_client import CurrentClient
from homeroom.matrix.errors import OutcomeUnknown, Unavailable
from homeroom.matrix.homeserver import Homeserver
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake import DropAfter, DropBefore, FakeHomeserver, RateLimit, Respond, Truncate
from tests.fake.clients import LOG, Connect, Naps
from tests.fake.faults import Action

ONCE: dict[str, Action] = {
    "dropped": DropBefore(),
    "dropped afterwards": DropAfter(),
    "cut off": Truncate(),
    "500": Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "502": Respond(502, text="<html>Bad gateway</html>"),
    "a web page": Respond(200, text="<html>Log in to the hotel</html>"),
    "a list": Respond(200, text="[]"),
    "no room": Respond(200, text="{}"),
    "a room that is no text": Respond(200, {"room_id": 7}),
}


@pytest.mark.parametrize("action", ONCE.values(), ids=ONCE.keys())
async def test_a_room_that_may_have_been_made_is_not_asked_for_again(
    hs: FakeHomeserver, connect: Connect, action: Action
) -> None:
    hs.fail("createRoom", action, times=None)
    with pytest.raises(OutcomeUnknown):
        await connect().create_room({})
    assert len(hs.requests) == 1


async def test_a_room_that_was_not_made_for_sure_is_asked_for_again(
    hs: FakeHomeserver, connect: Connect, naps: Naps
) -> None:
    hs.fail("createRoom", RateLimit(retry_after_ms=60_000), times=3)
    room_id = await connect().create_room({})
    assert set(hs.rooms) == {room_id}
    assert naps.seconds == [60.0] * 3


async def test_a_room_is_asked_for_again_when_nobody_was_there_to_hear(
    hs: FakeHomeserver, client: MaubotMatrixClient
) -> None:
    await hs.stop()
    sleeps: list[float] = []

    async def back_after_two(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            await hs.start()

    adapter = Homeserver(
        CurrentClient(client), log=LOG, concurrency=lambda: 1, sleep=back_after_two
    )
    room_id = await adapter.create_room({})
    assert set(hs.rooms) == {room_id}
    assert len(sleeps) == 2


async def test_a_message_sent_twice_is_one(hs: FakeHomeserver, connect: Connect) -> None:
    room_id = hs.user("bot").create_room()
    hs.fail("/send/", DropAfter(), times=4)
    content = TextMessageEventContent(msgtype=MessageType.TEXT, body="Hello")
    await connect().send(room_id, content, txn_id="1")
    assert len(hs.user("bot").messages(room_id)) == 1


@pytest.mark.parametrize("text", ["[]", "{}", '"$x"', "null"])
async def test_a_message_without_an_event_is_unavailable(
    hs: FakeHomeserver, connect: Connect, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_budgets, "WRITING", RetryBudget(call=0.1, failing=0.1, attempt=10))
    room_id = hs.user("bot").create_room()
    hs.fail("/send/", Respond(200, text=text), times=None)
    content = TextMessageEventContent(msgtype=MessageType.TEXT, body="Hello")
    with pytest.raises(Unavailable):
        await connect().send(room_id, content, txn_id="1")


async def test_a_join_names_every_server_that_is_known(
    hs: FakeHomeserver, connect: Connect
) -> None:
    anna = hs.user("anna")
    room_id = anna.create_room(invite=[hs.user("bot")])
    await connect().join(room_id, via=["one.example", "two.example"])
    assert hs.requests[-1].parameters == (
        ("via", "one.example"),
        ("via", "two.example"),
        ("server_name", "one.example"),
        ("server_name", "two.example"),
    )
