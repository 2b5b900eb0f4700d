"""What `/sync` tells."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from .party import Check, Contract, Json, only, room, types


async def a_position_costs_nothing_and_misses_nothing(c: Contract) -> None:
    room_id = await c.shared_room()
    since = await c.bob.position()
    event_id = await c.alice.say(room_id, "hello")
    answer = await c.bob.sync({}, since=since)
    assert only(answer, "join") == [room_id]
    (event,) = answer["rooms"]["join"][room_id]["timeline"]["events"]
    assert event["event_id"] == event_id
    assert "room_id" not in event
    assert "rooms" not in await c.bob.sync({}, since=answer["next_batch"])


async def a_position_of_the_future_is_taken_for_now(c: Contract) -> None:
    """As after a restore from an older backup: what happened meanwhile is never told."""
    room_id = await c.shared_room()
    since = await c.bob.position()
    number, _, rest = since.removeprefix("s").partition("_")
    missed = await c.alice.say(room_id, "missed")
    answer = await c.bob.sync({}, since=f"s{int(number) + 1_000_000}_{rest}")
    assert only(answer, "join") == []
    told = await c.alice.say(room_id, "told")
    found = (await c.bob.sync({}, since=answer["next_batch"]))["rooms"]["join"][room_id]
    assert [event["event_id"] for event in found["timeline"]["events"]] == [told]
    assert missed != told


async def every_answer_tells_the_time(c: Contract) -> None:
    room_id = await c.alice.create()
    create = await c.alice.get(room(room_id, "state/m.room.create"), format="event")
    headers = {"Authorization": f"Bearer {c.alice.token}"}
    url = f"{c.alice.base_url}/_matrix/client/v3/account/whoami"
    async with c.alice.http.get(url, headers=headers) as response:
        told = parsedate_to_datetime(response.headers["Date"]).timestamp()
    assert abs(told - create["origin_server_ts"] / 1000) < 60


async def a_long_poll_ends_when_something_happens(c: Contract) -> None:

    room_id = await c.shared_room()
    since = await c.bob.position()
    poll = asyncio.ensure_future(c.bob.sync({}, since=since, timeout=20_000))
    await asyncio.sleep(0.05)
    assert not poll.done()
    await c.alice.say(room_id, "wake up")
    assert only(await asyncio.wait_for(poll, 5), "join") == [room_id]


async def a_gap_is_announced_and_can_be_filled(c: Contract) -> None:
    room_id = await c.shared_room()
    since = await c.bob.position()
    sent = [await c.alice.say(room_id, str(number)) for number in range(9)]
    filter_ = {"room": {"timeline": {"limit": 3}}}
    timeline = (await c.bob.sync(filter_, since=since))["rooms"]["join"][room_id]["timeline"]
    assert timeline["limited"] is True
    assert [event["event_id"] for event in timeline["events"]] == sent[-3:]
    query = {"dir": "b", "from": timeline["prev_batch"], "to": since, "limit": 50}
    older = (await c.bob.get(room(room_id, "messages"), **query))["chunk"]
    assert [event["event_id"] for event in older][::-1] == sent[:-3]


async def a_state_change_that_the_timeline_filter_drops_is_lost(c: Contract) -> None:
    """Unless the timeline is limited, or another event of the room passes."""
    room_id = await c.shared_room()
    filter_ = {"room": {"timeline": {"types": ["m.room.message"], "limit": 5}}}
    since = await c.bob.position()
    await c.alice.put(room(room_id, "state/m.room.name"), {"name": "lost"})
    assert only(await c.bob.sync(filter_, since=since), "join") == []
    await c.alice.say(room_id, "passes")
    found = (await c.bob.sync(filter_, since=since))["rooms"]["join"][room_id]
    assert types(found["timeline"]["events"]) == [("m.room.message", None)]
    assert types(found["state"]["events"]) == [("m.room.name", "")]
    assert found["timeline"]["limited"] is False
    everything = {"room": {"timeline": {"types": ["m.room.name"]}}}
    found = (await c.bob.sync(everything, since=since))["rooms"]["join"][room_id]
    assert types(found["timeline"]["events"]) == [("m.room.name", "")]


async def invites_are_listed_whatever_rooms_are_filtered(c: Contract) -> None:
    since = await c.bob.position()
    room_id = await c.alice.create(name="N", invite=[c.bob.user_id], is_direct=True)
    filter_ = {"room": {"rooms": ["!other:x"]}}
    for start in (since, None):
        answer = await c.bob.sync(filter_, since=start)
        state = answer["rooms"]["invite"][room_id]["invite_state"]["events"]
        assert sorted(types(state)) == sorted(
            [
                ("m.room.create", ""),
                ("m.room.join_rules", ""),
                ("m.room.name", ""),
                ("m.room.member", c.alice.user_id),
                ("m.room.member", c.bob.user_id),
            ]
        )
        own = next(e for e in state if e["state_key"] == c.bob.user_id)
        assert own["content"]["is_direct"] is True
        assert own["sender"] == c.alice.user_id
    await c.bob.post(room(room_id, "leave"))
    assert room_id not in only(await c.bob.sync(filter_), "invite")


async def a_first_sync_lists_rooms_one_was_kicked_from(c: Contract) -> None:
    kicked, left = await c.shared_room(), await c.shared_room()
    since = await c.bob.position()
    await c.alice.post(room(kicked, "kick"), {"user_id": c.bob.user_id})
    await c.bob.post(room(left, "leave"))
    assert set(only(await c.bob.sync({}, since=since), "leave")) == {kicked, left}
    first = only(await c.bob.sync({"room": {"timeline": {"limit": 1}}}), "leave")
    assert kicked in first
    assert left not in first
    assert left in only(await c.bob.sync({"room": {"include_leave": True}}), "leave")
    await c.bob.post(room(kicked, "forget"))
    assert kicked not in only(await c.bob.sync({}), "leave")


async def a_room_just_joined_comes_with_its_whole_state(c: Contract) -> None:
    room_id = await c.alice.create(name="N", invite=[c.bob.user_id])
    since = await c.bob.position()
    await c.bob.post(room(room_id, "join"))
    filter_ = {"room": {"timeline": {"limit": 1}}}
    found = (await c.bob.sync(filter_, since=since))["rooms"]["join"][room_id]
    assert types(found["timeline"]["events"]) == [("m.room.member", c.bob.user_id)]
    assert found["timeline"]["limited"] is True
    assert ("m.room.name", "") in types(found["state"]["events"])
    assert ("m.room.create", "") in types(found["state"]["events"])


async def a_room_with_nothing_that_passes_is_left_out(c: Contract) -> None:
    room_id = await c.shared_room()
    nothing: Json = {"room": {"timeline": {"types": []}, "state": {"types": []}}}
    assert room_id not in only(await c.bob.sync(nothing), "join")
    some = {"room": {"timeline": {"types": []}, "state": {"types": ["m.room.create"]}}}
    found = (await c.bob.sync(some))["rooms"]["join"][room_id]
    assert types(found["state"]["events"]) == [("m.room.create", "")]
    assert found["timeline"]["events"] == []


async def a_filter_for_rooms_hides_the_create_event_of_version_12(c: Contract) -> None:
    """It has no room ID to be found by."""
    for version, told in (("11", ["m.room.create", "m.room.name"]), ("12", ["m.room.name"])):
        room_id = await c.shared_room(name="N", room_version=version)
        state = {"types": ["m.room.create", "m.room.name"]}
        asked: Json = {"rooms": [room_id], "timeline": {"types": []}, "state": state}
        found = (await c.bob.sync({"room": asked}))["rooms"]["join"][room_id]
        assert sorted(type_ for type_, _ in types(found["state"]["events"])) == told


async def an_inline_filter_and_a_stored_one_are_the_same(c: Contract) -> None:
    path = f"user/{quote(c.bob.user_id, safe='')}/filter"
    filter_ = {"room": {"timeline": {"limit": 1}}}
    stored = (await c.bob.post(path, filter_))["filter_id"]
    assert await c.bob.get(f"{path}/{stored}") == filter_
    assert (await c.bob.ask("GET", "sync", filter=stored, timeout=1))[0] == 200
    assert (await c.bob.ask("GET", "sync", filter="99999"))[0] == 400
    assert (await c.bob.ask("GET", "sync", since="nonsense"))[0] == 400


CHECKS: list[Check] = [
    a_position_costs_nothing_and_misses_nothing,
    a_position_of_the_future_is_taken_for_now,
    every_answer_tells_the_time,
    a_long_poll_ends_when_something_happens,
    a_gap_is_announced_and_can_be_filled,
    a_state_change_that_the_timeline_filter_drops_is_lost,
    invites_are_listed_whatever_rooms_are_filtered,
    a_first_sync_lists_rooms_one_was_kicked_from,
    a_room_just_joined_comes_with_its_whole_state,
    a_room_with_nothing_that_passes_is_left_out,
    a_filter_for_rooms_hides_the_create_event_of_version_12,
    an_inline_filter_and_a_stored_one_are_the_same,
]
