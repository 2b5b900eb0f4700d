"""Simplified sliding sync (MSC4186), as Synapse 1.163 really answers it.

Follows `synapse/handlers/sliding_sync`. Worth knowing: the response does not say what the user's
membership is; rooms somebody was kicked or banned from are listed like joined ones (without
`joined_count`, with the state of that moment) until they are forgotten; rooms left by oneself are
not listed; invites have `invite_state` and no `required_state`; `["*", key]` gives all state;
`spaces` and `room_name_like` filters are not implemented and answer 500.

Not here: extensions, room tags, and the expiry of old connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .accounts import Session
from .errors import MatrixError, bad_request, internal
from .events import Event, Json, StateKey, stripped, sync_view
from .rooms import Room
from .tokens import read_token, room_token, stream_token
from .world import World

MAX_LISTS = 100
MAX_LIST_KEY = 64
MAX_TIMELINE = 1000
_BUMPS = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
)
_HEROES = 5


@dataclass(frozen=True)
class Answer:
    """A response, and whether any room is in it."""

    body: Json
    has_news: bool


@dataclass(frozen=True)
class _Wanted:
    """What to tell about a room."""

    timeline_limit: int
    state: frozenset[StateKey]

    def __or__(self, other: _Wanted) -> _Wanted:
        limit = max(self.timeline_limit, other.timeline_limit)
        return _Wanted(limit, self.state | other.state)

    def matches(self, key: StateKey, *, me: str) -> bool:
        """Tell whether a state event is asked for; `$LAZY` is looked after elsewhere."""
        type_, state_key = key
        for wanted_type, wanted_key in self.state:
            if wanted_type == "*":
                return True  # whatever the key: Synapse cannot filter by key alone
            if wanted_type == type_ and wanted_key in ("*", state_key):
                return True
            if wanted_type == type_ and wanted_key == "$ME" and state_key == me:
                return True
        return False


@dataclass
class _Connection:
    """What one position of a connection knows: what has been told about which room."""

    sent: dict[str, int | None] = field(default_factory=dict)
    """Room to None (told up to the position), or to where the telling stopped."""
    told: dict[str, _Wanted] = field(default_factory=dict)


@dataclass
class Connections:
    """The server's memory of its sliding sync connections."""

    by_key: dict[tuple[str, str, str], dict[int, _Connection]] = field(default_factory=dict)
    last: int = 0


@dataclass(frozen=True)
class _Request:
    lists: Mapping[str, Json]
    subscriptions: Mapping[str, _Wanted]
    key: tuple[str, str, str]
    position: int
    since: int | None


def sliding_sync(
    world: World,
    connections: Connections,
    session: Session,
    body: Json,
    *,
    pos: str | None,
    hidden: frozenset[str] = frozenset(),
) -> Answer:
    """Build the response; `pos` is the connection's last one, None starts it anew.

    `hidden` are rooms of which a worker that is behind has not heard.
    """
    lists, subscriptions = _read(body)
    position, since = _read_pos(pos)
    key = (*session.viewer, body.get("conn_id") or "")
    request = _Request(lists, subscriptions, key, position, since)
    known = connections.by_key.get(key, {})
    if position and position not in known:
        raise bad_request("Unknown position", "M_UNKNOWN_POS")
    before = known[position] if position else _Connection()
    if position:
        connections.by_key[key] = {position: before}
    builder = _Builder(world, session, request, before, hidden)
    answer, after = builder.answer()
    if after is not None:
        connections.last += 1
        position = connections.last
        kept = {request.position: before} if request.position else {}
        connections.by_key[key] = {**kept, position: after}
    answer["pos"] = f"{position}/{stream_token(world.stream)}"
    body = {"pos": answer.pop("pos"), **answer}
    return Answer(body, bool(body["rooms"]))


