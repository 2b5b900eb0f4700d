"""Rooms that were upgraded, also where the new room is out of reach."""

from __future__ import annotations

from dataclasses import replace

import pytest

from homeroom.domain.homes.model import Status
from homeroom.domain.homes.plan import (
    FindingKind,
    InviteToReplacement,
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
    NEWER,
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
from tests.domain.homes.plan_cases import IN_ORDER, LEFT_HOME, LINKED_HOME, Case, Cases

CASES = Cases()
case = CASES.add

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


@pytest.mark.parametrize("scenario", CASES.values(), ids=CASES)
def test_plan(scenario: Case) -> None:
    assert make_plan(scenario.observed, scenario.stored) == scenario.plan
