"""What sliding sync tells."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote

from .party import SLIDING, Check, Contract, Json, room, types


async def sliding_sync_is_advertised(c: Contract) -> None:
    features = (await c.alice.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.simplified_msc3575"] is True


async def sliding_sync_gives_the_state_that_was_asked_for(c: Contract) -> None:
    room_id = await c.shared_room(name="N")
    me = c.bob.user_id
    own = ["m.room.member", "$ME"]
    found = await c.bob.slide_over([room_id], ["m.room.create", ""], own, ["m.room.name", ""])
    entry = found[room_id]
    assert sorted(types(entry["required_state"])) == [
        ("m.room.create", ""),
        ("m.room.member", me),
        ("m.room.name", ""),
    ]
    create = next(e for e in entry["required_state"] if e["type"] == "m.room.create")
    assert create["sender"] == c.alice.user_id
    assert isinstance(create["origin_server_ts"], int)
    assert entry["initial"] is True
    assert (entry["name"], entry["joined_count"], entry["invited_count"]) == ("N", 2, 0)
    assert "membership" not in entry
    assert "timeline" not in entry
    everyone = await c.bob.slide_over([room_id], ["m.room.member", "*"])
    assert len(everyone[room_id]["required_state"]) == 2
    whole = await c.bob.slide_over([room_id], ["*", "*"])
    by_key = await c.bob.slide_over([room_id], ["*", me])
    assert _sorted_types(whole[room_id]) == _sorted_types(by_key[room_id])
    broken = {"r": {"ranges": [[0, 0]], "timeline_limit": 0, "required_state": [["*", ""]]}}
    assert (await c.bob.refused("POST", SLIDING, {"lists": broken}))[0] == 500


async def sliding_sync_lists_what_one_has_not_left_oneself(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    to_bob = {"user_id": bob.user_id}
    joined, kicked, banned, left, forgotten = [await c.shared_room(name="N") for _ in range(5)]
    invited, withdrawn = [await alice.create(name="N", invite=[bob.user_id]) for _ in range(2)]
    await alice.post(room(kicked, "kick"), to_bob)
    await alice.put(room(kicked, "state/m.room.name"), {"name": "later"})
    await alice.post(room(banned, "ban"), to_bob)
    await bob.post(room(left, "leave"))
    await alice.post(room(forgotten, "kick"), to_bob)
    await bob.post(room(forgotten, "forget"))
    await alice.post(room(withdrawn, "kick"), to_bob)
    state = [["m.room.member", "$ME"], ["m.room.name", ""]]
    spec = {"ranges": [[0, 9999]], "timeline_limit": 0, "required_state": state}
    body = {"conn_id": secrets.token_hex(4), "lists": {"all": spec}}
    answer = await bob.slide(body)
    (operation,) = answer["lists"]["all"]["ops"]
    listed = set(operation["room_ids"])
    assert (operation["op"], operation["range"]) == ("SYNC", [0, 9999])
    assert answer["lists"]["all"]["count"] == len(listed) == len(answer["rooms"])
    ours = {joined, kicked, banned, left, forgotten, invited, withdrawn}
    assert listed & ours == {joined, kicked, banned, invited, withdrawn}
    rooms = answer["rooms"]
    assert "required_state" not in rooms[invited]
    assert ("m.room.member", bob.user_id) in types(rooms[invited]["invite_state"])
    for room_id in (kicked, banned, withdrawn):
        assert "joined_count" not in rooms[room_id]
        found = {event["type"]: event["content"] for event in rooms[room_id]["required_state"]}
        assert found["m.room.member"]["membership"] in ("leave", "ban")
        assert found["m.room.name"] == {"name": "N"}
    by_subscription = await bob.slide_over(sorted(ours), *state)
    assert by_subscription.keys() == ours - {forgotten}
    await bob.post(room(invited, "leave"))


async def sliding_sync_filters_and_windows(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    older, space = await c.shared_room(), await c.shared_room(creation_content={"type": "m.space"})
    invited = await alice.create(invite=[bob.user_id])
    await alice.say(older, "now the newest")

    async def listed(*ranges: list[int], **filters: Any) -> tuple[int, list[list[str]]]:
        spec: Json = {"ranges": list(ranges), "timeline_limit": 0, "required_state": []}
        spec["filters"] = filters
        body = {"conn_id": secrets.token_hex(4), "lists": {"l": spec}}
        found = (await bob.slide(body))["lists"]["l"]
        return found["count"], [operation["room_ids"] for operation in found["ops"]]

    count, ((first,), (second,), beyond) = await listed([0, 0], [1, 1], [9000, 9999])
    assert (first, beyond) == (older, [])
    assert second == invited
    assert count >= 3
    assert invited not in (await listed([0, 9999], is_invite=False))[1][0]
    assert space in (await listed([0, 9999], room_types=["m.space"]))[1][0]
    assert invited in (await listed([0, 9999], is_invite=True))[1][0]
    assert space not in (await listed([0, 9999], room_types=[None]))[1][0]
    assert space not in (await listed([0, 9999], not_room_types=["m.space"]))[1][0]
    assert (await listed())[1] == []
    spec = {"ranges": [[0, 1]], "timeline_limit": 0, "required_state": []}
    by_space = {"lists": {"l": {**spec, "filters": {"spaces": [space]}}}}
    assert await bob.refused("POST", SLIDING, by_space) == (500, "M_UNKNOWN")
    negative = {"lists": {"l": {**spec, "ranges": [[-1, 1]]}}}
    assert await bob.refused("POST", SLIDING, negative) == (400, "M_BAD_JSON")
    del spec["timeline_limit"]
    assert await bob.refused("POST", SLIDING, {"lists": {"l": spec}}) == (400, "M_MISSING_PARAM")
    await bob.post(room(invited, "leave"))


async def sliding_sync_tells_each_connection_only_what_is_new(c: Contract) -> None:
    room_id = await c.shared_room()
    wanted = {"required_state": [["m.room.name", ""]], "timeline_limit": 1}
    body = {"conn_id": secrets.token_hex(4), "room_subscriptions": {room_id: wanted}}
    first = await c.bob.slide(body)
    assert room_id in first["rooms"]
    quiet = await c.bob.slide(body, pos=first["pos"])
    assert quiet["rooms"] == {}
    await c.alice.put(room(room_id, "state/m.room.name"), {"name": "new"})
    news = await c.bob.slide(body, pos=quiet["pos"])
    entry = news["rooms"][room_id]
    assert "initial" not in entry
    assert (entry["name"], entry["num_live"]) == ("new", 1)
    assert types(entry["required_state"]) == [("m.room.name", "")]
    assert types(entry["timeline"]) == [("m.room.name", "")]
    again = await c.bob.slide(body)
    assert again["rooms"][room_id]["initial"] is True
    await c.bob.post(room(room_id, "leave"))
    gone = (await c.bob.slide(body, pos=again["pos"]))["rooms"][room_id]
    assert types(gone["timeline"]) == [("m.room.member", c.bob.user_id)]


async def sliding_sync_forgets_a_connection_that_starts_anew(c: Contract) -> None:
    """Its old position is unknown, if it was never used: Synapse caches the ones that were."""
    room_id = await c.shared_room()
    wanted = {"required_state": [], "timeline_limit": 0}
    body = {"conn_id": secrets.token_hex(4), "room_subscriptions": {room_id: wanted}}
    first = await c.bob.slide(body)
    second = await c.bob.slide(body)
    assert second["rooms"].keys() == first["rooms"].keys() == {room_id}
    path = f"{SLIDING}?pos={quote(first['pos'], safe='')}"
    assert await c.bob.refused("POST", path, body) == (400, "M_UNKNOWN_POS")
    elsewhere = await c.bob.slide({**body, "conn_id": secrets.token_hex(4)})
    assert elsewhere["rooms"].keys() == {room_id}
    assert (await c.bob.slide(body, pos=second["pos"]))["rooms"] == {}


def _sorted_types(entry: Json) -> list[tuple[str, str | None]]:
    return sorted(types(entry["required_state"]), key=str)


CHECKS: list[Check] = [
    sliding_sync_is_advertised,
    sliding_sync_gives_the_state_that_was_asked_for,
    sliding_sync_lists_what_one_has_not_left_oneself,
    sliding_sync_filters_and_windows,
    sliding_sync_tells_each_connection_only_what_is_new,
    sliding_sync_forgets_a_connection_that_starts_anew,
]
