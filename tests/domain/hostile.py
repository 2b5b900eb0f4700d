"""JSON as a hostile member could write it, and values that have broken others before."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": [value]}
    return value


STRANGE: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "huge-number": 10**400,
    "negative": -1,
    "float": 1.0,
    "nan": float("nan"),
    "infinity": float("inf"),
    "empty-text": "",
    "blank": " ",
    "60-kB": "x" * 60_000,
    "60-kB-user-id": "@" + "x" * 60_000 + ":example.org",
    "60-kB-room-id": "!" + "x" * 60_000,
    "nul": "@a\0b:example.org",
    "nul-room-id": "!a\0b:example.org",
    "surrogate": "@\ud800:example.org",
    "surrogate-room-id": "!\ud800:example.org",
    "line-break": "@a\nb:example.org",
    "right-to-left": "@\u202eanna:example.org",
    "list": [],
    "list-of-lists": [[[]]],
    "object": {},
    "deep": nested(400),
}
"""What may stand where a text, a number or an object is expected."""

texts = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    [value for value in STRANGE.values() if isinstance(value, str)]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
