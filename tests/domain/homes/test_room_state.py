"""From state events to a `Room`: what the bot said counts, what others wrote does no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.marker import MARKER_TYPE, Marker, parse_marker
from homeroom.domain.homes.model import ChatID, RoomType
from homeroom.domain.homes.room_state import (
    STATE_TYPES,
    Interner,
    add_members,
    read_invite,
    read_room,
)
from homeroom.domain.homes.topology import (
    CachedState,
    ChildLink,
    Invite,
    MarkerProblem,
    Member,
    Room,
    Unreadable,
)
from tests.domain import hostile
from tests.domain.builders import ANNA, BERT, BOT, ELSEWHERE, HOME, MALLORY, NEW, WORK

Event = dict[str, Any]


def event(kind: str, content: object, *, key: str = "", sender: str = BOT) -> Event:
    return {
        "type": kind,
        "state_key": key,
        "sender": sender,
        "content": content,
        "origin_server_ts": 1234,
        "event_id": "$event",
    }


def create(*, sender: str = BOT, **content: object) -> Event:
    return event("m.room.create", content, sender=sender)


def member(user_id: str, membership: object = "join", **content: object) -> Event:
    return event(
        "m.room.member", {"membership": membership, **content}, key=user_id, sender=user_id
    )


def text(value: object) -> str:
    """As `Mirror` keeps it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def read(*events: object, room_id: RoomID = WORK) -> Room:
    room = read_room(room_id, events, bot=BOT)
    assert isinstance(room, Room)
    return room


MARKER = {"version": 1, "room_type": "chat", "user_id": ANNA, "chat_id": "C1"}


