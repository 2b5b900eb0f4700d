"""Dictionaries that keep what was put into them last, and no more than so much."""

from __future__ import annotations

from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def put_newest(known: dict[K, V], key: K, value: V, *, at_most: int) -> None:
    """Put an item in as the newest one, and forget the oldest of more than `at_most`."""
    known.pop(key, None)
    known[key] = value
    keep_newest(known, at_most=at_most)


def keep_newest(known: dict[Any, Any], *, at_most: int) -> None:
    """Forget the oldest items of more than `at_most`."""
    while len(known) > at_most:
        del known[next(iter(known))]
