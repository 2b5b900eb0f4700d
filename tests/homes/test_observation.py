"""One look, three ways: whichever is taken, and whatever the server leaves out, it is the same."""

from __future__ import annotations

import pytest
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.topology import Invite, Room
from homeroom.homes.observation import Observer, Progress, progress
from homeroom.homes.observation import by_sliding_sync as sliding
from homeroom.homes.observation import observer as observers
from tests.fake import FakeHomeserver, Match, Truncate
from tests.homes.observing import (
    MEMBERS,
    SLIDING,
    STRANGE,
    WHOLE,
    WINDOWS,
    asked_for,
    few_at_once,
    named,
    populate,
    without_sliding_sync,
)


async def test_every_way_sees_the_same(hs: FakeHomeserver, observer: Observer) -> None:
    rooms = populate(hs)
    fast = await observer.scan()
    hs.service.unstable_features[SLIDING] = False
    observer._homeserver.about._versions = None
    slow = await observer.scan()
    gentle = await observer.scan_by_get()
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
    beyond = await observer.scan_others(frozenset(whole.rooms) - {rooms["chat"]})
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
    beyond = await observer.scan_others(frozenset({rooms["chat"]}))
    assert beyond.rooms == {k: v for k, v in whole.rooms.items() if k != rooms["chat"]}
    read = [r for r in hs.requests[before:] if r.route.endswith("/state")]
    assert bool(read) is not fast
