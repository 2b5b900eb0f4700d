"""Links, and what is not Homeroom's: other rooms, pending invites."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.domain.homes.plan import (
    FindingKind,
)
from homeroom.domain.homes.planner import make_plan
from homeroom.domain.homes.topology import Invite
from tests.domain.builders import (
    BERT,
    BOT,
    ELSEWHERE,
    HOME,
    MALLORY,
    NEW,
    OTHER_HOME,
    PLAY,
    WORK,
    chat,
    chat_row,
    finding,
    foreign,
    home_row,
    legacy_chat,
    linked,
    records,
    removed,
    space,
    topology,
)
from tests.domain.homes.plan_cases import IN_ORDER, LINKED_HOME, Case, Cases

CASES = Cases()
case = CASES.add

# 17. and 18. Links.
case(
    "case-17-a-link-that-never-was-is-made",
    topology(space(), chat(chat_id="C12")),
    records(home_row(), chat_row(chat_id="C12")),
    repairs=(linked(WORK, chat_id="C12"),),
)
case(
    "case-17-a-chat-of-a-second-space-is-not-linked-into-the-home",
    topology(
        space(HOME, links=[PLAY]),
        space(OTHER_HOME),
        chat(PLAY),
        chat(WORK, chat_id="C2", parents=[OTHER_HOME]),
    ),
    records(home_row(), chat_row(PLAY), chat_row(WORK, chat_id="C2", space_id=OTHER_HOME)),
    findings=(finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),),
)
case(
    "case-18-a-link-that-somebody-removed-stays-removed",
    topology(space(links={WORK: removed()}), chat()),
    IN_ORDER,
    findings=(finding(FindingKind.UNLINKED, WORK, detail=HOME),),
)

# 19. What is not ours.
case(
    "case-19-spaces-in-a-circle",
    topology(
        space(HOME, links=[OTHER_HOME]),
        space(OTHER_HOME, owner=BERT, links=[HOME, OTHER_HOME]),
    ),
    records(home_row(), home_row(BERT, OTHER_HOME)),
)
case(
    "case-19-children-that-the-bot-is-not-in",
    topology(space(links=[ELSEWHERE])),
    records(home_row()),
)
case(
    "case-19-rooms-of-other-plugins",
    topology(
        foreign(),
        foreign(OTHER_HOME, is_space=True),
        legacy_chat(owner=BERT),
        foreign(PLAY, creator=BOT),
    ),
    records(),
)
case(
    "case-19-upgrades-in-a-circle",
    topology(
        replace(foreign(WORK), is_tombstoned=True, replacement=PLAY, predecessor=PLAY),
        replace(foreign(PLAY), is_tombstoned=True, replacement=WORK, predecessor=WORK),
        replace(foreign(NEW), is_tombstoned=True, replacement=NEW, predecessor=NEW),
    ),
    records(),
)

# 20. Pending invites.
case(
    "case-20-invites-are-not-the-planners",
    topology(
        LINKED_HOME,
        chat(),
        invites=(Invite(room_id=ELSEWHERE, inviter=BERT), Invite(room_id=NEW, inviter=MALLORY)),
    ),
    IN_ORDER,
)


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
