"""Rows prove something only as long as they are what they were, to whom they were it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.homes.checkpoint import Digest, Origin, make_checkpoint
from homeroom.domain.homes.model import Chat, Conversation, Home, Records, RoomType, Status
from homeroom.domain.homes.plan import Change, SetChat, SetHome
from tests.domain.builders import ANNA, BERT, BOT, ELSEWHERE, HOME, NEW, WORK

ORIGIN = Origin(
    bot=BOT, homeserver="https://example.org", version="1.0.0", schema=3, adopt_unmarked=True
)
HOME_ROW = Home(matrix_user_id=ANNA, space_id=HOME, initial_chats=("Work",))
CHAT_ROW = Chat(
    room_id=WORK,
    matrix_user_id=ANNA,
    space_id=HOME,
    chat_id="C1",
    platform_chat_id="key",
    name="Work",
)
OTHER: dict[str, Any] = {
    "matrix_user_id": BERT,
    "space_id": ELSEWHERE,
    "status": Status.LEFT,
    "initial_chats": (),
    "room_id": NEW,
    "chat_id": "C2",
    "platform_chat_id": "other",
    "name": None,
    "room_type": RoomType.SPACE,
    "conversation": Conversation(number=1, since="$event"),
    "answer": "members",
    "bot": BERT,
    "homeserver": "https://example.com",
    "version": "1.0.1",
    "schema": 4,
    "adopt_unmarked": False,
}


def records(*rows: Home | Chat) -> Records:
    return Records(
        homes={row.matrix_user_id: row for row in rows if isinstance(row, Home)},
        chats={row.room_id: row for row in rows if isinstance(row, Chat)},
    )


@pytest.mark.parametrize("row", [HOME_ROW, CHAT_ROW], ids=["home", "chat"])
def test_every_value_of_a_row_counts(row: Home | Chat) -> None:
    before = Digest.of(records(row))
    for field in fields(row):
        changed: Any = replace(row, **{field.name: OTHER[field.name]})
        assert Digest.of(records(changed)) != before, field.name
    assert Digest.of(records()) != before


def test_everything_about_its_origin_counts() -> None:
    digest = Digest.of(records(HOME_ROW, CHAT_ROW))
    proofs = {
        make_checkpoint(replace(ORIGIN, **{f.name: OTHER[f.name]}), digest) for f in fields(ORIGIN)
    }
    assert len(proofs) == len(fields(ORIGIN))
    assert make_checkpoint(ORIGIN, digest) not in proofs
    assert " " in make_checkpoint(ORIGIN, digest)
    assert make_checkpoint(ORIGIN, digest).isprintable()


ROWS = st.lists(
    st.builds(
        Chat,
        room_id=st.sampled_from([WORK, NEW, ELSEWHERE]),
        matrix_user_id=st.sampled_from([ANNA, BERT]),
        space_id=st.none(),
        chat_id=st.sampled_from(["C1", "C2"]),
        platform_chat_id=st.none(),
        name=st.text(max_size=3) | st.just("\ud800"),
    )
    | st.builds(Home, matrix_user_id=st.sampled_from([ANNA, BERT]), space_id=st.just(HOME)),
    max_size=6,
)


@given(ROWS, ROWS)
def test_a_change_is_summed_up_as_if_all_were_summed_up_again(
    before: list[Home | Chat], after: list[Home | Chat]
) -> None:
    old, new = records(*before), records(*before, *after)
    changes: list[Change] = [
        *(SetHome(before=old.homes.get(o), after=row) for o, row in new.homes.items()),
        *(SetChat(before=old.chats.get(r), after=row) for r, row in new.chats.items()),
    ]
    assert Digest.of(old).after(changes) == Digest.of(new)


@given(ROWS)
def test_the_order_of_rows_does_not_count(rows: list[Home | Chat]) -> None:
    kept = records(*rows)
    turned = Records(
        homes=dict(reversed(kept.homes.items())), chats=dict(reversed(kept.chats.items()))
    )
    assert Digest.of(kept) == Digest.of(turned)
