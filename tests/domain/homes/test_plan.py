"""What holds for plans beyond the single cases."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from mautrix.types import RoomID

from homeroom.domain.homes.model import Status
from homeroom.domain.homes.planner import make_plan
from tests.domain.builders import (
    NEW,
    PLAY,
    WORK,
    chat,
    chat_row,
    closed,
    home_row,
    legacy_chat,
    legacy_space,
    plan,
    records,
    space,
    stamped,
    successor,
    topology,
)
from tests.domain.homes import (
    test_plan_before_markers,
    test_plan_duplicates,
    test_plan_links,
    test_plan_markers,
    test_plan_membership,
    test_plan_upgrades,
)
from tests.domain.homes.plan_cases import LINKED_HOME


def test_every_case_of_the_design_has_its_test() -> None:
    modules = (
        test_plan_before_markers,
        test_plan_duplicates,
        test_plan_links,
        test_plan_markers,
        test_plan_membership,
        test_plan_upgrades,
    )
    names = [name for module in modules for name in module.CASES]
    assert {name[:7] for name in names} == {f"case-{number:02}" for number in range(1, 21)}


def test_unmarked_rooms_are_adopted_only_if_that_is_wanted() -> None:
    observed = topology(legacy_space(), legacy_chat())
    assert make_plan(observed, records(), adopt_unmarked=False) == plan(observed)
    observed = topology(LINKED_HOME, legacy_chat())
    assert make_plan(observed, records(home_row()), adopt_unmarked=False) == plan(observed)


def test_rows_of_unmarked_rooms_count_even_if_adoption_is_off() -> None:
    observed = topology(legacy_space(), legacy_chat())
    stored = records(home_row(), chat_row(key="k"))
    assert make_plan(observed, stored, adopt_unmarked=False) == plan(
        observed, repairs=(stamped(home_row()), stamped(chat_row(key="k")))
    )


def test_a_long_chain_of_upgrades_is_no_deep_recursion() -> None:
    first = closed(chat(key="k"), to=None)
    chain = [first]
    for number in range(3000):
        room = successor(first, RoomID(f"!{number}:example.org"), created_at=number)
        chain.append(replace(room, predecessor=chain[-1].room_id))
    rooms = [closed(room, to=following.room_id) for room, following in pairwise(chain)]
    observed = topology(space(), *rooms, chain[-1])
    routed = [
        change.after
        for change in make_plan(observed, records(home_row())).changes
        if change.after.status is Status.ACTIVE
    ]
    assert routed == [chat_row(chain[-1].room_id, key="k")]


def test_the_counts_of_a_plan_tell_what_kind_of_change_it_is() -> None:
    observed = topology(legacy_space(), legacy_chat(), chat(PLAY, chat_id="C2", name="Play"))
    stored = records(
        chat_row(WORK, key=None), chat_row(PLAY, chat_id="C2"), chat_row(NEW, chat_id="C3")
    )
    result = make_plan(observed, stored)
    assert (result.adopted, result.updated, result.backfilled, result.left) == (1, 3, 1, 1)
