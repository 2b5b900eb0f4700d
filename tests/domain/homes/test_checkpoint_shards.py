"""The checkpoint in account data: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.homes.checkpoint_shards import (
    HEAD_TYPE,
    MAX_TEXT,
    ROWS_IN_SHARD,
    Damaged,
    Head,
    Present,
    changed_owners,
    checksum,
    erasures,
    joined,
    read_head,
    read_shard,
    shard_checksum,
    shard_count,
    shard_of,
    shard_type,
    writes,
)
from homeroom.domain.homes.model import Chat, Conversation, Home, Records, RoomType, Status
from homeroom.domain.homes.place import Place
from tests.domain.builders import ANNA, BERT, ELSEWHERE, HOME, NEW, WORK
from tests.domain.homes.test_checkpoint import records

Data = dict[str, Any]
"""Account data: type to content."""

HOME_ROW = Home(matrix_user_id=ANNA, space_id=HOME, initial_chats=("Work", "Plây"))
CHAT_ROW = Chat(
    room_id=WORK,
    matrix_user_id=ANNA,
    space_id=HOME,
    chat_id="C1",
    platform_chat_id="key",
    name="\ud800",
    conversation=Conversation(number=2, since="$event"),
)
OTHERS: dict[str, list[Any]] = {
    "matrix_user_id": [BERT],
    "space_id": [ELSEWHERE],
    "status": [Status.LEFT, Status.ARCHIVED, Status.REPLACED, None],
    "initial_chats": [(), ("One", "Two")],
    "room_id": [NEW],
    "chat_id": ["C2", None],
    "platform_chat_id": ["other", None],
    "name": ["", None, "Name"],
    "room_type": [RoomType.SPACE, None],
    "conversation": [None, Conversation(number=1, since="$other")],
    "answer": ["members"],
}
SHARD = shard_type(0, slot=0)
"""The first that is written."""
PLACE = Place(room_id=WORK, since="s0", why="Ärger", parked_at=7)
OWNERS = [f"@owner-{number}:x" for number in range(6)]
NAMES = st.none() | st.text(max_size=3)


def chat(owner: str, number: int, *, name: str | None = None) -> Chat:
    return Chat(
        room_id=f"!{owner}-{number}",
        matrix_user_id=owner,
        space_id=None,
        chat_id=f"C{number}",
        platform_chat_id=None,
        name=name,
    )


@st.composite
def rows(draw: st.DrawFn) -> Records:
    """Rows of a few owners."""
    found: list[Home | Chat] = []
    for owner in draw(st.sets(st.sampled_from(OWNERS))):
        if draw(st.booleans()):
            found.append(Home(matrix_user_id=owner, space_id=f"!{owner}"))
        found.extend(
            chat(owner, number, name=draw(NAMES)) for number in draw(st.sets(st.integers(1, 3)))
        )
    return records(*found)


def write(data: Data, rows: Records, *, present: Present | None = None, **head: Any) -> Present:
    """Write rows to account data; returns what is there then."""
    values: Data = {"checkpoint": "proof", "position": "s1", "saved_at": 1, **head}
    written, todo = writes(rows, present=present or found(data), **values)
    data.update(todo)
    return Present(head=written, shards=written.shards, records=rows)


def found(data: Data) -> Present:
    """What is found in account data by somebody who knows nothing of it."""
    try:
        head = read_head(data.get(HEAD_TYPE))
    except Damaged:
        head = None
    contents = [] if head is None else [data.get(kind) for kind in head.shard_types]
    return Present(head=head, shards=tuple(map(shard_checksum, contents)))


def read(data: Data) -> tuple[Head | None, Records]:
    head = read_head(data.get(HEAD_TYPE))
    if head is None:
        return None, Records()
    shards = [
        read_shard(data.get(kind), head=head, number=number)
        for number, kind in enumerate(head.shard_types)
    ]
    return head, joined(shards)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeroom.domain.homes.checkpoint_shards.ROWS_IN_SHARD", 2)


@pytest.mark.parametrize("row", [HOME_ROW, CHAT_ROW], ids=["home", "chat"])
def test_every_value_of_a_row_comes_back(row: Home | Chat) -> None:
    for field in fields(row):
        for value in OTHERS[field.name]:
            other: Any = replace(row, **{field.name: value})
            data: Data = {}
            write(data, records(other))
            json.dumps(data).encode()
            assert read(data)[1] == records(other)


@pytest.mark.parametrize("since", ["s0", None])
def test_the_places_of_parked_rooms_come_back(since: str | None) -> None:
    data: Data = {}
    place = replace(PLACE, since=since)
    write(data, records(HOME_ROW), parked=[place, replace(place, room_id=NEW, why="x" * 999)])
    head, _ = read(data)
    assert head is not None
    assert head.parked == (place, replace(place, room_id=NEW, why="x" * 200))


def test_more_places_than_can_be_read_leave_the_old_checkpoint() -> None:
    with pytest.raises(Damaged, match="the head would have"):
        write({}, records(HOME_ROW), parked=[PLACE] * 50_000)


@given(st.lists(rows(), min_size=1, max_size=4), st.booleans())
def test_what_was_written_last_is_what_is_read(history: list[Records], remembers: bool) -> None:
    data: Data = {}
    present = Present()
    for number, each in enumerate(history):
        present = write(
            data,
            each,
            present=present if remembers else None,
            checkpoint=f"proof {number}",
            position=f"s{number}",
        )
    head, found_rows = read(data)
    assert found_rows == history[-1]
    assert head == present.head
    assert head is not None
    assert (head.checkpoint, head.position) == (
        f"proof {len(history) - 1}",
        f"s{len(history) - 1}",
    )


@given(st.lists(rows(), min_size=2, max_size=4), st.data())
def test_writing_that_ends_anywhere_leaves_the_old_checkpoint_or_the_new_one(
    history: list[Records], draw: st.DataObject
) -> None:
    """However often in succession, and whoever comes next goes on from there."""
    data: Data = {}
    write(data, history[0], checkpoint="0")
    valid = 0
    for number, each in enumerate(history[1:], start=1):
        _, todo = writes(
            each, checkpoint=str(number), position="s2", saved_at=2, present=found(data)
        )
        length = draw.draw(st.integers(0, len(todo)))
        data.update(todo[:length])
        if (HEAD_TYPE, data[HEAD_TYPE]) in todo[:length]:
            valid = number
        found_head, found_rows = read(data)
        assert found_head is not None
        assert (found_head.checkpoint, found_rows) == (str(valid), history[valid])
    write(data, history[-1], checkpoint="last")
    assert read(data)[1] == history[-1]


@given(rows(), rows())
def test_only_shards_of_owners_with_other_rows_are_written(
    before: Records, after: Records
) -> None:
    data: Data = {}
    present = write(data, before)
    head, todo = writes(after, checkpoint="new", position="s1", saved_at=1, present=present)
    assert present.head is not None
    if len(head.shards) != len(present.head.shards):
        return
    owners = changed_owners(before, after)
    assert {kind for kind, _ in todo} == {HEAD_TYPE} | {
        head.shard_types[shard_of(owner, len(head.shards))] for owner in owners
    }
    assert not {kind for kind, _ in todo} & set(present.head.shard_types)
    assert todo[-1][0] == HEAD_TYPE


@given(rows())
def test_nothing_is_written_twice(each: Records) -> None:
    data: Data = {}
    present = write(data, each)
    for known in (present, found(data)):
        _, todo = writes(each, checkpoint="proof", position="s1", saved_at=1, present=known)
        assert todo == []


@given(rows(), st.data())
def test_a_damaged_shard_is_written_again(each: Records, draw: st.DataObject) -> None:
    data: Data = {}
    present = write(data, each)
    assert present.head is not None
    number = draw.draw(st.integers(0, len(present.head.shards) - 1))
    data[present.head.shard_types[number]] = {}
    head, todo = writes(each, checkpoint="proof", position="s1", saved_at=1, present=found(data))
    assert [written for written, _ in todo] == [head.shard_types[number], HEAD_TYPE]
    data.update(todo)
    assert read(data) == (head, each)


def test_shards_that_are_not_needed_any_more_are_emptied_when_there_is_a_new_head() -> None:
    chats = [chat(f"@{number}:x", 1) for number in range(40)]
    data: Data = {}
    first = write(data, records(*chats))
    second = write(data, records(*chats[:1]), present=first)
    assert first.head is not None
    assert second.head is not None
    assert (len(first.head.shards), len(second.head.shards)) == (32, 1)
    assert (first.head.generation, second.head.generation) == (1, 2)
    assert {kind for kind, content in data.items() if content} - {shard_type(0, slot=0)} == {
        HEAD_TYPE,
        shard_type(0, slot=1),
    }
    assert read(data)[1] == records(*chats[:1])


def test_the_number_of_shards_grows_with_the_rows_and_does_not_waver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    assert ROWS_IN_SHARD == 256
    assert [shard_count(rows) for rows in (0, 1, 256, 257, 1000, 10_000, 10**9)] == [
        *(1, 1, 1, 2, 4, 64, 4096)
    ]
    assert [shard_count(rows, before=4) for rows in (1025, 1000, 500, 100, 0)] == [8, 4, 4, 4, 4]
    assert shard_count(0, before=16) == 1


def test_an_owner_is_always_in_the_same_shard() -> None:
    """Across builds, too: another way to choose it is another version."""
    assert [shard_of(owner, 64) for owner in (ANNA, BERT)] == [63, 25]
    assert 0 <= shard_of("@\ud800:x", 3) < 3


def test_to_erase_it_the_head_goes_first() -> None:
    data: Data = {}
    write(data, records(HOME_ROW, CHAT_ROW))
    todo = erasures(1)
    assert todo == [(HEAD_TYPE, {}), *((shard_type(0, slot=slot), {}) for slot in (0, 1))]
    data.update(todo[:1])
    assert read(data) == (None, Records())


# Damage


def resealed(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Other data under a checksum that is right."""

    def alter(content: Any) -> Any:
        text = json.dumps(change(json.loads(content["data"])))
        return {**content, "data": text, "checksum": checksum(text)}

    return alter


