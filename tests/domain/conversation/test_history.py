"""What a timeline is as a conversation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import EventID, RoomID, UserID

from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME
from homeroom.domain.conversation.history import conversation, latest, read_lines
from homeroom.domain.conversation.turn import Utterance
from tests.domain import hostile
from tests.domain.builders import ANNA, BERT, BOT

ROOM = RoomID("!work:example.org")
Event = dict[str, Any]


def said(
    name: str, *, by: UserID = ANNA, body: str | None = None, msgtype: str = "m.text", **more: Any
) -> Event:
    content = {"msgtype": msgtype, "body": body if body is not None else name, **more}
    return event(name, by, content)


def event(name: str, by: UserID, content: Event, type_: str = "m.room.message") -> Event:
    return {
        "type": type_,
        "event_id": f"${name}",
        "sender": by,
        "origin_server_ts": 1,
        "content": content,
    }


def answer(name: str, to: str | None, *, more: bool = False, msgtype: str = "m.text") -> Event:
    keys: Event = {ANSWERS: f"${to}"} if to else {}
    return said(name, by=BOT, msgtype=msgtype, **keys, **({MORE_TO_COME: True} if more else {}))


def edit(of: str, to: str, *, by: UserID = ANNA, more: bool = False, **new: Any) -> Event:
    keys: Event = {MORE_TO_COME: True} if more else {}
    return said(
        f"edit of {of} to {to}".replace(" ", "-"),
        by=by,
        body=f"* {to}",
        **{
            "m.new_content": {"msgtype": "m.text", "body": to, **keys, **new},
            "m.relates_to": {"rel_type": "m.replace", "event_id": f"${of}"},
        },
        **keys,
    )


def redacted(name: str, *, by: UserID = ANNA) -> Event:
    return {**event(name, by, {}), "unsigned": {"redacted_because": {}}}


def read(*events: object, since: str | None = None) -> list[str]:
    """The conversation before `now`: what people said as it is, answers in brackets."""
    lines = read_lines(ROOM, [*events, said("now")], bot=BOT)
    return [
        f"[{utterance.text}]" if utterance.role == "assistant" else utterance.text
        for utterance in conversation(
            lines,
            bot=BOT,
            owner=ANNA,
            before=EventID("$now"),
            since=EventID(f"${since}") if since else None,
        )
    ]


CASES = {
    "nothing was said": ([], []),
    "what was said and answered": (
        [said("a"), answer("1", "a"), said("b"), answer("2", "b")],
        ["a", "[1]", "b", "[2]"],
    ),
    "an answer stands after what it answers": (
        [said("a"), said("b"), answer("1", "a"), said("c"), answer("2", "b")],
        ["a", "[1]", "b", "[2]", "c"],
    ),
    "what was not answered is part of it": (
        [said("a"), answer("sorry", "a", msgtype="m.notice"), said("b")],
        ["a", "b"],
    ),
    "commands are not, nor what is said about them": (
        [said("x", body="!chat list"), answer("list", "x", msgtype="m.notice"), said("a")],
        ["a"],
    ),
    "others are named": ([said("a"), said("b", by=BERT)], ["a", f"{BERT}: b"]),
    "pictures, notices and blanks are left out": (
        [said("p", msgtype="m.image"), said("n", msgtype="m.notice"), said("b", body=" \n")],
        [],
    ),
    "the parts of a long answer are one": (
        [said("a"), answer("1", "a", more=True), said("b"), answer("2", "a")],
        ["a", "[1\n\n2]", "b"],
    ),
    "an answer that broke off is none": ([said("a"), answer("1", "a", more=True)], ["a"]),
    "nor is one that only a notice ended": (
        [said("a"), answer("1", "a", more=True), answer("sorry", "a", msgtype="m.notice")],
        ["a"],
    ),
    "an edit ended it": (
        [
            said("a"),
            answer("1", "a", more=True),
            edit("1", "1 2", by=BOT, more=True),
            edit("1", "1 2 3", by=BOT),
        ],
        ["a", "[1 2 3]"],
    ),
    "an older bot's answers name nothing": (
        [said("a"), answer("1", None), said("b")],
        ["a", "[1]", "b"],
    ),
    "the latest edit counts": ([said("a"), edit("a", "b"), edit("a", "c")], ["c"]),
    "nobody edits what others said": (
        [said("a"), edit("a", "b", by=BERT), answer("1", "a"), edit("1", "2")],
        ["a", "[1]"],
    ),
    "a command that became a question is one": (
        [said("x", body="!chat list"), edit("x", "a"), said("b"), edit("b", "!chat list")],
        ["a"],
    ),
    "an edit of an edit is nothing": (
        [said("a"), edit("a", "b"), edit("edit-of-a-to-b", "c")],
        ["b"],
    ),
    "edits of what is not there are nothing": ([edit("zero", "b")], []),
    "an edit without new content is nothing": (
        [
            said("a"),
            said("e", **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$a"}}),
        ],
        ["a"],
    ),
    "redacted is gone, with its answer": (
        [said("a"), answer("1", "a"), redacted("b"), answer("2", "b"), said("c")],
        ["a", "[1]", "c"],
    ),
    "an edit does not bring it back": ([redacted("a"), edit("a", "b")], []),
    "a redacted edit leaves what was there": ([said("a"), redacted("edit-of-a-to-b")], ["a"]),
    "redacted answers are gone": ([said("a"), redacted("1", by=BOT)], ["a"]),
    "somebody else's mark means nothing": (
        [said("a"), said("b", by=BERT, **{ANSWERS: "$a", MORE_TO_COME: True})],
        ["a", f"{BERT}: b"],
    ),
    "answers to the turn itself are from an attempt that failed": (
        [said("a"), answer("1", "now")],
        ["a"],
    ),
    "the quote of a reply is left out": (
        [
            said(
                "a",
                body="> <@bot:example.org> old\n\na",
                **{"m.relates_to": {"m.in_reply_to": {"event_id": "$x"}}},
            )
        ],
        ["a"],
    ),
    "state, reactions and what cannot be read are left out": (
        [
            {**said("s"), "state_key": ""},
            event("r", ANNA, {"m.relates_to": {"key": "+1"}}, "m.reaction"),
            event("e", ANNA, {"ciphertext": "…", "session_id": "s"}, "m.room.encrypted"),
            said("a"),
        ],
        ["a"],
    ),
    "what is no event is passed over": ([None, 7, {}, {"sender": BOT}, said("a")], ["a"]),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_a_timeline_as_a_conversation(events: list[object], expected: list[str]) -> None:
    assert read(*events) == expected


def test_it_ends_with_the_turn() -> None:
    lines = read_lines(ROOM, [said("a"), said("b"), answer("1", "b"), said("c")], bot=BOT)

    def before(name: str) -> list[Utterance]:
        event_id = EventID(f"${name}")
        return conversation(lines, bot=BOT, owner=ANNA, before=event_id, since=None)

    assert before("a") == before("unknown") == []
    assert before("b") == [Utterance("user", "a")]
    assert before("c") == [*before("b"), Utterance("user", "b"), Utterance("assistant", "1")]


def test_it_begins_where_it_was_cleared() -> None:
    events = [said("a"), said("x", body="!chat clear"), answer("1", "a"), said("b")]
    assert read(*events, since="x") == ["b"]
    assert read(*events, since="elsewhere") == ["a", "[1]", "b"]
    assert read(said("a"), redacted("x"), said("b"), since="x") == ["b"]


@pytest.mark.parametrize(
    ("messages", "characters", "kept", "cut"),
    [
        (9, 99, ["one", "two", "three"], False),
        (3, 11, ["one", "two", "three"], False),
        (2, 99, ["two", "three"], True),
        (9, 10, ["two", "three"], True),
        (9, 9, ["two", "thr…"], True),
        (9, 4, ["t…", "t…"], True),
        (9, 0, [], True),
        (0, 99, [], True),
    ],
)
def test_the_latest_count(messages: int, characters: int, kept: list[str], cut: bool) -> None:
    spoken = [Utterance("user", text) for text in ("one", "two", "three")]
    found, was_cut = latest(spoken, messages=messages, characters=characters)
    assert ([utterance.text for utterance in found], was_cut) == (kept, cut)
    assert latest([], messages=messages, characters=characters) == ([], False)


names = st.sampled_from([f"e{number}" for number in range(6)])
speakers = st.sampled_from([ANNA, BERT, BOT])
events = st.one_of(
    st.builds(said, names, by=speakers, body=st.text(max_size=5)),
    st.builds(answer, names, names, more=st.booleans()),
    st.builds(edit, names, st.text(max_size=5), by=speakers, more=st.booleans()),
    st.builds(redacted, names, by=speakers),
    st.builds(
        lambda base, extra, content: {**base, **extra, "content": {**base["content"], **content}},
        st.builds(edit, names, st.just("new"), by=speakers),
        st.dictionaries(st.sampled_from(["type", "event_id", "sender"]), hostile.json, max_size=2),
        st.dictionaries(
            st.sampled_from(["msgtype", "body", "m.new_content", "m.relates_to", ANSWERS]),
            hostile.json,
            max_size=3,
        ),
    ),
    hostile.json,
)


@given(
    st.lists(events, max_size=12),
    st.none() | names,
    names,
    st.integers(0, 4),
    st.integers(0, 30),
)
def test_laws(
    timeline: list[Any], since: str | None, before: str, messages: int, characters: int
) -> None:
    """It never raises, keeps the order of what was said, and keeps its bounds."""
    lines = read_lines(ROOM, timeline, bot=BOT)
    whole = conversation(
        lines,
        bot=BOT,
        owner=ANNA,
        before=EventID(f"${before}"),
        since=EventID(f"${since}") if since else None,
    )
    for utterance in whole:
        utterance.text.encode()  # it can be sent
        assert utterance.text.strip()
    texts = [line.text for line in lines if line.sender == ANNA and line.text]
    spoken = [u.text for u in whole if u.role == "user" and not u.text.startswith(f"{BERT}: ")]
    rest = iter(texts)
    assert all(text in rest for text in spoken)
    kept, was_cut = latest(whole, messages=messages, characters=characters)
    for utterance, original in zip(reversed(kept), reversed(whole), strict=False):
        assert utterance.role == original.role
        assert original.text.startswith(utterance.text.removesuffix("…"))
    assert len(kept) <= messages
    assert sum(len(utterance.text) for utterance in kept) <= characters
    assert was_cut == (len(kept) < len(whole))
