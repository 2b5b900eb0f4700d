"""The figures as text: one table for each world, then the bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.figures import SCENARIOS, Bar, Spread, StartFigures, WorldFigures
from tests.bench.world import ROOMS_PER_HOME

_SIGNS = {True: "✓", False: "✗", None: "·"}


def report(worlds: Sequence[WorldFigures], bars: Sequence[Bar], *, manner: str) -> list[str]:
    """All lines. `manner`: how the servers were, for the titles."""
    lines: list[str] = []
    for world in worlds:
        lines += [*_world(world, manner=manner), ""]
    return lines + [f"{_SIGNS[bar.reached]} {bar.number}. {bar.what}: {bar.seen}" for bar in bars]


def _world(world: WorldFigures, *, manner: str) -> Iterator[str]:
    yield f"{world.rooms:,} rooms, of {world.homes:,} homes{_beside(world)}; {manner}"
    yield (
        f"  {'bare requests':38}{'median':>10}{'min to max':>20}{'to floor':>9}"
        f"{'requests':>10}{'MB':>7}{'memory':>9}{'n':>4}"
    )
    floor = world.floor
    for way in world.ways.values():
        ratio = _ratio(way.seconds, floor.seconds if floor is not None else None)
        size = f"{way.bytes / 1e6:.1f}" if way.bytes else ""
        mark = " *" if way is floor else ""
        yield (
            f"  {way.title + mark:38}{_time(way.seconds.median):>10}{_range(way.seconds):>20}"
            f"{ratio:>9}{way.requests:>10,}{size:>7}{way.memory.median:>6.0f} MB"
            f"{way.seconds.number:>4}"
        )
    if world.starts:
        yield (
            f"  {'Homeroom starts':38}{'reconcile':>10}{'min to max':>20}{'to floor':>9}"
            f"{'open':>10}{'min to max':>20}{'memory':>9}{'stall':>8}{'n':>4}"
        )
    for (database, scenario), start in world.starts.items():
        yield _start(f"{SCENARIOS[scenario]}, {database}", start, world)


def _start(title: str, start: StartFigures, world: WorldFigures) -> str:
    ratio = _ratio(start.reconcile, world.floor.seconds if world.floor is not None else None)
    text = (
        f"  {title:38}{_time(start.reconcile.median):>10}{_range(start.reconcile):>20}{ratio:>9}"
        f"{_time(start.seconds.median):>10}{_range(start.seconds):>20}"
        f"{start.memory.median:>6.0f} MB{start.stall.highest * 1000:>5.0f} ms"
        f"{start.seconds.number:>4}"
    )
    if start.stall_in_background is not None:
        text += f"  then {start.stall_in_background.highest * 1000:.0f} ms"
    return text


def _beside(world: WorldFigures) -> str:
    others = world.rooms - world.homes * ROOMS_PER_HOME
    return f" and {others} rooms of others" if world.is_crowd else ""


def _ratio(seconds: Spread, floor: Spread | None) -> str:
    return f"{seconds.median / floor.median:.2f}" if floor is not None else ""


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _range(found: Spread) -> str:
    if found.number == 1:
        return ""
    return f"{_time(found.lowest)} to {_time(found.highest)}"
