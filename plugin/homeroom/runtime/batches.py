"""Many of something, so many at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Divide into lists of `size`; the last one may be shorter, and none is empty."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
