"""What the bot was told outranks what it reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import EventID, RoomID

from homeroom.domain.homes.room_state import STATE_TYPES
from homeroom.domain.sync.told_state import MAX_EVENTS, MAX_ROOMS, TRUSTED_FOR, ToldState
from tests.domain.builders import ANNA, BOT, ELSEWHERE, HOME, WORK

NAME = ("m.room.name", "")
NOW = 1_700_000_000_000


def event(event_id: str, name: str, *, key: tuple[str, str] = NAME) -> dict[str, Any]:
    return {
        "type": key[0],
        "state_key": key[1],
        "sender": ANNA,
        "content": {"name": name},
        "event_id": event_id,
    }


def member(event_id: str, membership: str, *, user_id: str = BOT) -> dict[str, Any]:
    return {
        "type": "m.room.member",
        "state_key": user_id,
        "sender": user_id,
        "content": {"membership": membership},
        "event_id": event_id,
    }


def told(section: str, room_id: RoomID, *events: dict[str, Any], limited: bool = False) -> object:
    entry = {"timeline": {"events": list(events), "limited": limited}}
    return {"rooms": {section: {room_id: entry}}}


@pytest.fixture
def state() -> ToldState:
    return ToldState(BOT)


def hear(state: ToldState, response: object, *, now: int = NOW) -> None:
    state.synced(response, is_ours=lambda room_id: room_id != ELSEWHERE, now=now)


def write(
    state: ToldState, event_id: str, name: str, *, room_id: RoomID = WORK, now: int = NOW
) -> None:
    content = {"name": name}
    state.wrote(room_id, NAME, content, event_id=EventID(event_id), since=now, now=now)


def own(event_id: str, name: str) -> dict[str, Any]:
    return {**event(event_id, name), "sender": BOT}


def read(state: ToldState, *events: Any, room_id: RoomID = WORK, now: int = NOW) -> list[Any]:
    return state.over_state(room_id, list(events), types=STATE_TYPES, now=now)


def names(events: list[Any]) -> list[str]:
    return [e["content"]["name"] for e in events if e["type"] == "m.room.name"]


# Memberships


def test_a_room_that_was_made_is_joined_though_the_list_does_not_have_it(state: ToldState) -> None:
    state.joined(WORK, since=NOW, now=NOW)
    assert state.over_joined_rooms([HOME], now=NOW) == {HOME, WORK}


def test_a_room_that_was_left_is_not_joined_though_the_list_has_it(state: ToldState) -> None:
    state.left(WORK, since=NOW, now=NOW)
    assert state.over_joined_rooms([HOME, WORK], now=NOW) == {HOME}


def test_the_list_counts_again_when_what_was_told_is_old(state: ToldState) -> None:
    state.joined(WORK, since=NOW, now=NOW)
    state.left(HOME, since=NOW, now=NOW)
    assert state.over_joined_rooms([HOME], now=NOW + TRUSTED_FOR) == {HOME}
    assert state.over_joined_rooms([HOME], now=NOW - TRUSTED_FOR) == {HOME}


def test_whoever_was_kicked_is_out_of_it(state: ToldState) -> None:
    hear(state, told("leave", WORK, member("$kick", "leave")))
    assert state.over_joined_rooms([WORK], now=NOW) == frozenset()


def test_a_room_that_was_made_is_told_from_one_that_was_joined(state: ToldState) -> None:
    state.created(WORK, now=NOW)
    state.joined(HOME, since=NOW, now=NOW)
    hear(state, told("join", WORK, member("$join", "join")))
    assert [state.is_created(r, now=NOW) for r in (WORK, HOME, ELSEWHERE)] == [True, False, False]
    assert not state.is_created(WORK, now=NOW + TRUSTED_FOR)
    assert state.over_joined_rooms([], now=NOW) == {WORK, HOME}
    hear(state, told("leave", WORK, member("$kick", "leave")))
    assert not state.is_created(WORK, now=NOW)


def test_whoever_was_invited_is_so_until_a_read_knows_more(state: ToldState) -> None:
    state.invited(WORK, ANNA, since=NOW, now=NOW)
    (invited,) = read(state)
    assert (invited["state_key"], invited["content"]) == (ANNA, {"membership": "invite"})
    for membership, expected in [("leave", "invite"), ("join", "join"), ("ban", "ban")]:
        (seen,) = read(state, member("$other", membership, user_id=ANNA))
        assert seen["content"]["membership"] == expected


def test_an_old_leave_in_a_late_response_does_not_undo_a_join(state: ToldState) -> None:
    state.left(WORK, since=NOW, now=NOW)
    state.joined(WORK, since=NOW + 1, now=NOW + 1)
    hear(state, told("leave", WORK, member("$leave", "leave")))
    assert state.over_joined_rooms([], now=NOW) == {WORK}
    hear(state, told("join", WORK, member("$join", "join")))
    hear(state, told("leave", WORK, member("$kick", "leave")))
    assert state.over_joined_rooms([WORK], now=NOW) == frozenset()


def test_a_room_that_was_made_and_from_which_the_bot_was_kicked_at_once(state: ToldState) -> None:
    state.joined(WORK, since=NOW, now=NOW)
    hear(state, told("leave", WORK, member("$join", "join"), member("$kick", "leave")))
    assert state.over_joined_rooms([WORK], now=NOW) == frozenset()


def test_an_old_message_in_a_late_response_does_not_undo_a_leave(state: ToldState) -> None:
    state.left(WORK, since=NOW, now=NOW)
    hear(state, told("join", WORK, member("$join", "join")))
    assert state.over_joined_rooms([WORK], now=NOW) == frozenset()


def test_what_sync_told_before_the_request_was_answered_is_not_told_again(
    state: ToldState,
) -> None:
    hear(state, told("join", WORK, member("$join", "join")))
    state.joined(WORK, since=NOW, now=NOW + 1)
    hear(state, told("leave", WORK, member("$kick", "leave")), now=NOW + 2)
    assert state.over_joined_rooms([WORK], now=NOW) == frozenset()
    state.left(WORK, since=NOW + 2, now=NOW + 3)
    hear(state, told("join", WORK, member("$elsewhere", "join")), now=NOW + 4)
    assert state.over_joined_rooms([], now=NOW) == {WORK}


@pytest.mark.parametrize("known", ["leave", "knock", "invite", "join", "ban"])
def test_who_came_before_the_invite_was_answered_is_there(state: ToldState, known: str) -> None:
    hear(state, told("join", WORK, member("$known", known, user_id=ANNA)))
    state.invited(WORK, ANNA, since=NOW, now=NOW + 1)
    (seen,) = read(state)
    is_before = known in ("leave", "knock")
    assert seen["content"]["membership"] == ("invite" if is_before else known)
    state.invited(WORK, ANNA, since=NOW + 1, now=NOW + 1)
    (seen,) = read(state)
    assert seen["content"]["membership"] == "invite"


def test_the_state_of_a_room_that_was_joined_says_so(state: ToldState) -> None:
    state.joined(WORK, since=NOW, now=NOW)
    (own,) = read(state, member("$before", "invite"))
    assert own["content"] == {"membership": "join"}
    profile = member("$join", "join")
    profile["content"]["displayname"] = "Homeroom"
    assert read(state, profile) == [profile]


# State


def test_what_was_written_lies_over_what_is_read(state: ToldState) -> None:
    write(state, "$new", "New")
    assert names(read(state, event("$old", "Old"))) == ["New"]
    assert names(read(state)) == ["New"]


def test_it_does_so_however_many_workers_answer(state: ToldState) -> None:
    """The next read may come from a worker that is behind the one that answered before."""
    write(state, "$new", "New")
    assert names(read(state, event("$new", "New"))) == ["New"]
    assert names(read(state, event("$old", "Old"))) == ["New"]


def test_a_read_that_has_the_event_wins_because_it_may_have_been_redacted(
    state: ToldState,
) -> None:
    write(state, "$new", "New")
    redacted = {**event("$new", ""), "content": {}}
    assert read(state, redacted) == [redacted]


def test_what_sync_tells_lies_over_what_is_read(state: ToldState) -> None:
    hear(state, told("join", WORK, event("$new", "New")))
    assert names(read(state, event("$old", "Old"))) == ["New"]


def test_the_last_news_count(state: ToldState) -> None:
    hear(state, told("join", WORK, event("$1", "One"), event("$2", "Two")))
    hear(state, told("join", WORK, event("$3", "Three")))
    assert names(read(state, event("$2", "Two"))) == ["Three"]


def test_older_news_do_not_take_the_place_of_what_was_written(state: ToldState) -> None:
    write(state, "$own", "Own")
    hear(state, told("join", WORK, event("$before", "Before")))
    assert names(read(state)) == ["Own"]
    hear(state, told("join", WORK, own("$own", "Own"), event("$after", "After")))
    assert names(read(state, own("$own", "Own"))) == ["After"]


@pytest.mark.parametrize("when", ["before", "together", "afterwards"])
def test_whenever_the_request_is_answered_what_came_later_counts(
    state: ToldState, when: str
) -> None:
    """`/sync` may tell what a request did before its answer has come."""
    later = event("$after", "After")
    hear(state, told("join", WORK, own("$own", "Own"), *([later] if when != "before" else [])))
    if when == "afterwards":
        hear(state, told("join", WORK, event("$last", "Last")))
    write(state, "$own", "Own")
    if when == "before":
        assert names(read(state)) == ["Own"]
        hear(state, told("join", WORK, later))
    assert names(read(state)) == ["Last" if when == "afterwards" else "After"]


@given(actions=st.lists(st.one_of(st.sampled_from(["own", "other", "answer"]), st.integers(1, 4))))
def test_what_is_known_is_never_older_than_what_was_told_or_answered(
    actions: list[str | int],
) -> None:
    """Whoever writes, however late `/sync` is, and whenever the bot's requests are answered.

    A number is a response of `/sync` that tells so many events more.
    """
    state, timeline, told_until, asked, floor = ToldState(BOT), list[dict[str, Any]](), 0, -1, -1
    for action in [*actions, "answer", len(actions) + 1]:
        number = len(timeline)
        match action:
            case "own" if asked < 0:
                timeline.append(own(f"${number}", f"{number}"))
                asked = number
            case "other":
                timeline.append(event(f"${number}", f"{number}"))
            case "answer" if asked >= 0:
                write(state, f"${asked}", f"{asked}")
                floor, asked = max(floor, asked), -1
            case int() if told_until < number:
                hear(state, told("join", WORK, *timeline[told_until : told_until + action]))
                told_until = min(number, told_until + action)
                floor = max(floor, told_until - 1)
        known = state.event(WORK, NAME, now=NOW)
        assert (int(known["content"]["name"]) if known else -1) >= floor
    assert floor == len(timeline) - 1


def test_what_was_redacted_before_the_request_was_answered_is_gone(state: ToldState) -> None:
    redaction = {"type": "m.room.redaction", "sender": ANNA, "event_id": "$2", "redacts": "$own"}
    hear(state, told("join", WORK, own("$own", "Own")))
    hear(state, told("join", WORK, {**redaction, "content": {}}))
    write(state, "$own", "Own")
    assert read(state) == []


def test_a_room_that_is_not_ours_yet_is_written_to_and_read(state: ToldState) -> None:
    hear(state, told("join", ELSEWHERE, own("$1", "One")))
    write(state, "$1", "One", room_id=ELSEWHERE)
    assert names(read(state, room_id=ELSEWHERE)) == ["One"]
    write(state, "$2", "Two", room_id=ELSEWHERE)
    hear(state, told("join", ELSEWHERE, own("$2", "Two")))
    hear(state, told("join", ELSEWHERE, event("$3", "Three")))
    assert names(read(state, room_id=ELSEWHERE)) == ["Three"]


def test_in_a_gap_what_was_written_may_have_been_replaced(state: ToldState) -> None:
    write(state, "$own", "Own")
    hear(state, told("join", WORK, event("$after", "After"), limited=True))
    assert names(read(state)) == ["After"]


def test_in_a_gap_the_bot_itself_has_not_replaced_it(state: ToldState) -> None:
    """The first news of a new room have a gap, and may be older than what was written since."""
    write(state, "$own", "Own")
    hear(state, told("join", WORK, own("$born", "Born"), limited=True))
    assert names(read(state)) == ["Own"]
    hear(state, told("join", WORK, own("$own", "Own")))
    hear(state, told("join", WORK, event("$after", "After")))
    assert names(read(state)) == ["After"]


def test_what_was_told_in_a_gap_counts_when_its_request_is_answered(state: ToldState) -> None:
    write(state, "$own", "Own")
    hear(state, told("join", WORK, own("$next", "Next"), limited=True))
    write(state, "$next", "Next")
    assert names(read(state)) == ["Next"]
    hear(state, told("join", WORK, event("$after", "After")))
    assert names(read(state)) == ["After"]


@pytest.mark.parametrize("is_new", [False, True])
def test_state_before_a_timeline_without_a_gap_is_out_of_date(
    state: ToldState, is_new: bool
) -> None:
    """Somebody joined while the bot wrote: on that branch of the history it has not written."""
    write(state, "$own", "Own")
    hear(state, told("join", WORK, own("$own", "Own")))
    create = {**event("$create", ""), "type": "m.room.create"}
    before = [*([create] if is_new else []), own("$before", "Before")]
    entry = {"state": {"events": before}, "timeline": {"events": [member("$join", "join")]}}
    hear(state, {"rooms": {"join": {WORK: entry}}})
    assert names(read(state)) == ["Before" if is_new else "Own"]


def test_what_is_put_once_more_is_so(state: ToldState) -> None:
    """The homeserver makes no second event of it: the answer has the ID of the first."""
    write(state, "$own", "Own", now=NOW)
    hear(state, told("join", WORK, own("$own", "Own")), now=NOW)
    hear(state, told("join", WORK, own("$wrong", "Wrong")), now=NOW)
    write(state, "$own", "Own", now=NOW + 1)
    assert names(read(state)) == ["Own"]
    hear(state, told("join", WORK, event("$after", "After")), now=NOW + 1)
    assert names(read(state)) == ["After"]


def test_reads_count_again_when_what_was_told_is_old(state: ToldState) -> None:
    write(state, "$own", "Own")
    later = NOW + TRUSTED_FOR
    assert names(read(state, event("$other", "Other"), now=later)) == ["Other"]
    hear(state, told("join", WORK, event("$late", "Late")), now=later)
    assert names(read(state, now=later)) == ["Late"]


def test_only_what_was_asked_for_is_added(state: ToldState) -> None:
    """A room's members are either read or not; some of them alone would look like all."""
    state.joined(WORK, since=NOW, now=NOW)
    hear(state, told("join", WORK, member("$anna", "join", user_id=ANNA)))
    assert state.over_state(WORK, [], types=["m.room.name"], now=NOW) == []


