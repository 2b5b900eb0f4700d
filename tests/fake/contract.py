"""What the plugin relies on in a homeserver, as checks that hold for Synapse and for the fake.

Each check is a coroutine that takes a `Contract` (a server and two users on it) and asserts.
Checks make their own rooms and leave the users' other rooms alone, so they can run in any order
on a server that is in use. A real server must not limit the rate of the two users.

    async with Contract.open(url, alice_token, bob_token) as contract:
        for check in CHECKS:
            await check(contract)
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
VERSIONS = ("10", "11", "12")
Json = dict[str, Any]


@dataclass(frozen=True)
class Party:
    """A user, as the server knows them."""

    http: aiohttp.ClientSession
    base_url: str
    token: str
    user_id: str

    @property
    def server_name(self) -> str:
        return self.user_id.partition(":")[2]

    async def ask(
        self, method: str, path: str, body: object = None, **query: str | int
    ) -> tuple[int, Any]:
        """Send a request below `/_matrix/client/v3/` (or to a full path); give status and JSON."""
        full = path if path.startswith("/") else f"/_matrix/client/v3/{path}"
        data = None if body is None else json.dumps(body)
        params = {name: str(value) for name, value in query.items()}
        headers = {"Authorization": f"Bearer {self.token}"}
        url = URL(self.base_url + full, encoded=True).update_query(params)
        async with self.http.request(method, url, data=data, headers=headers) as response:
            return response.status, await response.json()

    async def get(self, path: str, **query: str | int) -> Any:
        """Read something that must be there."""
        return _good(await self.ask("GET", path, **query))

    async def put(self, path: str, body: Json) -> Any:
        """Write something that must be allowed."""
        return _good(await self.ask("PUT", path, body))

    async def post(self, path: str, body: Json | None = None, **query: str | int) -> Any:
        """Do something that must be allowed."""
        return _good(await self.ask("POST", path, body or {}, **query))

    async def refused(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Do something; give status and errcode."""
        status, answer = await self.ask(method, path, body)
        return status, answer.get("errcode", "")

    async def create(self, **spec: Any) -> str:
        """Create a room."""
        return str((await self.post("createRoom", spec))["room_id"])

    async def say(self, room_id: str, text: str) -> str:
        """Send a message."""
        path = room(room_id, "send/m.room.message", secrets.token_hex(8))
        return str((await self.put(path, {"msgtype": "m.text", "body": text}))["event_id"])

    async def joined(self) -> set[str]:
        """Give the joined rooms."""
        return set((await self.get("joined_rooms"))["joined_rooms"])

    async def sync(self, filter_: Json, *, since: str | None = None, timeout: int = 0) -> Json:
        """Sync; the filter is varied, since Synapse remembers answers to identical requests."""
        varied = {**filter_, "event_fields": [], "x": secrets.token_hex(4)}
        quiet = {"presence": {"types": []}, "account_data": {"types": []}, **varied}
        query: dict[str, str | int] = {"filter": json.dumps(quiet), "timeout": timeout}
        if since is not None:
            query["since"] = since
        answer: Json = await self.get("sync", **query)
        return answer

    async def position(self) -> str:
        """Give a sync position of now."""
        return str((await self.sync({"room": {"rooms": []}}))["next_batch"])

    async def slide(self, body: Json, *, pos: str | None = None) -> Json:
        """Do a sliding sync."""
        query = {} if pos is None else {"pos": pos}
        answer: Json = await self.post(SLIDING, body, timeout=0, **query)
        return answer

    async def slide_over(self, room_ids: list[str], *state: list[str]) -> Json:
        """Look at some rooms by subscription, on a connection of its own."""
        wanted = {"required_state": list(state), "timeline_limit": 0}
        subscriptions = dict.fromkeys(room_ids, wanted)
        body = {"conn_id": secrets.token_hex(4), "room_subscriptions": subscriptions}
        rooms: Json = (await self.slide(body))["rooms"]
        return rooms


@dataclass(frozen=True)
class Contract:
    """A server and two users on it."""

    alice: Party
    bob: Party

    @classmethod
    @asynccontextmanager
    async def open(
        cls, base_url: str, alice_token: str, bob_token: str
    ) -> AsyncIterator[Contract]:
        """Connect as two users."""
        async with aiohttp.ClientSession() as http:
            parties = []
            for token in (alice_token, bob_token):
                party = Party(http, base_url, token, "")
                user_id = (await party.get("account/whoami"))["user_id"]
                parties.append(Party(http, base_url, token, user_id))
            yield cls(*parties)

    async def shared_room(self, **spec: Any) -> str:
        """Make a room of Alice's that Bob has joined."""
        room_id = await self.alice.create(invite=[self.bob.user_id], **spec)
        await self.bob.post(room(room_id, "join"))
        return room_id


