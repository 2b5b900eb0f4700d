"""What was put in last is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.newest import keep_newest, put_newest


@given(keys=st.lists(st.integers(0, 5)), at_most=st.integers(0, 4))
def test_the_keys_that_were_put_in_last_are_kept_in_that_order(
    keys: list[int], at_most: int
) -> None:
    known: dict[int, int] = {}
    for number, key in enumerate(keys):
        put_newest(known, key, number, at_most=at_most)
    last = {key: number for number, key in enumerate(keys)}
    newest = sorted(last.items(), key=lambda item: item[1])
    assert list(known.items()) == newest[max(0, len(newest) - at_most) :]


def test_too_many_at_once_are_as_many_as_may_be() -> None:
    known = dict.fromkeys("abcd")
    keep_newest(known, at_most=2)
    assert list(known) == ["c", "d"]
