"""Making rooms and naming them."""

from __future__ import annotations

from .party import VERSIONS, Check, Contract, Json, new_alias, room, types


async def a_room_is_born_with_its_initial_state(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    for version in VERSIONS:
        marker = {"type": "dev.x", "state_key": alice.user_id, "content": {"a": 1}}
        room_id = await alice.create(
            room_version=version,
            name="Home",
            topic="t",
            invite=[bob.user_id],
            initial_state=[marker],
            creation_content={"type": "m.space", "predecessor": {"room_id": "!old:x"}},
        )
        assert (":" in room_id) == (version != "12")
        events = (await alice.get(room(room_id, "messages"), dir="f", limit=50))["chunk"]
        assert types(events) == [
            ("m.room.create", ""),
            ("m.room.member", alice.user_id),
            ("m.room.power_levels", ""),
            ("m.room.join_rules", ""),
            ("m.room.history_visibility", ""),
            ("m.room.guest_access", ""),
            ("dev.x", alice.user_id),
            ("m.room.name", ""),
            ("m.room.topic", ""),
            ("m.room.member", bob.user_id),
        ]
        create = events[0]
        assert create["sender"] == alice.user_id
        assert isinstance(create["origin_server_ts"], int)
        assert create["content"]["type"] == "m.space"
        assert create["content"]["predecessor"] == {"room_id": "!old:x"}
        assert create["content"]["room_version"] == version
        levels = events[2]["content"]
        assert levels["users"] == ({} if version == "12" else {alice.user_id: 100})
        assert (levels["invite"], levels["state_default"]) == (0, 50)
        assert types(await alice.get(room(room_id, "state")))


async def a_refused_create_room_leaves_a_bare_room_behind(c: Contract) -> None:
    alice = c.alice
    foreign = {"type": "dev.x", "state_key": c.bob.user_id, "content": {}}
    huge = {"type": "dev.x", "state_key": "", "content": {"a": "x" * 66_000}}
    for version in VERSIONS:
        for entry, refusal in ((foreign, (403, "M_FORBIDDEN")), (huge, (413, "M_TOO_LARGE"))):
            before = await alice.joined()
            spec = {"room_version": version, "initial_state": [entry]}
            assert await alice.refused("POST", "createRoom", spec) == refusal
            (left,) = await alice.joined() - before
            state = await alice.get(room(left, "state"))
            assert sorted(types(state)) == [
                ("m.room.create", ""),
                ("m.room.member", alice.user_id),
            ]


async def a_create_room_that_is_wrong_from_the_start_makes_nothing(c: Contract) -> None:
    alice = c.alice
    before = await alice.joined()
    for spec, refusal in (
        ({"room_version": "99"}, (400, "M_UNSUPPORTED_ROOM_VERSION")),
        ({"preset": "x"}, (400, "M_BAD_JSON")),
        ({"invite": ["nobody"]}, (400, "M_UNKNOWN")),
        ({"invite": None}, (500, "M_UNKNOWN")),
        (
            {"room_version": "11", "power_level_content_override": {"users": {"@x:y": 1}}},
            (400, "M_UNKNOWN"),
        ),
    ):
        assert await alice.refused("POST", "createRoom", spec) == refusal, spec
    assert await alice.joined() == before


async def creators_of_version_12_are_not_in_the_power_levels(c: Contract) -> None:
    alice = c.alice
    override = {"users": {alice.user_id: 100}}
    spec = {"room_version": "12", "power_level_content_override": override}
    assert await alice.refused("POST", "createRoom", spec) == (400, "M_UNKNOWN")
    room_id = await alice.create(room_version="12")
    path = room(room_id, "state/m.room.power_levels")
    assert await alice.refused("PUT", path, override) == (400, "M_UNKNOWN")
    await alice.create(room_version="11", power_level_content_override=override)


async def one_alias_names_one_room(c: Contract) -> None:
    """Also if its `createRoom` was refused later; and it can be kept out of clients."""
    alice = c.alice
    for version in VERSIONS:
        name, alias = new_alias(alice)
        hidden = {"type": "m.room.canonical_alias", "content": {}}
        spec: Json = {"room_version": version, "room_alias_name": name}
        first = await alice.create(**spec, initial_state=[hidden])
        before = await alice.joined()
        assert await alice.refused("POST", "createRoom", spec) == (400, "M_ROOM_IN_USE")
        assert await c.bob.refused("POST", "createRoom", spec) == (400, "M_ROOM_IN_USE")
        assert await alice.joined() == before
        assert (await c.bob.get(alias))["room_id"] == first
        assert await alice.get(room(first, "state/m.room.canonical_alias")) == {}
        assert len((await alice.get(room(first, "aliases")))["aliases"]) == 1
        name, alias = new_alias(alice)
        shown = await alice.create(room_version=version, room_alias_name=name)
        canonical = await alice.get(room(shown, "state/m.room.canonical_alias"))
        assert canonical == {"alias": f"#{name}:{alice.server_name}"}
        name, alias = new_alias(alice)
        foreign = {"type": "dev.x", "state_key": c.bob.user_id, "content": {}}
        spec = {"room_version": version, "room_alias_name": name, "initial_state": [foreign]}
        assert await alice.refused("POST", "createRoom", spec) == (403, "M_FORBIDDEN")
        (left,) = await alice.joined() - before - {shown}
        assert (await alice.get(alias))["room_id"] == left


async def an_alias_can_be_made_and_taken_away(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    name, alias = new_alias(alice)
    assert await alice.refused("GET", alias) == (404, "M_NOT_FOUND")
    assert await alice.refused("DELETE", alias) == (404, "M_NOT_FOUND")
    assert await alice.refused("PUT", alias, {"room_id": "!no"}) == (400, "M_UNKNOWN")
    room_id, other = await c.shared_room(), await alice.create()
    await alice.put(alias, {"room_id": room_id})
    assert await alice.refused("PUT", alias, {"room_id": other}) == (409, "M_UNKNOWN")
    spec = {"room_alias_name": name}
    assert await alice.refused("POST", "createRoom", spec) == (400, "M_ROOM_IN_USE")
    assert await bob.refused("DELETE", alias) == (403, "M_FORBIDDEN")
    await alice.post(room(room_id, "leave"))
    await alice.post(room(room_id, "forget"))
    assert (await alice.get(alias))["room_id"] == room_id
    assert (await alice.ask("DELETE", alias))[0] == 200
    assert await alice.refused("GET", alias) == (404, "M_NOT_FOUND")
    again = await alice.create(room_alias_name=name)
    assert (await alice.ask("DELETE", alias))[0] == 200
    assert await alice.get(room(again, "state/m.room.canonical_alias")) == {}
    for bad in ("with space", "with:colon"):
        spec = {"room_alias_name": bad}
        assert await alice.refused("POST", "createRoom", spec) == (400, "M_UNKNOWN")


async def an_upgrade_takes_the_alias_along(c: Contract) -> None:
    for hidden in ([], [{"type": "m.room.canonical_alias", "content": {}}]):
        name, alias = new_alias(c.alice)
        old = await c.alice.create(room_alias_name=name, initial_state=hidden)
        new = (await c.alice.post(room(old, "upgrade"), {"new_version": "11"}))["replacement_room"]
        assert (await c.alice.get(alias))["room_id"] == new
        content = {} if hidden else {"alias": f"#{name}:{c.alice.server_name}"}
        assert await c.alice.get(room(new, "state/m.room.canonical_alias")) == content
        assert await c.alice.get(room(old, "state/m.room.canonical_alias")) == {}


CHECKS: list[Check] = [
    a_room_is_born_with_its_initial_state,
    a_refused_create_room_leaves_a_bare_room_behind,
    a_create_room_that_is_wrong_from_the_start_makes_nothing,
    creators_of_version_12_are_not_in_the_power_levels,
    one_alias_names_one_room,
    an_alias_can_be_made_and_taken_away,
    an_upgrade_takes_the_alias_along,
]