def _read(body: Json) -> tuple[dict[str, Json], dict[str, _Wanted]]:
    """Check the request as Synapse's models do, without their words."""
    lists = body.get("lists") or {}
    subscriptions = body.get("room_subscriptions") or {}
    if not isinstance(lists, dict) or not isinstance(subscriptions, dict):
        raise _invalid("lists")
    if len(lists) > MAX_LISTS:
        raise _invalid(f"Max lists: {MAX_LISTS} but saw {len(lists)}")
    for key, list_ in lists.items():
        if len(key) > MAX_LIST_KEY:
            raise _invalid(f"lists.{key}.[key]")
        _wanted(f"lists.{key}", list_)
        _check_ranges(f"lists.{key}", list_.get("ranges"))
        _check_filters(f"lists.{key}", list_.get("filters"))
    wanted = {
        room_id: _wanted("room_subscriptions", sub) for room_id, sub in subscriptions.items()
    }
    return lists, wanted


def _wanted(where: str, value: object) -> _Wanted:
    if not isinstance(value, dict):
        raise _invalid(where)
    for name in ("required_state", "timeline_limit"):
        if name not in value:
            raise MatrixError(400, "M_MISSING_PARAM", f"{where}.{name}\n  Field required")
    limit, state = value["timeline_limit"], value["required_state"]
    if type(limit) is not int or limit > MAX_TIMELINE:
        raise _invalid(f"{where}.timeline_limit")
    if not isinstance(state, list) or not all(_is_pair(pair, str) for pair in state):
        raise _invalid(f"{where}.required_state")
    if ["*", ""] in state:
        raise internal()  # Synapse looks at the key's first character
    return _Wanted(limit, frozenset((type_, key) for type_, key in state))


def _check_ranges(where: str, ranges: object) -> None:
    if ranges is None:
        return
    if not isinstance(ranges, list) or not all(_is_pair(pair, int) for pair in ranges):
        raise _invalid(f"{where}.ranges")
    if any(bound < 0 for pair in ranges for bound in pair):
        raise _invalid(f"{where}.ranges: Input should be greater than or equal to 0")


def _check_filters(where: str, filters: object) -> None:
    if filters is None:
        return
    if not isinstance(filters, dict):
        raise _invalid(f"{where}.filters")
    for name in ("is_dm", "is_encrypted", "is_invite"):
        if filters.get(name) is not None and not isinstance(filters[name], bool):
            raise _invalid(f"{where}.filters.{name}")
    for name in ("spaces", "room_types", "not_room_types"):
        if filters.get(name) is not None and not isinstance(filters[name], list):
            raise _invalid(f"{where}.filters.{name}")


def _is_pair(value: object, kind: type) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(v) is kind for v in value)


def _invalid(what: str) -> MatrixError:
    return bad_request(f"1 validation error for SlidingSyncBody\n{what}", "M_BAD_JSON")


def _read_pos(pos: str | None) -> tuple[int, int | None]:
    if pos is None:
        return 0, None
    connection, slash, stream = pos.partition("/")
    if not slash or not connection.isdecimal():
        raise bad_request("Invalid stream token")
    return int(connection), read_token(stream)


def _direct_rooms(world: World, user_id: str) -> set[str]:
    content, _ = world.accounts[user_id].account_data.get("m.direct", ({}, 0))
    return {room_id for rooms in content.values() for room_id in rooms}