ALTERATIONS: dict[str, Callable[[Any], Any]] = {
    "missing": lambda _: None,
    "emptied": lambda _: {},
    "a list": lambda _: [],
    "altered": lambda content: {**content, "data": content["data"].replace("!", "?", 1) + " "},
    "another checksum": lambda content: {**content, "checksum": "0"},
    "no data": lambda content: {**content, "data": None},
    "not ASCII": lambda content: {**content, "data": "é"},
    "10 MB": lambda content: {**content, "data": "x" * 10_000_000},
    "more than is read": resealed(lambda data: {**data, "x": "x" * MAX_TEXT}),
    "a later version": lambda content: {**content, "version": 2},
    "not JSON": lambda content: {**content, "data": "{", "checksum": checksum("{")},
    "deep": lambda content: {
        **content,
        "data": "[" * 100_000,
        "checksum": checksum("[" * 100_000),
    },
    "not an object": resealed(lambda data: [data]),
}
OF_A_SHARD: dict[str, Callable[[Any], Any]] = {
    "another generation": resealed(lambda data: {**data, "generation": 7}),
    "another number": resealed(lambda data: {**data, "number": 7}),
    "other rows": resealed(lambda data: {**data, "owners": {}}),
}
OF_THE_HEAD: dict[str, Callable[[Any], Any]] = {
    "no shards": resealed(lambda data: {**data, "shards": []}),
    "too many shards": resealed(lambda data: {**data, "shards": ["x"] * 5000}),
    "no position": resealed(lambda data: {**data, "position": None}),
    "a position that is none": resealed(lambda data: {**data, "position": 7}),
    "no time": resealed(lambda data: {**data, "saved_at": "now"}),
    "no such time": resealed(lambda data: {**data, "saved_at": True}),
    "parked rooms that are none": resealed(lambda data: {**data, "parked": [1]}),
    "parked rooms that are no list": resealed(lambda data: {**data, "parked": 1}),
    "a parked room without a room": resealed(lambda data: {**data, "parked": [[1, "s", "x", 1]]}),
    "no slots": resealed(lambda data: {**data, "slots": None}),
    "too few slots": resealed(lambda data: {**data, "slots": []}),
    "no such slot": resealed(lambda data: {**data, "slots": [2]}),
    "no proof": resealed(lambda data: {**data, "checkpoint": ""}),
    "another generation": resealed(lambda data: {**data, "generation": 7}),
    "another shard": resealed(lambda data: {**data, "shards": ["0"]}),
}


