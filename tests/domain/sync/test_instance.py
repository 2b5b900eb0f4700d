"""The newest instance is the one whose name stands in the account data last."""

from __future__ import annotations

from typing import Any

import pytest

from homeroom.domain.sync.instance import (
    INSTANCE_TYPE,
    MAX_NUMBER,
    Running,
    next_running,
    read_running,
    running_in,
)

OWN = Running(id="own", number=3)


def test_what_is_written_is_read() -> None:
    assert read_running(OWN.content) == OWN


def test_each_start_has_the_next_number() -> None:
    assert next_running(None, id_="a") == Running(id="a", number=1)
    assert next_running(OWN, id_="a") == Running(id="a", number=4)
    assert next_running(Running(id="x", number=MAX_NUMBER), id_="a").number == MAX_NUMBER


@pytest.mark.parametrize(
    ("other", "is_newer"),
    [
        (None, False),
        (OWN, False),
        (Running(id="own", number=9), False),
        (Running(id="other", number=2), False),
        (Running(id="other", number=3), True),
        (Running(id="other", number=4), True),
    ],
)
def test_another_name_supersedes_unless_it_is_from_before(
    other: Running | None, is_newer: bool
) -> None:
    assert OWN.is_superseded_by(other) is is_newer


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        [],
        {"id": "a"},
        {"id": "", "number": 1},
        {"id": "x" * 65, "number": 1},
        {"id": 1, "number": 1},
        {"id": "a", "number": True},
        {"id": "a", "number": -1},
        {"id": "a", "number": 2**60},
        {"id": "a", "number": "1"},
    ],
)
def test_what_means_nothing_names_nobody(content: Any) -> None:
    assert read_running(content) is None
    response = {"account_data": {"events": [{"type": INSTANCE_TYPE, "content": content}]}}
    assert running_in(response) is None


def test_a_sync_response_may_say_who_is_the_newest() -> None:
    events: list[Any] = [
        None,
        {"type": "m.direct", "content": {"id": "a", "number": 1}},
        {"type": INSTANCE_TYPE, "content": OWN.content},
    ]
    assert running_in({"account_data": {"events": events}}) == OWN
    assert running_in({"account_data": []}) is None
    assert running_in({}) is None
