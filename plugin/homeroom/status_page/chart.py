"""The reconciles as bars: how long each took, and whether rows had drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..homes.reconciler import KEEP_PAST
from ..storage import PastReconcile

HEIGHT: Final = 72
BAR: Final = 5
"""The width of a bar."""
LEAST: Final = 3
"""The height of the lowest."""
_STEP: Final = BAR + 2
WIDTH: Final = KEEP_PAST * _STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """In units of the chart, from its top left corner."""

    x: int
    y: float
    height: float
    past: PastReconcile


def bars(past: Sequence[PastReconcile]) -> list[Bar]:
    """The oldest left, the newest at the right edge; the longest is as high as the chart."""
    longest = max(1, *(one.milliseconds for one in past), 1)
    heights = [LEAST + (HEIGHT - LEAST) * max(one.milliseconds, 0) / longest for one in past]
    return [
        Bar(
            x=WIDTH - (number + 1) * _STEP,
            y=round(HEIGHT - height, 1),
            height=round(height, 1),
            past=one,
        )
        for number, (one, height) in enumerate(zip(past, heights, strict=True))
    ][::-1]


def empty(shown: Sequence[Bar]) -> range:
    """Where there is a place for a bar, and none."""
    return range(0, WIDTH - len(shown) * _STEP, _STEP)
