"""What a timeline says about what is still to be answered, when nothing else is left to tell."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import UserID

from homeroom.domain.events import ANSWERS, MORE_TO_COME, timeline_gaps, without_answered

BOT = UserID("@bot:test")


def said(name: str) -> dict[str, Any]:
    return {"event_id": f"${name}", "sender": "@anna:test", "content": {"body": name}}


def answer(to: str | None, *, more: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"body": "…"}
    if to is not None:
        content[ANSWERS] = f"${to}"
    if more:
        content[MORE_TO_COME] = True
    return {"event_id": "$x", "sender": BOT, "content": content}


def response(*events: object, **timeline: object) -> dict[str, Any]:
    return {
        "next_batch": "s1",
        "rooms": {"join": {"!r:test": {"timeline": {"events": [*events], **timeline}}}},
    }


CASES = {
    "nothing was said": ([], []),
    "nothing was answered": ([said("a"), said("b")], ["$a", "$b"]),
    "an answer names what it answers": ([said("a"), said("b"), answer("a")], ["$b"]),
    "answers may come late": ([said("a"), said("b"), answer("a"), answer("b")], []),
    "a long answer that broke off is none": ([said("a"), answer("a", more=True)], ["$a"]),
    "a long answer that ended is one": ([said("a"), answer("a", more=True), answer("a")], []),
    "an older bot's words close what was before": (
        [said("a"), said("b"), answer(None), said("c")],
        ["$c"],
    ),
    "somebody else's mark means nothing": (
        [said("a"), {**answer("a"), "sender": "@eve:test"}],
        ["$a", "$x"],
    ),
    "what is no event is passed over": ([said("a"), None, 7, {"sender": BOT}], []),
}


@pytest.mark.parametrize(("events", "still_open"), CASES.values(), ids=CASES.keys())
def test_what_is_still_open(events: list[object], still_open: list[str]) -> None:
    original = response(*events)
    left: Any = without_answered(original, bot=BOT)
    shown = [event["event_id"] for event in left["rooms"]["join"]["!r:test"]["timeline"]["events"]]
    assert [event_id for event_id in shown if event_id] == still_open
    assert "next_batch" not in left
    assert original == response(*events)


@pytest.mark.parametrize("junk", [None, 7, "", [], {}, {"rooms": 1}, {"rooms": {"join": []}}])
def test_junk_has_nothing_open(junk: object) -> None:
    assert without_answered(junk, bot=BOT) == {"rooms": {"join": {}}}


def test_a_gap_counts_where_what_is_missing_may_matter() -> None:
    old = {**said("a"), "origin_server_ts": 1000}
    cut = response(old, limited=True, prev_batch="p")
    assert timeline_gaps(cut, not_before=None) == [("!r:test", "p")]
    assert timeline_gaps(cut, not_before=1000) == [("!r:test", "p")]
    assert timeline_gaps(cut, not_before=1001) == []
    assert timeline_gaps(response(old, prev_batch="p"), not_before=None) == []
