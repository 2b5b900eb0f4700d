"""One look, three ways: whichever is taken, and whatever the server leaves out, it is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.homes.topology import Invite, Room, Unreadable
from homeroom.homes.observation import Observer, Progress, progress
from homeroom.homes.observation import by_sliding_sync as sliding
from homeroom.homes.observation import observer as observers
from homeroom.matrix import homeserver as homeserver_module
from homeroom.matrix import retry_budgets
from homeroom.matrix.errors import HomeserverError
from homeroom.matrix.homeserver import Homeserver
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake import (
    Alter,
    DropBefore,
    FakeHomeserver,
    Fault,
    Match,
    Recorded,
    Respond,
    Truncate,
)
from tests.fake.clients import LOG
from tests.fake.events import Json
from tests.fake.faults import Action

Connect = Callable[..., Homeserver]
SLIDING = "org.matrix.simplified_msc3575"
WINDOWS = Match(when=lambda r: "lists" in (r.body or {}))
WHOLE = Match(when=lambda r: asked_for(r) == sliding.REQUIRED_STATE + sliding.MEMBERS)
STRANGE = Match(when=lambda r: asked_for(r) == sliding.REQUIRED_STATE)
MEMBERS = Match(when=lambda r: asked_for(r) == sliding.MEMBERS)


def asked_for(request: Recorded) -> list[list[str]] | None:
    """What a request asks about the rooms that it names."""
    for subscription in (request.body or {}).get("room_subscriptions", {}).values():
        return list(subscription["required_state"])
    return None


def named(request: Recorded) -> set[str]:
    return set((request.body or {}).get("room_subscriptions", {}))


@pytest.fixture
def observer(connect: Connect, short_waits: None) -> Observer:
    del short_waits
    return Observer(connect(), log=LOG)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure is enough to give up."""
    for name, value in list(vars(retry_budgets).items()):
        if isinstance(value, RetryBudget):
            short = RetryBudget(call=0.2, failing=0.2, attempt=5)
            monkeypatch.setattr(retry_budgets, name, short)


def populate(hs: FakeHomeserver) -> dict[str, RoomID]:
    """A server with everything on it that a bot can meet."""
    bot, anna, mallory = hs.user("bot"), hs.user("anna"), hs.user("mallory")
    marker = {"version": 1, "room_type": "space", "user_id": anna.user_id}
    rooms = {
        "space": bot.create_space(
            name="Home",
            invite=[anna],
            initial_state=[{"type": MARKER_TYPE, "state_key": bot.user_id, "content": marker}],
        ),
        "old": bot.create_room(name="Old", room_version="11", invite=[anna]),
        "foreign": mallory.create_room(name="Foreign", invite=[bot]),
        "kicked": mallory.create_space(invite=[bot]),
        "banned": mallory.create_room(invite=[bot]),
        "left": bot.create_room(invite=[anna]),
        "nameless": bot.create_room(),
    }
    for name in ("foreign", "kicked", "banned"):
        bot.join(rooms[name])
    anna.join(rooms["space"])
    marker = {"version": 1, "room_type": "chat", "user_id": anna.user_id, "chat_id": "C1"}
    rooms["chat"] = bot.create_room(
        name="Chat",
        initial_state=[
            {"type": MARKER_TYPE, "state_key": bot.user_id, "content": marker},
            {"type": "m.space.parent", "state_key": rooms["space"], "content": {"via": ["x"]}},
            {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}},
        ],
        invite=[anna, mallory],
    )
    bot.set_state(rooms["space"], "m.space.child", {"via": ["x"]}, state_key=rooms["chat"])
    bot.set_state(rooms["space"], "m.space.child", {}, state_key=rooms["old"])
    mallory.set_state(rooms["foreign"], MARKER_TYPE, marker, state_key=mallory.user_id)
    mallory.leave(rooms["chat"])
    rooms["new"] = bot.upgrade(rooms["old"], "12")
    mallory.kick(rooms["kicked"], bot)
    mallory.ban(rooms["banned"], bot)
    bot.leave(rooms["left"])
    rooms["invite"] = anna.create_room(invite=[bot])
    rooms["invite to a space"] = mallory.create_space(invite=[bot])
    return rooms


