"""What markers say: they come first, and those that are none count for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.domain.homes.model import RoomType, Status
from homeroom.domain.homes.plan import (
    FindingKind,
)
from homeroom.domain.homes.planner import make_plan
from tests.domain.builders import (
    ANNA,
    BERT,
    ELSEWHERE,
    HOME,
    MALLORY,
    OTHER_HOME,
    PLAY,
    WORK,
    added,
    changed,
    chat,
    chat_row,
    derived,
    finding,
    foreign,
    home_row,
    later,
    records,
    space,
    stamped,
    topology,
    with_bad_marker,
)
from tests.domain.homes.plan_cases import IN_ORDER, LINKED_HOME, Case, Cases

CASES = Cases()
case = CASES.add

# 1. A marked chat, nothing stored.
case(
    "case-01-rows-come-from-markers",
    topology(LINKED_HOME, chat(name="Work")),
    records(),
    changes=(added(home_row()), added(chat_row(name="Work"))),
)
case(
    "case-01-archived-is-remembered-by-the-marker",
    topology(LINKED_HOME, chat(archived=True)),
    records(home_row()),
    changes=(added(chat_row(status=Status.ARCHIVED)),),
)
case(
    "case-01-promised-chats-are-remembered-by-the-marker",
    topology(space(initial_chats=("One", "Two"))),
    records(),
    changes=(added(home_row(initial_chats=("One", "Two"))),),
)
case(
    "case-01-born-without-key-gets-the-derived-one",
    topology(LINKED_HOME, chat(key=None)),
    records(home_row()),
    changes=(added(chat_row(key=derived(WORK))),),
    repairs=(stamped(chat_row(key=derived(WORK))),),
)
case(
    "case-01-born-without-key-keeps-the-stored-one",
    topology(LINKED_HOME, chat(key=None)),
    records(home_row(), chat_row(key="kept")),
    repairs=(stamped(chat_row(key="kept")),),
)
case(
    "case-01-a-later-conversation-is-remembered-by-the-marker",
    topology(LINKED_HOME, chat(conversation=later(2))),
    records(home_row()),
    changes=(added(chat_row(key=derived(WORK, later(2)), conversation=later(2))),),
)
case(
    "case-01-born-without-key-keeps-the-stored-conversation",
    topology(LINKED_HOME, chat(key=None)),
    records(home_row(), chat_row(key="kept", conversation=later())),
    repairs=(stamped(chat_row(key="kept", conversation=later())),),
)
case(
    "case-01-a-marked-chat-in-nobodys-space-names-its-parent",
    topology(chat()),
    records(),
    changes=(added(chat_row(space_id=HOME)),),
)

# 2. All is well.
case("case-02-equal-rows-change-nothing", topology(LINKED_HOME, chat()), IN_ORDER)
case(
    "case-02-an-archived-chat-without-a-link-is-left-alone",
    topology(space(), chat(archived=True)),
    records(home_row(), chat_row(status=Status.ARCHIVED)),
)

# 3. The marker wins.
case(
    "case-03-altered-ids",
    topology(LINKED_HOME, chat(key="right")),
    records(home_row(), chat_row(chat_id="C7", key="wrong")),
    changes=(changed(chat_row(chat_id="C7", key="wrong"), chat_row(key="right")),),
)
case(
    "case-03-everything-altered",
    topology(space(links=[WORK], initial_chats=("One",)), chat(name="Work")),
    records(
        home_row(space_id=ELSEWHERE, status=None, initial_chats=("X",)),
        replace(
            chat_row(owner=MALLORY, space_id=ELSEWHERE, name="X", status=None),
            room_type=RoomType.SPACE,
        ),
    ),
    changes=(
        changed(
            home_row(space_id=ELSEWHERE, status=None, initial_chats=("X",)),
            home_row(initial_chats=("One",)),
        ),
        changed(
            replace(
                chat_row(owner=MALLORY, space_id=ELSEWHERE, name="X", status=None),
                room_type=RoomType.SPACE,
            ),
            chat_row(name="Work"),
        ),
    ),
)
case(
    "case-03-swapped-ids",
    topology(
        space(links=[WORK, PLAY]),
        chat(WORK, chat_id="C1", key="k1"),
        chat(PLAY, chat_id="C2", key="k2"),
    ),
    records(
        home_row(),
        chat_row(WORK, chat_id="C2", key="k2"),
        chat_row(PLAY, chat_id="C1", key="k1"),
    ),
    changes=(
        changed(chat_row(PLAY, chat_id="C1", key="k1"), chat_row(PLAY, chat_id="C2", key="k2")),
        changed(chat_row(WORK, chat_id="C2", key="k2"), chat_row(WORK, chat_id="C1", key="k1")),
    ),
)
case(
    "case-03-archived-in-the-row-only",
    topology(LINKED_HOME, chat()),
    records(home_row(), chat_row(status=Status.ARCHIVED)),
    changes=(changed(chat_row(status=Status.ARCHIVED), chat_row()),),
)
case(
    "case-03-a-home-row-that-points-to-somebody-elses-space",
    topology(space(), space(OTHER_HOME, owner=BERT)),
    records(home_row(ANNA, OTHER_HOME), home_row(BERT, OTHER_HOME)),
    changes=(changed(home_row(ANNA, OTHER_HOME), home_row(ANNA, HOME)),),
)
case(
    "case-03-a-home-row-of-somebody-without-a-home",
    topology(space()),
    records(home_row(), home_row(MALLORY, HOME)),
    changes=(changed(home_row(MALLORY, HOME), home_row(MALLORY, HOME, status=Status.LEFT)),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            HOME,
            owner=MALLORY,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)

case(
    "case-03-a-crash-came-between-the-marker-of-a-new-conversation-and-its-row",
    topology(LINKED_HOME, chat(conversation=later(2))),
    records(home_row(), chat_row(conversation=later(1))),
    changes=(changed(chat_row(conversation=later(1)), chat_row(conversation=later(2))),),
)
case(
    "case-03-the-marker-says-that-it-is-the-first-conversation",
    topology(LINKED_HOME, chat(key="right")),
    records(home_row(), chat_row(key="wrong", conversation=later())),
    changes=(changed(chat_row(key="wrong", conversation=later()), chat_row(key="right")),),
)

# 15. Markers that are none.
case(
    "case-15-a-marker-of-somebody-elses",
    topology(with_bad_marker(foreign(), own=False, reason="1 under a wrong key")),
    records(),
    findings=(
        finding(FindingKind.FOREIGN_MARKER, ELSEWHERE, owner=None, detail="1 under a wrong key"),
    ),
)
case(
    "case-15-a-marker-of-somebody-elses-in-a-chat-changes-nothing",
    topology(
        LINKED_HOME,
        replace(chat(), marker_problems=with_bad_marker(chat(), own=False).marker_problems),
    ),
    IN_ORDER,
    findings=(finding(FindingKind.FOREIGN_MARKER, WORK, owner=None, detail="broken"),),
)
case(
    "case-15-a-damaged-marker-leaves-the-row-alone",
    topology(LINKED_HOME, with_bad_marker(chat())),
    records(home_row(), chat_row(chat_id="C7", key="k", name="old")),
    findings=(finding(FindingKind.MALFORMED_MARKER, WORK, owner=None, detail="broken"),),
)
case(
    "case-15-a-damaged-marker-makes-no-row",
    topology(with_bad_marker(space()), with_bad_marker(chat())),
    records(),
    findings=(
        finding(FindingKind.MALFORMED_MARKER, HOME, owner=None, detail="broken"),
        finding(FindingKind.MALFORMED_MARKER, WORK, owner=None, detail="broken"),
    ),
)
case(
    "case-15-a-damaged-marker-in-the-space-moves-no-chat",
    topology(with_bad_marker(LINKED_HOME), space(OTHER_HOME, links=[WORK]), chat()),
    IN_ORDER,
    findings=(finding(FindingKind.MALFORMED_MARKER, HOME, owner=None, detail="broken"),),
)
case(
    "case-15-a-marker-that-calls-a-plain-room-a-space",
    topology(replace(space(), is_space=False)),
    records(home_row()),
    findings=(
        finding(
            FindingKind.MALFORMED_MARKER,
            HOME,
            owner=None,
            detail="it says space, the room is a plain room",
        ),
    ),
)


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