def test_of_rooms_of_others_nothing_is_kept(state: ToldState) -> None:
    hear(state, told("join", ELSEWHERE, event("$name", "Elsewhere")))
    assert state.event(ELSEWHERE, NAME, now=NOW) is None
    hear(state, told("join", WORK, event("$name", "Work")))
    assert state.event(WORK, NAME, now=NOW) == event("$name", "Work")


def test_of_a_room_that_was_left_nothing_is_kept(state: ToldState) -> None:
    write(state, "$own", "Own")
    state.left(WORK, since=NOW, now=NOW)
    assert read(state) == []


@pytest.mark.parametrize(
    "response",
    [
        None,
        [],
        {"rooms": 7},
        {"rooms": {"join": {WORK: None}, "leave": {WORK: 7}}},
        {"rooms": {"join": {WORK: {"state": [], "timeline": {"events": [7, {}, {"type": 7}]}}}}},
        told("join", WORK, {"type": "m.room.name", "state_key": "", "content": 7}),
    ],
)
def test_nonsense_is_passed_over(state: ToldState, response: object) -> None:
    hear(state, response)
    assert read(state, 7, {"type": 7}) == [7, {"type": 7}]


def test_what_is_kept_is_bounded(state: ToldState) -> None:
    for number in range(MAX_ROOMS + 10):
        room_id = RoomID(f"!{number}:example.org")
        state.joined(room_id, since=NOW, now=NOW)
        write(state, "$own", "Own", room_id=room_id)
    assert len(state.over_joined_rooms([], now=NOW)) == MAX_ROOMS
    links = [event(f"${n}", "", key=("m.space.child", f"!{n}:x")) for n in range(MAX_EVENTS + 10)]
    hear(state, told("join", WORK, *links))
    assert len(read(state)) == MAX_EVENTS


@pytest.mark.parametrize("told_by", ["a request", "sync"])
@pytest.mark.parametrize("version", ["before 11", "11"])
def test_what_is_redacted_is_only_known_from_reads(
    state: ToldState, told_by: str, version: str
) -> None:
    if told_by == "sync":
        hear(state, told("join", WORK, event("$1", "Holidays")))
    else:
        write(state, "$1", "Holidays")
    assert state.event(WORK, NAME, now=NOW)
    where = {"redacts": "$1"}
    redaction = {"type": "m.room.redaction", "sender": ANNA, "event_id": "$2", "content": {}}
    redaction |= {"content": where} if version == "11" else where
    hear(state, told("join", WORK, redaction))
    assert state.event(WORK, NAME, now=NOW) is None
    assert read(state, event("$1", "")) == [event("$1", "")]
