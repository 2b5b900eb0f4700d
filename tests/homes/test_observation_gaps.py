"""What a way to observe leaves out, or a server does not tell, is asked for in another way."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.domain.homes.topology import Unreadable
from homeroom.homes.observation import Observer
from homeroom.homes.observation import by_sliding_sync as sliding
from homeroom.matrix import homeserver as homeserver_module
from homeroom.matrix.errors import HomeserverError
from tests.fake import Alter, DropBefore, FakeHomeserver, Fault, Match, Respond, Truncate
from tests.fake.events import Json
from tests.fake.faults import Action
from tests.homes.observing import (
    MEMBERS,
    STRANGE,
    WHOLE,
    WINDOWS,
    few_at_once,
    is_invite_sync,
    populate,
    without_sliding_sync,
)


def drop_rooms(answer: Json) -> Json:
    return {**answer, "rooms": {}}


def drop_every_second(answer: Json) -> Json:
    names = sorted(answer["rooms"])[::2]
    return {**answer, "rooms": {name: answer["rooms"][name] for name in names}}


def forget_the_state(answer: Json) -> Json:
    rooms = {name: {**room, "required_state": []} for name, room in answer["rooms"].items()}
    return {**answer, "rooms": rooms}


def call_them_updates(answer: Json) -> Json:
    rooms = {name: {**room, "initial": False} for name, room in answer["rooms"].items()}
    return {**answer, "rooms": rooms}


def state_of_strange_shape(answer: Json) -> Json:
    strange: list[Any] = [7, None, {"type": 7}, {"type": "m.room.create", "content": []}]
    rooms = {name: {**room, "required_state": strange} for name, room in answer["rooms"].items()}
    return {**answer, "rooms": rooms}


def count(answer: Json, value: object) -> Json:
    return {**answer, "lists": {key: {"count": value} for key in sliding.LISTS}}


LIES: dict[str, Action] = {
    "no rooms": Alter(drop_rooms),
    "every second room": Alter(drop_every_second),
    "no state": Alter(forget_the_state),
    "updates only": Alter(call_them_updates),
    "strange state": Alter(state_of_strange_shape),
    "rooms that are a list": Alter(lambda answer: {**answer, "rooms": []}),
    "no count": Alter(lambda answer: {**answer, "lists": {}}),
    "a count that is a text": Alter(lambda answer: count(answer, "3")),
    "a count without end": Alter(lambda answer: count(answer, 10**9)),
    "a count that is far too large": Alter(lambda answer: count(answer, 10_000)),
    "a count below nothing": Alter(lambda answer: count(answer, -1)),
    "no position": Alter(lambda answer: {k: v for k, v in answer.items() if k != "pos"}),
    "500": Respond(500, text="no"),
    "400": Respond(400, {"errcode": "M_UNKNOWN_POS", "error": "Connection expired"}),
    "404": Respond(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}),
    "dropped": DropBefore(),
    "cut off": Truncate(),
    "a list": Respond(200, text="[]"),
}


ASKED = {"lists": WINDOWS, "likely rooms": WHOLE, "strange rooms": STRANGE, "members": MEMBERS}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
@pytest.mark.parametrize("skip", [0, 1], ids=["first window", "second window"])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_what_the_fast_way_leaves_out_is_read_room_by_room(
    hs: FakeHomeserver,
    observer: Observer,
    monkeypatch: pytest.MonkeyPatch,
    lie: Action,
    skip: int,
    asked: Match,
) -> None:
    few_at_once(monkeypatch)
    likely = {populate(hs)["old"]}
    honest = await observer.scan(expected=likely)
    fault = hs.fail(asked, lie, skip=skip, times=None)
    seen = await observer.scan(expected=likely)
    assert fault.hits
    assert seen.rooms == honest.rooms
    if isinstance(lie, Alter):
        assert set(seen.invites) <= set(honest.invites)
    else:
        assert seen.invites == honest.invites


async def test_a_server_that_gives_up_in_the_seventh_window_loses_nothing(
    hs: FakeHomeserver, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_at_once(monkeypatch)
    populate(hs)
    bot, anna = hs.user("bot"), hs.user("anna")
    for _ in range(10):
        bot.create_space(invite=[anna])
    honest = await observer.scan()
    before = len(hs.requests)
    for action in (Respond(500, text="no"), Truncate(), DropBefore()):
        fault = hs.fail(WINDOWS, action, skip=6, times=None)
        seen = await observer.scan()
        assert fault.hits
        fault.cancel()
        assert (seen.rooms, seen.invites) == (honest.rooms, honest.invites)
    read = [r for r in hs.requests[before:] if r.route.endswith("/state")]
    assert len(read) < 3 * len(honest.rooms)  # what was told before is not asked for again


async def test_a_room_left_in_the_middle_of_the_look_is_not_there(
    hs: FakeHomeserver, observer: Observer
) -> None:
    rooms = populate(hs)
    without_sliding_sync(hs)

    def leave(answer: Json) -> Json:
        hs.user("bot").leave(rooms["nameless"])
        return answer

    hs.fail("joined_rooms", Alter(leave))
    seen = await observer.scan()
    assert rooms["nameless"] not in seen.rooms


@pytest.mark.parametrize(
    "action",
    [
        Respond(500, text="no"),
        Respond(403, {"errcode": "M_FORBIDDEN", "error": "No"}),
        Respond(404, {"errcode": "M_NOT_FOUND", "error": "No"}),
        Respond(200, text="{}"),
        Respond(200, text="[]"),
        Truncate(),
    ],
    ids=["500", "403", "404", "an object", "nothing in it", "cut off"],
)
async def test_a_room_that_cannot_be_read_is_unknown_not_absent(
    hs: FakeHomeserver, observer: Observer, action: Action
) -> None:
    rooms = populate(hs)
    without_sliding_sync(hs)
    honest = await observer.scan()
    hs.fail(f"rooms/{rooms['chat']}/state$", action, times=None)
    seen = await observer.scan()
    chat = seen.rooms[rooms["chat"]]
    assert isinstance(chat, Unreadable)
    assert seen.rooms == {**honest.rooms, rooms["chat"]: chat}


@pytest.mark.parametrize(
    "match",
    [
        "joined_rooms",
        "versions",
    ],
    ids=["joined rooms", "versions"],
)
async def test_without_the_lists_there_is_no_look(
    hs: FakeHomeserver, observer: Observer, match: Match | str
) -> None:
    populate(hs)
    hs.fail(match, Respond(500, text="no"), times=None)
    with pytest.raises(HomeserverError):
        await observer.scan()


@pytest.mark.parametrize(
    "answer",
    [
        Respond(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}),
        Alter(lambda answer: [*answer, {"type": "large", "content": {"x": "x" * 50_000}}]),
    ],
    ids=["no such request", "too large"],
)
async def test_what_state_will_not_tell_is_asked_of_sync(
    hs: FakeHomeserver,
    observer: Observer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Action,
) -> None:
    populate(hs)
    honest = await observer.scan()
    without_sliding_sync(hs)
    monkeypatch.setattr(homeserver_module, "STATE_AT_MOST", 40_000)
    fault = hs.fail(Match(when=lambda r: r.route.endswith("/state")), answer, times=None)
    seen = await observer.scan()
    assert len(fault.hits) == len(honest.rooms)
    assert (seen.rooms, seen.invites) == (honest.rooms, honest.invites)


async def test_what_no_way_tells_is_unknown(hs: FakeHomeserver, observer: Observer) -> None:
    rooms = populate(hs)
    without_sliding_sync(hs)
    unrecognized = Respond(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})
    hs.fail(f"rooms/{rooms['chat']}/state$", unrecognized, times=None)
    hs.fail(
        Match(when=lambda r: rooms["chat"] in r.query.get("filter", "")), Truncate(), times=None
    )
    seen = await observer.scan()
    assert isinstance(seen.rooms[rooms["chat"]], Unreadable)


async def test_without_the_invites_there_is_no_look(
    hs: FakeHomeserver, observer: Observer
) -> None:
    populate(hs)
    without_sliding_sync(hs)
    fault: Fault = hs.fail(Match(when=is_invite_sync), Respond(500, text="no"), times=None)
    with pytest.raises(HomeserverError):
        await observer.scan()
    assert fault.hits
