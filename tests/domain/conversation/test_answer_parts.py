"""How a growing answer is divided: the same however it comes in, and readable everywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.conversation.answer_parts import (
    MAX_WEIGHT,
    closed,
    divide,
    open_fence,
    weight,
)

FENCES: dict[str, tuple[str, str | None]] = {
    "no code": ("text", None),
    "open": ("a\n```python\nb", "```python"),
    "closed": ("a\n```\nb\n```\nc", None),
    "a shorter fence does not close": ("````\n```\nb", "````"),
    "another kind does not close": ("~~~\n```\nb", "~~~"),
    "text behind the marks does not close": ("```\n``` b\nc", "```"),
    "inline code is none": ("```a``` b", None),
    "in a list": ("- a\n  ```js\n  b", "  ```js"),
    "the second": ("```\na\n```\n~~~ x\nb", "~~~x"),
}


@pytest.mark.parametrize(("text", "fence"), FENCES.values(), ids=FENCES.keys())
def test_whether_a_text_ends_in_code(text: str, fence: str | None) -> None:
    assert open_fence(text) == fence
    assert open_fence(closed(text)) is None


LINES = st.sampled_from(
    ["words and more of them " * 20, "", "x" * 2000, "```python", "```", "🙂" * 400, '"<' * 500]
)
TEXTS = st.lists(LINES, min_size=1, max_size=60).map("\n".join)


@given(TEXTS, st.integers(min_value=0, max_value=40_000), st.booleans())
def test_what_is_complete_stays_what_it_is(text: str, length: int, encrypted: bool) -> None:
    before = divide(text[:length], encrypted=encrypted)[:-1]
    assert divide(text, encrypted=encrypted)[: len(before)] == before


@given(TEXTS, st.booleans())
def test_every_part_fits_and_nothing_is_lost(text: str, encrypted: bool) -> None:
    parts = divide(text, encrypted=encrypted)
    for part in parts:
        assert weight(part, encrypted=encrypted) <= MAX_WEIGHT + 200
    for part in parts[:-1]:
        assert open_fence(part) is None
    without_marks = [
        "".join("".join(t).replace("```python", "").replace("```", "").split())
        for t in (parts, [text])
    ]
    assert without_marks[0] == without_marks[1]


def test_weight_is_what_an_event_has_to_carry() -> None:
    text = 'a"\n🙂'
    assert weight(text, encrypted=False) == len(json.dumps(text, ensure_ascii=False).encode())
    assert weight(text, encrypted=True) == len(json.dumps(text)) * 4 // 3
