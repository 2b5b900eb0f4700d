"""Who may do what."""

from __future__ import annotations

from urllib.parse import quote

from .party import Check, Contract, Json, Party, room


async def a_state_key_with_a_user_id_belongs_to_that_user(c: Contract) -> None:
    for version in ("11", "12"):
        room_id = await c.shared_room(
            room_version=version,
            power_level_content_override={"events": {"dev.x": 0}, "users": {c.alice.user_id: 100}}
            if version == "11"
            else {"events": {"dev.x": 0}},
        )
        for writer, other in ((c.alice, c.bob), (c.bob, c.alice)):
            await writer.put(room(room_id, "state/dev.x", writer.user_id), {"own": True})
            path = room(room_id, "state/dev.x", other.user_id)
            assert await writer.refused("PUT", path, {}) == (403, "M_FORBIDDEN")


async def joining_takes_an_invite_or_an_allowed_room(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    space = await c.shared_room(creation_content={"type": "m.space"})
    allow = [{"type": "m.room_membership", "room_id": space}]
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    inside, private = await alice.create(initial_state=[rule]), await alice.create()
    public = await alice.create(preset="public_chat")
    assert await bob.refused("POST", room(private, "join"), {}) == (403, "M_FORBIDDEN")
    await bob.post(room(public, "join"))
    await bob.post("join/" + quote(inside, safe=""))
    member = await bob.get(room(inside, "state/m.room.member", bob.user_id))
    assert member["join_authorised_via_users_server"] == alice.user_id
    await bob.post(room(inside, "leave"))
    await bob.post(room(space, "leave"))
    assert await bob.refused("POST", room(inside, "join"), {}) == (403, "M_FORBIDDEN")
    assert (await bob.ask("POST", "join/%21no%3Ax", {}))[0] == 404


async def membership_changes_follow_the_rules(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    room_id = await alice.create()
    to_bob, to_alice = {"user_id": bob.user_id}, {"user_id": alice.user_id}

    async def refuse(who: Party, action: str, body: Json | None = None) -> str:
        status, errcode = await who.refused("POST", room(room_id, action), body or {})
        assert status == 403
        return errcode

    assert await refuse(bob, "leave") == "M_FORBIDDEN"
    assert await refuse(alice, "kick", to_bob) == "M_FORBIDDEN"
    await alice.post(room(room_id, "invite"), to_bob)
    await alice.post(room(room_id, "invite"), to_bob)
    assert await refuse(bob, "kick", to_alice) == "M_FORBIDDEN"
    await bob.post(room(room_id, "join"))
    await bob.post(room(room_id, "join"))
    assert await refuse(alice, "invite", to_bob) == "M_FORBIDDEN"
    assert await refuse(bob, "kick", to_alice) == "M_FORBIDDEN"
    assert await refuse(bob, "ban", to_alice) == "M_FORBIDDEN"
    await alice.post(room(room_id, "kick"), {**to_bob, "reason": "bye"})
    assert await refuse(alice, "kick", to_bob) == "M_FORBIDDEN"
    assert await refuse(bob, "leave") == "M_FORBIDDEN"
    assert await refuse(alice, "unban", to_bob) == "M_BAD_STATE"
    await alice.post(room(room_id, "ban"), to_bob)
    assert await refuse(alice, "invite", to_bob) == "M_BAD_STATE"
    assert await refuse(bob, "join") == "M_BAD_STATE"
    await alice.post(room(room_id, "unban"), to_bob)
    chunk = (await alice.get(room(room_id, "messages"), dir="f", limit=50))["chunk"]
    own = [e["content"]["membership"] for e in chunk if e.get("state_key") == bob.user_id]
    assert own == ["invite", "join", "leave", "ban", "leave"]


async def power_levels_are_needed(c: Contract) -> None:
    room_id = await c.shared_room()
    path = room(room_id, "state/m.room.name")
    assert await c.bob.refused("PUT", path, {"name": "x"}) == (403, "M_FORBIDDEN")
    await c.alice.put(room(room_id, "state/m.room.power_levels"), {"users": {c.bob.user_id: 50}})
    await c.bob.put(path, {"name": "x"})
    higher = {"users": {c.bob.user_id: 100}}
    levels = room(room_id, "state/m.room.power_levels")
    assert await c.bob.refused("PUT", levels, higher) == (403, "M_FORBIDDEN")


async def who_is_outside_reads_nothing_and_who_left_reads_the_past(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    room_id = await alice.create(name="before", invite=[bob.user_id])
    name = room(room_id, "state/m.room.name")
    assert await bob.refused("GET", name) == (403, "M_FORBIDDEN")
    await bob.post(room(room_id, "join"))
    assert await bob.get(name) == {"name": "before"}
    assert (await bob.get(name, format="event"))["sender"] == alice.user_id
    assert await bob.refused("GET", room(room_id, "state/no.such")) == (404, "M_NOT_FOUND")
    await alice.post(room(room_id, "kick"), {"user_id": bob.user_id})
    await alice.put(name, {"name": "after"})
    late = await alice.say(room_id, "late")
    assert await bob.get(name) == {"name": "before"}
    assert (await bob.refused("GET", room(room_id, "event", late)))[0] == 404
    assert (await bob.refused("GET", room(room_id, "joined_members")))[0] == 403
    await bob.post(room(room_id, "forget"))
    assert await bob.refused("GET", name) == (403, "M_FORBIDDEN")
    assert (await bob.refused("GET", room("!no:where", "state")))[0] == 403


async def forgetting_is_for_rooms_one_is_not_in(c: Contract) -> None:
    room_id = await c.shared_room()
    assert (await c.bob.refused("POST", room(room_id, "forget"), {}))[0] == 400
    await c.bob.post(room(room_id, "leave"))
    for _ in range(2):
        await c.bob.post(room(room_id, "forget"))


CHECKS: list[Check] = [
    a_state_key_with_a_user_id_belongs_to_that_user,
    joining_takes_an_invite_or_an_allowed_room,
    membership_changes_follow_the_rules,
    power_levels_are_needed,
    who_is_outside_reads_nothing_and_who_left_reads_the_past,
    forgetting_is_for_rooms_one_is_not_in,
]
