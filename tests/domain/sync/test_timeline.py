"""How old an event is, by the order of a timeline and the clock of the bot's own server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.sync.timeline import (
    EVENTS_AT_ONCE,
    begins_before,
    joined_in,
    slices,
    timeline_gaps,
    too_old,
)

OWN = "own.test"
LIMIT = 1000


def event(name: str, at: int | None) -> dict[str, Any]:
    """`own 1` is of the bot's own server, `far 1` is not."""
    sender = f"@anna:{OWN if name.startswith('own') else 'far.test'}"
    stamp = {} if at is None else {"origin_server_ts": at}
    return {"event_id": f"${name}", "sender": sender, **stamp}


CASES: dict[str, tuple[list[dict[str, Any]], int | None, list[str]]] = {
    "our own server's times count": ([event("own 1", 999), event("own 2", 1000)], None, ["own 1"]),
    "a message is no older than the one before it": (
        [event("own 1", 1500), event("far 1", 5), event("far 2", None)],
        None,
        [],
    ),
    "and no newer than the one after it": (
        [event("far 1", 9999), event("own 1", 900)],
        None,
        ["far 1", "own 1"],
    ),
    "between an old and a new one a foreign clock is all there is": (
        [event("own 1", 900), event("far 1", 950), event("far 2", 1200), event("own 2", 1500)],
        None,
        ["own 1", "far 1"],
    ),
    "nothing is older than what the bot had seen before": (
        [event("far 1", 5), event("far 2", None)],
        1000,
        [],
    ),
    "alone a foreign clock is believed": (
        [event("far 1", 5), event("far 2", 1000)],
        None,
        ["far 1"],
    ),
    "an old one after a new one is one of a server whose clock was set": (
        [event("own 1", 1500), event("own 2", 900), event("own 3", 1600)],
        None,
        ["own 2"],
    ),
}


@pytest.mark.parametrize(("events", "none_before", "old"), CASES.values(), ids=CASES.keys())
def test_what_is_too_old(
    events: list[dict[str, Any]], none_before: int | None, old: list[str]
) -> None:
    found = too_old(events, LIMIT, server=OWN, none_before=none_before)
    assert [event["event_id"][1:] for event in found] == old


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=8),
    st.integers(0, 7),
    st.one_of(st.none(), st.integers(-(2**60), 2**60)),
)
def test_no_foreign_clock_makes_another_message_older(
    spec: list[tuple[bool, int]], which: int, forged: int | None
) -> None:
    events = [event(f"{'own' if own else 'far'} {n}", at) for n, (own, at) in enumerate(spec)]
    before = too_old(events, LIMIT, server=OWN, none_before=None)
    if which >= len(events) or spec[which][0]:
        return
    victim = events[which]["event_id"]
    events[which] = event(victim[1:], forged)
    after = too_old(events, LIMIT, server=OWN, none_before=None)

    def others(found: list[dict[str, Any]]) -> list[str]:
        return [e["event_id"] for e in found if e["event_id"] != victim]

    assert others(before) == others(after)


def test_a_walk_ends_at_an_old_event_of_our_own_server_only() -> None:
    assert not begins_before([event("far 1", 5), event("own 1", 1000)], LIMIT, server=OWN)
    assert begins_before([event("far 1", 5), event("own 1", 999)], LIMIT, server=OWN)


def test_gaps_are_where_the_homeserver_says_that_it_left_something_out() -> None:
    timelines = {
        "!gap:x": {"limited": True, "prev_batch": "p"},
        "!whole:x": {"limited": False, "prev_batch": "p"},
        "!odd:x": {"limited": True},
        "!junk:x": 7,
    }
    rooms = {room_id: {"timeline": timeline} for room_id, timeline in timelines.items()}
    assert timeline_gaps({"rooms": {"join": rooms}}) == {"!gap:x": "p"}
    assert timeline_gaps(None) == {}


@pytest.mark.parametrize("rooms", [0, 1, 700, 1500])
def test_slices_have_everything_once_and_are_small(rooms: int) -> None:
    joined = {f"!{n}:x": {"timeline": {"events": [n]}} for n in range(rooms)}
    response = {"next_batch": "s", "rooms": {"join": joined, "invite": {"!i:x": {}}, "leave": 3}}
    first, *rest = slices(response)
    assert first == {"rooms": {"invite": {"!i:x": {}}, "leave": 3}}
    together: dict[str, Any] = {}
    for some in rest:
        assert len(joined_in(some)) <= EVENTS_AT_ONCE
        together |= some["rooms"]["join"]
    assert list(together) == list(joined)