@pytest.mark.parametrize(
    "alter", (ALTERATIONS | OF_A_SHARD).values(), ids=ALTERATIONS | OF_A_SHARD
)
def test_a_damaged_shard_is_no_checkpoint(alter: Callable[[Any], Any]) -> None:
    data: Data = {}
    write(data, records(HOME_ROW))
    data[SHARD] = alter(data[SHARD])
    with pytest.raises(Damaged) as error:
        read(data)
    assert "shard 0" in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("name", "alter"), (ALTERATIONS | OF_THE_HEAD).items(), ids=ALTERATIONS | OF_THE_HEAD
)
def test_a_damaged_head_is_no_checkpoint(name: str, alter: Callable[[Any], Any]) -> None:
    data: Data = {}
    write(data, records(HOME_ROW))
    data[HEAD_TYPE] = alter(data[HEAD_TYPE])
    if name in ("missing", "emptied"):
        assert read(data) == (None, Records())
        return
    with pytest.raises(Damaged) as error:
        read(data)
    assert len(str(error.value)) < 200


ROWS: dict[str, Callable[[list[Any]], Any]] = {
    "too short": lambda row: row[:-1],
    "too long": lambda row: [*row, None],
    "no room": lambda row: [None, *row[1:]],
    "no chat ID": lambda row: [*row[:2], "C0", *row[3:]],
    "no key": lambda row: [*row[:3], "a b", *row[4:]],
    "no name": lambda row: [*row[:4], 7, *row[5:]],
    "no status": lambda row: [*row[:5], "gone", *row[6:]],
    "no type": lambda row: [*row[:6], "hall", *row[7:]],
    "no conversation": lambda row: [*row[:7], 0, "$x"],
    "nothing": lambda _: None,
    "an object": lambda _: {},
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_rows_that_mean_nothing_are_no_checkpoint_even_under_the_right_checksum(
    change: Callable[[list[Any]], Any],
) -> None:
    def in_shard(data: Any) -> Any:
        ((owner, (home, (row,))),) = data["owners"].items()
        return {**data, "owners": {owner: [home, [change(row)]]}}

    data: Data = {}
    present = write(data, records(CHAT_ROW))
    assert present.head is not None
    data[SHARD] = resealed(in_shard)(data[SHARD])
    head = replace(present.head, shards=(shard_checksum(data[SHARD]) or "",))
    with pytest.raises(Damaged, match="shard 0 has a row that cannot be read"):
        read_shard(data[SHARD], head=head, number=0)


def test_a_shard_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(Damaged, match="shard 0 would have"):
        write({}, records(replace(HOME_ROW, initial_chats=("x" * 65536,) * 20)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(JSON)
def test_whatever_is_there_instead_is_no_checkpoint_and_no_error(value: Any) -> None:
    head = Head(checkpoint="x", position="s", saved_at=1, generation=1, shards=("x",), slots=(0,))
    for content in (value, {"version": 1, "data": value, "checksum": value}):
        with pytest.raises(Damaged):
            read_shard(content, head=head, number=0)
        if content not in (None, {}):
            with pytest.raises(Damaged):
                read_head(content)
        assert shard_checksum(content) is None or isinstance(content["data"], str)
