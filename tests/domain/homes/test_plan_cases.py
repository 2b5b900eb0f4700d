"""The cases of DESIGN.md §3, each with the whole plan that it must give.

A scenario is what was observed, what was stored, and everything that follows: changes, repairs
and findings. Nothing else may follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from mautrix.types import RoomID

from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.model import Records, RoomType, Status
from homeroom.domain.homes.plan import (
    Change,
    Finding,
    FindingKind,
    InviteToReplacement,
    Plan,
    Repair,
)
from homeroom.domain.homes.planner import make_plan
from homeroom.domain.homes.topology import Invite, Topology
from tests.domain.builders import (
    ANNA,
    BERT,
    BOT,
    ELSEWHERE,
    HOME,
    MALLORY,
    NEW,
    NEWER,
    OTHER_HOME,
    PLAY,
    WORK,
    added,
    changed,
    chat,
    chat_row,
    closed,
    derived,
    finding,
    followed,
    foreign,
    home_row,
    later,
    legacy_chat,
    legacy_space,
    link,
    linked,
    members,
    moved,
    plan,
    records,
    removed,
    space,
    stamped,
    successor,
    topology,
    unlinked,
    unreadable,
    with_bad_marker,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    observed: Topology
    stored: Records
    plan: Plan


CASES: dict[str, Case] = {}


def case(
    name: str,
    observed: Topology,
    stored: Records,
    *,
    changes: tuple[Change, ...] = (),
    repairs: tuple[Repair, ...] = (),
    findings: tuple[Finding, ...] = (),
) -> None:
    assert name not in CASES
    expected = plan(observed, changes=changes, repairs=repairs, findings=findings)
    CASES[name] = Case(observed=observed, stored=stored, plan=expected)


LINKED_HOME = space(links=[WORK])
IN_ORDER = records(home_row(), chat_row())
LEFT_HOME = home_row(status=Status.LEFT)

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

# 13. Upgraded.
OLD = closed(chat(key="k"), to=NEW)
OLD_ROW = chat_row(key="k", status=Status.REPLACED)
NEW_ROW = chat_row(NEW, key="k")
case(
    "case-13-the-binding-moves",
    topology(LINKED_HOME, OLD, successor(OLD)),
    records(home_row(), chat_row(key="k")),
    changes=(added(NEW_ROW), changed(chat_row(key="k"), OLD_ROW)),
    repairs=(stamped(NEW_ROW), linked(NEW), unlinked(WORK), moved(NEW)),
)
case(
    "case-13-the-binding-moved-earlier",
    topology(
        space(links={WORK: removed(sender=BOT), NEW: link()}),
        OLD,
        replace(successor(OLD), marker=chat(key="k").marker, parents=frozenset({HOME})),
    ),
    records(home_row(), OLD_ROW, NEW_ROW),
)
case(
    "case-13-the-rows-are-lost",
    topology(LINKED_HOME, OLD, successor(OLD)),
    records(),
    changes=(added(home_row()), added(NEW_ROW), added(OLD_ROW)),
    repairs=(stamped(NEW_ROW), linked(NEW), unlinked(WORK), moved(NEW)),
)
case(
    "case-13-two-upgrades-while-the-bot-was-down",
    topology(
        LINKED_HOME,
        OLD,
        closed(successor(OLD), to=NEWER),
        successor(successor(OLD), NEWER, created_at=400),
    ),
    records(home_row(), chat_row(key="k")),
    changes=(
        added(chat_row(NEW, key="k", status=Status.REPLACED)),
        added(chat_row(NEWER, key="k")),
        changed(chat_row(key="k"), OLD_ROW),
    ),
    repairs=(stamped(chat_row(NEWER, key="k")), linked(NEWER), unlinked(WORK), moved(NEWER)),
)
LEGACY_OLD = closed(legacy_chat(), to=NEW)
case(
    "case-13-legacy-chat-with-a-row",
    topology(LINKED_HOME, LEGACY_OLD, successor(LEGACY_OLD)),
    records(home_row(), chat_row(chat_id="C5", key="k")),
    changes=(
        added(chat_row(NEW, chat_id="C5", key="k")),
        changed(
            chat_row(chat_id="C5", key="k"),
            chat_row(chat_id="C5", key="k", status=Status.REPLACED),
        ),
    ),
    repairs=(
        stamped(chat_row(NEW, chat_id="C5", key="k")),
        linked(NEW, chat_id="C5"),
        unlinked(WORK),
    ),
)
case(
    "case-13-legacy-chat-without-rows-derives-from-the-first-room",
    topology(LINKED_HOME, LEGACY_OLD, successor(LEGACY_OLD)),
    records(home_row()),
    changes=(
        added(chat_row(NEW, key=derived(WORK))),
        added(chat_row(WORK, chat_id=None, status=Status.REPLACED)),
    ),
    repairs=(stamped(chat_row(NEW, key=derived(WORK))), linked(NEW), unlinked(WORK)),
)
case(
    "case-13-two-upgrades-without-rows-derive-from-the-first-room",
    topology(
        LINKED_HOME,
        LEGACY_OLD,
        closed(successor(LEGACY_OLD), to=NEWER),
        successor(successor(LEGACY_OLD), NEWER, created_at=400),
    ),
    records(home_row()),
    changes=(
        added(chat_row(NEW, chat_id=None, key=derived(WORK), status=Status.REPLACED)),
        added(chat_row(NEWER, key=derived(WORK))),
        added(chat_row(WORK, chat_id=None, status=Status.REPLACED)),
    ),
    repairs=(stamped(chat_row(NEWER, key=derived(WORK))), linked(NEWER), unlinked(WORK)),
)
case(
    "case-13-the-moved-row-survives-the-loss-of-the-old-one",
    topology(space(links=[WORK, NEW]), LEGACY_OLD, successor(LEGACY_OLD)),
    records(home_row(), chat_row(NEW, chat_id="C5", key="k")),
    changes=(added(chat_row(WORK, chat_id=None, status=Status.REPLACED)),),
    repairs=(stamped(chat_row(NEW, chat_id="C5", key="k")), unlinked(WORK)),
)
case(
    "case-13-the-row-of-the-new-room-goes-before-that-of-the-old-one",
    topology(space(links=[WORK, NEW]), LEGACY_OLD, successor(LEGACY_OLD)),
    records(
        home_row(),
        chat_row(chat_id="C4", key="altered", status=Status.REPLACED),
        chat_row(NEW, chat_id="C5", key="k"),
    ),
    repairs=(stamped(chat_row(NEW, chat_id="C5", key="k")), unlinked(WORK)),
)
case(
    "case-13-an-upgraded-chat-keeps-its-seniority",
    topology(
        space(links=[NEW, PLAY]),
        OLD,
        replace(successor(OLD, created_at=300), marker=chat(key="k").marker),
        chat(PLAY, created_at=250),
    ),
    records(home_row(), OLD_ROW, NEW_ROW, chat_row(PLAY, chat_id="C2")),
    repairs=(stamped(chat_row(PLAY, chat_id="C2")), moved(NEW)),
    findings=(finding(FindingKind.DUPLICATE_CHAT_ID, PLAY, detail=f"C1 belongs to {NEW}"),),
)
case(
    "case-13-an-archived-legacy-chat-stays-archived-until-it-is-stamped",
    topology(LINKED_HOME, LEGACY_OLD, successor(LEGACY_OLD)),
    records(
        home_row(),
        chat_row(key="k", status=Status.REPLACED),
        chat_row(NEW, key="k", status=Status.ARCHIVED),
    ),
    repairs=(stamped(chat_row(NEW, key="k", status=Status.ARCHIVED)), unlinked(WORK)),
)
CLEARED_OLD = closed(chat(key="k", conversation=later(2)), to=NEW)
CLEARED_ROW = chat_row(NEW, key="k", conversation=later(2))
case(
    "case-13-the-conversation-moves-along",
    topology(LINKED_HOME, CLEARED_OLD, successor(CLEARED_OLD)),
    records(home_row()),
    changes=(
        added(CLEARED_ROW),
        added(chat_row(key="k", status=Status.REPLACED, conversation=later(2))),
    ),
    repairs=(stamped(CLEARED_ROW), linked(NEW), unlinked(WORK), moved(NEW)),
)
case(
    "case-13-the-conversation-of-a-legacy-chat-moves-along",
    topology(LINKED_HOME, LEGACY_OLD, successor(LEGACY_OLD)),
    records(home_row(), chat_row(key="k", conversation=later(2))),
    changes=(
        added(CLEARED_ROW),
        changed(
            chat_row(key="k", conversation=later(2)),
            chat_row(key="k", status=Status.REPLACED, conversation=later(2)),
        ),
    ),
    repairs=(stamped(CLEARED_ROW), linked(NEW), unlinked(WORK)),
)
case(
    "case-13-the-old-room-was-left-before-the-new-one-was-stamped",
    topology(space(links=[NEW]), successor(OLD)),
    records(home_row(), OLD_ROW, NEW_ROW),
    repairs=(stamped(NEW_ROW),),
)
OLD_HOME = closed(space(links=[WORK], initial_chats=("One",)), to=NEW)
case(
    "case-13-an-upgraded-space-keeps-its-chats",
    topology(OLD_HOME, successor(OLD_HOME), chat()),
    records(home_row(initial_chats=("One",)), chat_row()),
    changes=(
        changed(home_row(initial_chats=("One",)), home_row(space_id=NEW, initial_chats=("One",))),
        changed(chat_row(), chat_row(space_id=NEW)),
    ),
    repairs=(
        stamped(home_row(space_id=NEW, initial_chats=("One",))),
        moved(WORK, space_id=NEW, former=(HOME,)),
    ),
)
case(
    "case-13-an-upgraded-space-without-its-links-gets-them-again",
    topology(OLD_HOME, replace(successor(OLD_HOME), children={}), chat()),
    records(home_row(space_id=NEW, initial_chats=("One",)), chat_row(space_id=NEW)),
    repairs=(
        stamped(home_row(space_id=NEW, initial_chats=("One",))),
        linked(WORK, space_id=NEW),
        moved(WORK, space_id=NEW, former=(HOME,)),
    ),
)
NEW_HOME = replace(successor(OLD_HOME, creator=BOT), marker=OLD_HOME.marker)
NEW_HOME_ROW = home_row(space_id=NEW, initial_chats=("One",))
case(
    "case-13-who-is-in-the-new-space-may-join-instead-of-who-was-in-the-old-one",
    topology(OLD_HOME, NEW_HOME, chat(parents=[NEW], admits=[ELSEWHERE, HOME])),
    records(NEW_HOME_ROW, chat_row(space_id=NEW)),
    repairs=(moved(WORK, space_id=NEW, former=(HOME,)),),
)
case(
    "case-13-the-old-space-counts-when-the-bot-is-not-in-it-any-more",
    topology(NEW_HOME, chat(admits=[HOME])),
    records(NEW_HOME_ROW, chat_row(space_id=NEW)),
    repairs=(moved(WORK, space_id=NEW, former=(HOME,)),),
)
case(
    "case-13-a-parent-that-somebody-emptied-and-a-changed-join-rule-are-respected",
    topology(
        OLD_HOME,
        NEW_HOME,
        replace(chat(parents=[]), other_parents=frozenset({HOME, NEW}), admits=frozenset()),
    ),
    records(NEW_HOME_ROW, chat_row(space_id=NEW)),
)
case(
    "case-13-the-space-twice-and-the-chat-while-the-bot-was-down",
    topology(
        OLD_HOME,
        closed(successor(OLD_HOME), to=NEWER),
        successor(successor(OLD_HOME), NEWER, created_at=400),
        closed(chat(key="k", admits=[HOME]), to=PLAY),
        successor(chat(key="k", admits=[HOME]), PLAY),
    ),
    records(home_row(initial_chats=("One",)), chat_row(key="k")),
    changes=(
        changed(
            home_row(initial_chats=("One",)), home_row(space_id=NEWER, initial_chats=("One",))
        ),
        added(chat_row(PLAY, space_id=NEWER, key="k")),
        changed(chat_row(key="k"), chat_row(space_id=NEWER, key="k", status=Status.REPLACED)),
    ),
    repairs=(
        stamped(home_row(space_id=NEWER, initial_chats=("One",))),
        stamped(chat_row(PLAY, space_id=NEWER, key="k")),
        linked(PLAY, space_id=NEWER),
        unlinked(WORK, space_id=NEWER),
        moved(PLAY, space_id=NEWER, former=(HOME,)),
    ),
)
case(
    "case-13-a-chat-that-the-bot-is-not-in-goes-with-its-space",
    topology(OLD_HOME, NEW_HOME),
    records(NEW_HOME_ROW, chat_row(status=Status.LEFT)),
    changes=(changed(chat_row(status=Status.LEFT), chat_row(space_id=NEW, status=Status.LEFT)),),
)
case(
    "case-13-an-owner-who-was-there-is-invited-to-where-it-goes-on",
    topology(
        OLD_HOME,
        replace(NEW_HOME, members=members()),
        closed(chat(parents=[NEW]), to=PLAY),
        replace(successor(chat()), room_id=PLAY, marker=chat().marker, members=members()),
        closed(chat(ELSEWHERE, chat_id="C2", people=members(anna="leave")), to=NEWER),
        replace(
            successor(chat(ELSEWHERE)),
            room_id=NEWER,
            marker=chat(ELSEWHERE, chat_id="C2").marker,
            members=members(),
        ),
    ),
    records(
        NEW_HOME_ROW,
        chat_row(space_id=NEW, status=Status.REPLACED),
        chat_row(PLAY, space_id=NEW, key=derived(WORK)),
        chat_row(ELSEWHERE, space_id=NEW, chat_id="C2", status=Status.REPLACED),
        chat_row(NEWER, space_id=NEW, chat_id="C2", key=derived(ELSEWHERE)),
    ),
    repairs=(
        InviteToReplacement(room_id=NEW, user_id=ANNA),
        InviteToReplacement(room_id=PLAY, user_id=ANNA),
        linked(NEWER, space_id=NEW, chat_id="C2"),
        linked(PLAY, space_id=NEW),
        unlinked(WORK, space_id=NEW),
        moved(NEWER, space_id=NEW),
        moved(PLAY, space_id=NEW),
    ),
)
case(
    "case-13-a-space-that-replaced-an-unreadable-one-is-linked-later",
    topology(unreadable(HOME), replace(NEW_HOME, children={}), chat(parents=[NEW])),
    records(NEW_HOME_ROW, chat_row(space_id=NEW)),
)
case(
    "case-18-a-removed-link-stays-removed-when-the-space-is-upgraded",
    topology(
        replace(OLD_HOME, children={WORK: removed()}),
        replace(NEW_HOME, children={}),
        chat(parents=[NEW]),
    ),
    records(NEW_HOME_ROW, chat_row(space_id=NEW)),
    findings=(finding(FindingKind.UNLINKED, WORK, detail=NEW),),
)
case(
    "case-18-a-removed-link-stays-removed-when-the-chat-is-upgraded",
    topology(
        space(links={WORK: removed()}),
        OLD,
        replace(successor(OLD), marker=chat(key="k").marker, parents=frozenset({HOME})),
    ),
    records(home_row(), OLD_ROW, NEW_ROW),
    findings=(finding(FindingKind.UNLINKED, NEW, detail=HOME),),
)
case(
    "case-18-that-the-bot-removed-the-old-rooms-link-says-nothing-about-the-new-one",
    topology(
        space(links={WORK: removed(sender=BOT)}),
        OLD,
        replace(successor(OLD), marker=chat(key="k").marker, parents=frozenset({HOME})),
    ),
    records(home_row(), OLD_ROW, NEW_ROW),
    repairs=(linked(NEW),),
)
LEGACY_OLD_HOME = closed(legacy_space(), to=NEW)
case(
    "case-13-an-upgraded-legacy-space-is-known-by-the-row-that-moved",
    topology(
        replace(LEGACY_OLD_HOME, members=members(anna="join", bert="join")),
        successor(LEGACY_OLD_HOME),
        legacy_chat(),
    ),
    records(home_row(space_id=NEW, initial_chats=("One",)), chat_row(space_id=NEW, key="k")),
    repairs=(
        stamped(home_row(space_id=NEW, initial_chats=("One",))),
        stamped(chat_row(space_id=NEW, key="k")),
    ),
)
case(
    "case-13-an-unreadable-replacement-leaves-everything-as-it-is",
    topology(LINKED_HOME, OLD, unreadable(NEW)),
    records(home_row(), chat_row(key="k")),
)
case(
    "case-13-an-unreadable-replacement-of-the-space-leaves-everything-as-it-is",
    topology(OLD_HOME, unreadable(NEW), chat()),
    records(home_row(initial_chats=("One",)), chat_row()),
)
case(
    "case-13-an-unreadable-predecessor-leaves-everything-as-it-is",
    topology(space(links=[NEW]), unreadable(WORK), successor(closed(legacy_chat()), creator=BOT)),
    records(home_row(), chat_row(key="k", status=Status.REPLACED)),
)
case(
    "case-13-a-replacement-with-a-damaged-marker-leaves-everything-as-it-is",
    topology(LINKED_HOME, OLD, with_bad_marker(successor(OLD))),
    records(home_row(), chat_row(key="k")),
    findings=(finding(FindingKind.MALFORMED_MARKER, NEW, owner=None, detail="broken"),),
)

# 14. Upgraded, and the new room is out of reach.
case(
    "case-14-not-joined",
    topology(LINKED_HOME, OLD),
    records(home_row(), chat_row(key="k")),
    changes=(changed(chat_row(key="k"), OLD_ROW),),
    repairs=(followed(WORK, NEW),),
    findings=(finding(FindingKind.REPLACEMENT_NOT_JOINED, WORK, detail=NEW),),
)
case(
    "case-14-the-bot-was-there-and-has-left-again",
    topology(LINKED_HOME, OLD),
    records(home_row(), OLD_ROW, chat_row(NEW, key="k", status=Status.LEFT)),
    findings=(finding(FindingKind.REPLACEMENT_NOT_JOINED, WORK, detail=NEW),),
)
case(
    "case-14-the-space",
    topology(OLD_HOME, chat()),
    records(home_row(initial_chats=("One",)), chat_row()),
    changes=(
        changed(
            home_row(initial_chats=("One",)),
            home_row(initial_chats=("One",), status=Status.REPLACED),
        ),
    ),
    repairs=(followed(HOME, NEW),),
    findings=(finding(FindingKind.REPLACEMENT_NOT_JOINED, HOME, detail=NEW),),
)
case(
    "case-14-a-home-row-about-somebody-elses-closed-space",
    topology(closed(space(owner=BERT))),
    records(home_row()),
    changes=(changed(home_row(), LEFT_HOME),),
    findings=(
        finding(FindingKind.CLOSED, HOME, owner=BERT),
        finding(
            FindingKind.NOT_OURS,
            HOME,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
)
case(
    "case-14-no-replacement",
    topology(LINKED_HOME, closed(chat())),
    IN_ORDER,
    changes=(changed(chat_row(), chat_row(status=Status.REPLACED)),),
    findings=(finding(FindingKind.CLOSED, WORK),),
)
case(
    "case-14-the-replacement-does-not-point-back",
    topology(LINKED_HOME, OLD, foreign(NEW)),
    records(home_row(), chat_row(key="k")),
    changes=(changed(chat_row(key="k"), OLD_ROW),),
    findings=(finding(FindingKind.REPLACEMENT_NOT_CONFIRMED, WORK, detail=NEW),),
)
case(
    "case-14-the-replacement-points-to-another-room",
    topology(LINKED_HOME, OLD, replace(successor(OLD), predecessor=ELSEWHERE)),
    records(home_row(), chat_row(key="k")),
    changes=(changed(chat_row(key="k"), OLD_ROW),),
    findings=(finding(FindingKind.REPLACEMENT_NOT_CONFIRMED, WORK, detail=NEW),),
)
case(
    "case-14-a-space-is-no-replacement-of-a-chat",
    topology(LINKED_HOME, OLD, replace(successor(OLD), is_space=True)),
    records(home_row(), chat_row(key="k")),
    changes=(changed(chat_row(key="k"), OLD_ROW),),
    findings=(finding(FindingKind.REPLACEMENT_NOT_CONFIRMED, WORK, detail=NEW),),
)
case(
    "case-14-a-room-that-only-says-it-replaces-a-chat",
    topology(LINKED_HOME, chat(key="k"), successor(chat(), creator=MALLORY)),
    records(home_row(), chat_row(key="k")),
)
case(
    "case-14-a-room-that-only-says-it-replaces-a-chat-and-has-a-row",
    topology(LINKED_HOME, OLD, successor(OLD), successor(OLD, NEWER, creator=MALLORY)),
    records(home_row(), OLD_ROW, NEW_ROW, chat_row(NEWER, chat_id="C3", key="x")),
    changes=(
        changed(
            chat_row(NEWER, chat_id="C3", key="x"),
            chat_row(NEWER, chat_id="C3", key="x", status=Status.LEFT),
        ),
    ),
    repairs=(stamped(NEW_ROW), linked(NEW), unlinked(WORK), moved(NEW)),
    findings=(
        finding(
            FindingKind.NOT_OURS,
            NEWER,
            detail="the database called it a room of Homeroom's, the room itself does not",
        ),
    ),
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


def test_every_case_of_the_design_has_its_test() -> None:
    assert {name[:7] for name in CASES} == {f"case-{number:02}" for number in range(1, 21)}


def test_unmarked_rooms_are_adopted_only_if_that_is_wanted() -> None:
    observed = topology(legacy_space(), legacy_chat())
    assert make_plan(observed, records(), adopt_unmarked=False) == plan(observed)
    observed = topology(LINKED_HOME, legacy_chat())
    assert make_plan(observed, records(home_row()), adopt_unmarked=False) == plan(observed)


def test_rows_of_unmarked_rooms_count_even_if_adoption_is_off() -> None:
    observed = topology(legacy_space(), legacy_chat())
    stored = records(home_row(), chat_row(key="k"))
    assert make_plan(observed, stored, adopt_unmarked=False) == plan(
        observed, repairs=(stamped(home_row()), stamped(chat_row(key="k")))
    )


def test_a_long_chain_of_upgrades_is_no_deep_recursion() -> None:
    first = closed(chat(key="k"), to=None)
    chain = [first]
    for number in range(3000):
        room = successor(first, RoomID(f"!{number}:example.org"), created_at=number)
        chain.append(replace(room, predecessor=chain[-1].room_id))
    rooms = [closed(room, to=following.room_id) for room, following in pairwise(chain)]
    observed = topology(space(), *rooms, chain[-1])
    routed = [
        change.after
        for change in make_plan(observed, records(home_row())).changes
        if change.after.status is Status.ACTIVE
    ]
    assert routed == [chat_row(chain[-1].room_id, key="k")]


def test_the_counts_of_a_plan_tell_what_kind_of_change_it_is() -> None:
    observed = topology(legacy_space(), legacy_chat(), chat(PLAY, chat_id="C2", name="Play"))
    stored = records(
        chat_row(WORK, key=None), chat_row(PLAY, chat_id="C2"), chat_row(NEW, chat_id="C3")
    )
    result = make_plan(observed, stored)
    assert (result.adopted, result.updated, result.backfilled, result.left) == (1, 3, 1, 1)
