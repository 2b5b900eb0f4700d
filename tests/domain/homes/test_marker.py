"""A marker is read back as it was written, and everything else is refused with a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import EventID, UserID

from homeroom.domain.homes.ids import MAX_CONVERSATION
from homeroom.domain.homes.marker import (
    MAX_INITIAL_CHATS,
    Marker,
    MarkerError,
    chat_marker,
    is_user_id,
    parse_marker,
)
from homeroom.domain.homes.model import ChatID, Conversation, PlatformChatID, RoomType, Status
from tests.domain import hostile
from tests.domain.builders import ANNA, chat_row, later

SPACE = {"version": 1, "room_type": "space", "user_id": ANNA}
CHAT = {
    "version": 1,
    "room_type": "chat",
    "user_id": ANNA,
    "chat_id": "C1",
    "platform_chat_id": "k",
}

EXPECTED = "expected a number from 1 to 999999 and an event ID"
CLEARED = {**CHAT, "conversation": 2, "conversation_since": "$clear2"}

user_ids = st.from_regex(r"\A@[a-z0-9._=/-]{1,20}:[a-z0-9.-]{1,20}(:[0-9]{1,5})?\Z").map(UserID)
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255
)
born_markers = st.builds(
    Marker,
    room_type=st.just(RoomType.CHAT),
    user_id=user_ids,
    agent=st.none() | st.sampled_from(["Ada", "die Zweite"]),
    answer=st.sampled_from([None, "members"]),
    made_for=st.sampled_from([None, EventID("$new")]),
    chat_id=st.none() | st.integers(1, 999_999).map(lambda number: ChatID(f"C{number}")),
    archived=st.booleans(),
)
chat_markers = born_markers | st.builds(
    replace,
    born_markers,
    platform_chat_id=st.from_regex(r"\A[!-~éß中]{1,255}\Z").map(PlatformChatID),
    conversation=st.none()
    | st.builds(
        Conversation,
        number=st.integers(1, MAX_CONVERSATION),
        since=st.from_regex(r"\A\$[!-~]{1,254}\Z").map(EventID),
    ),
)
space_markers = st.builds(
    Marker,
    room_type=st.just(RoomType.SPACE),
    user_id=user_ids,
    initial_chats=st.lists(names, max_size=MAX_INITIAL_CHATS).map(tuple),
)


@given(chat_markers | space_markers)
def test_what_is_written_is_read_back(marker: Marker) -> None:
    on_the_wire = json.loads(json.dumps(marker.to_content()))
    assert parse_marker(on_the_wire) == marker


def test_the_content_is_what_the_design_says() -> None:
    chat = chat_marker(chat_row(key="k", status=Status.ARCHIVED))
    assert chat.to_content() == {**CHAT, "archived": True}
    assert chat_marker(chat_row(key="k")).to_content() == CHAT
    assert chat_marker(chat_row(key="k", conversation=later(2))).to_content() == CLEARED
    space = Marker(room_type=RoomType.SPACE, user_id=ANNA, initial_chats=("One", "Two"))
    assert space.to_content() == {**SPACE, "initial_chats": ["One", "Two"]}


LATER = {"colour": "red", "answer": "everybody", "shape": {"corners": [1, 2]}}
"""Keys and values of a build that this one knows nothing of."""
KNOWN = {"agent": "Ada", "answer": "members", "made_for": "$new"}


@pytest.mark.parametrize("content", [SPACE, CHAT, CLEARED], ids=["space", "chat", "cleared"])
def test_what_a_later_build_wrote_is_kept(content: dict[str, Any]) -> None:
    assert parse_marker({**content, **LATER}).to_content() == {**content, **LATER}


def test_a_marker_says_what_its_row_says_and_keeps_the_rest() -> None:
    before = parse_marker({**CLEARED, **LATER, "agent": "Ada", "archived": True})
    row = chat_row("!other:example.org", chat_id="C2", key="other")
    after = {**CHAT, **LATER, "agent": "Ada", "chat_id": "C2", "platform_chat_id": "other"}
    assert chat_marker(row, before=before).to_content() == after


@pytest.mark.parametrize(
    ("present", "kept"),
    [
        ({**CHAT, **LATER, "agent": "Ada"}, {**LATER, "agent": "Ada"}),
        ({**CHAT, **KNOWN}, KNOWN),
        (CHAT, {}),
        (None, {"agent": "Bob"}),
        ({**CHAT, "version": 2, "agent": "Ada"}, {"agent": "Bob"}),
    ],
    ids=["of later builds", "known", "nothing", "no marker", "not readable"],
)
def test_what_is_in_the_room_now_is_kept(present: object, kept: dict[str, Any]) -> None:
    marker = parse_marker({**CLEARED, "agent": "Bob"})
    assert marker.keeping(present).to_content() == {**CLEARED, **kept}


@pytest.mark.parametrize("value", hostile.STRANGE.values(), ids=hostile.STRANGE)
@pytest.mark.parametrize("field", KNOWN)
def test_an_optional_key_that_cannot_be_used_is_as_good_as_absent(
    field: str, value: object
) -> None:
    _refused_or_harmless({**CHAT, field: value})
    with suppress(MarkerError):
        assert getattr(parse_marker({**CHAT, field: value}), field) is None


def test_more_than_a_marker_needs_is_refused() -> None:
    with pytest.raises(MarkerError, match="16397 bytes, expected at most 16384"):
        parse_marker({**CHAT, "colour": "x" * 16_384})


def test_a_chat_is_born_without_ids() -> None:
    born = {"version": 1, "room_type": "chat", "user_id": ANNA}
    assert parse_marker(born) == Marker(room_type=RoomType.CHAT, user_id=ANNA)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "content is missing, expected an object"),
        ([], "content is a list, expected an object"),
        ({}, "version is missing, expected 1"),
        ({**CHAT, "version": True}, "version is True, expected 1"),
        ({**CHAT, "version": 1.0}, "version is a number, expected 1"),
        ({**CHAT, "version": "1"}, "version is '1', expected 1"),
        ({**CHAT, "version": 2}, "version is 2, expected 1"),
        ({**CHAT, "version": 10**400}, "version is a number, expected 1"),
        ({**CHAT, "room_type": "dm"}, "room_type is 'dm', expected 'space' or 'chat'"),
        ({**CHAT, "room_type": ["chat"]}, "room_type is a list, expected 'space' or 'chat'"),
        ({**CHAT, "user_id": "anna"}, "user_id is 'anna', expected a user ID"),
        (
            {**CHAT, "user_id": "@" + "a" * 60_000 + ":b"},
            "user_id is a text of 60003 characters, expected a text of 1 to 255 characters",
        ),
        ({**CHAT, "chat_id": "C0"}, "chat_id is 'C0', expected C1, C2, …"),
        (
            {**CHAT, "chat_id": None},
            "chat_id is missing, expected a text of 1 to 255 characters",
        ),
        (
            {**CHAT, "platform_chat_id": ""},
            "platform_chat_id is '', expected a text of 1 to 255 characters",
        ),
        (
            {**CHAT, "platform_chat_id": "a b"},
            "platform_chat_id has blanks or control characters in it",
        ),
        (
            {**CHAT, "platform_chat_id": "a\0b"},
            "platform_chat_id has blanks or control characters in it",
        ),
        ({**CHAT, "archived": 1}, "archived is 1, expected true or false"),
        *(
            (
                {**CLEARED, "conversation": number, "conversation_since": since},
                f"conversation is {shown} and conversation_since is {shown_since}, {EXPECTED}",
            )
            for number, since, shown, shown_since in [
                (0, "$e", "0", "'$e'"),
                (True, "$e", "True", "'$e'"),
                (1_000_000, "$e", "1000000", "'$e'"),
                (10**400, "$e", "a number", "'$e'"),
                (1, "e", "1", "'e'"),
                (1, "$", "1", "'$'"),
                (1, "$a b", "1", "'$a b'"),
                (1, "$" + "x" * 255, "1", "a text of 256 characters"),
                (1, None, "1", "missing"),
                (None, "$e", "missing", "'$e'"),
            ]
        ),
        (
            {key: value for key, value in CLEARED.items() if key != "platform_chat_id"},
            "conversation is there, but no platform_chat_id",
        ),
        (
            {**SPACE, "initial_chats": "One"},
            "initial_chats is 'One', expected at most 20 names",
        ),
        (
            {**SPACE, "initial_chats": ["x"] * 21},
            "initial_chats is a list, expected at most 20 names",
        ),
        (
            {**SPACE, "initial_chats": ["One", ""]},
            "initial_chats has '' in it, expected a name",
        ),
        (
            {**SPACE, "initial_chats": ["T\0wo"]},
            "initial_chats has 'T\\x00wo' in it, expected a name",
        ),
        (
            {**SPACE, "initial_chats": ["\ud800"]},
            "initial_chats has '\\ud800' in it, expected a name",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(content: object, reason: str) -> None:
    with pytest.raises(MarkerError) as caught:
        parse_marker(content)
    assert str(caught.value) == reason


@pytest.mark.parametrize("value", hostile.STRANGE.values(), ids=hostile.STRANGE)
@pytest.mark.parametrize("field", ["version", "room_type", "user_id"])
@pytest.mark.parametrize("content", [SPACE, CHAT], ids=["space", "chat"])
def test_strange_values_of_what_every_marker_has(
    content: dict[str, Any], field: str, value: object
) -> None:
    if (field, value) == ("user_id", hostile.STRANGE["right-to-left"]):
        assert not is_user_id(value)
    with pytest.raises(MarkerError) as caught:
        parse_marker({**content, field: value})
    assert len(str(caught.value)) < 200
    str(caught.value).encode()  # it can be logged and sent


@pytest.mark.parametrize("value", hostile.STRANGE.values(), ids=hostile.STRANGE)
@pytest.mark.parametrize(
    "field",
    [
        "chat_id",
        "archived",
        "initial_chats",
        "platform_chat_id",
        "conversation",
        "conversation_since",
    ],
)
def test_strange_values_of_the_rest_are_refused_or_harmless(field: str, value: object) -> None:
    for content in (SPACE, CHAT, CLEARED):
        _refused_or_harmless({**content, field: value})


@given(
    hostile.json
    | st.builds(
        lambda base, extra: {**base, **extra},
        st.sampled_from([SPACE, CHAT, CLEARED]),
        st.dictionaries(
            st.sampled_from([*CLEARED, "archived", "initial_chats"]), hostile.json, max_size=3
        ),
    )
)
def test_whatever_is_in_it_nothing_but_a_marker_error_comes_out(content: object) -> None:
    _refused_or_harmless(content)


def _refused_or_harmless(content: object) -> None:
    try:
        marker = parse_marker(content)
    except MarkerError as error:
        str(error).encode()
        return
    assert is_user_id(marker.user_id)
    written = json.dumps(marker.to_content(), ensure_ascii=False).encode()
    assert len(written) < 30_000
    assert parse_marker(json.loads(written)) == marker


@pytest.mark.parametrize(
    "value",
    ["@a:b", "@anna:example.org", "@anna:example.org:8448", "@anna:[::1]", "@änna:example.org"],
)
def test_user_ids(value: str) -> None:
    assert is_user_id(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "anna",
        "@anna",
        "@:b",
        "@a:",
        "!a:b",
        "@a b:c",
        "@a\n:c",
        "@" + "a" * 252 + ":b" + "c",
        "@" + "ä" * 126 + ":bc",
        None,
        1,
        ["@a:b"],
    ],
)
def test_no_user_ids(value: object) -> None:
    assert not is_user_id(value)