def test_a_chat() -> None:
    creation = create(room_version="11", predecessor={"room_id": ELSEWHERE, "event_id": "$x"})
    room = read(
        creation,
        event("m.room.name", {"name": "Work"}, sender=ANNA),
        event("m.room.power_levels", {"users": {BOT: 100}}),
        event("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}),
        event("m.space.parent", {"via": ["example.org"]}, key=HOME),
        event("m.room.tombstone", {"replacement_room": NEW, "body": "moved"}, sender=ANNA),
        event(MARKER_TYPE, MARKER, key=BOT),
        member(BOT),
        member(ANNA, displayname="Anna", avatar_url="mxc://example.org/a"),
    )
    assert room == Room(
        room_id=WORK,
        creator=BOT,
        created_at=1234,
        room_version="11",
        name="Work",
        predecessor=ELSEWHERE,
        is_tombstoned=True,
        replacement=NEW,
        marker=Marker(room_type=RoomType.CHAT, user_id=ANNA, chat_id=ChatID("C1")),
        parents=frozenset({HOME}),
        members={
            BOT: Member(membership="join"),
            ANNA: Member(membership="join", displayname="Anna", avatar_url="mxc://example.org/a"),
        },
        cached_state=CachedState(
            create=text(creation),
            power_levels=text({"users": {BOT: 100}}),
            encryption=text({"algorithm": "m.megolm.v1.aes-sha2"}),
        ),
    )


def test_a_space() -> None:
    room = read(
        create(type="m.space"),
        event("m.space.child", {"via": ["example.org"]}, key=WORK),
        event("m.space.child", {}, key=NEW, sender=ANNA),
        event("m.space.child", {"via": [""]}, key=ELSEWHERE, sender=ANNA),
        room_id=HOME,
    )
    assert room.is_space
    assert room.children == {
        WORK: ChildLink(sender=BOT, linked=True),
        NEW: ChildLink(sender=ANNA, linked=False),
        ELSEWHERE: ChildLink(sender=ANNA, linked=False),
    }


def test_a_room_of_somebody_else_is_kept_bare() -> None:
    room = read(
        create(sender=MALLORY, type="m.space"),
        member(ANNA),
        event("m.space.child", {"via": ["x"]}, key=WORK),
        event("m.space.parent", {"via": ["x"]}, key=HOME),
    )
    assert room == Room(room_id=WORK, creator=MALLORY, created_at=1234, is_space=True)


@pytest.mark.parametrize(
    "reason_to_look",
    [
        {"predecessor": {"room_id": HOME}},
        {"marker": True},
    ],
    ids=["successor", "marked"],
)
def test_a_room_of_somebody_else_that_may_be_ours_has_details(
    reason_to_look: dict[str, object],
) -> None:
    marked = [event(MARKER_TYPE, MARKER, key=BOT)] if reason_to_look.pop("marker", 0) else []
    room = read(create(sender=ANNA, **reason_to_look), member(ANNA), *marked)
    assert room.members == {ANNA: Member(membership="join")}


def test_no_create_event_no_room() -> None:
    assert read_room(WORK, [member(ANNA)], bot=BOT) == Unreadable(
        room_id=WORK, reason="the state has no m.room.create event"
    )
    assert isinstance(read_room(WORK, [], bot=BOT), Unreadable)


def test_a_creator_with_a_strange_name_makes_no_unreadable_room() -> None:
    assert read(create(sender="@:x")).creator == "@:x"


@pytest.mark.parametrize(
    ("time", "kept"), [(5, 5), (-1, 0), (True, 0), (5.0, 0), ("5", 0), (None, 0), ([], 0)]
)
def test_only_a_number_is_a_time_of_creation(time: object, kept: int) -> None:
    assert read({**create(), "origin_server_ts": time}).created_at == kept


def test_a_room_without_a_version_is_of_version_1() -> None:
    assert read(create()).room_version == "1"


# Markers


@pytest.mark.parametrize(
    ("key", "sender"),
    [
        (ANNA, ANNA),
        (BOT, MALLORY),
        (ANNA, BOT),
        ("", BOT),
        ("", MALLORY),
        (BOT.upper(), BOT),
        (BOT + " ", BOT),
    ],
)
def test_only_the_bots_own_marker_counts(key: str, sender: str) -> None:
    room = read(create(), event(MARKER_TYPE, MARKER, key=key, sender=sender))
    assert room.marker is None
    assert room.marker_problems == (
        MarkerProblem(reason="1 under a state key that is not the bot's", own=False),
    )


def test_foreign_markers_do_not_hide_the_bots_own_nor_flood_the_report() -> None:
    foreign = [
        event(MARKER_TYPE, MARKER, key=f"@{number}:x", sender=f"@{number}:x")
        for number in range(500)
    ]
    room = read(create(), *foreign, event(MARKER_TYPE, MARKER, key=BOT), *foreign)
    assert room.marker == parse_marker(MARKER)
    assert room.marker_problems == (
        MarkerProblem(reason="500 under a state key that is not the bot's", own=False),
    )


def test_a_broken_marker_of_the_bots_is_a_problem_of_its_own() -> None:
    room = read(create(), event(MARKER_TYPE, {**MARKER, "version": 2}, key=BOT))
    assert room.marker is None
    assert room.marker_problems == (MarkerProblem(reason="version is 2, expected 1", own=True),)


def test_a_redacted_marker_is_no_marker_and_no_problem() -> None:
    room = read(
        create(),
        event(MARKER_TYPE, {}, key=BOT),
        event(MARKER_TYPE, {}, key=MALLORY, sender=MALLORY),
    )
    assert room.marker is None
    assert room.marker_problems == ()


# What others wrote


def test_only_the_bot_names_parents() -> None:
    room = read(
        create(),
        event("m.space.parent", {"via": ["x"]}, key=HOME, sender=ANNA),
        event("m.space.parent", {"via": []}, key=NEW),
        event("m.space.parent", {"via": ["x"]}, key="not a room"),
    )
    assert room.parents == frozenset()
    assert room.other_parents == {HOME, NEW}


def restricted(*conditions: object, rule: object = "restricted") -> frozenset[RoomID]:
    content = {"join_rule": rule, "allow": [*conditions]}
    return read(create(), event("m.room.join_rules", content)).admits


def test_members_of_rooms_may_join_by_a_restricted_rule_only() -> None:
    home = {"type": "m.room_membership", "room_id": HOME}
    assert restricted(home) == restricted(home, rule="knock_restricted") == {HOME}
    odd = (None, 7, [], {}, {**home, "type": "x"}, {**home, "room_id": ["!x"]})
    assert (
        restricted(*odd) == restricted(home, rule="invite") == restricted(home, rule=[]) == set()
    )


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Work", "Work"),
        ("", None),
        ("\0", None),
        ("a\0b", "ab"),
        ("a\ud800b", "a?b"),
        ("x" * 60_000, "x" * 255),
        ("👩\u200d💻", "👩\u200d💻"),
        (None, None),
        (["Work"], None),
        (7, None),
    ],
)
def test_names_are_text_that_every_database_takes(name: object, kept: str | None) -> None:
    room = read(
        create(),
        event("m.room.name", {"name": name}),
        member(ANNA, displayname=name, avatar_url=name),
    )
    assert room.name == kept
    assert room.members[ANNA] == Member(membership="join", displayname=kept, avatar_url=kept)


@pytest.mark.parametrize("value", hostile.STRANGE.values(), ids=hostile.STRANGE)
def test_strange_values_anywhere_do_no_harm(value: object) -> None:
    content = {
        "type": value,
        "room_version": value,
        "predecessor": value,
        "replacement_room": value,
        "name": value,
        "via": value,
        "membership": value,
        "displayname": value,
        "version": value,
    }
    whole: list[object] = [
        value,
        *(event(kind, value, key=BOT) for kind in STATE_TYPES),
        *(event(kind, content, key=key) for kind in STATE_TYPES for key in ("", BOT, WORK)),
        {**create(), "origin_server_ts": value},
        {**create(), "type": value},
        {**create(), "sender": value, "type": "m.room.name"},
        {**create(), "state_key": value},
        create(predecessor={"room_id": value}),
        event("m.room.tombstone", {"replacement_room": value}),
    ]
    room = read_room(WORK, whole, bot=BOT)
    assert isinstance(room, Room)
    _assert_harmless(room)
    contents = [event(kind, value, key=k) for kind in STATE_TYPES[1:] for k in ("", BOT, WORK)]
    _assert_harmless(read(create(type="m.space"), *contents))


