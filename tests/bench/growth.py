"""How the time to look grows with the rooms: a picture for the README, as SVG.

Both axes are logarithmic: what grows in proportion rises like the thin lines, what does not grow
is level. The picture brings its own ground, dark or light as the reader's system is, and needs no
script, no font and no library.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from tests.bench.figures import Spread, WorldFigures, growth

WIDTH: Final = 760
HEIGHT: Final = 430
LEFT, RIGHT, TOP, BOTTOM = 64, 500, 56, 372
"""The edges of the plot; the names of the lines stand beside it."""
LABEL_HEIGHT: Final = 19

_STYLE: Final = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
    .title { font-size: 15px; font-weight: 600; }
    .quiet { fill: #59636e; font-size: 12px; }
    .ground { fill: #ffffff; stroke: #d1d9e0; }
    .grid { stroke: #d1d9e0; }
    .slope { stroke: #d1d9e0; stroke-dasharray: 2 4; }
    .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
    .lead { fill: none; stroke-width: 1; opacity: 0.5; }
    .bar { stroke-width: 1.2; opacity: 0.6; }
    .a { stroke: #0969da; } .a-fill { fill: #0969da; }
    .b { stroke: #1a7f37; } .b-fill { fill: #1a7f37; }
    .c { stroke: #6e7781; } .c-fill { fill: #6e7781; }
    .d { stroke: #bc4c00; } .d-fill { fill: #bc4c00; }
    .e { stroke: #8250df; } .e-fill { fill: #8250df; }
    .f { stroke: #bf3989; } .f-fill { fill: #bf3989; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .quiet { fill: #9198a1; }
      .ground { fill: #0d1117; stroke: #3d444d; }
      .grid, .slope { stroke: #3d444d; }
      .a { stroke: #4493f8; } .a-fill { fill: #4493f8; }
      .b { stroke: #3fb950; } .b-fill { fill: #3fb950; }
      .c { stroke: #9198a1; } .c-fill { fill: #9198a1; }
      .d { stroke: #f0883e; } .d-fill { fill: #f0883e; }
      .e { stroke: #ab7df8; } .e-fill { fill: #ab7df8; }
      .f { stroke: #db61a2; } .f-fill { fill: #db61a2; }
    }"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way or one kind of start, over the rooms."""

    name: str
    colour: str
    points: Sequence[tuple[int, Spread]]
    is_dashed: bool = False

    @property
    def label(self) -> str:
        if len(self.points) < 2:
            return self.name
        exponent = growth((rooms, found.median) for rooms, found in self.points)
        return f"{self.name} ({exponent:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From rooms and seconds to places in the picture."""

    rooms: tuple[float, float]
    seconds: tuple[float, float]

    def x(self, rooms: float) -> float:
        return _between(rooms, self.rooms, LEFT, RIGHT)

    def y(self, seconds: float) -> float:
        return _between(seconds, self.seconds, BOTTOM, TOP)


def plot(worlds: Sequence[WorldFigures]) -> str:
    """Draw the lines of these worlds, which hold nothing but homes."""
    lines = [line for line in _lines(sorted(worlds, key=lambda w: w.rooms)) if line.points]
    rooms = [rooms for line in lines for rooms, _ in line.points]
    seconds = [
        s for line in lines for _, found in line.points for s in (found.lowest, found.highest)
    ]
    scale = Scale(
        rooms=(min(rooms), max(rooms)),
        seconds=(
            10 ** math.floor(math.log10(min(seconds))),
            10 ** math.ceil(math.log10(max(seconds))),
        ),
    )
    parts = "\n  ".join([*_axes(scale, sorted(set(rooms))), *_drawn(lines, scale)])
    title = "Seconds until everything is known"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" \
width="{WIDTH}" height="{HEIGHT}" role="img" aria-labelledby="title">
  <title id="title">{title}, over the rooms</title>
  <style>{_STYLE}
  </style>
  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>
  <text class="title" x="{LEFT}" y="30">{title}</text>
  {parts}
