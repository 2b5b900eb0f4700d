"""Rooms from before markers: rows, the links that the bot made, and who is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.domain.homes.model import Status
from homeroom.domain.homes.plan import (
    FindingKind,
)
from homeroom.domain.homes.planner import make_plan
from tests.domain.builders import (
    ANNA,
    BERT,
    BOT,
    ELSEWHERE,
    HOME,
    MALLORY,
    NEW,
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
    legacy_chat,
    legacy_space,
    link,
    linked,
    members,
    records,
    removed,
    space,
    stamped,
    topology,
)
from tests.domain.homes.plan_cases import LINKED_HOME, Case, Cases

CASES = Cases()
case = CASES.add

# 4. From before markers, with rows.
case(
    "case-04-the-stored-key-is-kept-and-stamped",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(key="from-the-old-days")),
    repairs=(stamped(home_row()), stamped(chat_row(key="from-the-old-days"))),
)
case(
    "case-04-the-owner-left-the-space-but-the-row-knows",
    topology(replace(legacy_space(), members=members(anna="leave", bert="join")), legacy_chat()),
    records(home_row(), chat_row(key="k")),
    repairs=(stamped(home_row()), stamped(chat_row(key="k"))),
    findings=(finding(FindingKind.OWNER_LEFT, HOME, detail="space"),),
)
case(
    "case-04-archived-is-stamped",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(status=Status.ARCHIVED)),
    repairs=(stamped(home_row()), stamped(chat_row(status=Status.ARCHIVED))),
)
case(
    "case-04-an-altered-owner-gives-way-to-the-link",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(owner=MALLORY, key="k")),
    changes=(changed(chat_row(owner=MALLORY, key="k"), chat_row(key="k")),),
    repairs=(stamped(home_row()), stamped(chat_row(key="k"))),
)
case(
    "case-04-a-key-that-no-marker-can-carry-is-no-key",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(key="k" * 256)),
    changes=(changed(chat_row(key="k" * 256), chat_row()),),
    repairs=(stamped(home_row()), stamped(chat_row())),
)
case(
    "case-04-a-number-that-no-marker-can-carry-is-no-number",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(chat_id="first", key="k")),
    changes=(changed(chat_row(chat_id="first", key="k"), chat_row(key="k")),),
    repairs=(stamped(home_row()), stamped(chat_row(key="k"))),
)
case(
    "case-04-of-two-rows-about-one-space-the-only-companion-decides",
    topology(replace(legacy_space(links=[]), members=members(anna="join", bert="leave"))),
    records(home_row(ANNA), home_row(BERT)),
    changes=(changed(home_row(BERT), home_row(BERT, status=Status.LEFT)),),
    repairs=(stamped(home_row(ANNA)),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            HOME,
            owner=BERT,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)
case(
    "case-04-a-row-that-is-about-to-change-does-not-say-whose-a-space-is",
    topology(
        replace(legacy_space(links=[WORK]), members=members(anna="join", bert="join")),
        space(OTHER_HOME, links=[PLAY, NEW]),
        legacy_chat(WORK),
        chat(PLAY, parents=[OTHER_HOME]),
        chat(NEW, chat_id="C2", parents=[OTHER_HOME]),
    ),
    records(home_row()),
    changes=(
        changed(home_row(), home_row(space_id=OTHER_HOME)),
        added(chat_row(NEW, chat_id="C2", space_id=OTHER_HOME)),
        added(chat_row(PLAY, space_id=OTHER_HOME)),
    ),
    findings=(
        finding(
            FindingKind.UNOWNED_SPACE,
            HOME,
            owner=None,
            detail="2 people could be its owner, expected one",
        ),
    ),
)
case(
    "case-04-names-that-no-marker-can-carry-are-no-names",
    topology(legacy_space(links=[])),
    records(home_row(initial_chats=("One", "T\0wo", "x" * 256))),
    changes=(
        changed(
            home_row(initial_chats=("One", "T\0wo", "x" * 256)), home_row(initial_chats=("One",))
        ),
    ),
    repairs=(stamped(home_row(initial_chats=("One",))),),
)
case(
    "case-04-two-home-rows-and-only-one-owner-was-ever-there",
    topology(legacy_space(owner=BERT, links=[])),
    records(home_row(ANNA), home_row(BERT, initial_chats=("One",))),
    changes=(changed(home_row(ANNA), home_row(ANNA, status=Status.LEFT)),),
    repairs=(stamped(home_row(BERT, initial_chats=("One",))),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            HOME,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)
case(
    "case-04-no-link-but-a-row-about-a-room-that-the-bot-made-for-its-owner",
    topology(space(), legacy_chat()),
    records(home_row(), chat_row(key="k")),
    repairs=(stamped(chat_row(key="k")), linked(WORK)),
)

case(
    "case-04-a-later-conversation",
    topology(LINKED_HOME, legacy_chat()),
    records(home_row(), chat_row(key="kept", conversation=later(3))),
    repairs=(stamped(chat_row(key="kept", conversation=later(3))),),
)

# 5. From before markers, without ids or rows.
case(
    "case-05-no-rows-at-all",
    topology(legacy_space(), legacy_chat()),
    records(),
    changes=(added(home_row()), added(chat_row())),
    repairs=(stamped(home_row()), stamped(chat_row())),
)
case(
    "case-05-a-row-without-ids",
    topology(legacy_space(), legacy_chat()),
    records(home_row(), chat_row(chat_id=None, key=None)),
    changes=(changed(chat_row(chat_id=None, key=None), chat_row()),),
    repairs=(stamped(home_row()), stamped(chat_row())),
)
case(
    "case-05-numbers-follow-age-and-skip-what-was-ever-used",
    topology(
        legacy_space(links=[WORK, PLAY, NEW]),
        chat(NEW, chat_id="C2"),
        legacy_chat(WORK, created_at=300),
        legacy_chat(PLAY, created_at=250),
    ),
    records(home_row(), chat_row(ELSEWHERE, chat_id="C1", status=Status.LEFT)),
    changes=(
        added(chat_row(NEW, chat_id="C2")),
        added(chat_row(PLAY, chat_id="C3")),
        added(chat_row(WORK, chat_id="C4")),
    ),
    repairs=(
        stamped(home_row()),
        stamped(chat_row(PLAY, chat_id="C3")),
        stamped(chat_row(WORK, chat_id="C4")),
    ),
)
case(
    "case-05-a-child-whose-link-was-removed-is-not-adopted",
    topology(space(links={WORK: removed(sender=BOT)}), legacy_chat()),
    records(home_row()),
)
case(
    "case-05-a-child-that-somebody-else-linked-is-not-adopted",
    topology(space(links={WORK: link(sender=ANNA)}), legacy_chat()),
    records(home_row()),
)
case(
    "case-05-linked-from-a-space-that-somebody-else-made",
    topology(space(creator=MALLORY, links=[WORK]), legacy_chat()),
    records(home_row()),
)
case(
    "case-05-linked-from-two-homes",
    topology(space(links=[WORK]), space(OTHER_HOME, owner=BERT, links=[WORK]), legacy_chat()),
    records(home_row(), home_row(BERT, OTHER_HOME)),
    findings=(
        finding(FindingKind.AMBIGUOUS_OWNER, WORK, owner=None, detail="linked from 2 homes"),
    ),
)
case(
    "case-05-linked-from-two-homes-and-a-row-that-decides",
    topology(space(links=[WORK]), space(OTHER_HOME, owner=BERT, links=[WORK]), legacy_chat()),
    records(home_row(), home_row(BERT, OTHER_HOME), chat_row(key="k")),
    repairs=(stamped(chat_row(key="k")),),
    findings=(
        finding(FindingKind.AMBIGUOUS_OWNER, WORK, owner=None, detail="linked from 2 homes"),
    ),
)
case(
    "case-05-linked-from-a-room-of-somebody-else-it-stays-theirs",
    topology(space(links=[ELSEWHERE]), foreign()),
    records(home_row()),
)

case(
    "case-05-the-key-of-a-later-conversation-is-derived-too",
    topology(LINKED_HOME, legacy_chat()),
    records(home_row(), chat_row(key=None, conversation=later(3))),
    changes=(
        changed(
            chat_row(key=None, conversation=later(3)),
            chat_row(key=derived(WORK, later(3)), conversation=later(3)),
        ),
    ),
    repairs=(stamped(chat_row(conversation=later(3))),),
)

# 6. A Space that nobody, or more than one, could own.
case(
    "case-06-two-companions",
    topology(replace(legacy_space(), members=members(anna="join", bert="invite")), legacy_chat()),
    records(),
    findings=(
        finding(
            FindingKind.UNOWNED_SPACE,
            HOME,
            owner=None,
            detail="2 people could be its owner, expected one",
        ),
    ),
)
case(
    "case-06-no-companion",
    topology(replace(legacy_space(), members=members(anna="leave"))),
    records(),
    findings=(
        finding(
            FindingKind.UNOWNED_SPACE,
            HOME,
            owner=None,
            detail="0 people could be its owner, expected one",
        ),
    ),
)
case(
    "case-06-a-row-about-somebody-who-never-was-there",
    topology(replace(legacy_space(), members=members(anna="join", bert="join"))),
    records(home_row(MALLORY)),
    changes=(changed(home_row(MALLORY), home_row(MALLORY, status=Status.LEFT)),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            HOME,
            owner=MALLORY,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
        finding(
            FindingKind.UNOWNED_SPACE,
            HOME,
            owner=None,
            detail="2 people could be its owner, expected one",
        ),
    ),
)


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