def without_sliding_sync(hs: FakeHomeserver) -> None:
    hs.service.unstable_features[SLIDING] = False


async def test_every_way_sees_the_same(hs: FakeHomeserver, observer: Observer) -> None:
    rooms = populate(hs)
    fast = await observer.scan()
    hs.service.unstable_features[SLIDING] = False
    observer._homeserver.about._versions = None
    slow = await observer.scan()
    gentle = await observer.scan_gently()
    assert fast.rooms == slow.rooms == gentle.rooms
    assert fast.invites == slow.invites
    assert set(fast.rooms) == {
        rooms[name] for name in ("space", "chat", "old", "new", "foreign", "nameless")
    }
    assert set(fast.invites) == {
        Invite(room_id=rooms["invite"], inviter=UserID("@anna:fake.test")),
        Invite(
            room_id=rooms["invite to a space"],
            inviter=UserID("@mallory:fake.test"),
            is_space=True,
        ),
    }


async def test_what_is_seen_is_what_is_there(hs: FakeHomeserver, observer: Observer) -> None:
    rooms = populate(hs)
    seen = await observer.scan()
    space, chat, old, new = (seen.room(rooms[name]) for name in ("space", "chat", "old", "new"))
    assert space
    assert (space.is_space, space.name, space.creator) == (True, "Home", "@bot:fake.test")
    assert {room_id: link.linked for room_id, link in space.children.items()} == {
        rooms["chat"]: True,
        rooms["old"]: False,
    }
    assert chat
    assert {user: member.membership for user, member in chat.members.items()} == {
        "@bot:fake.test": "join",
        "@anna:fake.test": "invite",
        "@mallory:fake.test": "leave",
    }
    assert chat.marker
    assert chat.marker.chat_id == "C1"
    assert chat.parents == {rooms["space"]}
    assert chat.cached_state
    assert chat.cached_state.encryption == '{"algorithm":"m.megolm.v1.aes-sha2"}'
    assert old
    assert new
    assert (old.is_tombstoned, old.replacement, old.room_version) == (True, new.room_id, "11")
    assert (new.predecessor, new.room_version) == (old.room_id, "12")


async def test_members_of_other_peoples_rooms_are_not_asked_for(
    hs: FakeHomeserver, observer: Observer
) -> None:
    rooms = populate(hs)
    crowd = hs.user("mallory").create_room(preset="public_chat")
    hs.user("bot").join(crowd)
    seen = await observer.scan()
    assert seen.room(crowd) == Room(
        room_id=crowd,
        creator=UserID("@mallory:fake.test"),
        created_at=hs.room(crowd).created_ts,
        room_version="12",
    )
    asked = {room_id for r in hs.requests if WHOLE(r) or MEMBERS(r) for room_id in named(r)}
    assert crowd not in asked
    assert rooms["chat"] in asked


# A server that leaves things out


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


