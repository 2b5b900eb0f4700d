"""How a text is divided: the same however it comes in, readable everywhere, and in linear time."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.conversation.text_parts import (
    MAX_HEADER,
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
    "four blanks are another thing": ("    ```\nb", None),
    "a longer fence closes": ("```\na\n" + "`" * 30 + "\nb", None),
    "a row of marks is none": ("`" * 21 + "\nb", None),
    "a row of tildes is none": ("~" * 21 + "\nb", None),
}


@pytest.mark.parametrize(("text", "fence"), FENCES.values(), ids=FENCES.keys())
def test_whether_a_text_ends_in_code(text: str, fence: str | None) -> None:
    assert open_fence(text) == fence
    assert open_fence(closed(text)) is None


LINES = st.sampled_from(
    [
        "words and more of them " * 20,
        "",
        " " * 9000,
        "x" * 2000,
        "```python",
        "```",
        "  ~~~~~",
        "`" * 4000,
        "~" * 4000,
        " " * 4000 + "```",
        "🙂" * 400,
        '"<' * 500,
        "\ud800\0",
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |" * 30,
        "[^1]: " + "y" * 300,
    ]
)
TEXTS = st.lists(LINES, min_size=1, max_size=25).map("\n".join)
MARKS = re.compile(r"[`~|:-]+|python")


def words(text: str) -> str:
    """A text without what is repeated, closed and left out where it is divided."""
    return "".join(MARKS.sub("", text).split()).replace("ab", "")


@given(TEXTS, st.integers(min_value=0, max_value=40_000), st.booleans())
def test_what_is_complete_stays_what_it_is(text: str, length: int, encrypted: bool) -> None:
    before = divide(text[:length], encrypted=encrypted)[:-1]
    assert divide(text, encrypted=encrypted)[: len(before)] == before


@given(TEXTS, st.booleans())
def test_every_part_fits_and_takes_something_from_the_text_and_nothing_is_lost(
    text: str, encrypted: bool
) -> None:
    parts = divide(text, encrypted=encrypted)
    lightest = MAX_WEIGHT // 16 // 4  # 16 bytes are the heaviest character
    assert len(parts) - 1 <= len(text) // lightest
    for part in parts:
        assert weight(part, encrypted=encrypted) <= MAX_WEIGHT + 50
    for part in parts[:-1]:
        assert open_fence(part) is None
    assert words("".join(parts)) == words(text)


HANGS = {
    "a fence that fills a message": "`" * 8_600 + "\n" + "x" * 8_600,
    "tildes": "~" * 8_600 + "\n" + "x" * 8_600,
    "an indented fence": " " * 9_000 + "```\n" + "x" * 9_000,
    "words behind a fence": "```" + "x" * 17_000 + "\n" + "y" * 17_000,
    "a table with one row": "|" * 9_000 + "\n" + "|-" * 9_000 + "\n" + "x\n" * 9_000,
}


@pytest.mark.parametrize("text", HANGS.values(), ids=HANGS.keys())
@pytest.mark.parametrize("encrypted", [False, True])
def test_no_text_is_divided_for_ever(text: str, encrypted: bool) -> None:
    parts = divide(text, encrypted=encrypted)
    assert len(parts) < 12
    assert sum(map(len, parts)) < len(text) + 12 * (MAX_HEADER + 50)


def test_a_table_goes_on_under_its_header() -> None:
    header, row = "| name | size |\n|:-----|-----:|\n", "| a row of the table | 12 |\n"
    text = "Before.\n\n" + header + row * 2000 + "\nAfter."
    first, second, *_, last = divide(text, encrypted=False)
    assert first.startswith("Before.\n\n" + header + row)
    assert second.startswith(header + row)
    assert last.startswith(header + row)
    assert last.endswith(row + "\nAfter.")
    assert sum(map(len, divide(text, encrypted=False))) < len(text) + 5 * len(header)


def test_what_follows_a_table_does_not_go_on_with_it() -> None:
    table = "| name | size |\n|------|------|\n" + "| x | 1 |\n" * 1400
    first, second = divide(table + "\n" + "words " * 1000, encrypted=False)
    assert first == table.rstrip()
    assert second.startswith("words")


def test_code_goes_on_as_code() -> None:
    text = "  ```python\n" + "x = 1\n" * 4000 + "  ```"
    first, second = divide(text, encrypted=False)
    assert first.endswith("x = 1\n  ```")
    assert second.startswith("  ```python\nx = 1\n")


def test_weight_is_what_an_event_has_to_carry() -> None:
    text = 'a"\n🙂'
    assert weight(text, encrypted=False) == len(json.dumps(text, ensure_ascii=False).encode())
    assert weight(text, encrypted=True) == len(json.dumps(text)) * 4 // 3
