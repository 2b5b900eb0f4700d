"""The figures of `./build.sh bench look`, and what has to be true of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.figures import SCENARIOS, StartFigures, WayFigures, WorldFigures, spread
from tests.bench.look_options import DATABASES, Measured, Side
from tests.bench.ways import WAYS
from tests.bench.world import World


def figures(world: World, measured: Sequence[Measured], *, changed: int) -> WorldFigures:
    """Sum up what was measured in one world."""
    by_side: dict[Side, list[dict[str, Any]]] = {}
    for each in measured:
        if each.world == world.name:
            by_side.setdefault(each.side, []).append(each.seen)
    return WorldFigures(
        homes=world.homes,
        rooms=world.all_rooms,
        is_crowd=bool(world.crowd),
        changed=changed,
        ways={
            name: _way_figures(name, seen)
            for name in WAYS
            if (seen := by_side.get(Side(way=name)))
        },
        starts={
            (title, scenario): _start_figures(scenario, seen)
            for database, title in DATABASES.items()
            for scenario in SCENARIOS
            if (seen := by_side.get(Side(database=database, scenario=scenario)))
        },
    )


def _way_figures(name: str, seen: Sequence[dict[str, Any]]) -> WayFigures:
    return WayFigures(
        title=WAYS[name].title,
        is_complete=WAYS[name].is_complete,
        seconds=spread(each["seconds"] for each in seen),
        memory=spread(each["memory"] for each in seen),
        requests=seen[0]["requests"],
        bytes=seen[0]["bytes"],
    )


def _start_figures(scenario: str, seen: Sequence[dict[str, Any]]) -> StartFigures:
    lingered = [each["lingered"] for each in seen if each["lingered"] is not None]
    stalls = [each["longest_stall"] for each in seen]
    return StartFigures(
        seconds=spread(each["seconds"] for each in seen),
        # Rows that are restored are asked for before the reconcile begins. A start that says
        # nothing of a reconcile was one as a whole.
        reconcile=spread(
            each["seconds"] if (reconcile := _reconcile(scenario, each)) is None else reconcile
            for each in seen
        ),
        memory=spread(each["memory"] for each in seen),
        stall=spread(stall["seconds"] for stall in stalls),
        stall_cpu=max(stalls, key=lambda stall: stall["seconds"])["cpu"],
        stall_in_background=spread(each["longest_stall"]["seconds"] for each in lingered)
        if lingered
        else None,
    )


def _reconcile(scenario: str, seen: dict[str, Any]) -> float | None:
    seconds: float | None = seen["reconciled" if scenario == "restored" else "reconcile"]
    return seconds


def require_alike(world: World, measured: Sequence[Measured]) -> None:
    """Raise AssertionError if complete ways did not tell the same."""
    told = {
        WAYS[each.side.way].title: (each.seen["rooms"], each.seen["events"])
        for each in measured
        if each.world == world.name and each.side.way and WAYS[each.side.way].is_complete
    }
    if len(set(told.values())) > 1:
        raise AssertionError(f"Not the same rooms and state events were told: {told}")
