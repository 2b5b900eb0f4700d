"""What a timeline says about what is still to be answered, when nothing else is left to tell."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import EventID, RoomID, UserID

from homeroom.domain.content_keys import ANSWERS, ASKED, MORE_TO_COME, NOTHING
from homeroom.domain.conversation.answer_parts import OpenAnswer, Question
from homeroom.domain.conversation.unanswered import Answers, answers_in, is_finished

BOT = UserID("@bot:test")
ROOM = RoomID("!r:test")


def said(name: str) -> dict[str, Any]:
    return {"event_id": f"${name}", "sender": "@anna:test", "content": {"body": name}}


def answer(to: str | None, *, more: bool = False, asked: str = "") -> dict[str, Any]:
    content: dict[str, Any] = {"body": "…"}
    if asked:
        content[ASKED] = f"${asked}"
    if to is not None:
        content[ANSWERS] = f"${to}"
    if more:
        content[MORE_TO_COME] = True
    return {"event_id": "$x", "sender": BOT, "type": "m.room.message", "content": content}


def edit(to: str | None, *, more: bool = False) -> dict[str, Any]:
    event = answer(to, more=more)
    relation = {"rel_type": "m.replace", "event_id": "$x"}
    return {**event, "event_id": "$e", "content": {**event["content"], "m.relates_to": relation}}


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
    "an answer under another key closes what made the bot ask, too": (
        [
            said("a"),
            said("b"),
            {**(last := answer("a")), "content": {**last["content"], ASKED: "$b"}},
        ],
        [],
    ),
    "a reaction that names what it answers is an answer": (
        [said("a"), {**answer("a"), "type": "m.reaction"}],
        [],
    ),
    "a reaction that names nothing closes nothing": (
        [said("a"), {**answer(None), "type": "m.reaction"}],
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
    "what answers nothing closes nothing": (
        [said("a"), {**answer("a"), "content": {ANSWERS: NOTHING}}],
        ["$a"],
    ),
    "what was redacted closes nothing": ([said("a"), {**answer(None), "content": {}}], ["$a"]),
    "what is no event is passed over": ([said("a"), None, 7, {"sender": BOT}], ["$a"]),
}


@pytest.mark.parametrize(("events", "still_open"), CASES.values(), ids=CASES.keys())
def test_what_is_still_open(events: list[Any], still_open: list[str]) -> None:
    given = answers_in(ROOM, events, bot=BOT).given
    others = [e for e in events if isinstance(e, dict) and e["sender"] != BOT]
    assert [e["event_id"] for e in others if e["event_id"] not in given] == still_open


def test_open_answers_are_those_that_were_not_finished() -> None:
    in_thread = answer("b", more=True)
    in_thread["content"]["m.relates_to"] = {"rel_type": "m.thread", "event_id": "$root"}
    timeline = [
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
    ]
    assert [
        (a.question.room_id, a.question.event_id, a.question.thread_root, a.part, a.answer_id)
        for a in answers_in(ROOM, timeline, bot=BOT).open
    ] == [
        (ROOM, "$a", None, 0, "$a0"),
        (ROOM, "$b", None, 0, "$b0"),
        (ROOM, "$b", "$root", 1, "$b1"),
    ]


def test_an_answer_that_is_given_once_more_is_open_until_it_ends_under_that_key() -> None:
    again = edit("a", more=True)
    again["content"][ASKED] = "$by"
    more = {**answer("a", more=True, asked="by"), "event_id": "$x2"}
    left = [
        OpenAnswer(
            question=Question(
                room_id=ROOM, event_id=EventID("$a"), asked=EventID("$by"), is_again=True
            ),
            part=part,
            answer_id=EventID(answer_id),
        )
        for part, answer_id in enumerate(["$x", "$x2"])
    ]
    whole = [said("a"), answer("a")]
    assert answers_in(ROOM, [*whole, again, again, more], bot=BOT).open == tuple(left)
    end = edit("a")
    end["content"][ASKED] = "$by"
    assert answers_in(ROOM, [*whole, again, end], bot=BOT).open == ()
    first = {**answer("a", more=True), "event_id": "$x"}
    (open_,) = answers_in(ROOM, [said("a"), first, again], bot=BOT).open
    assert open_.question == Question(room_id=ROOM, event_id=EventID("$a"))


@pytest.mark.parametrize("junk", [[], [None, 7, "", [], {}], [{"sender": BOT, "content": 1}]])
def test_junk_says_nothing(junk: list[object]) -> None:
    assert answers_in(ROOM, junk, bot=BOT) == Answers(given=frozenset(), open=())


def newest(content: dict[str, Any]) -> dict[str, Any]:
    return {"m.relations": {"m.replace": {"content": content}}}


FINISHED = {
    "the last word": (answer("a"), True),
    "more to come": (answer("a", more=True), False),
    "an edit that is the last word": (
        {**answer("a", more=True), "unsigned": newest({ANSWERS: "$a"})},
        True,
    ),
    "an edit with more to come": (
        {**answer("a", more=True), "unsigned": newest({ANSWERS: "$a", MORE_TO_COME: True})},
        False,
    ),
    "what was redacted is nothing": ({**answer("a"), "content": {}}, False),
    "nothing": (None, False),
}


@pytest.mark.parametrize(("event", "is_it"), FINISHED.values(), ids=FINISHED.keys())
def test_whether_a_message_is_the_last_word(event: object, is_it: bool) -> None:
    assert is_finished(event) is is_it