@dataclass
class _Builder:
    world: World
    session: Session
    request: _Request
    before: _Connection
    hidden: frozenset[str]

    @property
    def me(self) -> str:
        return self.session.user_id

    def answer(self) -> tuple[Json, _Connection | None]:
        """Build the body, and the connection's new knowledge if it has changed."""
        if not self.request.lists and not self.request.subscriptions:
            return {"rooms": {}, "extensions": {}}, None
        listed = self._listed()
        everything: set[str] = set()
        relevant: dict[str, _Wanted] = {}
        lists: Json = {}
        for name, spec in self.request.lists.items():
            matching = self._matching(listed, spec.get("filters") or {})
            everything |= matching.keys()
            lists[name] = self._list(matching, spec, relevant)
        for room_id, wanted in self.request.subscriptions.items():
            if room_id in self.world.listed_memberships(self.me).keys() - self.hidden:
                everything.add(room_id)
                relevant[room_id] = relevant.get(room_id, wanted) | wanted
        rooms: Json = {}
        told = dict(self.before.told)
        to_send = {
            id_: wanted for id_, wanted in relevant.items() if self._may_have_news(id_, wanted)
        }
        for room_id, wanted in to_send.items():
            view = self._room(self.world.rooms[room_id], wanted)
            if view is not None:
                rooms[room_id] = view
            known = self.before.told.get(room_id, wanted)
            told[room_id] = known | wanted
        after = self._knowledge(to_send, everything - relevant.keys(), told)
        body: Json = {"lists": lists} if lists else {}
        return {**body, "rooms": rooms, "extensions": {}}, after

    def _knowledge(
        self, sent_now: Mapping[str, _Wanted], unsent: set[str], told: dict[str, _Wanted]
    ) -> _Connection | None:
        sent = dict(self.before.sent)
        since = self.request.since
        for room_id in unsent:
            updated = since is not None and self.world.rooms[room_id].last_stream > since
            if updated and sent.get(room_id, 0) is None:
                sent[room_id] = since
        sent.update(dict.fromkeys(sent_now))
        if sent == self.before.sent and told == self.before.told:
            return None
        return _Connection(sent, told)

    def _listed(self) -> dict[str, Event]:
        """Give the rooms that can be in a list: all but those the user left by themselves."""
        since = self.request.since
        listed = self.world.listed_memberships(self.me)
        for room_id, event in self.world.memberships.get(self.me, {}).items():
            left = event.membership == "leave"
            room = self.world.rooms[room_id]
            newly = since is not None and event.stream > since
            newly = newly and room.membership(self.me, at=since) == "join"
            if left and newly:
                listed[room_id] = event
            elif left and event.sender == self.me:
                listed.pop(room_id, None)
        return {room_id: event for room_id, event in listed.items() if room_id not in self.hidden}

    def _matching(self, listed: Mapping[str, Event], filters: Json) -> dict[str, Event]:
        for unsupported in ("spaces", "room_name_like"):
            if filters.get(unsupported) is not None:
                raise internal()
        return {
            room_id: event
            for room_id, event in listed.items()
            if self._passes(self.world.rooms[room_id], event, filters)
        }

    def _passes(self, room: Room, member: Event, filters: Json) -> bool:
        if filters.get("tags") is not None:
            return False  # nothing is tagged here
        type_ = room.create.content.get("type")
        facts = {
            "is_invite": member.membership == "invite",
            "is_encrypted": ("m.room.encryption", "") in room.state,
            "is_dm": room.room_id in _direct_rooms(self.world, self.me),
        }
        if any(filters.get(name) not in (None, fact) for name, fact in facts.items()):
            return False
        if filters.get("room_types") is not None and type_ not in filters["room_types"]:
            return False
        return type_ not in (filters.get("not_room_types") or [])

    def _list(
        self, matching: Mapping[str, Event], spec: Json, relevant: dict[str, _Wanted]
    ) -> Json:
        """Make the list's entry, adding its rooms to `relevant`."""
        wanted = _wanted("lists", spec)
        ranges: list[list[int]] = spec.get("ranges") or []
        whole = len(ranges) == 1 and ranges[0][0] == 0 and ranges[0][1] >= len(matching) - 1
        order = list(matching) if whole else sorted(matching, key=self._activity, reverse=True)
        ops: list[Json] = []
        for first, last in ranges:
            room_ids = order[first : max(first, last + 1)]
            ops.append({"op": "SYNC", "range": [first, last], "room_ids": room_ids})
            for room_id in room_ids:
                relevant[room_id] = relevant.get(room_id, wanted) | wanted
        return {"count": len(matching), "ops": ops}

    def _activity(self, room_id: str) -> int:
        member = self.world.memberships[self.me][room_id]
        if member.membership == "join":
            return self.world.rooms[room_id].last_stream
        return member.stream

    def _may_have_news(self, room_id: str, wanted: _Wanted) -> bool:
        since = self.request.since
        if since is None or self.before.sent.get(room_id, 0) is not None:
            return True
        known = self.before.told.get(room_id)
        if known is not None and known | wanted != known:
            return True
        return self.world.rooms[room_id].last_stream > since

    def _room(self, room: Room, wanted: _Wanted) -> Json | None:
        """Tell about one room; None is nothing new."""
        return _RoomView(self.world, self.session, room, wanted, *self._bounds(room)).view()

    def _bounds(self, room: Room) -> tuple[int | None, int | None, _Wanted | None]:
        """Give from where to tell (None: everything), the request's position, what is known."""
        since = self.request.since
        known = self.before.told.get(room.room_id)
        never: object = object()
        sent = self.before.sent.get(room.room_id, never)
        member = self.world.memberships[self.me][room.room_id]
        newly_joined = (
            since is not None
            and member.membership == "join"
            and room.membership(self.me, at=since) != "join"
        )
        if since is None or newly_joined or sent is never:
            return None, since, known
        stopped = self.before.sent[room.room_id]
        return (since if stopped is None else stopped), since, known


