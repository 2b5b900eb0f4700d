"""Ids are pure functions of the room, and stay the same for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mautrix.types import EventID, RoomID

from homeroom.domain.homes.ids import (
    chat_number,
    child_order,
    cleared,
    derive_platform_chat_id,
    is_platform_chat_id,
    next_chat_id,
)
from homeroom.domain.homes.model import ChatID, PlatformChatID, Status
from tests.domain import hostile
from tests.domain.builders import chat_row, key, later


@pytest.mark.parametrize(
    ("room_id", "expected"),
    [
        ("!work:example.org", "ea07a400-eb00-5f71-8b97-d0d7c678fc0e"),
        ("!OGEhHVWSdvArJzumhm:matrix.org", "1a90508c-f192-5e45-8225-c06be822c511"),
        (
            "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM",
            "fa9d30b6-cc38-5e4d-b518-e569d9d47fc6",
        ),  # room version 12
    ],
)
def test_derived_keys_never_change(room_id: str, expected: str) -> None:
    assert derive_platform_chat_id(RoomID(room_id)) == expected


def test_the_next_keys_of_a_room_never_change_either() -> None:
    room_id, taken = RoomID("!work:example.org"), set[PlatformChatID]()
    for _ in range(3):
        taken.add(derive_platform_chat_id(room_id, taken=taken))
    assert taken == {
        "ea07a400-eb00-5f71-8b97-d0d7c678fc0e",
        "da3ebcba-2985-5a34-850d-46381498b2b2",
        "e64d19b6-2469-5e29-8449-b690dcef96c2",
    }


def test_the_keys_of_later_conversations_never_change_either() -> None:
    room_id = RoomID("!work:example.org")
    first, second = (derive_platform_chat_id(room_id, conversation=later(n)) for n in (1, 2))
    assert first == "ceb6fc81-defc-5281-80ee-dc61ec18c0bb"
    assert second == "65a6cccd-56f2-5223-9af3-9a8058e13aef"
    assert (
        derive_platform_chat_id(room_id, conversation=later(1), taken={first})
        == "4a3a3376-7e2e-52bc-a83e-25ae21675519"
    )


def test_no_two_conversations_share_a_key_whatever_was_taken() -> None:
    keys = set[PlatformChatID]()
    for room_id in ("!a", "!a#1", "!a:b", "!a:b#1", "!a1"):
        for conversation in (None, later(1), later(2), later(12)):
            taken = set[PlatformChatID]()
            for _ in range(3):
                taken.add(
                    derive_platform_chat_id(
                        RoomID(room_id), conversation=conversation, taken=taken
                    )
                )
            if conversation is not None:
                assert not keys & taken
            keys |= taken


def test_clearing_counts_on_from_what_there_is() -> None:
    once = cleared(chat_row(key="legacy", status=Status.ARCHIVED), since=EventID("$clear1"))
    assert once == chat_row(status=Status.ARCHIVED, conversation=later(1))
    assert cleared(once, since=EventID("$clear2")) == chat_row(
        status=Status.ARCHIVED, conversation=later(2)
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_derived_keys_can_be_stamped(room_id: str) -> None:
    assert is_platform_chat_id(derive_platform_chat_id(RoomID(room_id)))


@pytest.mark.parametrize("value", ["k", "a/b", "chat:42", "x" * 255, "中"])
def test_keys(value: str) -> None:
    assert is_platform_chat_id(key(value))


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 256, "a\0", "a\n", "\ud800", "\u202e"])
def test_no_keys(value: str) -> None:
    assert not is_platform_chat_id(key(value))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("C1", 1),
        ("C10", 10),
        ("C999999", 999_999),
        ("C1000000", None),
        ("C0", None),
        ("C01", None),
        ("C", None),
        ("c1", None),
        ("1", None),
        ("C-1", None),
        ("C+1", None),
        ("C 1", None),
        ("C1\n", None),
        ("C1_0", None),
        ("C\u0661", None),  # a digit for str.isdigit()
        ("C²", None),
        ("", None),
        (None, None),
    ],
)
def test_numbers_of_chats(value: str | None, number: int | None) -> None:
    assert chat_number(None if value is None else ChatID(value)) == number


@given(hostile.texts)
def test_only_numbers_written_one_way_are_numbers(value: str) -> None:
    number = chat_number(ChatID(value))
    assert number is None or value == f"C{number}"


@given(st.sets(st.integers(1, 30)))
def test_the_next_number_is_the_smallest_free_one(numbers: set[int]) -> None:
    chat_id = next_chat_id({ChatID(f"C{number}") for number in numbers})
    number = chat_number(chat_id)
    assert number is not None
    assert number not in numbers
    assert set(range(1, number)) <= numbers


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_chats_are_listed_in_the_order_of_their_numbers(one: int, other: int) -> None:
    orders = [child_order(ChatID(f"C{number}")) for number in (one, other)]
    assert (orders[0] < orders[1]) == (one < other)
    assert all(len(order) <= 50 and order.isascii() and order.isdigit() for order in orders)


def test_a_chat_without_a_number_is_listed_last() -> None:
    assert child_order(None) == "999999"
