"""Up to where everything is handled, and what has to be kept in mind for that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.sync.position import Progress

responses = st.lists(st.frozensets(st.integers(0, 5), max_size=3), max_size=12)


@given(responses=responses, finished=st.permutations(range(6)))
def test_the_position_is_the_last_one_before_which_nothing_is_open(
    responses: list[frozenset[int]], finished: list[int]
) -> None:
    progress = Progress()
    for number, work in enumerate(responses):
        progress.begin(str(number), work)
    done: set[int] = set()
    for item in finished:
        progress.done(item)
        done.add(item)
        closed = [work <= done for work in responses]
        last = closed.index(False) if False in closed else len(closed)
        assert progress.position == (str(last - 1) if last else None)


def test_responses_that_bring_nothing_cost_nothing() -> None:
    progress = Progress()
    progress.begin("0", {1})
    for number in range(1, 1000):
        progress.begin(str(number), ())
    assert len(progress._open) == 1
    assert progress.position is None
    progress.done(1)
    assert progress.position == "999"