@dataclass
class _RoomView:
    world: World
    session: Session
    room: Room
    wanted: _Wanted
    after: int | None
    since: int | None
    known: _Wanted | None

    def view(self) -> Json | None:
        view: Json = {"notification_count": 0, "highlight_count": 0}
        timeline, part = self._timeline()
        required = self._required_state(timeline)
        info = self._info()
        if not (self.after is None or info or required or timeline or self.invited):
            return None
        bump = self._bump(timeline, always="limited" not in part or part["limited"])
        if bump is not None:
            view["bump_stamp"] = bump
        view.update(info)
        if self.after is None:
            view["initial"] = True
        if self._expands:
            view["unstable_expanded_timeline"] = True
        if required:
            view["required_state"] = [self._event(event) for event in required]
        view.update(part)
        if self.room.room_id in _direct_rooms(self.world, self.me):
            view["is_dm"] = True
        if self.invited:
            view["invite_state"] = [*self.member.invite_room_state, stripped(self.member)]
        return view

    @property
    def me(self) -> str:
        return self.session.user_id

    @property
    def member(self) -> Event:
        return self.room.state["m.room.member", self.me]

    @property
    def invited(self) -> bool:
        return self.member.membership == "invite"

    @property
    def end(self) -> int:
        """How far the user may see."""
        return self.world.stream if self.member.membership == "join" else self.member.stream

    @property
    def _expands(self) -> bool:
        """Whether more timeline is asked for than before."""
        return (
            self.since is not None
            and self.known is not None
            and self.known.timeline_limit < self.wanted.timeline_limit
        )

    def _changed(self) -> list[Event]:
        """Give the newest event of each state key changed since it was last told."""
        if self.after is None or self.invited:
            return []
        events = self.room.between(self.after, self.end)
        return list({e.key: e for e in events if e.state_key is not None}.values())

    def _timeline(self) -> tuple[list[Event], Json]:
        limit = self.wanted.timeline_limit
        if limit <= 0 or self.invited:
            return [], {}
        floor = 0 if self.after is None or self._expands else self.after
        events = self.room.between(floor, self.end)
        limited = len(events) > limit
        events = events[-limit:]
        first = events[0] if events else None
        prev = room_token(first.depth - 1, first.stream - 1) if first else stream_token(self.end)
        away = self.member.membership != "join"
        shown = [e for e in events if self.room.visible_to(self.me, e, peeking=away)]
        live = 0 if self.since is None else sum(event.stream > self.since for event in shown)
        part: Json = {"limited": limited, "prev_batch": prev, "num_live": live}
        if shown:
            part = {"timeline": [self._timeline_event(event) for event in shown], **part}
        return shown, part

    def _required_state(self, timeline: list[Event]) -> list[Event]:
        if self.invited:
            return []
        state = self.room.state_at(self.end)
        lazy = self._lazy_members(timeline)
        asked = [
            event
            for key, event in state.items()
            if self.wanted.matches(key, me=self.me) or key in lazy
        ]
        if self.after is None:
            return asked
        changed = set(self._changed())
        known = self.known
        return [
            event
            for event in asked
            if event in changed or (known is not None and not self._was_asked(known, event))
        ]

    def _was_asked(self, known: _Wanted, event: Event) -> bool:
        lazy = ("m.room.member", "$LAZY") in known.state and event.type == "m.room.member"
        return lazy or known.matches(event.key, me=self.me)

    def _lazy_members(self, timeline: list[Event]) -> set[StateKey]:
        if ("m.room.member", "$LAZY") not in self.wanted.state:
            return set()
        people = {event.sender for event in timeline}
        people |= {e.state_key for e in timeline if e.type == "m.room.member" and e.state_key}
        people |= {
            e.state_key for e in self._changed() if e.type == "m.room.member" and e.state_key
        }
        return {("m.room.member", user_id) for user_id in people}

    def _info(self) -> Json:
        """Tell name, avatar, heroes and counts where they are new."""
        changed = {event.key for event in self._changed()}
        first = self.after is None
        people = first or any(type_ == "m.room.member" for type_, _ in changed)
        state = self.room.state_at(self.end)
        info: Json = {}
        if people and self.member.membership == "join":
            info["joined_count"] = self._count(state, "join")
            info["invited_count"] = self._count(state, "invite")
        name = state.get(("m.room.name", ""))
        named = name.content.get("name") if name else None
        if named and (first or ("m.room.name", "") in changed):
            info["name"] = named
        avatar = state.get(("m.room.avatar", ""))
        if avatar and avatar.content.get("url") and (first or avatar.key in changed):
            info["avatar"] = avatar.content["url"]
        if people and "name" not in info and self.member.membership == "join":
            heroes = self._heroes(state)
            if heroes:
                info["heroes"] = heroes
        return info

    def _heroes(self, state: Mapping[StateKey, Event]) -> list[Json]:
        members = [e for k, e in state.items() if k[0] == "m.room.member" and k[1] != self.me]
        for wanted in (("join", "invite"), ("leave", "ban")):
            found = [e for membership in wanted for e in members if e.membership == membership]
            if found:
                return [self._hero(event) for event in found[:_HEROES]]
        return []

    @staticmethod
    def _hero(event: Event) -> Json:
        hero: Json = {"user_id": event.state_key}
        for name in ("displayname", "avatar_url"):
            if isinstance(event.content.get(name), str):
                hero[name] = event.content[name]
        return hero

    @staticmethod
    def _count(state: Mapping[StateKey, Event], membership: str) -> int:
        return sum(
            k[0] == "m.room.member" and e.membership == membership for k, e in state.items()
        )

    def _bump(self, timeline: list[Event], *, always: Any) -> int | None:
        if self.member.membership != "join":
            return self.member.stream
        always = always or self.after is None
        events = self.room.timeline if always else timeline
        found = [event.stream for event in events if event.type in _BUMPS]
        if found:
            return found[-1]
        return self.member.stream if always else None

    def _event(self, event: Event) -> Json:
        return sync_view(event, now=self.world.clock.read(), viewer=self.session.viewer)

    def _timeline_event(self, event: Event) -> Json:
        return sync_view(
            event,
            now=self.world.clock.read(),
            viewer=self.session.viewer,
            membership=self.room.membership(self.me, at=event.stream) or "leave",
        )
