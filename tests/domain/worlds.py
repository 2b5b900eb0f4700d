"""Worlds to plan in: few rooms, few people, and everything that can go wrong with them at once.

A world is what the bot would see, what the store remembers, and rooms that exist but that the
bot is not in. The rooms are few and so are the ids, so that they collide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.marker import Marker
from homeroom.domain.homes.model import (
    Chat,
    ChatID,
    Home,
    PlatformChatID,
    Records,
    RoomType,
    Status,
)
from homeroom.domain.homes.plan import (
    Change,
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Plan,
    Repair,
    SetHome,
    StampMarker,
    UnlinkChild,
)
from homeroom.domain.homes.planner import make_plan
from homeroom.domain.homes.topology import (
    ChildLink,
    MarkerProblem,
    Member,
    Room,
    Topology,
    Unreadable,
)
from tests.domain.builders import ANNA, BERT, BOT, MALLORY, later

SPACES = tuple(RoomID(f"!s{number}:example.org") for number in range(3))
CHATS = tuple(RoomID(f"!c{number}:example.org") for number in range(4))
OUTSIDE = RoomID("!outside:example.org")
ROOM_IDS = (*SPACES, *CHATS)
PEOPLE = (ANNA, BERT, MALLORY)


@dataclass(frozen=True, kw_only=True, repr=False)
class World:
    topology: Topology
    records: Records
    elsewhere: Mapping[RoomID, Room]
    """Rooms that the bot is not in, but could join."""

    def __repr__(self) -> str:
        parts = {
            "observed": self.topology.rooms.values(),
            "elsewhere": self.elsewhere.values(),
            "stored": [*self.records.homes.values(), *self.records.chats.values()],
        }
        return "".join(
            f"\n  {title}:" + "".join(f"\n    {_brief(value)}" for value in values)
            for title, values in parts.items()
        )

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        printer.text(repr(self))  # what Hypothesis shows

    def plan(self) -> Plan:
        return make_plan(self.topology, self.records)

    def apply(self, plan: Plan) -> World:
        """The world with the changes in the store."""
        return replace(self, records=apply(plan.changes, self.records))

    def repair(self, plan: Plan) -> World:
        """The world with the repairs done in Matrix; joins that cannot work change nothing."""
        rooms = dict(self.topology.rooms)
        for repair in plan.repairs:
            _carry_out(repair, rooms, self.elsewhere)
        return replace(self, topology=replace(self.topology, rooms=rooms))

    def settle(self) -> World:
        """The world after as many reconciles as it takes, all repairs included."""
        world = self
        for _ in range(2 * len(ROOM_IDS)):  # each round joins a room at least, or is the last
            plan = world.plan()
            settled = world.apply(plan).repair(plan)
            if settled == world:
                return world
            world = settled
        raise AssertionError("it does not settle")

    def with_unreadable(self, room_ids: set[RoomID]) -> World:
        rooms = {
            room_id: Unreadable(room_id=room_id, reason="500") if room_id in room_ids else room
            for room_id, room in self.topology.rooms.items()
        }
        return replace(self, topology=replace(self.topology, rooms=rooms))


def apply(changes: tuple[Change, ...], records: Records) -> Records:
    """What the store does with changes: it must find what they say they change."""
    homes, chats = dict(records.homes), dict(records.chats)
    for change in changes:
        if isinstance(change, SetHome):
            assert homes.get(change.after.matrix_user_id) == change.before
            homes[change.after.matrix_user_id] = change.after
        else:
            assert chats.get(change.after.room_id) == change.before
            chats[change.after.room_id] = change.after
    return Records(homes=homes, chats=chats)


def _brief(value: object) -> str:
    """A dataclass without its defaults, so that a counterexample can be read."""
    assert is_dataclass(value)
    shown = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in fields(value)
        if getattr(value, field.name) not in (field.default, {}, frozenset())
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def _carry_out(
    repair: Repair, rooms: dict[RoomID, Room | Unreadable], elsewhere: Mapping[RoomID, Room]
) -> None:
    match repair:
        case StampMarker(room_id=room_id, marker=marker):
            room = rooms[room_id]
            assert isinstance(room, Room)
            rooms[room_id] = replace(room, marker=marker)
        case LinkChild(space_id=space_id, room_id=room_id):
            room = rooms[space_id]
            assert isinstance(room, Room)
            link = ChildLink(sender=BOT, linked=True)
            rooms[space_id] = replace(room, children={**room.children, room_id: link})
        case UnlinkChild(space_id=space_id, room_id=room_id):
            room = rooms[space_id]
            assert isinstance(room, Room)
            link = ChildLink(sender=BOT, linked=False)
            rooms[space_id] = replace(room, children={**room.children, room_id: link})
        case MoveToSpace(room_id=room_id, space_id=space_id, former=former):
            room = rooms[room_id]
            assert isinstance(room, Room)
            named = frozenset({space_id}) - room.other_parents
            admitted = frozenset({space_id}) if room.admits.intersection(former) else frozenset()
            rooms[room_id] = replace(
                room,
                parents=room.parents.difference(former) | named,
                other_parents=room.other_parents | room.parents.intersection(former),
                admits=room.admits.difference(former) | admitted,
            )
        case InviteToReplacement(room_id=room_id, user_id=user_id):
            room = rooms[room_id]
            assert isinstance(room, Room)
            rooms[room_id] = replace(
                room, members={**room.members, user_id: Member(membership="invite")}
            )
        case JoinReplacement(replacement=replacement):
            if replacement in elsewhere:
                rooms[replacement] = elsewhere[replacement]


# Strategies

chat_ids = st.sampled_from([None, *(ChatID(f"C{number}") for number in range(1, 5))])
stored_chat_ids = chat_ids | st.sampled_from([ChatID("x"), ChatID("C0")])
keys = st.sampled_from(
    [
        None,
        PlatformChatID("k1"),
        PlatformChatID("k2"),
        *(derive_platform_chat_id(room_id) for room_id in CHATS[:2]),
        derive_platform_chat_id(CHATS[0], conversation=later(1)),
    ]
)
stored_keys = keys | st.sampled_from([PlatformChatID("no good"), PlatformChatID("x" * 256)])
people = st.sampled_from(PEOPLE)
room_ids = st.sampled_from([*ROOM_IDS, OUTSIDE])
conversations = st.sampled_from([None, None, None, later(1), later(2)])
promised = st.sampled_from([(), ("One",), ("One", "T\0wo")])
members = st.dictionaries(
    people, st.sampled_from(["join", "join", "invite", "leave", "ban"]), max_size=3
).map(
    lambda memberships: {
        user_id: Member(membership=membership) for user_id, membership in memberships.items()
    }
)
links = st.builds(
    ChildLink,
    sender=st.sampled_from([BOT, BOT, BOT, ANNA]),
    linked=st.sampled_from([True, True, True, False]),
)
some_spaces = st.frozensets(st.sampled_from([*SPACES, OUTSIDE]), max_size=2)
problems = st.sampled_from([(), (), (), (), (), (), (MarkerProblem(reason="foreign", own=False),)])
DAMAGED = (MarkerProblem(reason="damaged", own=True),)
home_status = st.sampled_from([Status.ACTIVE, Status.ACTIVE, Status.LEFT, Status.REPLACED, None])
chat_status = st.sampled_from([Status.ACTIVE, Status.ACTIVE, *Status, None])


@st.composite
def markers(draw: st.DrawFn, room_type: RoomType) -> Marker:
    if room_type is RoomType.SPACE:
        return Marker(
            room_type=room_type,
            user_id=draw(people),
            initial_chats=draw(st.sampled_from([(), ("One",)])),
        )
    key = draw(keys)
    return Marker(
        room_type=room_type,
        user_id=draw(people),
        chat_id=draw(chat_ids),
        platform_chat_id=key,
        archived=draw(st.sampled_from([False, False, False, True])),
        conversation=draw(conversations) if key else None,
    )


@st.composite
def rooms(draw: st.DrawFn, room_id: RoomID, *, damage: bool) -> Room:
    is_space = room_id in SPACES
    kind = draw(
        st.sampled_from(
            ["marked", "marked", "marked", "legacy", "legacy", "foreign"]
            + ["damaged", "mistaken"] * damage
        )
    )
    room_type = RoomType.SPACE if is_space != (kind == "mistaken") else RoomType.CHAT
    return Room(
        room_id=room_id,
        creator=draw(people) if kind == "foreign" else BOT,
        created_at=draw(st.integers(0, 3)),
        is_space=is_space,
        marker=draw(markers(room_type)) if kind in {"marked", "mistaken"} else None,
        marker_problems=DAMAGED if kind == "damaged" else draw(problems),
        parents=frozenset() if is_space else draw(some_spaces),
        admits=frozenset() if is_space else draw(some_spaces),
        children=draw(st.dictionaries(room_ids, links, max_size=4)) if is_space else {},
        members=draw(members),
    )


@st.composite
def upgrades(draw: st.DrawFn, rooms: dict[RoomID, Room]) -> dict[RoomID, Room]:
    """The rooms with upgrades between them: real ones, half ones and circles."""
    rooms = dict(rooms)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        old = draw(st.sampled_from(ROOM_IDS))
        new = draw(st.sampled_from(SPACES if old in SPACES else CHATS) | room_ids)
        points, points_back = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (1, 0), (0, 1)]))
        if points and old in rooms:
            rooms[old] = replace(rooms[old], is_tombstoned=True, replacement=new)
        if points_back and new in rooms:
            heir = replace(rooms[new], predecessor=old)
            if draw(st.booleans()):  # as an upgrade by a member leaves it
                heir = replace(heir, creator=ANNA, marker=None, parents=frozenset())
            rooms[new] = heir
    closed = draw(st.sampled_from([None, None, None, *ROOM_IDS]))
    if closed in rooms:
        rooms[closed] = replace(rooms[closed], is_tombstoned=True, replacement=None)
    return rooms


@st.composite
def topologies(draw: st.DrawFn, *, damage: bool = True) -> tuple[Topology, dict[RoomID, Room]]:
    """What is observed, and the rooms that are left over; `damage` adds what cannot be read."""
    every = {room_id: draw(rooms(room_id, damage=damage)) for room_id in ROOM_IDS}
    every = draw(upgrades(every))
    joined: dict[RoomID, Room | Unreadable] = {}
    fates = ["read"] * 6 + ["absent"] + ["unreadable"] * damage
    for room_id, room in every.items():
        fate = draw(st.sampled_from(fates))
        if fate == "read":
            joined[room_id] = room
        elif fate == "unreadable":
            joined[room_id] = Unreadable(room_id=room_id, reason="500")
    elsewhere = {room_id: room for room_id, room in every.items() if room_id not in joined}
    return Topology(bot=BOT, rooms=joined), elsewhere


@st.composite
def chat_rows(draw: st.DrawFn, room_id: RoomID) -> Chat:
    return Chat(
        room_id=room_id,
        matrix_user_id=draw(people),
        space_id=draw(st.none() | st.sampled_from([*SPACES, OUTSIDE])),
        chat_id=draw(stored_chat_ids),
        platform_chat_id=draw(stored_keys),
        name=draw(st.sampled_from([None, "old"])),
        status=draw(chat_status),
        room_type=draw(st.sampled_from([RoomType.CHAT, RoomType.CHAT, RoomType.SPACE, None])),
        conversation=draw(conversations),
    )


@st.composite
def home_rows(draw: st.DrawFn, owner: UserID) -> Home:
    return Home(
        matrix_user_id=owner,
        space_id=draw(room_ids),
        status=draw(home_status),
        initial_chats=draw(promised),
    )


@st.composite
def stored(draw: st.DrawFn) -> Records:
    """Rows about anything, as far as the store's unique indexes let them in."""
    owners = draw(st.sets(people))
    of_rooms = draw(st.sets(room_ids, max_size=6))
    chats = {room_id: draw(chat_rows(room_id)) for room_id in sorted(of_rooms)}
    return Records(
        homes={owner: draw(home_rows(owner)) for owner in sorted(owners)},
        chats=as_the_store_would_have_it(chats),
    )


def as_the_store_would_have_it(chats: dict[RoomID, Chat]) -> dict[RoomID, Chat]:
    """The rows without the ids that the unique indexes would have refused."""
    numbers, seen_keys = set(), set()
    kept = {}
    for room_id, row in sorted(chats.items()):
        chat = row
        if chat.status in {Status.ACTIVE, Status.ARCHIVED}:
            number = (chat.matrix_user_id, chat.chat_id)
            if number in numbers:
                chat = replace(chat, chat_id=None)
            if chat.platform_chat_id in seen_keys:
                chat = replace(chat, platform_chat_id=None)
            numbers.add(number)
            seen_keys.add(chat.platform_chat_id)
        kept[room_id] = chat
    return kept


@st.composite
def worlds(draw: st.DrawFn, *, damage: bool = True) -> World:
    topology, elsewhere = draw(topologies(damage=damage))
    return World(topology=topology, records=draw(stored()), elsewhere=elsewhere)
