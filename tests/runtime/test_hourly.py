"""So many times in any hour, and somebody else's do not count."""

from __future__ import annotations

from homeroom.runtime.hourly import Hourly


def test_an_hour_has_so_many_times() -> None:
    at = [0.0]
    hourly = Hourly(at_most=2, clock=lambda: at[0])
    assert [hourly.take("anna") for _ in range(3)] == [0, 0, 3600]
    assert hourly.take("bert") == 0
    at[0] = 1000
    assert hourly.take("anna") == 2600
    at[0] = 3600
    assert [hourly.take("anna") for _ in range(3)] == [0, 0, 3600]


def test_who_does_not_ask_any_more_is_forgotten() -> None:
    at = [0.0]
    hourly = Hourly(at_most=2, clock=lambda: at[0])
    for number in range(5000):
        at[0] += 10
        hourly.take(number)
    assert len(hourly._times) <= 1001


def test_after_some_at_once_the_others_come_evenly() -> None:
    at = [0.0]
    hourly = Hourly(at_most=50, at_once=25, clock=lambda: at[0])
    taken = []
    for second in range(4 * 3600):
        at[0] = float(second)
        while hourly.take("anna") == 0:
            taken.append(at[0])
    assert taken[:26] == [0.0] * 25 + [144.0]
    for since in taken:
        assert sum(since <= one < since + 3600 for one in taken) <= 50
    at[0] += 3600
    assert [hourly.take("anna") for _ in range(26)] == [0] * 25 + [144]
