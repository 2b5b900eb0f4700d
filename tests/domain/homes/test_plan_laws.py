"""What holds in every world, however broken: the laws of the planner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import RoomID

from homeroom.domain.homes.marker import parse_marker
from homeroom.domain.homes.model import Chat, Records, RoomType, Status
from homeroom.domain.homes.plan import (
    FindingKind,
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    SetChat,
    SetHome,
    StampMarker,
    UnlinkChild,
)
from homeroom.domain.homes.planner import make_plan
from homeroom.domain.homes.topology import Room
from tests.domain.builders import BOT
from tests.domain.worlds import (
    ROOM_IDS,
    SPACES,
    World,
    apply,
    as_the_store_would_have_it,
    chat_rows,
    home_rows,
    worlds,
)

K = TypeVar("K")
V = TypeVar("V")


@given(worlds())
def test_a_plan_that_was_applied_leaves_nothing_to_change(world: World) -> None:
    plan = world.plan()
    again = world.apply(plan).plan()
    assert again.changes == ()
    assert again.repairs == plan.repairs


@given(worlds())
def test_repairs_leave_nothing_to_repair_and_change_no_row(world: World) -> None:
    plan = world.plan()
    in_place = tuple(r for r in plan.repairs if not isinstance(r, JoinReplacement))
    repaired = world.apply(plan).repair(replace(plan, repairs=in_place))
    again = repaired.plan()
    assert again.changes == ()
    assert again.repairs == tuple(r for r in plan.repairs if isinstance(r, JoinReplacement))


@given(worlds())
def test_every_world_settles_and_only_hopeless_joins_are_left(world: World) -> None:
    settled = world.settle()
    plan = settled.plan()
    assert plan.changes == ()
    for repair in plan.repairs:
        assert isinstance(repair, JoinReplacement)
        assert repair.replacement not in settled.elsewhere


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_rooms_and_rows_does_not_matter(world: World, random: Random) -> None:
    def shuffled(mapping: Mapping[K, V]) -> dict[K, V]:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    rooms = {
        room_id: replace(room, children=shuffled(room.children), members=shuffled(room.members))
        if isinstance(room, Room)
        else room
        for room_id, room in shuffled(world.topology.rooms).items()
    }
    records = Records(homes=shuffled(world.records.homes), chats=shuffled(world.records.chats))
    assert make_plan(replace(world.topology, rooms=rooms), records) == world.plan()


@given(worlds())
def test_rows_of_unreadable_rooms_are_never_changed(world: World) -> None:
    for change in world.plan().changes:
        if isinstance(change, SetChat):
            assert not world.topology.is_unreadable(change.after.room_id)
        else:
            assert not world.topology.is_unreadable(change.after.space_id)
            if change.before is not None:
                assert not world.topology.is_unreadable(change.before.space_id)


@given(worlds())
def test_nothing_is_repaired_in_unreadable_rooms(world: World) -> None:
    for repair in world.plan().repairs:
        match repair:
            case StampMarker(room_id=room_id):
                assert world.topology.room(room_id)
            case LinkChild(space_id=space_id, room_id=room_id):
                assert world.topology.room(space_id)
                assert world.topology.room(room_id)
            case UnlinkChild(space_id=space_id, room_id=room_id):
                assert world.topology.room(space_id)
                assert world.topology.room(room_id)
            case MoveToSpace(room_id=room_id, space_id=space_id):
                assert world.topology.room(space_id)
                assert world.topology.room(room_id)
            case InviteToReplacement(room_id=room_id):
                assert world.topology.room(room_id)
            case JoinReplacement(room_id=room_id, replacement=replacement):
                assert world.topology.room(room_id)
                assert replacement not in world.topology.rooms


@given(worlds(), st.sets(st.sampled_from(ROOM_IDS), max_size=4))
def test_no_row_is_moved_to_a_room_that_became_unreadable(world: World, lost: set[RoomID]) -> None:
    for change in world.with_unreadable(lost).plan().changes:
        if isinstance(change, SetChat) and change.before and change.before.space_id:
            before, after = change.before.space_id, change.after.space_id
            assert before == after or after not in lost & world.topology.rooms.keys()


@given(worlds(), st.sets(st.sampled_from(ROOM_IDS), min_size=1))
def test_not_being_able_to_read_rooms_changes_nothing_in_a_settled_world(
    world: World, lost: set[RoomID]
) -> None:
    """With one exception: of two homes that link a chat from before markers one may be lost."""
    world = world.settle()
    ambiguous = {
        found.room_id
        for found in world.plan().findings
        if found.kind is FindingKind.AMBIGUOUS_OWNER
    }
    plan = world.with_unreadable(lost).plan()
    for change in plan.changes:
        assert isinstance(change, SetChat)
        assert change.before is None
        assert change.after.room_id in ambiguous
    for repair in plan.repairs:
        assert isinstance(repair, JoinReplacement) or repair.room_id in ambiguous


@given(worlds())
def test_nothing_is_named_that_was_neither_observed_nor_stored(world: World) -> None:
    rooms = list(world.topology.read())
    known = {
        *world.topology.rooms,
        *world.records.chats,
        *(row.space_id for row in world.records.chats.values()),
        *(row.space_id for row in world.records.homes.values()),
        *(parent for room in rooms for parent in room.parents),
        None,
    }
    people = {
        *(row.matrix_user_id for row in world.records.chats.values()),
        *world.records.homes,
        *(user_id for room in rooms for user_id in room.members),
        *(room.marker.user_id for room in rooms if room.marker),
    }
    plan = world.plan()
    for change in plan.changes:
        assert change.after.space_id in known
        assert change.after.matrix_user_id in people
        if isinstance(change, SetChat):
            assert change.after.room_id in known
    for repair in plan.repairs:
        assert repair.room_id in world.topology.rooms
    for found in plan.findings:
        assert found.room_id in known


@given(worlds())
def test_ids_of_routed_rows_are_unique_after_every_plan(world: World) -> None:
    for records in (world.apply(world.plan()).records, world.settle().records):
        routed = [row for row in records.chats.values() if row.is_routed]
        numbers = Counter((row.matrix_user_id, row.chat_id) for row in routed)
        keys = Counter(row.platform_chat_id for row in routed)
        assert set(numbers.values()) <= {1}
        assert set(keys.values()) <= {1}


@given(worlds())
def test_a_claimed_chat_is_routed_with_all_its_ids_before_anything_is_stamped(
    world: World,
) -> None:
    plan = world.plan()
    records = apply(plan.changes, world.records)
    for repair in plan.repairs:
        if isinstance(repair, StampMarker) and repair.marker.room_type is RoomType.CHAT:
            assert records.chats[repair.room_id].is_routed


@given(worlds())
def test_only_rooms_that_can_be_ours_are_routed(world: World) -> None:
    """Made by the bot, marked by it, or the confirmed successor of such a room.

    Rooms that could not be read, or whose marker or predecessor could not be, keep what the
    store said, and never get a row. A successor counts by the store alone only where the bot has
    left the old room.
    """
    topology = world.topology

    def may_be_ours(room: Room, chain: frozenset[RoomID] = frozenset()) -> bool:
        if room.creator == BOT or room.marker:
            return True
        old = topology.room(room.predecessor)
        if old is not None and old.room_id not in chain:
            confirmed = old.is_tombstoned and old.replacement == room.room_id
            return confirmed and may_be_ours(old, chain | {room.room_id})
        row = world.records.chats.get(room.predecessor) if room.predecessor else None
        return row is not None and row.status is Status.REPLACED

    records = world.apply(world.plan()).records
    for row in records.chats.values():
        room = topology.room(row.room_id)
        if row.is_routed and row != world.records.chats.get(row.room_id):
            assert room is not None
            assert may_be_ours(room)
            assert not any(problem.own for problem in room.marker_problems)
        elif row.is_routed and room is not None:
            assert may_be_ours(room) or room.predecessor is not None or room.marker_problems


@given(worlds())
def test_every_marker_to_be_stamped_can_be_read_back(world: World) -> None:
    for repair in world.plan().repairs:
        if isinstance(repair, StampMarker):
            assert parse_marker(repair.marker.to_content()) == repair.marker


@given(worlds())
def test_no_row_is_ever_lost_nor_its_key_without_a_better_source(world: World) -> None:
    after = world.apply(world.plan()).records
    assert after.chats.keys() >= world.records.chats.keys()
    assert after.homes.keys() >= world.records.homes.keys()
    for room_id, row in world.records.chats.items():
        left = after.chats[room_id]
        if left.status is Status.LEFT:
            assert replace(left, space_id=None) == replace(row, status=Status.LEFT, space_id=None)
            if left.space_id != row.space_id:  # the Space was upgraded
                assert left.space_id == after.homes[row.matrix_user_id].space_id


@st.composite
def damaged_rows(draw: st.DrawFn, records: Records) -> Records:
    """Rows lost, altered, swapped between rooms, or about rooms that nobody heard of."""
    chats: dict[RoomID, Chat] = {}
    for room_id, row in sorted(records.chats.items()):
        damage = draw(st.sampled_from(["none", "lost", "altered", "swapped"]))
        if damage == "swapped":
            other = draw(st.sampled_from(sorted(records.chats)))
            chats[room_id] = replace(records.chats[other], room_id=room_id)
        elif damage != "lost":
            chats[room_id] = draw(chat_rows(room_id)) if damage == "altered" else row
    for room_id in draw(st.sets(st.sampled_from(ROOM_IDS), max_size=2)):
        chats[room_id] = draw(chat_rows(room_id))
    homes = {}
    for owner, home in sorted(records.homes.items()):
        damage = draw(st.sampled_from(["none", "lost", "altered"]))
        if damage != "lost":
            homes[owner] = draw(home_rows(owner)) if damage == "altered" else home
    return Records(homes=homes, chats=as_the_store_would_have_it(chats))


@given(worlds(damage=False), st.data())
def test_rows_of_marked_rooms_come_back_whatever_happened_to_them(
    world: World, data: st.DataObject
) -> None:
    """All of them, from a world that was in order and can be read.

    Only markers count here: a Space from before markers that nobody could own may be called a
    home by a damaged row, so there is none in this world. Where the owner has no Space at all,
    only the row knew which one a chat without a parent had been in.
    """
    world = world.settle()
    observed = world.topology
    rooms = {
        room_id: room
        for room_id, room in observed.rooms.items()
        if room_id not in SPACES or (isinstance(room, Room) and room.marker)
    }
    world = replace(world, topology=replace(observed, rooms=rooms), elsewhere={}).settle()
    records = data.draw(damaged_rows(world.records))
    restored = replace(world, records=records)
    restored = restored.apply(restored.plan())

    for room in world.topology.read():
        if room.marker is None or room.is_tombstoned:
            continue
        if room.is_space:
            owner = room.marker.user_id
            assert restored.records.homes.get(owner) == world.records.homes.get(owner)
            continue
        before = world.records.chats[room.room_id]
        after = restored.records.chats[room.room_id]
        if before.matrix_user_id not in world.records.homes or not room.parents:
            before, after = replace(before, space_id=None), replace(after, space_id=None)
        assert after == before


@given(worlds())
def test_homes_point_to_spaces_of_their_owner(world: World) -> None:
    for change in world.plan().changes:
        if isinstance(change, SetHome) and change.after.status is Status.ACTIVE:
            room = world.topology.room(change.after.space_id)
            assert room is not None
            assert room.is_space
            assert not room.is_tombstoned
            if room.marker:
                assert room.marker.user_id == change.after.matrix_user_id
