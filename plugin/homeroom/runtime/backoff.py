"""How long to wait between attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat


def waits(steps: Sequence[float]) -> Iterator[float]:
    """The steps, in seconds, one after the other; the last one repeats for ever."""
    return chain(steps, repeat(steps[-1]))
