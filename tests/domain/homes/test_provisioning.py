"""What a home lacks, and what its rooms are to say about each other."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.domain.homes.model import Status
from homeroom.domain.homes.provisioning import (
    CreateChat,
    is_to_be_invited,
    join_rules_content,
    next_step,
)
from homeroom.domain.homes.topology import Member
from tests.domain.builders import ANNA, ELSEWHERE, HOME, NEW, NEWER, PLAY, WORK, chat_row, home_row


def admits(*room_ids: str) -> dict[str, Any]:
    conditions = [{"type": "m.room_membership", "room_id": room_id} for room_id in room_ids]
    return {"join_rule": "restricted", "allow": conditions}


def test_the_new_space_is_admitted_instead_of_all_that_it_replaced() -> None:
    before = admits(ELSEWHERE, HOME, NEW)
    before["allow"].append({"type": "org.example.other", "x": 1})
    after = join_rules_content(before, space_id=NEWER, instead_of=(HOME, NEW))
    assert after == {
        "join_rule": "restricted",
        "allow": [*admits(NEWER, ELSEWHERE)["allow"], {"type": "org.example.other", "x": 1}],
    }
    assert join_rules_content(after, space_id=NEWER, instead_of=(HOME, NEW)) == after


def test_other_join_rules_stay_as_they_are() -> None:
    for rules in ({"join_rule": "public"}, admits(ELSEWHERE), admits(), {}):
        assert join_rules_content(rules, space_id=NEW, instead_of=(HOME,)) == rules


def test_a_chat_that_was_upgraded_is_one_of_those_that_were_promised() -> None:
    """Not two: what a crash left out after that is still made."""
    step = next_step(
        owner=ANNA,
        home=home_row(initial_chats=("One", "Two")),
        chats=[chat_row(WORK, status=Status.REPLACED), chat_row(PLAY)],
        rooms=(),
        initial_chats=(),
    )
    assert step == CreateChat(
        purpose=f"chat 1 of {HOME}",
        chat_id="C2",  # type: ignore[arg-type]
        name="Two",
    )


@pytest.mark.parametrize(
    ("member", "always", "if_asked"),
    [
        (None, True, True),
        (Member(membership="join"), False, False),
        (Member(membership="invite"), False, False),
        (Member(membership="leave"), False, True),
        (Member(membership="leave", was_removed=True), False, False),
        (Member(membership="ban", was_removed=True), False, False),
    ],
    ids=["never in it", "in it", "invited", "left", "kicked", "banned"],
)
def test_who_left_is_invited_again_if_they_ask_and_were_not_removed(
    member: Member | None, always: bool, if_asked: bool
) -> None:
    assert is_to_be_invited(member, reinvite_if_left=False) is always
    assert is_to_be_invited(member, reinvite_if_left=True) is if_asked
