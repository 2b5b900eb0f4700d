"""Who is in a room: the bot, or nobody knows; and owners who left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.domain.homes.model import Status
from homeroom.domain.homes.plan import (
    FindingKind,
)
from homeroom.domain.homes.planner import make_plan
from tests.domain.builders import (
    BERT,
    BOT,
    ELSEWHERE,
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
    foreign,
    home_row,
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
    unreadable,
    whole,
)
from tests.domain.homes.plan_cases import IN_ORDER, LEFT_HOME, LINKED_HOME, Case, Cases

CASES = Cases()
case = CASES.add

# 7. Not joined.
case(
    "case-07-rows-of-rooms-that-the-bot-is-not-in-become-left",
    topology(),
    IN_ORDER,
    changes=(
        changed(home_row(), LEFT_HOME),
        changed(chat_row(), chat_row(status=Status.LEFT)),
    ),
)
case(
    "case-07-a-status-that-means-nothing-becomes-left",
    topology(),
    records(home_row(status=None), chat_row(status=None)),
    changes=(
        changed(home_row(status=None), LEFT_HOME),
        changed(chat_row(status=None), chat_row(status=Status.LEFT)),
    ),
)
case(
    "case-07-left-and-replaced-stay-what-they-are",
    topology(),
    records(LEFT_HOME, chat_row(status=Status.LEFT), chat_row(PLAY, status=Status.REPLACED)),
)
case(
    "case-07-a-row-about-a-room-that-is-not-ours",
    topology(foreign()),
    records(chat_row(ELSEWHERE)),
    changes=(changed(chat_row(ELSEWHERE), chat_row(ELSEWHERE, status=Status.LEFT)),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            ELSEWHERE,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)
LEFT_LINKS = {WORK: link(chat_id="C1"), PLAY: removed(sender=BOT, chat_id="C2")}
case(
    "case-07-a-left-chat-is-remembered-by-its-link",
    whole(space(links=LEFT_LINKS), chat(NEW, chat_id=None)),
    records(),
    changes=(
        added(home_row()),
        added(chat_row(NEW, chat_id="C3", key=derived(NEW))),
        added(chat_row(PLAY, chat_id="C2", key=None, status=Status.LEFT)),
        added(chat_row(WORK, chat_id="C1", key=None, status=Status.LEFT)),
    ),
    repairs=(
        stamped(chat_row(NEW, chat_id="C3", key=derived(NEW))),
        linked(NEW, chat_id="C3"),
    ),
)
case(
    "case-07-a-look-at-a-few-rooms-finds-no-left-chats",
    topology(space(links=LEFT_LINKS)),
    records(home_row()),
)
case(
    "case-07-links-without-a-number-name-no-chats",
    whole(space(links={WORK: link(), PLAY: removed(sender=BOT)})),
    records(home_row()),
)
case(
    "case-07-a-left-chat-whose-room-cannot-be-read-is-not-known-to-be-left",
    whole(space(links=LEFT_LINKS), unreadable(WORK), unreadable(PLAY)),
    records(home_row()),
)
case(
    "case-07-the-old-room-of-a-chat-is-no-chat-of-its-own",
    whole(
        space(links={WORK: removed(sender=BOT, chat_id="C1"), NEW: link(chat_id="C1")}),
        replace(chat(NEW), predecessor=WORK),
    ),
    records(home_row(), chat_row(NEW)),
)
case(
    "case-07-an-unlinked-room-of-the-bot-that-its-owner-never-was-in",
    topology(space(), legacy_chat(owner=BERT)),
    records(home_row(), chat_row()),
    changes=(changed(chat_row(), chat_row(status=Status.LEFT)),),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            WORK,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)

# 8. Joined again.
case(
    "case-08-active-again-with-the-same-ids",
    topology(LINKED_HOME, chat(key="k")),
    records(LEFT_HOME, chat_row(key="k", status=Status.LEFT)),
    changes=(
        changed(LEFT_HOME, home_row()),
        changed(chat_row(key="k", status=Status.LEFT), chat_row(key="k")),
    ),
)
case(
    "case-08-a-legacy-chat-with-the-ids-of-its-row",
    topology(legacy_space(), legacy_chat()),
    records(LEFT_HOME, chat_row(chat_id="C4", key="k", status=Status.LEFT)),
    changes=(
        changed(LEFT_HOME, home_row()),
        changed(
            chat_row(chat_id="C4", key="k", status=Status.LEFT), chat_row(chat_id="C4", key="k")
        ),
    ),
    repairs=(stamped(home_row()), stamped(chat_row(chat_id="C4", key="k"))),
)

# 9. Could not be read.
case(
    "case-09-rows-of-unreadable-rooms-are-untouched",
    topology(unreadable(HOME), unreadable(WORK)),
    records(home_row(status=None), chat_row(chat_id=None, key=None, status=Status.LEFT)),
)
case("case-09-nothing-is-known-so-nothing-is-made-up", topology(unreadable(HOME)), records())
case(
    "case-09-a-chat-keeps-the-space-that-could-not-be-read",
    topology(unreadable(HOME), chat()),
    IN_ORDER,
)
case(
    "case-09-a-chat-without-a-row-is-in-the-space-that-it-names",
    topology(unreadable(HOME), chat()),
    records(home_row()),
    changes=(added(chat_row()),),
)
case(
    "case-09-a-second-space-does-not-take-the-place-of-a-home-that-could-not-be-read",
    topology(unreadable(HOME), space(OTHER_HOME), chat(), chat(PLAY, chat_id="C2", parents=())),
    records(home_row(), chat_row()),
    changes=(added(chat_row(PLAY, chat_id="C2", space_id=None)),),
)
case(
    "case-09-a-legacy-chat-in-an-unreadable-space-is-left-alone",
    topology(unreadable(HOME), legacy_chat(owner=BERT)),
    records(home_row(), chat_row(key=None)),
)
case(
    "case-09-the-owner-of-a-legacy-chat-does-not-change-with-what-could-be-read",
    topology(unreadable(HOME), space(OTHER_HOME, owner=BERT, links=[WORK]), legacy_chat()),
    records(home_row(), home_row(BERT, OTHER_HOME), chat_row()),
)
case(
    "case-09-unreadable-chats-still-count-for-the-home",
    topology(
        space(HOME, links=[WORK, PLAY]),
        space(OTHER_HOME, links=[NEW]),
        unreadable(WORK),
        unreadable(PLAY),
        chat(NEW, chat_id="C3", parents=[OTHER_HOME]),
    ),
    records(home_row(), chat_row(NEW, space_id=OTHER_HOME, chat_id="C3")),
    findings=(finding(FindingKind.SECOND_SPACE, OTHER_HOME, detail=f"the home is {HOME}"),),
)
case(
    "case-09-ids-of-an-unreadable-room-are-not-given-away-nor-the-substitute-stamped",
    topology(space(links=[WORK]), chat(WORK, key="k"), unreadable(PLAY)),
    records(home_row(), chat_row(PLAY, chat_id="C1", key="k")),
    changes=(added(chat_row(WORK, chat_id="C2", key=derived(WORK))),),
    findings=(
        finding(FindingKind.DUPLICATE_CHAT_ID, WORK, detail=f"C1 belongs to {PLAY}"),
        finding(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, WORK, detail=f"k belongs to {PLAY}"),
    ),
)

case(
    "case-09-a-row-that-lost-its-ids-to-an-unreadable-room-gets-new-ones-for-good",
    topology(space(links=[WORK]), legacy_chat(WORK), unreadable(PLAY)),
    records(home_row(), chat_row(WORK, key="k", status=Status.LEFT), chat_row(PLAY, key="k")),
    changes=(
        changed(
            chat_row(WORK, key="k", status=Status.LEFT),
            chat_row(WORK, chat_id="C2", key=derived(WORK)),
        ),
    ),
    repairs=(stamped(chat_row(WORK, chat_id="C2", key=derived(WORK))),),
    findings=(
        finding(FindingKind.DUPLICATE_CHAT_ID, WORK, detail=f"C1 belongs to {PLAY}"),
        finding(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, WORK, detail=f"k belongs to {PLAY}"),
    ),
)

# 16. The owner left.
case(
    "case-16-nobody-is-invited-again",
    topology(
        space(links=[WORK, PLAY], people=members(anna="leave")),
        chat(WORK, people=members(anna="ban")),
        chat(PLAY, chat_id="C2", people=members()),
    ),
    records(home_row(), chat_row(WORK), chat_row(PLAY, chat_id="C2")),
    findings=(
        finding(FindingKind.OWNER_LEFT, HOME, detail="space"),
        finding(FindingKind.OWNER_LEFT, WORK, detail="chat"),
    ),
)


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
