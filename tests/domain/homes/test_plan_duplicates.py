"""Two that want the same: a home, a chat's id, a conversation's key."""

from __future__ import annotations

import pytest

from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.plan import (
    FindingKind,
)
from homeroom.domain.homes.planner import make_plan
from tests.domain.builders import (
    ANNA,
    BERT,
    HOME,
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
    home_row,
    later,
    legacy_chat,
    link,
    members,
    records,
    space,
    stamped,
    topology,
)
from tests.domain.homes.plan_cases import Case, Cases

CASES = Cases()
case = CASES.add

# 10. Two Spaces of one owner.
case(
    "case-10-the-one-that-the-owner-is-in-before-the-one-with-chats",
    topology(
        space(HOME, created_at=900),
        space(OTHER_HOME, links=[WORK], people=members(anna="leave")),
        chat(WORK, parents=[OTHER_HOME]),
    ),
    records(),
    changes=(added(home_row()), added(chat_row(space_id=OTHER_HOME))),
    findings=(
        finding(FindingKind.OWNER_LEFT, OTHER_HOME, detail="space"),
        finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),
    ),
)
case(
    "case-10-the-one-with-most-chats-before-the-oldest",
    topology(
        space(HOME, links=[WORK, PLAY], created_at=900),
        space(OTHER_HOME, links=[NEW], created_at=100),
        chat(WORK, chat_id="C1"),
        chat(PLAY, chat_id="C2"),
        chat(NEW, chat_id="C3", parents=[OTHER_HOME]),
    ),
    records(home_row(space_id=OTHER_HOME)),
    changes=(
        changed(home_row(space_id=OTHER_HOME), home_row()),
        added(chat_row(NEW, chat_id="C3", space_id=OTHER_HOME)),
        added(chat_row(PLAY, chat_id="C2")),
        added(chat_row(WORK, chat_id="C1")),
    ),
    findings=(finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),),
)
case(
    "case-10-links-to-other-peoples-chats-do-not-count",
    topology(
        space(HOME, created_at=100),
        space(OTHER_HOME, links={WORK: link(sender=ANNA)}, created_at=900),
        chat(WORK, owner=BERT, parents=()),
    ),
    records(home_row(), chat_row(owner=BERT, space_id=None)),
    findings=(finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),),
)
case(
    "case-10-the-oldest",
    topology(space(HOME, created_at=2), space(OTHER_HOME, created_at=1)),
    records(home_row()),
    changes=(changed(home_row(), home_row(space_id=OTHER_HOME)),),
    findings=(finding(FindingKind.SECOND_SPACE, HOME, detail=f"the home is {OTHER_HOME}"),),
)
case(
    "case-10-the-smallest-room-id",
    topology(space(OTHER_HOME), space(HOME)),
    records(),
    changes=(added(home_row()),),
    findings=(finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),),
)

# 11. Two chats with one chat_id.
case(
    "case-11-the-older-keeps-it-the-younger-takes-the-next-free-one",
    topology(
        space(links=[WORK, PLAY, NEW]),
        chat(WORK, chat_id="C1", created_at=2),
        chat(PLAY, chat_id="C1", created_at=1),
        chat(NEW, chat_id="C2"),
    ),
    records(
        home_row(),
        chat_row(WORK, chat_id="C1"),
        chat_row(PLAY, chat_id="C4"),
        chat_row(NEW, chat_id="C2"),
    ),
    changes=(
        changed(chat_row(PLAY, chat_id="C4"), chat_row(PLAY, chat_id="C1")),
        changed(chat_row(WORK, chat_id="C1"), chat_row(WORK, chat_id="C3")),
    ),
    repairs=(stamped(chat_row(WORK, chat_id="C3")),),
    findings=(finding(FindingKind.DUPLICATE_CHAT_ID, WORK, detail=f"C1 belongs to {PLAY}"),),
)
case(
    "case-11-the-younger-prefers-what-its-row-says",
    topology(
        space(links=[WORK, PLAY]),
        chat(WORK, chat_id="C1", created_at=1),
        chat(PLAY, chat_id="C1", created_at=2),
    ),
    records(home_row(), chat_row(WORK), chat_row(PLAY, chat_id="C9")),
    repairs=(stamped(chat_row(PLAY, chat_id="C9")),),
    findings=(finding(FindingKind.DUPLICATE_CHAT_ID, PLAY, detail=f"C1 belongs to {WORK}"),),
)
case(
    "case-11-two-owners-may-each-have-their-c1",
    topology(
        space(links=[WORK]),
        space(OTHER_HOME, owner=BERT, links=[PLAY]),
        chat(WORK),
        chat(PLAY, owner=BERT, parents=[OTHER_HOME]),
    ),
    records(
        home_row(),
        home_row(BERT, OTHER_HOME),
        chat_row(WORK),
        chat_row(PLAY, owner=BERT, space_id=OTHER_HOME),
    ),
)