FIELDS = [
    "type",
    "room_version",
    "predecessor",
    "replacement_room",
    "name",
    "via",
    "membership",
    "displayname",
    "avatar_url",
    "version",
    "user_id",
    "room_id",
]
json_events = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(STATE_TYPES) | hostile.json,
        "state_key": st.sampled_from(["", BOT, ANNA, WORK, HOME]) | hostile.json,
        "sender": st.sampled_from([BOT, ANNA]) | hostile.json,
        "content": st.dictionaries(
            st.sampled_from(FIELDS),
            st.sampled_from(["m.space", "join", WORK, ANNA]) | hostile.json,
            max_size=4,
        )
        | hostile.json,
        "origin_server_ts": hostile.json,
    },
)


@given(st.lists(json_events | hostile.json, max_size=8), st.booleans())
def test_no_state_whatever_breaks_the_reading(events: list[object], usable: bool) -> None:
    room = read_room(WORK, [*events, create()] if usable else events, bot=BOT)
    if isinstance(room, Room):
        _assert_harmless(room)
        _assert_harmless(add_members(room, events))
    read_invite(WORK, events, bot=BOT)


def _assert_harmless(room: Room) -> None:
    """Everything that can get into a row, a request or a report is bounded UTF-8 without NUL."""
    texts = [
        room.name,
        room.room_version,
        room.predecessor,
        room.replacement,
        *room.parents,
        *room.children,
        *room.members,
        *(member.displayname for member in room.members.values()),
        *(member.avatar_url for member in room.members.values()),
        *(problem.reason for problem in room.marker_problems),
    ]
    for text in texts:
        if text is not None:
            assert isinstance(text, str)
            assert 1 <= len(text.encode()) <= 1020
            assert "\0" not in text
    assert type(room.created_at) is int
    assert room.created_at >= 0
    for member in room.members.values():
        assert member.membership in {"join", "invite", "leave", "ban", "knock"}


def test_a_reading_does_not_depend_on_what_the_server_adds() -> None:
    plain = [create(), member(ANNA), event("m.room.topic", {"topic": "x"})]
    rich = [{**e, "unsigned": {"age": 1}, "room_id": WORK, "user_id": BOT} for e in plain]
    assert read(*rich) == read(*plain)


def test_what_many_rooms_have_is_kept_once() -> None:
    interner = Interner()
    events = [create(), event("m.room.name", {"name": "Work"}), member(BOT), member(ANNA)]
    one, other = (
        read_room(room_id, json.loads(json.dumps(events)), bot=BOT, interner=interner)
        for room_id in (WORK, ELSEWHERE)
    )
    assert isinstance(one, Room)
    assert isinstance(other, Room)
    assert one.name is other.name
    assert one.parents is other.parents
    assert one.members[ANNA] is other.members[ANNA]
    assert replace(other, room_id=WORK) == one


def test_contents_nested_too_deep_for_a_text_are_left_out() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    room = read(create(), event("m.room.power_levels", deep), event("m.room.encryption", deep))
    assert room.cached_state
    assert (room.cached_state.power_levels, room.cached_state.encryption) == (None, None)


# The rest


def test_members_can_be_added_later() -> None:
    room = read(create())
    assert room.members == {}
    events = [member(ANNA), member(BERT, "leave"), member("nobody"), None]
    assert add_members(room, events).members == {
        ANNA: Member(membership="join"),
        BERT: Member(membership="leave"),
    }


def invited(by: str, membership: str = "invite") -> Event:
    return event("m.room.member", {"membership": membership}, key=BOT, sender=by)


def test_invites() -> None:
    assert read_invite(WORK, [invited(ANNA)], bot=BOT) == Invite(room_id=WORK, inviter=ANNA)
    assert read_invite(HOME, [create(type="m.space"), invited(ANNA)], bot=BOT) == Invite(
        room_id=HOME, inviter=ANNA, is_space=True
    )
    replacement = create(predecessor={"room_id": ELSEWHERE})
    assert read_invite(WORK, [replacement, invited(ANNA)], bot=BOT) == Invite(
        room_id=WORK, inviter=ANNA, predecessor=ELSEWHERE
    )


@pytest.mark.parametrize(
    "events",
    [
        None,
        {},
        [],
        [create()],
        [invited(ANNA, "join")],
        [invited("not a user")],
        [{**invited(ANNA), "state_key": UserID(BERT)}],
    ],
)
def test_no_invites(events: object) -> None:
    assert read_invite(WORK, events, bot=BOT) is None
