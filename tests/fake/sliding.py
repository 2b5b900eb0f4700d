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

from .accounts import Session
from .errors import MatrixError, bad_request, internal
from .events import Event, Json
from .rooms import Room
from .sliding_room import RoomView, Wanted, direct_rooms
from .tokens import read_token, stream_token
from .world import World

MAX_LISTS = 100
MAX_LIST_KEY = 64
MAX_TIMELINE = 1000


@dataclass(frozen=True)
class Answer:
    """A response, and whether any room is in it."""

    body: Json
    has_news: bool


@dataclass
class _Connection:
    """What one position of a connection knows: what has been told about which room."""

    sent: dict[str, int | None] = field(default_factory=dict)
    """Room to None (told up to the position), or to where the telling stopped."""
    told: dict[str, Wanted] = field(default_factory=dict)


@dataclass
class Connections:
    """The server's memory of its sliding sync connections."""

    by_key: dict[tuple[str, str, str], dict[int, _Connection]] = field(default_factory=dict)
    last: int = 0


@dataclass(frozen=True)
class _Request:
    lists: Mapping[str, Json]
    subscriptions: Mapping[str, Wanted]
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


def _read(body: Json) -> tuple[dict[str, Json], dict[str, Wanted]]:
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


def _wanted(where: str, value: object) -> Wanted:
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
    return Wanted(limit, frozenset((type_, key) for type_, key in state))


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
        relevant: dict[str, Wanted] = {}
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
        self, sent_now: Mapping[str, Wanted], unsent: set[str], told: dict[str, Wanted]
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
            "is_dm": room.room_id in direct_rooms(self.world, self.me),
        }
        if any(filters.get(name) not in (None, fact) for name, fact in facts.items()):
            return False
        if filters.get("room_types") is not None and type_ not in filters["room_types"]:
            return False
        return type_ not in (filters.get("not_room_types") or [])

    def _list(
        self, matching: Mapping[str, Event], spec: Json, relevant: dict[str, Wanted]
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

    def _may_have_news(self, room_id: str, wanted: Wanted) -> bool:
        since = self.request.since
        if since is None or self.before.sent.get(room_id, 0) is not None:
            return True
        known = self.before.told.get(room_id)
        if known is not None and known | wanted != known:
            return True
        return self.world.rooms[room_id].last_stream > since

    def _room(self, room: Room, wanted: Wanted) -> Json | None:
        """Tell about one room; None is nothing new."""
        return RoomView(self.world, self.session, room, wanted, *self._bounds(room)).view()

    def _bounds(self, room: Room) -> tuple[int | None, int | None, Wanted | None]:
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