# 12. Two chats with one platform_chat_id.
case(
    "case-12-the-older-keeps-it-the-younger-takes-its-derived-one",
    topology(
        space(links=[WORK]),
        space(OTHER_HOME, owner=BERT, links=[PLAY]),
        chat(WORK, key="k", created_at=2),
        chat(PLAY, owner=BERT, key="k", parents=[OTHER_HOME], created_at=1),
    ),
    records(home_row(), home_row(BERT, OTHER_HOME), chat_row(WORK, key="k")),
    changes=(
        added(chat_row(PLAY, owner=BERT, key="k", space_id=OTHER_HOME)),
        changed(chat_row(WORK, key="k"), chat_row(WORK, key=derived(WORK))),
    ),
    repairs=(stamped(chat_row(WORK, key=derived(WORK))),),
    findings=(
        finding(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, WORK, detail=f"k belongs to {PLAY}"),
    ),
)
case(
    "case-12-the-derived-one-is-taken-too",
    topology(
        space(links=[WORK, PLAY]),
        chat(PLAY, chat_id="C1", key=derived(WORK), created_at=1),
        chat(WORK, chat_id="C2", key=derived(WORK), created_at=2),
    ),
    records(home_row(), chat_row(PLAY, chat_id="C1", key=derived(WORK))),
    changes=(
        added(
            chat_row(
                WORK,
                chat_id="C2",
                key=derive_platform_chat_id(WORK, taken={derived(WORK)}),
            )
        ),
    ),
    repairs=(
        stamped(
            chat_row(
                WORK,
                chat_id="C2",
                key=derive_platform_chat_id(WORK, taken={derived(WORK)}),
            )
        ),
    ),
    findings=(
        finding(
            FindingKind.DUPLICATE_PLATFORM_CHAT_ID,
            WORK,
            detail=f"{derived(WORK)} belongs to {PLAY}",
        ),
    ),
)
case(
    "case-12-a-later-conversation-stays-what-it-is-under-another-key",
    topology(
        space(links=[WORK, PLAY]),
        chat(PLAY, chat_id="C1", key="k", created_at=1),
        chat(WORK, chat_id="C2", key="k", conversation=later(2), created_at=2),
    ),
    records(
        home_row(),
        chat_row(PLAY, chat_id="C1", key="k"),
        chat_row(WORK, chat_id="C2", key="of-the-one-before", conversation=later(1)),
    ),
    changes=(
        changed(
            chat_row(WORK, chat_id="C2", key="of-the-one-before", conversation=later(1)),
            chat_row(WORK, chat_id="C2", conversation=later(2)),
        ),
    ),
    repairs=(stamped(chat_row(WORK, chat_id="C2", conversation=later(2))),),
    findings=(
        finding(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, WORK, detail=f"k belongs to {PLAY}"),
    ),
)
case(
    "case-12-a-marker-goes-before-an-older-row",
    topology(
        space(links=[WORK, PLAY]),
        legacy_chat(WORK, created_at=1),
        chat(PLAY, chat_id="C1", key="k", created_at=2),
    ),
    records(home_row(), chat_row(WORK, chat_id="C1", key="k")),
    changes=(
        added(chat_row(PLAY, chat_id="C1", key="k")),
        changed(chat_row(WORK, chat_id="C1", key="k"), chat_row(WORK, chat_id="C2")),
    ),
    repairs=(stamped(chat_row(WORK, chat_id="C2")),),
    findings=(
        finding(FindingKind.DUPLICATE_CHAT_ID, WORK, detail=f"C1 belongs to {PLAY}"),
        finding(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, WORK, detail=f"k belongs to {PLAY}"),
    ),
)


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