</svg>
"""


def _lines(worlds: Sequence[WorldFigures]) -> Iterator[Line]:
    database = next((name for world in worlds for name in world.databases), "")

    def start(scenario: str) -> list[tuple[int, Spread]]:
        found = [(world.rooms, world.starts.get((database, scenario))) for world in worlds]
        return [(rooms, figures.seconds) for rooms, figures in found if figures is not None]

    def way(name: str) -> list[tuple[int, Spread]]:
        found = [(world.rooms, world.ways.get(name)) for world in worlds]
        return [(rooms, figures.seconds) for rooms, figures in found if figures is not None]

    def reconciles(scenario: str) -> list[tuple[int, Spread]]:
        found = [(world.rooms, world.starts.get((database, scenario))) for world in worlds]
        return [(rooms, figures.reconcile) for rooms, figures in found if figures is not None]

    floors = [(world.rooms, world.floor.seconds) for world in worlds if world.floor is not None]
    yield Line(name="matrix-nio", colour="d", points=way("nio"))
    yield Line(name="matrix-hookshot", colour="e", points=way("hookshot"))
    yield Line(name="Homeroom, whole scan", colour="a", points=reconciles("empty"))
    yield Line(name="fastest bare requests", colour="c", points=floors, is_dashed=True)
    yield Line(name="Homeroom, checkpoint", colour="f", points=reconciles("restored"))
    yield Line(name="Homeroom, restart", colour="b", points=start("intact"))
    yield Line(name="one bare request", colour="c", points=way("incremental"), is_dashed=True)


def _axes(scale: Scale, rooms: Sequence[int]) -> Iterator[str]:
    low, high = (round(math.log10(end)) for end in scale.seconds)
    for power in range(low, high + 1):
        y = scale.y(10.0**power)
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield (
            f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{10.0**power:g}</text>"
        )
    for number in rooms:
        x = scale.x(number)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{BOTTOM}"/>'
        yield (
            f'<text class="quiet" x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="middle">'
            f"{number:,}</text>"
        )
    yield from _slopes(scale)
    middle = (LEFT + RIGHT) / 2
    yield f'<text class="quiet" x="{middle}" y="{BOTTOM + 42}" text-anchor="middle">rooms</text>'
    note = "in brackets: the growth's exponent"
    yield f'<text class="quiet" x="{RIGHT + 26}" y="{BOTTOM + 42}">{note}</text>'


def _slopes(scale: Scale) -> Iterator[str]:
    """What would grow in proportion, from every power of ten."""
    (fewest, most), (shortest, longest) = scale.rooms, scale.seconds
    seconds = shortest / 100
    while seconds < longest:
        begin = max(fewest, fewest * shortest / seconds)
        end = min(most, fewest * longest / seconds)
        if begin < end:
            yield (
                f'<line class="slope" x1="{scale.x(begin):.1f}" x2="{scale.x(end):.1f}"'
                f' y1="{scale.y(seconds * begin / fewest):.1f}"'
                f' y2="{scale.y(seconds * end / fewest):.1f}"/>'
            )
        seconds *= 10


def _drawn(lines: Sequence[Line], scale: Scale) -> Iterator[str]:
    ends = [scale.y(line.points[-1][1].median) for line in lines]
    labels = _apart(ends)
    for line, end, label in zip(lines, ends, labels, strict=True):
        places = [(scale.x(rooms), scale.y(found.median)) for rooms, found in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="6 4"' if line.is_dashed else ""
        yield f'<polyline class="line {line.colour}" points="{path}"{dashes}/>'
        for rooms, found in line.points:
            x = scale.x(rooms)
            yield (
                f'<line class="bar {line.colour}" x1="{x:.1f}" x2="{x:.1f}"'
                f' y1="{scale.y(found.lowest):.1f}" y2="{scale.y(found.highest):.1f}"/>'
            )
            yield (
                f'<circle class="{line.colour}-fill" cx="{x:.1f}"'
                f' cy="{scale.y(found.median):.1f}" r="3.2"/>'
            )
        last = places[-1][0]
        yield (
            f'<polyline class="lead {line.colour}" points="{last + 5:.1f},{end:.1f}'
            f' {RIGHT + 22},{label:.1f}"/>'
        )
        yield f'<text x="{RIGHT + 26}" y="{label + 4:.1f}">{escape(line.label)}</text>'


def _apart(places: Sequence[float]) -> list[float]:
    """Move the labels as little as needed for none to cover another."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + LABEL_HEIGHT)
    # From the lower edge up again, where they went beyond it.
    limit = float(BOTTOM)
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - LABEL_HEIGHT
    return moved


def _between(value: float, ends: tuple[float, float], first: float, last: float) -> float:
    low, high = (math.log10(end) for end in ends)
    if low == high:
        return (first + last) / 2
    return first + (math.log10(value) - low) / (high - low) * (last - first)
