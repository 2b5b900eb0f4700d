"""Whatever stands in a sync response, reading it never fails, and believes nothing of it.

Issue 4, "Must be seen", 7. Events are well-formed ones of which some parts are replaced, because
junk that does not look like an event does not get far.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import RoomID, UserID

from homeroom.domain.commands import MAX_CHAT_NAME, ChatNew, ChatRename, parse_command
from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME
from homeroom.domain.conversation.unanswered import answers_in
from homeroom.domain.homes.marker import MarkerError, is_user_id, parse_marker
from homeroom.domain.homes.model import Records
from homeroom.domain.homes.planner import make_plan
from homeroom.domain.homes.room_state import STATE_TYPES, read_room
from homeroom.domain.homes.topology import Room, Topology, Unreadable
from homeroom.domain.sync.changed_rooms import rooms_with_other_members
from homeroom.domain.sync.news import Message, is_event_id, read_response
from homeroom.domain.sync.timeline import (
    begins_before,
    is_first,
    joined_in,
    next_batch,
    sent_at,
    slices,
    timeline_gaps,
    timeline_of,
    too_old,
)
from tests.domain import hostile

BOT = UserID("@bot:test")
ROOM = RoomID("!room:test")
EVENT_TYPES = (
    "m.room.message",
    "m.room.encrypted",
    "m.room.redaction",
    "m.reaction",
    "m.poll.start",
    *STATE_TYPES,
)
VALUES = {
    "rel_type": st.sampled_from(["m.replace", "m.thread", "m.annotation"]),
    "msgtype": st.sampled_from(["m.text", "m.notice", "m.emote", "m.file"]),
    "membership": st.sampled_from(["join", "leave", "invite", "ban", "knock"]),
    "room_type": st.sampled_from(["space", "chat"]),
    "version": st.just(1),
    "user_id": st.sampled_from([BOT, "@anna:test"]),
    "chat_id": st.sampled_from(["C1", "C2", "C0", "C999999"]),
    "via": st.just(["test"]),
    "name": st.just("Lounge"),
    "type": st.just("m.space"),
    "users": st.dictionaries(hostile.texts, st.integers()),
    ANSWERS: st.sampled_from(["$a", "$b"]),
    MORE_TO_COME: st.booleans(),
}
KEYS = (
    *VALUES,
    "body",
    "m.new_content",
    "event_id",
    "predecessor",
    "replacement_room",
    "archived",
    "initial_chats",
    "platform_chat_id",
    "room_version",
    "ciphertext",
    "session_id",
)
strange = st.sampled_from(list(hostile.STRANGE.values()))
junk = hostile.json | strange


def often(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly sound, so that what is junk gets further than the first check."""
    return st.integers(0, 9).flatmap(lambda number: sound if number else junk)


def some(keys: Iterable[str]) -> dict[str, st.SearchStrategy[Any]]:
    return {key: often(VALUES.get(key, hostile.texts)) for key in keys}


relations = st.fixed_dictionaries(
    {}, optional={**some(["rel_type", "event_id"]), "m.in_reply_to": junk}
)
words = st.fixed_dictionaries(
    some(["msgtype", "body"]),
    optional={**some([ANSWERS, MORE_TO_COME]), "m.relates_to": often(relations), "extra": junk},
)
contents = st.fixed_dictionaries({}, optional=some(KEYS))


def event(kinds: Iterable[str], content: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {
            "type": often(st.sampled_from(list(kinds))),
            "sender": often(st.sampled_from([BOT, "@anna:test", "@eve:other"])),
            "content": often(content),
            "event_id": often(st.sampled_from(["$a", "$b", "$c"])),
            "origin_server_ts": often(st.integers(-(2**70), 2**70)),
        },
        optional={
            "state_key": often(st.sampled_from(["", BOT, BOT[1:], "@anna:test", ROOM])),
            "unsigned": often(st.fixed_dictionaries({}, optional={"prev_content": contents})),
        },
    )


messages = event(["m.room.message"], words).map(
    lambda event: {key: value for key, value in event.items() if key != "state_key"}
)
events = messages | event(EVENT_TYPES, contents)
timelines = st.fixed_dictionaries(
    {"events": often(st.lists(often(events), max_size=6))},
    optional={"limited": often(st.just(True)), "prev_batch": often(hostile.texts)},
)
states = st.fixed_dictionaries({"events": often(st.lists(often(events), max_size=3))})
entries = st.fixed_dictionaries(
    {"timeline": often(timelines)},
    optional={"state": often(states), "invite_state": often(states)},
)
rooms = often(st.dictionaries(st.just(ROOM) | hostile.texts, often(entries), max_size=2))
responses = st.fixed_dictionaries(
    {"rooms": often(st.fixed_dictionaries({"join": rooms, "leave": rooms, "invite": rooms}))},
    optional={"next_batch": often(hostile.texts), "net.maunium.mautrix": junk},
)


def check_news(response: object) -> None:
    for news in read_response(response, bot=BOT):
        assert isinstance(news.room_id, str)
        if isinstance(news, Message):
            assert is_event_id(news.event_id)
            assert is_user_id(news.sender)
            assert news.sender != BOT
            assert type(news.sent_at) is int
            assert news.thread_root is None or is_event_id(news.thread_root)
            news.text.encode()
            parse_command(news.text)
    rooms_with_other_members(response)
    token = next_batch(response)
    assert token is None or isinstance(token, str)
    is_first(response)