Check = Callable[[Contract], Awaitable[None]]


def room(room_id: str, *parts: str) -> str:
    """Make a path below a room."""
    ends = [
        quote(part, safe="/") if i == 0 else quote(part, safe="") for i, part in enumerate(parts)
    ]
    return "/".join(["rooms", quote(room_id, safe=""), *ends])


def _good(answer: tuple[int, Any]) -> Any:
    status, body = answer
    assert status == 200, answer
    return body


def _new_alias(party: Party) -> tuple[str, str]:
    """Make up a local part that nobody has, and the path of its alias."""
    name = "x-" + secrets.token_hex(8)
    return name, "directory/room/" + quote(f"#{name}:{party.server_name}", safe="")


def _types(events: list[Json]) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("state_key")) for event in events]


def _only(sections: Json, section: str) -> list[str]:
    return list(sections.get("rooms", {}).get(section, {}))


# Making rooms


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
        assert _types(events) == [
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
        assert _types(await alice.get(room(room_id, "state")))


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
            assert sorted(_types(state)) == [
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


# Aliases


async def one_alias_names_one_room(c: Contract) -> None:
    """Also if its `createRoom` was refused later; and it can be kept out of clients."""
    alice = c.alice
    for version in VERSIONS:
        name, alias = _new_alias(alice)
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
        name, alias = _new_alias(alice)
        shown = await alice.create(room_version=version, room_alias_name=name)
        canonical = await alice.get(room(shown, "state/m.room.canonical_alias"))
        assert canonical == {"alias": f"#{name}:{alice.server_name}"}
        name, alias = _new_alias(alice)
        foreign = {"type": "dev.x", "state_key": c.bob.user_id, "content": {}}
        spec = {"room_version": version, "room_alias_name": name, "initial_state": [foreign]}
        assert await alice.refused("POST", "createRoom", spec) == (403, "M_FORBIDDEN")
        (left,) = await alice.joined() - before - {shown}
        assert (await alice.get(alias))["room_id"] == left


async def an_alias_can_be_made_and_taken_away(c: Contract) -> None:
    alice, bob = c.alice, c.bob
    name, alias = _new_alias(alice)
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
        name, alias = _new_alias(c.alice)
        old = await c.alice.create(room_alias_name=name, initial_state=hidden)
        new = (await c.alice.post(room(old, "upgrade"), {"new_version": "11"}))["replacement_room"]
        assert (await c.alice.get(alias))["room_id"] == new
        content = {} if hidden else {"alias": f"#{name}:{c.alice.server_name}"}
        assert await c.alice.get(room(new, "state/m.room.canonical_alias")) == content
        assert await c.alice.get(room(old, "state/m.room.canonical_alias")) == {}


# Who may do what


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


# Sending


async def sending_again_with_one_transaction_is_sending_once(c: Contract) -> None:
    room_id = await c.alice.create()
    path = room(room_id, "send/m.room.message", "t1")
    first, second = [
        await c.alice.put(path, {"msgtype": "m.text", "body": text}) for text in ("a", "b")
    ]
    assert first == second
    event = await c.alice.get(room(room_id, "event", first["event_id"]))
    assert event["content"]["body"] == "a"
    assert event["unsigned"]["transaction_id"] == "t1"


async def setting_the_same_state_changes_nothing(c: Contract) -> None:
    room_id = await c.alice.create()
    path = room(room_id, "state/dev.x", "k")
    first, again, other = [await c.alice.put(path, {"a": value}) for value in (1, 1, 2)]
    assert first == again != other


async def messages_are_checked(c: Contract) -> None:
    room_id = await c.alice.create()
    for body, refusal in (
        ({"body": "no type"}, (400, "M_UNKNOWN")),
        ({"body": "x" * 66_000, "msgtype": "m.text"}, (413, "M_TOO_LARGE")),
        ([], (400, "M_BAD_JSON")),
    ):
        path = room(room_id, "send/m.room.message", secrets.token_hex(4))
        assert await c.alice.refused("PUT", path, body) == refusal
    path = room(room_id, "send/m.room.message", "x")
    message = {"body": "", "msgtype": "m.text"}
    assert await c.bob.refused("PUT", path, message) == (403, "M_FORBIDDEN")


async def a_redaction_empties_the_event(c: Contract) -> None:
    room_id = await c.shared_room()
    mine, other = await c.bob.say(room_id, "oops"), await c.alice.say(room_id, "stays")
    await c.bob.put(room(room_id, "redact", mine, "r1"), {"reason": "typo"})
    event = await c.alice.get(room(room_id, "event", mine))
    assert event["content"] == {}
    assert event["unsigned"]["redacted_because"]["content"]["reason"] == "typo"
    path = room(room_id, "redact", other, "r2")
    assert await c.bob.refused("PUT", path, {}) == (403, "M_FORBIDDEN")


async def an_event_comes_with_its_latest_edit(c: Contract) -> None:
    room_id = await c.shared_room()
    event_id = await c.bob.say(room_id, "on")
    for text in ("one", "one two"):
        edit = {
            "msgtype": "m.text",
            "body": f"* {text}",
            "m.new_content": {"msgtype": "m.text", "body": text},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        await c.bob.put(room(room_id, "send/m.room.message", secrets.token_hex(4)), edit)
    event = await c.bob.get(room(room_id, "event", event_id))
    assert event["content"]["body"] == "on"
    latest = event["unsigned"]["m.relations"]["m.replace"]
    assert latest["content"]["m.new_content"]["body"] == "one two"


async def messages_can_be_paged_both_ways(c: Contract) -> None:
    room_id = await c.shared_room()
    for number in range(7):
        await c.alice.say(room_id, str(number))

    async def page(direction: str) -> list[str]:
        found: list[str] = []
        query: dict[str, str | int] = {"dir": direction, "limit": 3}
        while True:
            answer = await c.bob.get(room(room_id, "messages"), **query)
            found += [event["event_id"] for event in answer["chunk"]]
            if "end" not in answer:
                return found
            query["from"] = answer["end"]

    forwards = await page("f")
    assert len(forwards) == 8 + 1 + 7 - 1
    assert await page("b") == forwards[::-1]


# Sync


async def a_position_costs_nothing_and_misses_nothing(c: Contract) -> None:
    room_id = await c.shared_room()
    since = await c.bob.position()
    event_id = await c.alice.say(room_id, "hello")
    answer = await c.bob.sync({}, since=since)
    assert _only(answer, "join") == [room_id]
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
    assert _only(answer, "join") == []
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
    assert _only(await asyncio.wait_for(poll, 5), "join") == [room_id]


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
    assert _only(await c.bob.sync(filter_, since=since), "join") == []
    await c.alice.say(room_id, "passes")
    found = (await c.bob.sync(filter_, since=since))["rooms"]["join"][room_id]
    assert _types(found["timeline"]["events"]) == [("m.room.message", None)]
    assert _types(found["state"]["events"]) == [("m.room.name", "")]
    assert found["timeline"]["limited"] is False
    everything = {"room": {"timeline": {"types": ["m.room.name"]}}}
    found = (await c.bob.sync(everything, since=since))["rooms"]["join"][room_id]
    assert _types(found["timeline"]["events"]) == [("m.room.name", "")]


async def invites_are_listed_whatever_rooms_are_filtered(c: Contract) -> None:
    since = await c.bob.position()
    room_id = await c.alice.create(name="N", invite=[c.bob.user_id], is_direct=True)
    filter_ = {"room": {"rooms": ["!other:x"]}}
    for start in (since, None):
        answer = await c.bob.sync(filter_, since=start)
        state = answer["rooms"]["invite"][room_id]["invite_state"]["events"]
        assert sorted(_types(state)) == sorted(
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
    assert room_id not in _only(await c.bob.sync(filter_), "invite")


async def a_first_sync_lists_rooms_one_was_kicked_from(c: Contract) -> None:
    kicked, left = await c.shared_room(), await c.shared_room()
    since = await c.bob.position()
    await c.alice.post(room(kicked, "kick"), {"user_id": c.bob.user_id})
    await c.bob.post(room(left, "leave"))
    assert set(_only(await c.bob.sync({}, since=since), "leave")) == {kicked, left}
    first = _only(await c.bob.sync({"room": {"timeline": {"limit": 1}}}), "leave")
    assert kicked in first
    assert left not in first
    assert left in _only(await c.bob.sync({"room": {"include_leave": True}}), "leave")
    await c.bob.post(room(kicked, "forget"))
    assert kicked not in _only(await c.bob.sync({}), "leave")


async def a_room_just_joined_comes_with_its_whole_state(c: Contract) -> None:
    room_id = await c.alice.create(name="N", invite=[c.bob.user_id])
    since = await c.bob.position()
    await c.bob.post(room(room_id, "join"))
    filter_ = {"room": {"timeline": {"limit": 1}}}
    found = (await c.bob.sync(filter_, since=since))["rooms"]["join"][room_id]
    assert _types(found["timeline"]["events"]) == [("m.room.member", c.bob.user_id)]
    assert found["timeline"]["limited"] is True
    assert ("m.room.name", "") in _types(found["state"]["events"])
    assert ("m.room.create", "") in _types(found["state"]["events"])


async def a_room_with_nothing_that_passes_is_left_out(c: Contract) -> None:
    room_id = await c.shared_room()
    nothing: Json = {"room": {"timeline": {"types": []}, "state": {"types": []}}}
    assert room_id not in _only(await c.bob.sync(nothing), "join")
    some = {"room": {"timeline": {"types": []}, "state": {"types": ["m.room.create"]}}}
    found = (await c.bob.sync(some))["rooms"]["join"][room_id]
    assert _types(found["state"]["events"]) == [("m.room.create", "")]
    assert found["timeline"]["events"] == []


async def a_filter_for_rooms_hides_the_create_event_of_version_12(c: Contract) -> None:
    """It has no room ID to be found by."""
    for version, types in (("11", ["m.room.create", "m.room.name"]), ("12", ["m.room.name"])):
        room_id = await c.shared_room(name="N", room_version=version)
        state = {"types": ["m.room.create", "m.room.name"]}
        asked: Json = {"rooms": [room_id], "timeline": {"types": []}, "state": state}
        found = (await c.bob.sync({"room": asked}))["rooms"]["join"][room_id]
        assert sorted(type_ for type_, _ in _types(found["state"]["events"])) == types


async def an_inline_filter_and_a_stored_one_are_the_same(c: Contract) -> None:
    path = f"user/{quote(c.bob.user_id, safe='')}/filter"
    filter_ = {"room": {"timeline": {"limit": 1}}}
    stored = (await c.bob.post(path, filter_))["filter_id"]
    assert await c.bob.get(f"{path}/{stored}") == filter_
    assert (await c.bob.ask("GET", "sync", filter=stored, timeout=1))[0] == 200
    assert (await c.bob.ask("GET", "sync", filter="99999"))[0] == 400
    assert (await c.bob.ask("GET", "sync", since="nonsense"))[0] == 400


# Sliding sync


async def sliding_sync_is_advertised(c: Contract) -> None:
    features = (await c.alice.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.simplified_msc3575"] is True


async def sliding_sync_gives_the_state_that_was_asked_for(c: Contract) -> None:
    room_id = await c.shared_room(name="N")
    me = c.bob.user_id
    own = ["m.room.member", "$ME"]
    found = await c.bob.slide_over([room_id], ["m.room.create", ""], own, ["m.room.name", ""])
    entry = found[room_id]
    assert sorted(_types(entry["required_state"])) == [
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
    assert ("m.room.member", bob.user_id) in _types(rooms[invited]["invite_state"])
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
    assert _types(entry["required_state"]) == [("m.room.name", "")]
    assert _types(entry["timeline"]) == [("m.room.name", "")]
    again = await c.bob.slide(body)
    assert again["rooms"][room_id]["initial"] is True
    await c.bob.post(room(room_id, "leave"))
    gone = (await c.bob.slide(body, pos=again["pos"]))["rooms"][room_id]
    assert _types(gone["timeline"]) == [("m.room.member", c.bob.user_id)]


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


# The rest


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


def _sorted_types(entry: Json) -> list[tuple[str, str | None]]:
    return sorted(_types(entry["required_state"]), key=str)


CHECKS: list[Check] = [
    a_room_is_born_with_its_initial_state,
    a_refused_create_room_leaves_a_bare_room_behind,
    a_create_room_that_is_wrong_from_the_start_makes_nothing,
    creators_of_version_12_are_not_in_the_power_levels,
    one_alias_names_one_room,
    an_alias_can_be_made_and_taken_away,
    an_upgrade_takes_the_alias_along,
    a_state_key_with_a_user_id_belongs_to_that_user,
    joining_takes_an_invite_or_an_allowed_room,
    membership_changes_follow_the_rules,
    power_levels_are_needed,
    who_is_outside_reads_nothing_and_who_left_reads_the_past,
    forgetting_is_for_rooms_one_is_not_in,
    sending_again_with_one_transaction_is_sending_once,
    setting_the_same_state_changes_nothing,
    messages_are_checked,
    a_redaction_empties_the_event,
    an_event_comes_with_its_latest_edit,
    messages_can_be_paged_both_ways,
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
    sliding_sync_is_advertised,
    sliding_sync_gives_the_state_that_was_asked_for,
    sliding_sync_lists_what_one_has_not_left_oneself,
    sliding_sync_filters_and_windows,
    sliding_sync_tells_each_connection_only_what_is_new,
    sliding_sync_forgets_a_connection_that_starts_anew,
    an_upgrade_points_both_ways_and_takes_nobody_along,
    account_data_is_ones_own,
    a_new_name_is_in_every_joined_room,
    typing_is_shown_to_the_others,
    strangers_and_unknown_paths_are_refused,
]
