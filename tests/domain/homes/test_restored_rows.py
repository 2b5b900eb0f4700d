"""A checkpoint fills in what the database lost, and overrules nothing that it has."""

from __future__ import annotations

from dataclasses import replace

from homeroom.domain.homes.model import Chat, Home, Records
from homeroom.domain.homes.plan import SetChat, SetHome
from homeroom.domain.homes.restored_rows import Restored, restore
from tests.domain.builders import BERT, ELSEWHERE, HOME, NEW, WORK
from tests.domain.homes.test_checkpoint import CHAT_ROW, HOME_ROW, records

ROWS = records(HOME_ROW, CHAT_ROW)


def test_a_lost_database_gets_all_rows_and_no_room_is_in_doubt() -> None:
    assert restore(ROWS, stored=Records()) == Restored(
        records=ROWS,
        missing=(SetHome(before=None, after=HOME_ROW), SetChat(before=None, after=CHAT_ROW)),
        in_doubt=frozenset(),
    )


def test_a_database_that_says_the_same_is_as_good_as_proved() -> None:
    assert restore(ROWS, stored=ROWS) == Restored(records=ROWS, missing=(), in_doubt=frozenset())


def test_rows_that_differ_are_kept_and_their_rooms_are_in_doubt() -> None:
    home: Home = replace(HOME_ROW, space_id=ELSEWHERE)
    chat: Chat = replace(CHAT_ROW, name="Later")
    stored = records(home, chat)
    assert restore(ROWS, stored=stored) == Restored(
        records=stored, missing=(), in_doubt=frozenset({HOME, ELSEWHERE, WORK})
    )


def test_rows_that_the_checkpoint_has_not_are_kept_and_their_rooms_are_in_doubt() -> None:
    more = replace(CHAT_ROW, room_id=NEW, matrix_user_id=BERT)
    home = Home(matrix_user_id=BERT, space_id=ELSEWHERE)
    assert restore(ROWS, stored=records(home, more)) == Restored(
        records=records(HOME_ROW, CHAT_ROW, home, more),
        missing=(SetHome(before=None, after=HOME_ROW), SetChat(before=None, after=CHAT_ROW)),
        in_doubt=frozenset({NEW, ELSEWHERE}),
    )
