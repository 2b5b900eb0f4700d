"""What a reset would do: whole plans for small worlds, and laws for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import RoomID

from homeroom.domain.homes.model import Records, Status
from homeroom.domain.homes.topology import Topology
from homeroom.domain.reset import (
    Failure,
    Kind,
    LeavePlan,
    Left,
    LocalPlan,
    Outcome,
    RemoteParts,
    Scope,
    Target,
    outcome_of,
    plan_leave,
    plan_local,
    skipped,
)
from tests.domain.builders import (
    ANNA,
    BERT,
    BOT,
    ELSEWHERE,
    HOME,
    NEW,
    OTHER_HOME,
    PLAY,
    WORK,
    chat,
    chat_row,
    closed,
    foreign,
    home_row,
    legacy_chat,
    legacy_space,
    link,
    records,
    space,
    successor,
    topology,
    unreadable,
    with_bad_marker,
)
from tests.domain.worlds import OUTSIDE, ROOM_IDS, World, worlds

OFFICE = RoomID("!office:example.org")
NOTHING = records()
OLD = RoomID("!old:example.org")


def leave(
    observed: Topology,
    stored: Records = NOTHING,
    *,
    scope: Scope = Scope.MANAGED,
    left: Any = (),
    command_room: RoomID = OFFICE,
    adopt_unmarked: bool = True,
) -> LeavePlan:
    return plan_leave(
        observed,
        stored,
        scope=scope,
        left=left,
        command_room=command_room,
        adopt_unmarked=adopt_unmarked,
    )


def target(room_id: RoomID, kind: Kind = Kind.CHAT, **more: Any) -> Target:
    owner = None if kind is Kind.OTHER else ANNA
    return Target(room_id=room_id, kind=kind, **{"owner": owner, **more})


def test_local_deletes_the_rows_of_every_table() -> None:
    parts = RemoteParts(number=2)
    assert plan_local({"homes": 1, "chats": 3}, checkpoint=parts) == LocalPlan(
        tables={"chats": 3, "homes": 1}, checkpoint=parts
    )


def test_a_home_is_left_with_its_chats_before_their_space() -> None:
    observed = topology(
        space(links=[WORK, PLAY]), chat(PLAY, chat_id="C2", name="Play"), chat(name="Work")
    )
    stored = records(home_row(), chat_row(), chat_row(PLAY, chat_id="C2"))
    assert leave(observed, stored) == LeavePlan(
        scope=Scope.MANAGED,
        targets=(
            target(PLAY, name="Play", table="chats"),
            target(WORK, name="Work", table="chats"),
            target(HOME, Kind.SPACE, table="homes"),
        ),
        skipped=(),
        code="2ddade92",
    )


def test_two_homes_are_left_owner_by_owner_and_all_chats_before_any_space() -> None:
    observed = topology(
        space(links=[WORK]),
        chat(),
        space(OTHER_HOME, owner=BERT, links=[PLAY]),
        chat(PLAY, owner=BERT, parents=[OTHER_HOME]),
    )
    assert leave(observed).targets == (
        target(WORK),
        target(PLAY, owner=BERT),
        target(HOME, Kind.SPACE),
        target(OTHER_HOME, Kind.SPACE, owner=BERT),
    )


@pytest.mark.parametrize("room_id", [WORK, HOME])
def test_the_room_of_the_command_is_the_last(room_id: RoomID) -> None:
    observed = topology(space(links=[WORK, PLAY]), chat(), chat(PLAY, chat_id="C2"))
    assert leave(observed, command_room=room_id).targets[-1].room_id == room_id


def test_rooms_of_other_plugins_are_left_only_with_the_scope_joined() -> None:
    made_by_bot = replace(foreign(NEW, creator=BOT), name="Reminders")
    observed = topology(space(links=[WORK]), chat(), foreign(), made_by_bot)
    managed = (target(WORK), target(HOME, Kind.SPACE))
    assert leave(observed).targets == managed
    assert leave(observed, scope=Scope.JOINED).targets == (
        target(ELSEWHERE, Kind.OTHER),
        target(NEW, Kind.OTHER, name="Reminders"),
        *managed,
    )


def test_a_room_that_another_put_into_a_home_is_not_of_the_home() -> None:
    observed = topology(space(links={WORK: link(), NEW: link(sender=ANNA)}), chat(), foreign(NEW))
    assert leave(observed).targets == (target(WORK), target(HOME, Kind.SPACE))


@pytest.mark.parametrize("stored", [NOTHING, records(home_row(), chat_row())], ids=["new", "kept"])
def test_rooms_from_before_markers_are_left_where_they_are_homerooms(stored: Records) -> None:
    observed = topology(legacy_space(), legacy_chat())
    rooms = [target.room_id for target in leave(observed, stored).targets]
    assert rooms == [WORK, HOME]
    rooms = [t.room_id for t in leave(observed, stored, adopt_unmarked=False).targets]
    assert rooms == ([WORK, HOME] if stored is not NOTHING else [])


def test_a_room_whose_marker_is_broken_is_left_alone() -> None:
    observed = topology(space(links=[WORK]), with_bad_marker(chat()))
    assert leave(observed).targets == (target(HOME, Kind.SPACE),)


def test_a_room_that_was_upgraded_is_left_with_its_replacement() -> None:
    old = closed(chat(), to=NEW)
    observed = topology(space(links=[WORK]), old, successor(old))
    assert {t.room_id for t in leave(observed).targets} == {HOME, WORK, NEW}


def test_what_cannot_be_read_is_skipped_and_said() -> None:
    observed = topology(space(links=[WORK]), unreadable(WORK), unreadable(ELSEWHERE))
    plan = leave(observed, records(home_row(), chat_row(name="Work")))
    assert plan.targets == (target(HOME, Kind.SPACE, table="homes"),)
    assert plan.skipped == (
        target(ELSEWHERE, Kind.OTHER),
        target(WORK, name="Work", table="chats"),
    )


def test_what_cannot_be_read_is_left_with_the_scope_joined() -> None:
    observed = topology(unreadable(HOME), unreadable(WORK), unreadable(ELSEWHERE))
    plan = leave(observed, records(home_row(), chat_row(name="Work")), scope=Scope.JOINED)
    assert plan.skipped == ()
    assert plan.targets == (
        target(ELSEWHERE, Kind.OTHER),
        target(WORK, name="Work", table="chats"),
        target(HOME, Kind.SPACE, table="homes"),
    )


def test_rooms_that_an_interrupted_run_has_left_are_still_to_be_forgotten() -> None:
    stored = records(
        home_row(status=Status.LEFT),
        chat_row(name="Work", status=Status.LEFT),
        chat_row(PLAY, chat_id="C2"),
    )
    plan = leave(topology(chat(PLAY, chat_id="C2")), stored, left={HOME, WORK, ELSEWHERE})
    assert plan.targets == (
        target(PLAY, table="chats"),
        target(WORK, name="Work", joined=False),
        target(HOME, Kind.SPACE, joined=False),
    )


def test_the_space_of_an_earlier_home_is_still_to_be_forgotten() -> None:
    stored = records(home_row(space_id=NEW), chat_row(status=Status.LEFT))
    plan = leave(topology(space(NEW)), stored, left=[HOME])
    assert plan.targets == (
        target(HOME, Kind.SPACE, joined=False),
        target(NEW, Kind.SPACE, table="homes"),
    )


def test_foreign_rooms_that_were_left_are_forgotten_with_the_scope_joined() -> None:
    plan = leave(topology(), scope=Scope.JOINED, left=[ELSEWHERE])
    assert plan.targets == (target(ELSEWHERE, Kind.OTHER, joined=False),)


def test_rows_that_say_left_already_do_not_change() -> None:
    stored = records(home_row(status=Status.LEFT), chat_row(status=Status.REPLACED))
    plan = leave(topology(space(), chat()), stored)
    assert [target.table for target in plan.targets] == [None, None]


def test_nothing_to_leave_is_a_plan_too() -> None:
    assert leave(topology(foreign())).targets == ()


# The code


HOUSE = topology(space(links=[WORK]), chat())


def test_the_code_is_the_same_whatever_else_is_known() -> None:
    """Names, rows and whether a room was left already are not part of it."""
    code = leave(HOUSE).code
    assert len(code) == 8
    assert leave(HOUSE, records(home_row(), chat_row())).code == code
    assert leave(topology(*(replace(r, name="?") for r in HOUSE.read()))).code == code
    left = leave(topology(space()), records(home_row(), chat_row()), left=[WORK])
    assert left.code == code


@pytest.mark.parametrize(
    "other",
    [
        leave(HOUSE, scope=Scope.JOINED),
        leave(HOUSE, command_room=ELSEWHERE),
        leave(topology(space(links=[WORK]))),
        leave(topology(*HOUSE.read(), chat(PLAY, chat_id="C2"))),
        leave(HOUSE, records(chat_row(OLD, status=Status.LEFT)), left=[OLD]),
        leave(topology(space(links=[WORK]), unreadable(WORK))),
    ],
    ids=["scope", "command-room", "room-less", "room-more", "room-left", "room-unreadable"],
)
def test_the_code_is_another_for_another_scope_room_set_or_place(other: LeavePlan) -> None:
    assert other.code != leave(HOUSE).code


# Laws

lefts = st.frozensets(st.sampled_from([*ROOM_IDS, OUTSIDE]))
rooms = st.sampled_from([OFFICE, *ROOM_IDS])
scopes = st.sampled_from(Scope)


def plan_of(world: World, scope: Scope, left: Any, room: RoomID) -> LeavePlan:
    return leave(world.topology, world.records, scope=scope, left=left, command_room=room)


@given(worlds(), scopes, lefts, rooms)
def test_no_room_is_named_twice(
    world: World, scope: Scope, left: frozenset[RoomID], room: RoomID
) -> None:
    plan = plan_of(world, scope, left, room)
    named = [target.room_id for target in (*plan.targets, *plan.skipped)]
    assert len(named) == len(set(named))


@given(worlds(), scopes, lefts, rooms, st.randoms(use_true_random=False))
def test_the_order_of_rooms_and_rows_does_not_matter(
    world: World, scope: Scope, left: frozenset[RoomID], room: RoomID, random: Any
) -> None:
    def shuffled(mapping: Any) -> Any:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    topology = replace(world.topology, rooms=shuffled(world.topology.rooms))
    stored = replace(
        world.records,
        homes=shuffled(world.records.homes),
        chats=shuffled(world.records.chats),
    )
    mixed = sorted(left, key=lambda _: random.random())
    assert leave(topology, stored, scope=scope, left=mixed, command_room=room) == plan_of(
        world, scope, left, room
    )


@given(worlds(), scopes, lefts, rooms)
def test_chats_come_before_spaces_and_the_room_of_the_command_comes_last(
    world: World, scope: Scope, left: frozenset[RoomID], room: RoomID
) -> None:
    plan = plan_of(world, scope, left, room)
    kinds = [target.kind for target in plan.targets if target.room_id != room]
    assert kinds == sorted(kinds, key=[Kind.OTHER, Kind.CHAT, Kind.SPACE].index)
    named = [target.room_id for target in plan.targets]
    assert room not in named or named[-1] == room


@given(worlds(), lefts)
def test_managed_names_only_rooms_that_a_claim_or_a_row_calls_homerooms(
    world: World, left: frozenset[RoomID]
) -> None:
    plan = plan_of(world, Scope.MANAGED, left, OFFICE)
    rows = {*world.records.chats, *(h.space_id for h in world.records.homes.values())}
    rows |= {chat.space_id for chat in world.records.chats.values() if chat.space_id}
    for named in plan.targets:
        if named.joined:
            room = world.topology.room(named.room_id)
            assert room is not None, "an unreadable room"
            assert room.creator == BOT or room.marker or room.predecessor, named
            assert named.owner is not None
        else:
            assert named.room_id in rows & left
    assert {t.room_id for t in plan.skipped} == {
        room_id for room_id in world.topology.rooms if world.topology.is_unreadable(room_id)
    }


@given(worlds(), lefts, rooms)
def test_joined_names_every_joined_room(
    world: World, left: frozenset[RoomID], room: RoomID
) -> None:
    plan = plan_of(world, Scope.JOINED, left, room)
    assert {t.room_id for t in plan.targets} == set(world.topology.rooms) | left
    assert {t.room_id for t in plan.targets if t.joined} == set(world.topology.rooms)


@given(worlds(), worlds(), scopes, scopes, lefts, rooms, rooms)
def test_codes_are_equal_exactly_if_scope_rooms_and_place_are(
    one: World,
    other: World,
    scope: Scope,
    other_scope: Scope,
    left: frozenset[RoomID],
    room: RoomID,
    other_room: RoomID,
) -> None:
    first, second = plan_of(one, scope, left, room), plan_of(other, other_scope, left, other_room)
    same = (
        scope is other_scope
        and room == other_room
        and {t.room_id for t in first.targets} == {t.room_id for t in second.targets}
    )
    assert (first.code == second.code) is same


# Outcomes

JOINED = target(WORK)
LEFT_BEFORE = target(WORK, joined=False)
NO = Failure(reason="M_FORBIDDEN: no", refused=True)
LOST = Failure(reason="timed out", refused=False)
STILL_IN = Failure(reason="M_UNKNOWN: still in the room", refused=True)


def said(room: Target, left: Left, *, forgotten: bool = False, reason: str = "") -> Outcome:
    return Outcome(target=room, left=left, forgotten=forgotten, reason=reason)


@pytest.mark.parametrize(
    ("room", "leave", "forget", "joined_now", "expected"),
    [
        (JOINED, None, None, False, said(JOINED, Left.LEFT, forgotten=True)),
        (JOINED, None, LOST, False, said(JOINED, Left.LEFT, reason="timed out")),
        (JOINED, None, None, None, said(JOINED, Left.LEFT, forgotten=True)),
        (JOINED, NO, STILL_IN, True, said(JOINED, Left.FAILED, reason=NO.reason)),
        (JOINED, NO, None, False, said(JOINED, Left.NOT_IN, forgotten=True)),
        (JOINED, NO, LOST, False, said(JOINED, Left.NOT_IN, reason="timed out")),
        (JOINED, NO, None, None, said(JOINED, Left.FAILED, reason=NO.reason)),
        (JOINED, LOST, STILL_IN, True, said(JOINED, Left.FAILED, reason="timed out")),
        (JOINED, LOST, None, False, said(JOINED, Left.LEFT, forgotten=True)),
        (JOINED, LOST, LOST, None, said(JOINED, Left.FAILED, reason="timed out")),
        (
            JOINED,
            None,
            None,
            True,
            said(
                JOINED,
                Left.LEFT,
                forgotten=True,
                reason="the homeserver still lists the bot as joined",
            ),
        ),
        (JOINED, None, STILL_IN, True, said(JOINED, Left.LEFT, reason=STILL_IN.reason)),
        (LEFT_BEFORE, None, None, False, said(LEFT_BEFORE, Left.NOT_IN, forgotten=True)),
        (LEFT_BEFORE, None, NO, False, said(LEFT_BEFORE, Left.NOT_IN, reason=NO.reason)),
        (LEFT_BEFORE, None, None, None, said(LEFT_BEFORE, Left.NOT_IN, forgotten=True)),
    ],
    ids=[
        "left-and-forgotten",
        "not-forgotten",
        "no-second-look",
        "refused",
        "was-not-in-it",
        "was-not-in-it-not-forgotten",
        "refused-no-second-look",
        "lost-and-still-in",
        "lost-but-gone",
        "lost-no-second-look",
        "left-but-still-listed",
        "left-but-still-listed-not-forgotten",
        "left-before",
        "left-before-not-forgotten",
        "left-before-no-second-look",
    ],
)
def test_an_outcome_follows_from_the_answers_and_the_second_look(
    room: Target,
    leave: Failure | None,
    forget: Failure | None,
    joined_now: bool | None,
    expected: Outcome,
) -> None:
    assert outcome_of(room, leave=leave, forget=forget, joined_now=joined_now) == expected


def test_only_a_room_that_is_gone_and_forgotten_is_finished() -> None:
    outcomes = [
        said(JOINED, left, forgotten=forgotten) for left in Left for forgotten in (True, False)
    ]
    finished = [(o.left, o.forgotten) for o in outcomes if o.is_finished]
    assert finished == [(Left.LEFT, True), (Left.NOT_IN, True)]
    assert skipped(JOINED, "why") == said(JOINED, Left.SKIPPED, reason="why")
