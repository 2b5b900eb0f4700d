"""What the benchmark makes of its measurements: sums, bars, a picture."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from tests.bench.figures import (
    Bar,
    Spread,
    StartFigures,
    WayFigures,
    WorldFigures,
    growth,
    judge,
    spread,
)
from tests.bench.growth import LABEL_HEIGHT, _apart, plot
from tests.bench.report import report


def around(median: float) -> Spread:
    return Spread(median=median, lowest=median * 0.9, highest=median * 1.1, number=3)


def way(seconds: float, *, is_complete: bool = True) -> WayFigures:
    return WayFigures(
        title="a way",
        is_complete=is_complete,
        seconds=around(seconds),
        memory=around(5),
        requests=1,
        bytes=1000,
    )


def start(seconds: float, *, memory: float = 10, stall: float = 0.01) -> StartFigures:
    return StartFigures(
        seconds=around(seconds),
        reconcile=around(seconds),
        memory=around(memory),
        stall=around(stall),
        stall_cpu=stall,
        stall_in_background=None,
    )


def world(
    rooms: int = 1000,
    *,
    floor: float = 1.0,
    empty: float = 1.2,
    intact: float = 0.05,
    restored: float = 0.09,
    others: int = 0,
    memory: float = 10,
    stall: float = 0.01,
) -> WorldFigures:
    return WorldFigures(
        homes=rooms // 4,
        rooms=rooms + others,
        is_crowd=others > 0,
        changed=rooms // 100,
        ways={
            "sliding": way(floor),
            "state-10": way(floor * 2),
            "nio": way(10 * floor),
            "hookshot": way(5 * floor),
            "incremental": way(0.01, is_complete=False),
        },
        starts={
            ("SQLite", "empty"): start(empty, memory=memory, stall=stall),
            ("SQLite", "restored"): start(restored),
            ("SQLite", "changed"): start(intact + 0.1),
            ("SQLite", "intact"): start(intact),
        },
    )


def missed(*worlds: WorldFigures) -> list[int]:
    return [bar.number for bar in judge(worlds) if bar.reached is False]


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert spread([3, 1, 10]) == Spread(median=3, lowest=1, highest=10, number=3)


@pytest.mark.parametrize("exponent", [0, 0.5, 1, 1.3, 2])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    points = [(rooms, 0.007 * rooms**exponent) for rooms in (100, 1_000, 10_000)]
    assert growth(points) == pytest.approx(exponent)


def test_the_floor_is_the_fastest_way_that_is_complete() -> None:
    assert world(floor=1.5).floor == way(1.5)


def test_all_bars_can_be_reached() -> None:
    worlds = [
        world(100, floor=0.1, empty=0.12, restored=0.02),
        world(),
        world(10_000, floor=10, empty=12, restored=0.8),
    ]
    bars = judge([*worlds, world(others=300)])
    assert {bar.number for bar in bars} == {1, 2, 3, 6, 7}
    assert [bar for bar in bars if bar.reached is False] == []


@pytest.mark.parametrize(
    ("worlds", "number"),
    [
        ([world(empty=1.3)], 1),
        ([world(empty=2.6)], 1),
        ([world(10_000, floor=10, empty=12.6)], 1),
        ([world(intact=0.12)], 2),
        ([world(intact=0.05), world(10_000, floor=10, empty=10, intact=0.08)], 2),
        ([world(empty=0.5), world(10_000, floor=10, empty=10)], 3),
        ([world(restored=0.11)], 7),
        ([world(restored=0.5)], 7),
        ([world(restored=0.05), world(10_000, floor=10, empty=12, restored=0.9)], 7),
        ([world(memory=61)], 3),
        ([world(stall=0.06)], 3),
        ([world(), world(others=300, empty=1.6)], 6),
        ([world(), world(others=300, memory=25)], 6),
    ],
    ids=[
        "slower than the floor",
        "not faster than others",
        "slower than the floor in many rooms",
        "a slow restart",
        "a restart that grows",
        "a look that grows",
        "a restored start that is slow",
        "a restored start that is not faster than others",
        "a restored start that grows",
        "memory",
        "a stall",
        "a crowd costs time",
        "a crowd costs memory",
    ],
)
def test_a_bar_that_is_missed_is_told(worlds: list[WorldFigures], number: int) -> None:
    assert number in missed(*worlds)


def test_what_is_meant_for_many_rooms_is_not_asked_of_few() -> None:
    few = judge([world(100, empty=50, intact=3)])
    assert [bar for bar in few if bar.number in (1, 2) and bar.reached is not None] == []


def test_a_run_without_homeroom_has_no_bars() -> None:
    bare = WorldFigures(
        homes=25, rooms=100, is_crowd=False, changed=0, ways={"nio": way(1)}, starts={}
    )
    assert judge([bare]) == []


def test_the_report_shows_every_way_every_start_and_every_bar() -> None:
    bars = [Bar(number=1, what="so fast", seen="faster", reached=True)]
    lines = report([world(), world(others=300)], bars, manner="warm")
    assert "250 homes and 300 rooms of others; warm" in "\n".join(lines)
    assert len([line for line in lines if line.startswith("  ")]) == 2 * (1 + 5 + 1 + 4)
    assert lines[-1] == "✓ 1. so fast: faster"


def test_the_picture_is_xml_with_every_line_named() -> None:
    picture = plot([world(100, floor=0.1, empty=0.12), world(), world(10_000, floor=10, empty=12)])
    texts = [element.text or "" for element in ET.fromstring(picture).iter()]
    assert "Homeroom, whole scan (1.00)" in texts
    assert "Homeroom, checkpoint (0.00)" in texts
    assert "Homeroom, restart (0.00)" in texts
    assert "10,000" in texts


def test_labels_keep_apart_and_inside() -> None:
    places = _apart([370, 100, 368, 102, 371])
    assert sorted(places)[-1] <= 372
    gaps = [after - before for before, after in pairwise(sorted(places))]
    assert min(gaps) >= LABEL_HEIGHT - 1e-9