def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rooms in an answer that a handful comes in several."""
    for name in ("FIRST", "AT_LEAST", "AT_MOST"):
        monkeypatch.setattr(sliding, name, 1)


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


async def test_a_room_costs_one_question_if_its_space_or_a_row_tells_of_it(
    hs: FakeHomeserver, observer: Observer
) -> None:
    rooms = populate(hs)
    await observer.scan(expected={rooms["nameless"]})
    whole = [room_id for r in hs.requests if WHOLE(r) for room_id in named(r)]
    assert {rooms["chat"], rooms["nameless"]} <= set(whole)
    strange = {room_id for r in hs.requests if STRANGE(r) for room_id in named(r)}
    assert strange.isdisjoint(whole)
    spaces = {room for r in hs.requests if WINDOWS(r) for room in r.answer["rooms"]}
    assert rooms["space"] in spaces
    assert rooms["chat"] not in spaces


async def test_answers_that_take_long_are_about_fewer_rooms(
    hs: FakeHomeserver, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(hs)

    async def most_at_once() -> int:
        before = len(hs.requests)
        await observer.scan()
        return max(len(named(r)) for r in hs.requests[before:] if WHOLE(r) or STRANGE(r))

    monkeypatch.setattr(sliding, "FIRST", 3)
    monkeypatch.setattr(sliding, "AT_LEAST", 1)
    assert await most_at_once() > 3
    monkeypatch.setattr(sliding, "SECONDS_AT_ONCE", 1e-9)
    assert await most_at_once() == 3


@pytest.mark.parametrize("fast", [True, False], ids=["sliding sync", "room by room"])
async def test_who_waits_is_told_how_far_it_is(
    hs: FakeHomeserver, observer: Observer, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    few_at_once(monkeypatch)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    populate(hs)
    if not fast:
        without_sliding_sync(hs)
    told: list[Progress] = []
    seen = await observer.scan(on_progress=told.append)
    assert {report.total for report in told} == {len(seen.rooms)}
    done = [report.done for report in told]
    assert done == sorted(done)
    assert done[-1] == len(seen.rooms)
    assert told[-1].seconds_left == 0


async def test_a_look_that_is_in_no_hurry_rests(
    hs: FakeHomeserver, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    populate(hs)
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(sliding.asyncio, "sleep", rest)
    await observer.scan()
    assert not rests
    await observer.scan(rest=1.0)
    assert rests
    assert all(0 < seconds <= sliding.REST_AT_MOST for seconds in rests)


async def test_rooms_it_was_thrown_out_of_are_not_taken_as_joined(
    hs: FakeHomeserver, observer: Observer
) -> None:
    """Sliding sync goes on listing a room from which one was removed."""
    rooms = populate(hs)
    seen = await observer.scan()
    listed = {room for r in hs.requests if WINDOWS(r) for room in r.answer["rooms"]}
    assert listed & {rooms["kicked"], rooms["banned"]}
    assert not seen.rooms.keys() & {rooms["kicked"], rooms["banned"], rooms["left"]}


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


def is_invite_sync(request: Recorded) -> bool:
    return request.route == "sync" and '"rooms": []' not in request.query.get("filter", "")


@pytest.mark.parametrize("fast", [True, False], ids=["sliding sync", "sync"])
async def test_a_look_at_the_invites_only(
    hs: FakeHomeserver, observer: Observer, fast: bool
) -> None:
    populate(hs)
    whole = await observer.scan()
    if not fast:
        hs.fail(WINDOWS, Truncate(), times=None)
    before = len(hs.requests)
    assert set(await observer.scan_invites()) == set(whole.invites)
    asked = [r for r in hs.requests[before:] if r.route.endswith("/state") or asked_for(r)]
    assert asked == []


async def test_a_look_at_some_rooms(hs: FakeHomeserver, observer: Observer) -> None:
    rooms = populate(hs)
    whole = await observer.scan()
    some = await observer.scan_rooms([rooms["chat"], rooms["kicked"], RoomID("!nowhere")])
    assert some.rooms == {rooms["chat"]: whole.rooms[rooms["chat"]]}
    beyond = await observer.scan_beyond(frozenset(whole.rooms) - {rooms["chat"]})
    assert beyond.rooms == some.rooms


@pytest.mark.parametrize("fast", [True, False], ids=["sliding sync", "room by room"])
async def test_a_look_at_many_rooms(
    hs: FakeHomeserver, observer: Observer, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    rooms = populate(hs)
    whole = await observer.scan()
    monkeypatch.setattr(observers, "MANY", 2)
    if not fast:
        hs.fail(
            Match(when=lambda r: "room_subscriptions" in (r.body or {})), Truncate(), times=None
        )
    before = len(hs.requests)
    some = await observer.scan_rooms([rooms["chat"], rooms["space"], rooms["kicked"]])
    assert some.rooms == {rooms[n]: whole.rooms[rooms[n]] for n in ("chat", "space")}
    beyond = await observer.scan_beyond(frozenset({rooms["chat"]}))
    assert beyond.rooms == {k: v for k, v in whole.rooms.items() if k != rooms["chat"]}
    read = [r for r in hs.requests[before:] if r.route.endswith("/state")]
    assert bool(read) is not fast