def check_timelines(response: Any) -> None:
    for room_id, prev_batch in timeline_gaps(response).items():
        assert isinstance(room_id, str)
        assert isinstance(prev_batch, str)
    for room_id, entry in joined_in(response).items():
        timeline = timeline_of(entry)
        answers = answers_in(room_id, timeline, bot=BOT)
        assert all(map(is_event_id, answers.given))
        assert not {part.question.event_id for part in answers.open} & answers.given
        begins_before(timeline, 0, server="test")
        for event in too_old(timeline, 0, server="test", none_before=None):
            assert isinstance(event, dict)
    for some_rooms in slices(response):
        list(read_response(some_rooms, bot=BOT))


@given(response=responses)
def test_only_well_formed_messages_come_out_of_a_response(response: object) -> None:
    check_news(response)


@given(response=responses)
def test_every_timeline_can_be_read(response: Any) -> None:
    check_timelines(response)


SOUND: dict[str, Any] = {
    "next_batch": "s1",
    "rooms": {
        "join": {
            ROOM: {
                "timeline": {
                    "limited": True,
                    "prev_batch": "p1",
                    "events": [
                        {
                            "type": "m.room.message",
                            "event_id": "$a",
                            "sender": "@anna:test",
                            "origin_server_ts": 1,
                            "content": {
                                "msgtype": "m.text",
                                "body": "Hello",
                                "m.relates_to": {
                                    "rel_type": "m.thread",
                                    "event_id": "$root",
                                    "m.in_reply_to": {"event_id": "$b"},
                                },
                            },
                        },
                        {
                            "type": "m.room.message",
                            "event_id": "$b",
                            "sender": BOT,
                            "origin_server_ts": 2,
                            "content": {ANSWERS: "$x", MORE_TO_COME: True},
                        },
                        {
                            "type": "m.room.member",
                            "state_key": "@anna:test",
                            "event_id": "$c",
                            "sender": "@anna:test",
                            "content": {"membership": "join", "reason": "why not"},
                            "unsigned": {"prev_content": {"membership": "leave"}},
                        },
                        {
                            "type": "m.room.encrypted",
                            "event_id": "$d",
                            "sender": "@anna:test",
                            "origin_server_ts": 3,
                            "content": {"session_id": "s", "ciphertext": "c"},
                        },
                    ],
                },
                "state": {"events": [{"type": "m.room.name", "state_key": "", "content": {}}]},
            }
        },
        "invite": {
            "!new:test": {
                "invite_state": {
                    "events": [
                        {
                            "type": "m.room.member",
                            "state_key": BOT,
                            "sender": "@anna:test",
                            "content": {"membership": "invite"},
                        }
                    ]
                }
            }
        },
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value inside a value, and to itself."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


@pytest.mark.parametrize("strange", hostile.STRANGE.values(), ids=hostile.STRANGE.keys())
def test_anything_may_stand_anywhere(strange: object) -> None:
    """Without Hypothesis, which lets Python nest deeper than it does in production."""
    for path in places(SOUND):
        response = replaced(SOUND, path, strange)
        check_news(response)
        check_timelines(response)


@given(event=junk | events)
def test_every_event_has_a_time_or_none(event: object) -> None:
    moment = sent_at(event)
    assert moment is None or type(moment) is int


@given(rooms=st.lists(states, min_size=1, max_size=3), adopt=st.booleans())
def test_every_state_gives_a_plan_that_any_database_takes(rooms: list[Any], adopt: bool) -> None:
    read: dict[RoomID, Room | Unreadable] = {}
    for number, state in enumerate(rooms):
        room_id = RoomID(f"!room{number}:test")
        created = {
            "type": "m.room.create",
            "state_key": "",
            "sender": BOT,
            "content": {"type": "m.space"} if number == 0 else {},
        }
        told = state["events"]
        whole = [created, *(told if isinstance(told, list) else [])]
        read[room_id] = read_room(room_id, whole, bot=BOT)
    topology = Topology(bot=BOT, rooms=read)
    plan = make_plan(topology, Records(), adopt_unmarked=adopt)
    for change in plan.changes:
        text = repr(change)
        assert len(text) < 10_000
        assert "\n" not in text
    assert all("\n" not in finding.detail for finding in plan.findings if finding.detail)


@given(content=junk | contents)
def test_a_marker_is_read_or_refused_in_one_short_line(content: object) -> None:
    try:
        marker = parse_marker(content)
    except MarkerError as e:
        reason = str(e)
    else:
        reason = ""
        assert is_user_id(marker.user_id)
        assert parse_marker(json.loads(json.dumps(marker.to_content()))) == marker
    assert len(reason) < 200
    assert reason.isprintable()


@given(
    text=hostile.texts
    | st.tuples(
        st.sampled_from(["!chat ", "!chat new ", "!chat rename ", "!reset ", "!reconcile "]),
        hostile.texts | st.sampled_from(["x" * 60_000, "--" * 9_000, "\n" * 9_000]),
    ).map("".join)
)
def test_every_text_is_a_command_or_not(text: str) -> None:
    command = parse_command(text)
    assert command is None or len(repr(command)) < 1000
    if isinstance(command, ChatNew | ChatRename) and command.name is not None:
        assert 1 <= len(command.name) <= MAX_CHAT_NAME
