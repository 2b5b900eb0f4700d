"""Which rooms a sync response sends us back to: all that a look may see otherwise, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.homes.room_state import STATE_TYPES
from homeroom.domain.sync.changed_rooms import (
    cached_state_in,
    rooms_made_by_the_bot,
    rooms_to_rescan,
)
from tests.domain import hostile
from tests.domain.builders import ANNA, BOT, ELSEWHERE, HOME, MALLORY, NEW, WORK

OURS = {HOME, WORK}


def event(kind: str, *, key: str | None = "", sender: str = ANNA) -> dict[str, Any]:
    state_key = {} if key is None else {"state_key": key}
    return {"type": kind, "sender": sender, "content": {}, "event_id": "$x", **state_key}


def rescanned(response: object) -> set[str]:
    return set(rooms_to_rescan(response, bot=BOT, is_ours=lambda room_id: room_id in OURS))


def joined(room_id: str, *timeline: Any, state: tuple[Any, ...] = (), **more: Any) -> object:
    entry = {"timeline": {"events": [*timeline], **more}, "state": {"events": [*state]}}
    return {"rooms": {"join": {room_id: entry}}}


@pytest.mark.parametrize("kind", STATE_TYPES)
@pytest.mark.parametrize("sender", [BOT, ANNA, MALLORY])
def test_whatever_a_look_reads_counts_in_our_rooms_whoever_wrote_it(
    kind: str, sender: str
) -> None:
    changed = event(kind, sender=sender)
    assert rescanned(joined(WORK, changed)) == {WORK}
    assert rescanned(joined(WORK, state=(changed,))) == {WORK}


def test_what_is_said_does_not_count() -> None:
    message = event("m.room.message", key=None)
    topic, reaction = event("m.room.topic"), event("m.reaction", key=None)
    assert rescanned(joined(WORK, message, topic, reaction)) == set()


def test_what_is_hidden_in_a_gap_counts() -> None:
    """A redaction of state is no change of state: it is only seen in the timeline."""
    assert rescanned(joined(WORK, limited=True)) == {WORK}
    assert rescanned(joined(ELSEWHERE, limited=True)) == set()
    assert rescanned(joined(WORK, event("m.room.redaction", key=None))) == {WORK}


def test_rooms_that_were_left_count_if_they_are_ours() -> None:
    assert rescanned({"rooms": {"leave": {WORK: {}, ELSEWHERE: {}}}}) == {WORK}


@pytest.mark.parametrize(
    "change",
    [
        event("m.room.create"),
        event("m.room.member", key=BOT, sender=BOT),
        event(MARKER_TYPE, key=BOT, sender=BOT),
    ],
    ids=["it is new", "the bot came in", "the bot marked it"],
)
def test_a_room_that_may_have_become_ours_counts(change: dict[str, Any]) -> None:
    assert rescanned(joined(ELSEWHERE, change)) == {ELSEWHERE}
    assert rescanned(joined(ELSEWHERE, state=(change,))) == {ELSEWHERE}


def test_what_others_do_elsewhere_does_not_count() -> None:
    """Thousands of people come and go in public rooms."""
    changes = [
        event("m.room.member", key=MALLORY, sender=MALLORY),
        event(MARKER_TYPE, key=MALLORY, sender=MALLORY),
        event("m.room.name", sender=MALLORY),
        event("m.space.child", key=NEW, sender=MALLORY),
    ]
    assert rescanned(joined(ELSEWHERE, *changes)) == set()


def test_what_the_bot_linked_counts_too() -> None:
    assert rescanned(joined(HOME, event("m.space.child", key=NEW, sender=BOT))) == {HOME, NEW}
    assert rescanned(joined(HOME, event("m.space.child", key=NEW, sender=ANNA))) == {HOME}


@pytest.mark.parametrize("part", ["timeline", "state"])
def test_what_is_made_in_the_bots_name_is_noticed(part: str) -> None:
    def made(*events: Any) -> set[str]:
        response = {"rooms": {"join": {ELSEWHERE: {part: {"events": [*events]}}}}}
        return set(rooms_made_by_the_bot(response, bot=BOT))

    assert made(event("m.room.create", sender=BOT)) == {ELSEWHERE}
    assert made(event(MARKER_TYPE, key=BOT, sender=BOT)) == {ELSEWHERE}
    assert made(event("m.space.child", key=NEW, sender=BOT)) == {NEW}
    assert made(event("m.room.create"), event("m.space.child", key=NEW)) == set()
    assert made(event("m.room.name", sender=BOT), event("m.space.child", sender=BOT)) == set()
    assert made(event("m.room.create", key=None, sender=BOT), None, 7) == set()


@given(hostile.json)
def test_nonsense_is_no_error(value: Any) -> None:
    for response in (
        value,
        {"rooms": value},
        {"rooms": {"join": value, "leave": value}},
        {"rooms": {"join": {WORK: value}}},
        {"rooms": {"join": {WORK: {"timeline": value, "state": value}}}},
        joined(WORK, value, state=(value,)),
    ):
        rooms_to_rescan(response, bot=BOT, is_ours=lambda room_id: room_id in OURS)
        rooms_made_by_the_bot(response, bot=BOT)


def test_of_what_changed_twice_only_the_end_is_told_to_the_state_store() -> None:
    """An older state would be true for a moment again."""

    def member(name: str) -> dict[str, Any]:
        return {"type": "m.room.member", "state_key": ANNA, "content": {"displayname": name}}

    levels = {"type": "m.room.power_levels", "state_key": "", "content": {}}
    room = {
        "state": {"events": [member("One"), levels]},
        "timeline": {"events": [member("Two"), member("Three")], "limited": True},
    }
    response = {"rooms": {"join": {HOME: room, ELSEWHERE: room}}}
    assert cached_state_in(response, is_ours=lambda room_id: room_id == HOME) == [
        (HOME, member("Three")),
        (HOME, levels),
    ]


@pytest.mark.parametrize("section", ["join", "leave"])
def test_state_before_a_timeline_without_a_gap_is_not_told_to_the_state_store(
    section: str,
) -> None:
    """It may be older than what was told before: by a branch of the history it was so."""
    before = {"type": "m.room.member", "state_key": ANNA, "content": {"membership": "invite"}}
    said = {"type": "m.room.message", "sender": ANNA, "content": {}}
    room = {"state": {"events": [before]}, "timeline": {"events": [said], "limited": False}}
    told = {"rooms": {section: {HOME: room}}}
    assert cached_state_in(told, is_ours=lambda room_id: True) == []
    create = {"type": "m.room.create", "state_key": "", "content": {}}
    room["state"] = {"events": [create, before]}
    assert cached_state_in(told, is_ours=lambda room_id: True) == [(HOME, before)]
