"""What many measurements come to: medians with their spread, growth, and whether bars are reached.

Plain functions from numbers to numbers. The bars are those of the project's issue 5; they are
meant for 1,000 rooms and more. In fewer, what does not grow with the rooms is most of the time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SCENARIOS: Final[Mapping[str, str]] = {
    "empty": "empty database",
    "restored": "database lost, checkpoint there",
    "lost": "plugin's database lost, maubot's kept",
    "rows": "1 % of the rows lost",
    "changed": "1 % of the rooms changed",
    "intact": "intact database",
}

TO_FLOOR: Final = 1.25
TO_NIO: Final = 4.0
TO_NIO_AT_10000: Final = 8.0
TO_HOOKSHOT: Final = 3.0
RESTORED_TO_FLOOR: Final = 0.1
RESTORED_OPEN_TO_FLOOR: Final = 0.15
RESTORED_TO_NIO: Final = 30.0
RESTORED_TO_HOOKSHOT: Final = 15.0
RESTORED_EXPONENT: Final = 1.0
OVER_INCREMENTAL: Final = 0.1
"""Seconds."""
INTACT_GROWTH: Final = 1.5
"""From 1,000 to 10,000 rooms."""
EXPONENT: Final = 1.1
MEMORY: Final = 60.0
"""Megabytes."""
STALL: Final = 0.05
"""Seconds."""
CROWD_TIME: Final = 1.25
CROWD_MEMORY: Final = 10.0
"""Megabytes more: what "barely" is taken to mean."""
MEANT_FROM: Final = 1000
"""Rooms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What a number was, in several measurements."""

    median: float
    lowest: float
    highest: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WayFigures:
    """One way to look. Seconds; megabytes."""

    title: str
    is_complete: bool
    seconds: Spread
    memory: Spread
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFigures:
    """Homeroom's start in one scenario, on one database. Seconds; megabytes."""

    seconds: Spread
    """Until the doors are open."""
    reconcile: Spread
    """Of that, as Homeroom itself says."""
    memory: Spread
    stall: Spread
    """The longest of each start."""
    stall_cpu: float
    """Of the longest of all: what the loop's thread itself worked meanwhile."""
    stall_in_background: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFigures:
    """All that was measured in one world."""

    homes: int
    rooms: int
    """The bot is in so many; in a crowd some are not Homeroom's."""
    is_crowd: bool
    changed: int
    """Rooms, in the scenario of that name."""
    ways: Mapping[str, WayFigures]
    starts: Mapping[tuple[str, str], StartFigures]
    """By database and scenario."""

    @property
    def floor(self) -> WayFigures | None:
        """The fastest way that is complete."""
        complete = [way for way in self.ways.values() if way.is_complete]
        return min(complete, key=lambda way: way.seconds.median, default=None)

    @property
    def databases(self) -> list[str]:
        return list(dict.fromkeys(database for database, _ in self.starts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Something that must be seen. `reached` is None where it is only told."""

    number: int
    """In the issue's list."""
    what: str
    seen: str
    reached: bool | None


def spread(numbers: Iterable[float]) -> Spread:
    found = list(numbers)
    return Spread(
        median=statistics.median(found),
        lowest=min(found),
        highest=max(found),
        number=len(found),
    )


def growth(points: Iterable[tuple[float, float]]) -> float:
    """The exponent k of y = c * x^k that fits best: least squares of the logarithms.

    1: in proportion; 0: not at all. At least two different x, all numbers above 0.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def judge(worlds: Sequence[WorldFigures]) -> list[Bar]:
    """Every bar that these figures say something about."""
    plain = sorted((world for world in worlds if not world.is_crowd), key=lambda w: w.rooms)
    databases = list(dict.fromkeys(name for world in worlds for name in world.databases))
    bars: list[Bar] = []
    for database in databases:
        for world in plain:
            bars += _look_at_everything(world, database)
            bars += _restored(world, database)
        for world in plain:
            bars += _restart(world, database)
        bars += _growth_of_restart(plain, database)
        bars += _growth_of_look(plain, database)
        bars += _growth_of_restored(plain, database)
        bars += _resources(plain, worlds, database)
        for world in worlds:
            bars += _crowd(world, plain, database)
    return sorted(bars, key=lambda bar: bar.number)


def _look_at_everything(world: WorldFigures, database: str) -> Iterator[Bar]:
    start = world.starts.get((database, "empty"))
    if start is None:
        return
    where = f"{database}, {world.rooms:,} rooms: the reconcile of an empty database"
    seconds = start.reconcile.median
    if world.floor is not None:
        ratio = seconds / world.floor.seconds.median
        yield _bar(
            1,
            f"{where} takes at most {TO_FLOOR:g} times the floor ({world.floor.title})",
            f"{ratio:.2f} times",
            reached=ratio <= TO_FLOOR,
            world=world,
        )
    for name, limit in (
        ("nio", TO_NIO_AT_10000 if world.rooms >= 10_000 else TO_NIO),
        ("hookshot", TO_HOOKSHOT),
    ):
        if name in world.ways:
            ratio = world.ways[name].seconds.median / seconds
            yield _bar(
                1,
                f"{where} is at least {limit:g} times faster than {world.ways[name].title}",
                f"{ratio:.1f} times",
                reached=ratio >= limit,
                world=world,
            )


def _restored(world: WorldFigures, database: str) -> Iterator[Bar]:
    """A lost database with a checkpoint in the account data; the bars of issue 18."""
    start = world.starts.get((database, "restored"))
    if start is None:
        return
    where = f"{database}, {world.rooms:,} rooms: a lost database with a checkpoint"
    if world.floor is not None:
        for what, seconds, limit in (
            ("is reconciled in", start.reconcile.median, RESTORED_TO_FLOOR),
            ("is open in", start.seconds.median, RESTORED_OPEN_TO_FLOOR),
        ):
            ratio = seconds / world.floor.seconds.median
            yield _bar(
                7,
                f"{where} {what} at most {limit:g} times the floor ({world.floor.title})",
                f"{ratio:.3f} times",
                reached=ratio <= limit,
                world=world,
            )
    for name, limit in (("nio", RESTORED_TO_NIO), ("hookshot", RESTORED_TO_HOOKSHOT)):
        if name in world.ways:
            ratio = world.ways[name].seconds.median / start.reconcile.median
            yield _bar(
                7,
                f"{where} is reconciled at least {limit:g} times faster than"
                f" {world.ways[name].title}",
                f"{ratio:.1f} times",
                reached=ratio >= limit,
                world=world,
            )


def _growth_of_restored(plain: Sequence[WorldFigures], database: str) -> Iterator[Bar]:
    points = [
        (world.rooms, start.reconcile.median)
        for world in plain
        if (start := world.starts.get((database, "restored"))) is not None
    ]
    if len(points) < 2:
        return
    exponent = growth(points)
    yield Bar(
        number=7,
        what=f"{database}, {points[0][0]:,} to {points[-1][0]:,} rooms: a restored start grows"
        f" with an exponent of at most {RESTORED_EXPONENT:g}",
        seen=f"{exponent:.2f}",
        reached=exponent <= RESTORED_EXPONENT,
    )


def _restart(world: WorldFigures, database: str) -> Iterator[Bar]:
    intact = world.starts.get((database, "intact"))
    if intact is None:
        return
    where = f"{database}, {world.rooms:,} rooms:"
    if "incremental" in world.ways:
        over = intact.seconds.median - world.ways["incremental"].seconds.median
        yield _bar(
            2,
            f"{where} a start on an intact database takes at most {OVER_INCREMENTAL * 1000:.0f} ms"
            " more than the bare incremental request",
            f"{over * 1000:.0f} ms",
            reached=over <= OVER_INCREMENTAL,
            world=world,
        )
    changed = world.starts.get((database, "changed"))
    if changed is not None and world.changed:
        more = (changed.seconds.median - intact.seconds.median) / world.changed
        yield Bar(
            number=2,
            what=f"{where} more time for each of {world.changed} changed rooms",
            seen=f"{more * 1000:.1f} ms",
            reached=None,
        )


def _growth_of_restart(plain: Sequence[WorldFigures], database: str) -> Iterator[Bar]:
    by_rooms = {world.rooms: world.starts.get((database, "intact")) for world in plain}
    small, large = by_rooms.get(1_000), by_rooms.get(10_000)
    if small is not None and large is not None:
        ratio = large.seconds.median / small.seconds.median
        yield Bar(
            number=2,
            what=f"{database}: a start on an intact database takes with 10,000 rooms at most"
            f" {INTACT_GROWTH:g} times what it takes with 1,000",
            seen=f"{ratio:.2f} times",
            reached=ratio <= INTACT_GROWTH,
        )


def _growth_of_look(plain: Sequence[WorldFigures], database: str) -> Iterator[Bar]:
    floors = [(w.rooms, w.floor.seconds.median) for w in plain if w.floor is not None]
    looks = [
        (world.rooms, start.reconcile.median)
        for world in plain
        if (start := world.starts.get((database, "empty"))) is not None
    ]
    if len(looks) < 2:
        return
    exponent = growth(looks)
    span = f"{looks[0][0]:,} to {looks[-1][0]:,} rooms"
    of_floor = f" (the floor: {growth(floors):.2f})" if len(floors) > 1 else ""
    yield Bar(
        number=3,
        what=f"{database}, {span}: the reconcile of an empty database grows with an exponent of"
        f" at most {EXPONENT:g}",
        seen=f"{exponent:.2f}{of_floor}",
        reached=exponent <= EXPONENT,
    )


def _resources(
    plain: Sequence[WorldFigures], worlds: Sequence[WorldFigures], database: str
) -> Iterator[Bar]:
    for world in plain[-1:]:
        starts = [start for (name, _), start in world.starts.items() if name == database]
        if starts:
            memory = max(start.memory.highest for start in starts)
            yield Bar(
                number=3,
                what=f"{database}, {world.rooms:,} rooms: a start takes at most {MEMORY:g} MB over"
                " the base",
                seen=f"{memory:.0f} MB",
                reached=memory <= MEMORY,
            )
    yield from _stalls(worlds, database)


def _stalls(worlds: Sequence[WorldFigures], database: str) -> Iterator[Bar]:
    starts = [
        (start.stall_cpu, world.rooms, scenario, start)
        for world in worlds
        for (name, scenario), start in world.starts.items()
        if name == database
    ]
    if starts:
        held, rooms, scenario, start = max(starts, key=lambda each: each[0])
        yield Bar(
            number=3,
            what=f"{database}: no start holds the event loop for more than"
            f" {STALL * 1000:.0f} ms of CPU time",
            seen=f"{held * 1000:.0f} ms of a stall of {start.stall.highest * 1000:.0f} ms"
            f" ({SCENARIOS[scenario]}, {rooms:,} rooms)",
            reached=held <= STALL,
        )
    after = [
        (start.stall_in_background.highest, rooms)
        for _, rooms, _, start in starts
        if start.stall_in_background is not None
    ]
    if after:
        longest, rooms = max(after)
        yield Bar(
            number=3,
            what=f"{database}: nor does what goes on after a start on an intact database",
            seen=f"{longest * 1000:.0f} ms ({rooms:,} rooms)",
            reached=longest <= STALL,
        )


def _crowd(world: WorldFigures, plain: Sequence[WorldFigures], database: str) -> Iterator[Bar]:
    beside = next((other for other in plain if other.homes == world.homes), None)
    if not world.is_crowd or beside is None:
        return
    others = world.rooms - beside.rooms
    for scenario in SCENARIOS:
        crowded = world.starts.get((database, scenario))
        alone = beside.starts.get((database, scenario))
        if crowded is None or alone is None:
            continue
        ratio = crowded.seconds.median / alone.seconds.median
        memory = crowded.memory.median - alone.memory.median
        yield Bar(
            number=6,
            what=f"{database}, {SCENARIOS[scenario]}: {others} rooms of others besides"
            f" {beside.rooms:,} cost at most {CROWD_TIME:g} times the time and"
            f" {CROWD_MEMORY:g} MB",
            seen=f"{ratio:.2f} times, {memory:+.0f} MB",
            reached=ratio <= CROWD_TIME and memory <= CROWD_MEMORY,
        )


def _bar(number: int, what: str, seen: str, *, reached: bool, world: WorldFigures) -> Bar:
    """A bar that is meant for many rooms."""
    meant = world.rooms >= MEANT_FROM
    return Bar(number=number, what=what, seen=seen, reached=reached if meant else None)
