"""What the benchmark of messages makes of its rounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.bench.messages import Round, judge, report, summarise


def rounds(side: str, latencies: Sequence[float], *, at_once: int, seconds: float) -> Round:
    return Round(
        side=side, at_once=at_once, seconds=seconds, latencies=latencies, cpu={"maubot": 1.0}
    )


def summary_of(
    slower: float, before: Sequence[Round] = ()
) -> dict[str, dict[str, dict[str, float]]]:
    return summarise(
        [
            *before,
            rounds("bare", [0.1, 0.2, 0.3], at_once=1, seconds=1),
            rounds("plugin", [0.1, 0.2 * slower, 0.4], at_once=1, seconds=1),
            rounds("bare", [1.0] * 50, at_once=50, seconds=10),
            rounds("plugin", [1.0] * 50, at_once=50, seconds=10 * slower),
        ]
    )


def test_both_sides_are_compared_by_how_many_were_at_once() -> None:
    summary = summary_of(1.1)
    assert list(summary) == ["1", "50"]
    assert round(summary["1"]["to bare"]["median"], 6) == 1.1
    assert round(summary["50"]["to bare"]["per_second"], 6) == round(1 / 1.1, 6)
    assert summary["50"]["bare"]["cpu_maubot"] == 1 / 50


def test_a_little_slower_is_good_enough_and_more_is_not() -> None:
    assert [reached for _, reached in judge(summary_of(1.05))] == [True, True, True]
    assert [reached for _, reached in judge(summary_of(1.3))] == [False, True, False]


@pytest.mark.parametrize(
    ("latency", "seconds", "is_better"),
    [(1.25, 12.5, True), (1.25, 9, False), (0.8, 12.5, False), (1.0, 12.5, False)],
)
def test_with_rooms_at_once_it_has_to_be_better_than_before(
    latency: float, seconds: float, is_better: bool
) -> None:
    before = [
        rounds("before", [0.1, 0.2, 0.3], at_once=1, seconds=1),
        rounds("before", [latency] * 50, at_once=50, seconds=seconds),
    ]
    (line, reached) = list(judge(summary_of(1.0, before)))[-1]
    ratios = f"{1 / latency:.3f} and {seconds / 10:.3f} times"
    assert line == f"50 rooms at once: better than before: {ratios}"
    assert reached is is_better


def test_the_report_names_both() -> None:
    lines = list(report(summary_of(1.0)))
    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == [
        "one message at a time",
        "50 rooms at once",
    ]
