"""What a timeline says about what is still to be answered, when nothing else is left to tell."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import UserID

from homeroom.domain.conversation.content_keys import ANSWERS, MORE_TO_COME
from homeroom.domain.conversation.unanswered import open_answers, without_answered

BOT = UserID("@bot:test")


def said(name: str) -> dict[str, Any]:
    return {"event_id": f"${name}", "sender": "@anna:test", "content": {"body": name}}


def answer(to: str | None, *, more: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"body": "…"}
    if to is not None:
        content[ANSWERS] = f"${to}"
    if more:
        content[MORE_TO_COME] = True
    return {"event_id": "$x", "sender": BOT, "type": "m.room.message", "content": content}


def edit(to: str | None, *, more: bool = False) -> dict[str, Any]:
    event = answer(to, more=more)
    relation = {"rel_type": "m.replace", "event_id": "$x"}
    return {**event, "event_id": "$e", "content": {**event["content"], "m.relates_to": relation}}


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
    "an edit with more to come is no end": (
        [said("a"), answer("a", more=True), edit("a", more=True)],
        ["$a"],
    ),
    "the last edit is": ([said("a"), answer("a", more=True), edit("a")], []),
    "an edit that names nothing closes nothing": ([said("a"), edit(None)], ["$a"]),
    "an older bot's words close what was before": (
        [said("a"), said("b"), answer(None), said("c")],
        ["$c"],
    ),
    "what the bot does to a room closes nothing": (
        [said("a"), {"sender": BOT, "type": "m.room.name", "state_key": "", "content": {}}],
        ["$a"],
    ),
    "somebody else's mark means nothing": (
        [said("a"), {**answer("a"), "sender": "@eve:test"}],
        ["$a", "$x"],
    ),
    "what is no event is passed over": ([said("a"), None, 7, {"sender": BOT}], ["$a"]),
}


@pytest.mark.parametrize(("events", "still_open"), CASES.values(), ids=CASES.keys())
def test_what_is_still_open(events: list[object], still_open: list[str]) -> None:
    original = response(*events)
    left: Any = without_answered(original, bot=BOT)
    shown = [
        event.get("event_id") for event in left["rooms"]["join"]["!r:test"]["timeline"]["events"]
    ]
    assert [event_id for event_id in shown if event_id] == still_open
    assert "next_batch" not in left
    assert original == response(*events)


def test_open_answers_are_those_that_were_not_finished() -> None:
    in_thread = answer("b", more=True)
    in_thread["content"]["m.relates_to"] = {"rel_type": "m.thread", "event_id": "$root"}
    timeline = response(
        {**answer("a", more=True), "event_id": "$a0"},
        {**answer("b", more=True), "event_id": "$b0"},
        {**edit("b", more=True), "event_id": "$b0e"},
        {**in_thread, "event_id": "$b1"},
        {**answer("c", more=True), "event_id": "$c0"},
        {**edit("c"), "event_id": "$c0e"},
        {**answer("d", more=True), "event_id": "$d0", "sender": "@eve:test"},
        {**edit("a"), "event_id": "$a0e", "sender": "@eve:test"},
        answer(None),
        7,
    )
    assert [
        (a.question.event_id, a.question.thread_root, a.part, a.answer_id)
        for a in open_answers(timeline, bot=BOT)
    ] == [("$a", None, 0, "$a0"), ("$b", None, 0, "$b0"), ("$b", "$root", 1, "$b1")]


@pytest.mark.parametrize("junk", [None, 7, "", [], {}, {"rooms": 1}, {"rooms": {"join": []}}])
def test_junk_has_nothing_open(junk: object) -> None:
    assert without_answered(junk, bot=BOT) == {"rooms": {"join": {}}}
    assert open_answers(junk, bot=BOT) == []
