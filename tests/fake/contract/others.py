"""Upgrades, and what is no event."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import quote

from .party import Check, Contract, Party, room


async def an_upgrade_points_both_ways_and_takes_nobody_along(c: Contract) -> None:
    for version in ("11", "12"):
        old = await c.shared_room(name="N", room_version="10")
        assert (await c.bob.refused("POST", room(old, "upgrade"), {"new_version": version}))[
            0
        ] == 403
        new = (await c.alice.post(room(old, "upgrade"), {"new_version": version}))[
            "replacement_room"
        ]
        tombstone = await c.alice.get(room(old, "state/m.room.tombstone"))
        assert tombstone["replacement_room"] == new
        create = await c.alice.get(room(new, "state/m.room.create"))
        assert create["predecessor"]["room_id"] == old
        assert ("event_id" in create["predecessor"]) == (version == "11")
        assert await c.alice.get(room(new, "state/m.room.name")) == {"name": "N"}
        members = (await c.alice.get(room(new, "joined_members")))["joined"]
        assert list(members) == [c.alice.user_id]
        path = room(old, "send/m.room.message", "x")
        message = {"body": "", "msgtype": "m.text"}
        assert await c.bob.refused("PUT", path, message) == (403, "M_FORBIDDEN")


async def account_data_is_ones_own(c: Contract) -> None:
    type_ = "dev.x." + secrets.token_hex(4)
    me = quote(c.bob.user_id, safe="")
    path = f"user/{me}/account_data/{type_}"
    assert await c.bob.refused("GET", path) == (404, "M_NOT_FOUND")
    await c.bob.put(path, {"a": 1})
    assert await c.bob.get(path) == {"a": 1}
    assert await c.alice.refused("GET", path) == (403, "M_FORBIDDEN")


async def a_new_name_is_in_every_joined_room(c: Contract) -> None:
    room_id = await c.shared_room()
    name = "Bob " + secrets.token_hex(4)
    await c.bob.put(f"profile/{quote(c.bob.user_id, safe='')}/displayname", {"displayname": name})
    path = room(room_id, "state/m.room.member", c.bob.user_id)
    for _ in range(50):  # Synapse tells the rooms in the background
        if (await c.alice.get(path))["displayname"] == name:
            break
        await asyncio.sleep(0.1)
    members = (await c.alice.get(room(room_id, "joined_members")))["joined"]
    assert members[c.bob.user_id]["display_name"] == name


async def typing_is_shown_to_the_others(c: Contract) -> None:
    room_id = await c.shared_room()
    since = await c.alice.position()
    path = room(room_id, "typing", c.bob.user_id)
    await c.bob.put(path, {"typing": True, "timeout": 30_000})
    answer = await c.alice.sync({}, since=since)
    (edu,) = answer["rooms"]["join"][room_id]["ephemeral"]["events"]
    assert edu == {"type": "m.typing", "content": {"user_ids": [c.bob.user_id]}}
    await c.bob.put(path, {"typing": False})
    assert (await c.alice.refused("PUT", path, {"typing": True}))[1] == "M_FORBIDDEN"


async def strangers_and_unknown_paths_are_refused(c: Contract) -> None:
    nobody = Party(c.alice.http, c.alice.base_url, "nonsense", "")
    assert await nobody.refused("GET", "account/whoami") == (401, "M_UNKNOWN_TOKEN")
    assert await nobody.refused("GET", "joined_rooms") == (401, "M_UNKNOWN_TOKEN")
    assert await c.alice.refused("GET", "no/such/path") == (404, "M_UNRECOGNIZED")
    assert await c.alice.refused("DELETE", "joined_rooms") == (405, "M_UNRECOGNIZED")


CHECKS: list[Check] = [
    an_upgrade_points_both_ways_and_takes_nobody_along,
    account_data_is_ones_own,
    a_new_name_is_in_every_joined_room,
    typing_is_shown_to_the_others,
    strangers_and_unknown_paths_are_refused,
]
