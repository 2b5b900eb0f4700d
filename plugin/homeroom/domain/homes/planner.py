"""The decision of a reconcile: `make_plan(topology, records) -> Plan`.

Pure: no await, no clock, no log. The same input gives the same plan, whatever the order of rooms
and rows; a plan that was applied leaves nothing for the next one. The twenty cases that it
decides are listed in DESIGN.md §3 and are the named tests of `tests/domain/homes/test_plan_*.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mautrix.types import RoomID, UserID

from .id_assignment import Ids, assign_ids
from .ids import child_order, derive_platform_chat_id
from .left_chats import left_chats
from .marker import Marker, chat_marker
from .model import ROUTED, Chat, Home, Records, RoomType, Status
from .ownership import Claim, Claims, confirmed_replacement, make_claims, predecessors_of
from .plan import (
    Change,
    Finding,
    FindingKind,
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Plan,
    Repair,
    SetChat,
    SetHome,
    StampMarker,
    UnlinkChild,
)
from .topology import ChildLink, Room, Topology


def make_plan(topology: Topology, records: Records, *, adopt_unmarked: bool = True) -> Plan:
    """Decide what has to change so that the store agrees with what was observed.

    Args:
        topology: the look. A room of a row that is not in it counts as not joined, so a look at
            a few rooms must have looked at every room of the `records` it is compared with.
        records: the rows.
        adopt_unmarked: whether Spaces and chats from before markers are taken in (DESIGN.md §2).
    """
    claims, homes = _agree_on_homes(topology, records, adopt_unmarked=adopt_unmarked)
    findings = [*claims.findings, *_second_spaces(claims, homes)]
    held = {
        room_id: row
        for room_id, row in records.chats.items()
        if _is_unknown(room_id, claims, topology)
    }
    left = {row.room_id: row for row in left_chats(claims, topology, records)}
    remembered = {**records.chats, **left}
    numbering = assign_ids(
        claims.chats(),
        held_back=[row for _, row in sorted(held.items()) if row.status in ROUTED],
        retired=[row for row in remembered.values() if not claims.is_current(row.room_id)],
    )
    findings += numbering.findings
    spaces = _Spaces(claims, homes, topology)

    chats = dict(held)
    for room_id, claim in claims.of_room.items():
        if claim.room_type is RoomType.CHAT and room_id not in chats:
            space_id = spaces.of_chat(claim, records.chats.get(room_id))
            chats[room_id] = _chat_row(claim, numbering.of_room.get(room_id), space_id)
    for room_id, row in remembered.items():
        if room_id not in chats:
            fate = _row_without_claim(row, topology, findings)
            chats[room_id] = replace(fate, space_id=spaces.of_row(row))
    home_rows = {owner: _home_row(claim) for owner, claim in homes.items()}
    for owner, home in records.homes.items():
        if owner not in home_rows:
            home_rows[owner] = _fate_of_home(home, claims, topology, findings)

    for claim in claims.of_room.values():
        findings += _look_at_state(claim, topology)
    repairs = [
        *_joins(claims, topology, chats, home_rows),
        *_stamps(claims, chats, numbering.contested),
        *_invites(claims, chats, homes, topology),
        *_links(claims, chats, homes, topology, findings),
        *_unlinks(claims, chats, homes, topology),
        *_moves(claims, chats, homes, topology),
    ]
    return Plan(
        rooms=len(topology.rooms),
        changes=(
            *_changed_homes(home_rows, records),
            *_changed_chats(chats, records),
        ),
        repairs=tuple(repairs),
        findings=tuple(
            sorted(
                set(findings), key=lambda f: (f.kind.value, f.room_id, f.user_id or "", f.detail)
            )
        ),
        unreadable=topology.unreadable,
    )


def _agree_on_homes(
    topology: Topology, records: Records, *, adopt_unmarked: bool
) -> tuple[Claims, dict[UserID, Claim]]:
    """Claims, and the home of every owner who has one.

    A row may be all that says whose an unmarked Space is. A row that is about to be changed,
    because its owner's home is another Space, is no such evidence: the next plan would not find
    it. Without it the claims may be others, so they are made again.
    """
    evidence = records
    while True:
        claims = make_claims(topology, evidence, adopt_unmarked=adopt_unmarked)
        homes = _choose_homes(claims, topology, records)
        lasting = {
            owner: row
            for owner, row in evidence.homes.items()
            if owner not in homes or claims.is_lineage(row.space_id, homes[owner].room.room_id)
        }
        if len(lasting) == len(evidence.homes):
            return claims, homes
        evidence = replace(evidence, homes=lasting)


def _choose_homes(claims: Claims, topology: Topology, records: Records) -> dict[UserID, Claim]:
    """One Space per owner; of several, the one that is most lived in (DESIGN.md §3, case 10).

    Owners whose stored home is unknown are left out: their row stays what it is. Where a linked
    room is unknown the chats cannot be counted, and the row decides, if it names one of them.
    """
    chats_of: dict[UserID, set[RoomID]] = {}
    for chat in claims.chats():
        chats_of.setdefault(chat.owner, set()).add(chat.room.room_id)
    linked = {
        space.room.room_id: {child for child, link in space.room.children.items() if link.linked}
        for space in claims.spaces()
    }
    uncounted = {
        space.owner
        for space in claims.spaces()
        if any(_is_unknown(child, claims, topology) for child in linked[space.room.room_id])
    }

    def rank(space: Claim) -> tuple[bool, bool, int, tuple[int, RoomID]]:
        row = records.homes.get(space.owner)
        is_stored = row is not None and row.space_id == space.room.room_id
        return (
            space.owner in uncounted and not is_stored,
            space.room.membership(space.owner) != "join",
            -len(linked[space.room.room_id] & chats_of.get(space.owner, set())),
            space.age,
        )

    homes: dict[UserID, Claim] = {}
    for space in sorted(claims.spaces(), key=rank):
        row = records.homes.get(space.owner)
        if row is not None and _is_unknown(row.space_id, claims, topology):
            continue
        homes.setdefault(space.owner, space)
    return dict(sorted(homes.items()))


def _second_spaces(claims: Claims, homes: dict[UserID, Claim]) -> Iterable[Finding]:
    for space in claims.spaces():
        home = homes.get(space.owner)
        if home and home is not space:
            yield Finding(
                kind=FindingKind.SECOND_SPACE,
                room_id=space.room.room_id,
                user_id=space.owner,
                detail=f"the home is {home.room.room_id}",
            )


class _Spaces:
    """Which Space a chat is in."""

    def __init__(self, claims: Claims, homes: dict[UserID, Claim], topology: Topology) -> None:
        self._claims = claims
        self._homes = homes
        self._topology = topology
        self._of_owner: dict[UserID, list[Claim]] = {}
        for space in claims.spaces():
            self._of_owner.setdefault(space.owner, []).append(space)

    def of_row(self, row: Chat) -> RoomID | None:
        """The Space of a chat that the bot is not in: the home, if that is what its became."""
        home = self._homes.get(row.matrix_user_id)
        if home and row.space_id in predecessors_of(home.room, self._topology).room_ids:
            return home.room.room_id
        return row.space_id

    def of_chat(self, chat: Claim, row: Chat | None) -> RoomID | None:
        """The owner's Space that links the chat, else one it names as parent, else the home.

        A row that names an unknown Space keeps it; a chat that names one is not moved elsewhere.
        """
        remembered = row.space_id if row else None
        if remembered is not None and self._is_unknown(remembered):
            return remembered
        home = self._homes.get(chat.owner)
        candidates = [
            *([home] if home else []),
            *(space for space in self._of_owner.get(chat.owner, []) if space is not home),
        ]
        for space in candidates:
            link = space.room.children.get(chat.room.room_id)
            if link and link.linked:
                return space.room.room_id
        for space in candidates:
            if space.room.room_id in chat.room.parents:
                return space.room.room_id
        unknown_parents = sorted(filter(self._is_unknown, chat.room.parents))
        if unknown_parents:
            return remembered or unknown_parents[0]
        if home:
            return home.room.room_id
        return min(chat.room.parents, default=remembered)

    def _is_unknown(self, space_id: RoomID) -> bool:
        return _is_unknown(space_id, self._claims, self._topology)


def _chat_row(claim: Claim, ids: Ids | None, space_id: RoomID | None) -> Chat:
    if ids is None:  # upgraded or closed: a memory of what it was
        status = Status.REPLACED
        chat_id = claim.marked.chat_id or claim.stored.chat_id
        platform_chat_id = (
            claim.marked.platform_chat_id
            or claim.stored.platform_chat_id
            or derive_platform_chat_id(claim.origin, conversation=claim.conversation)
        )
    else:
        status = Status.ARCHIVED if claim.archived else Status.ACTIVE
        chat_id, platform_chat_id = ids.chat_id, ids.platform_chat_id
    return Chat(
        room_id=claim.room.room_id,
        matrix_user_id=claim.owner,
        space_id=space_id,
        chat_id=chat_id,
        platform_chat_id=platform_chat_id,
        name=claim.room.name,
        status=status,
        conversation=claim.conversation,
    )


def _home_row(claim: Claim) -> Home:
    return Home(
        matrix_user_id=claim.owner,
        space_id=claim.room.room_id,
        status=Status.ACTIVE,
        initial_chats=claim.initial_chats,
    )


def _is_unknown(room_id: RoomID, claims: Claims, topology: Topology) -> bool:
    """Nothing can be said about the room: it, or the room it was upgraded to, is a riddle."""
    if topology.is_unreadable(room_id) or claims.is_undetermined(room_id):
        return True
    claim = claims.of_room.get(room_id)
    if claim is None or claim.is_current:
        return False
    successor = confirmed_replacement(claim.room, topology)
    return topology.is_unreadable(claim.room.replacement) or (
        successor is not None and claims.is_undetermined(successor.room_id)
    )


def _row_without_claim(row: Chat, topology: Topology, findings: list[Finding]) -> Chat:
    """What becomes of a row whose room nobody claims."""
    return replace(
        row, status=_retire(row.status, row.room_id, row.matrix_user_id, topology, findings)
    )


def _fate_of_home(row: Home, claims: Claims, topology: Topology, findings: list[Finding]) -> Home:
    """What becomes of a home whose Space is not the owner's any more."""
    if _is_unknown(row.space_id, claims, topology):
        return row
    claim = claims.of_room.get(row.space_id)
    if claim and not claim.is_current and claim.owner == row.matrix_user_id:
        return replace(row, status=Status.REPLACED)
    return replace(
        row, status=_retire(row.status, row.space_id, row.matrix_user_id, topology, findings)
    )


def _retire(
    status: Status | None,
    room_id: RoomID,
    owner: UserID,
    topology: Topology,
    findings: list[Finding],
) -> Status:
    if status in {Status.LEFT, Status.REPLACED}:
        return status
    if topology.room(room_id) is not None:
        findings.append(
            Finding(
                kind=FindingKind.NOT_OURS,
                room_id=room_id,
                user_id=owner,
                detail="the database called it a room of Homeroom's, the room itself does not",
            )
        )
    return Status.LEFT


def _look_at_state(claim: Claim, topology: Topology) -> Iterable[Finding]:
    """What is to be reported about a claimed room, whatever its rows say."""
    room = claim.room
    if not room.is_tombstoned:
        if room.membership(claim.owner) in {"leave", "ban"}:
            yield Finding(
                kind=FindingKind.OWNER_LEFT,
                room_id=room.room_id,
                user_id=claim.owner,
                detail=claim.room_type.value,
            )
    elif room.replacement is None:
        yield Finding(kind=FindingKind.CLOSED, room_id=room.room_id, user_id=claim.owner)
    elif topology.room(room.replacement) is None:
        if not topology.is_unreadable(room.replacement):
            yield Finding(
                kind=FindingKind.REPLACEMENT_NOT_JOINED,
                room_id=room.room_id,
                user_id=claim.owner,
                detail=room.replacement,
            )
    elif confirmed_replacement(room, topology) is None:
        yield Finding(
            kind=FindingKind.REPLACEMENT_NOT_CONFIRMED,
            room_id=room.room_id,
            user_id=claim.owner,
            detail=room.replacement,
        )


def _joins(
    claims: Claims,
    topology: Topology,
    chats: dict[RoomID, Chat],
    home_rows: dict[UserID, Home],
) -> Iterable[Repair]:
    """Rooms to follow to; not those that a row knows, because the bot was there and has left."""
    visited = {*chats, *(home.space_id for home in home_rows.values())}
    for room_id, claim in sorted(claims.of_room.items()):
        replacement = claim.room.replacement
        if not claim.room.is_tombstoned or replacement is None or replacement in visited:
            continue
        if replacement not in topology.rooms:
            yield JoinReplacement(room_id=room_id, replacement=replacement, user_id=claim.owner)


def _stamps(
    claims: Claims, chats: dict[RoomID, Chat], contested: frozenset[RoomID]
) -> Iterable[Repair]:
    for space in claims.spaces():
        if space.room.marker is None:
            yield StampMarker(
                room_id=space.room.room_id,
                marker=replace(
                    space.marker or Marker(room_type=RoomType.SPACE, user_id=space.owner),
                    initial_chats=space.initial_chats,
                ),
            )
    for claim in claims.chats():
        chat = chats[claim.room.room_id]
        marker = chat_marker(chat, before=claim.marker)
        if claim.room.marker != marker and chat.room_id not in contested:
            yield StampMarker(room_id=chat.room_id, marker=marker)


def _links(
    claims: Claims,
    chats: dict[RoomID, Chat],
    homes: dict[UserID, Claim],
    topology: Topology,
    findings: list[Finding],
) -> Iterable[Repair]:
    """Links that were never made are made; links that somebody removed are reported.

    A removal holds when the chat or the Space is upgraded: no link is copied then, as if there
    had never been one.
    """
    for claim, home in _at_home(claims, chats, homes):
        if claim.archived:
            continue
        room_id, space_id = claim.room.room_id, home.room.room_id
        link = home.room.children.get(room_id)
        is_removed = link is not None and not link.linked
        if link is None:
            rooms, spaces = (
                predecessors_of(claim.room, topology),
                predecessors_of(home.room, topology),
            )
            if not rooms.are_all or not spaces.are_all:
                continue
            earlier = _last_link(
                [home.room, *filter(None, map(topology.room, spaces.room_ids))],
                [room_id, *rooms.room_ids],
            )
            is_removed = (
                earlier is not None and not earlier.linked and earlier.sender != topology.bot
            )
        if is_removed:
            findings.append(
                Finding(
                    kind=FindingKind.UNLINKED,
                    room_id=room_id,
                    user_id=claim.owner,
                    detail=space_id,
                )
            )
        elif link is None:
            yield LinkChild(
                space_id=space_id, room_id=room_id, order=child_order(chats[room_id].chat_id)
            )


def _last_link(spaces: Sequence[Room], room_ids: Sequence[RoomID]) -> ChildLink | None:
    """What was last said about a chat, by whatever ID, in a Space that was upgraded."""
    links = (space.children.get(room_id) for space in spaces for room_id in room_ids)
    return next((link for link in links if link is not None), None)


def _unlinks(
    claims: Claims, chats: dict[RoomID, Chat], homes: dict[UserID, Claim], topology: Topology
) -> Iterable[Repair]:
    """Old rooms of chats that go on elsewhere need not be in the list."""
    for claim, home in _at_home(claims, chats, homes):
        for room_id in predecessors_of(claim.room, topology).room_ids:
            link = home.room.children.get(room_id)
            if link and link.linked:
                yield UnlinkChild(space_id=home.room.room_id, room_id=room_id)


def _moves(
    claims: Claims, chats: dict[RoomID, Chat], homes: dict[UserID, Claim], topology: Topology
) -> Iterable[Repair]:
    """What chats say about the Space that they are in, where it or they were upgraded."""
    former = {
        owner: frozenset(predecessors_of(home.room, topology).room_ids)
        for owner, home in homes.items()
    }
    for claim, home in _at_home(claims, chats, homes):
        room, space_id = claim.room, home.room.room_id
        before = map(topology.room, predecessors_of(room, topology).room_ids)
        named = room.parents.union(*(predecessor.parents for predecessor in before if predecessor))
        is_named = space_id in room.parents | room.other_parents
        gone = former[home.owner].intersection(room.parents | room.admits)
        if gone or (not is_named and not named.isdisjoint({space_id, *former[home.owner]})):
            yield MoveToSpace(room_id=room.room_id, space_id=space_id, former=tuple(sorted(gone)))


def _invites(
    claims: Claims, chats: dict[RoomID, Chat], homes: dict[UserID, Claim], topology: Topology
) -> Iterable[Repair]:
    """Owners who were in a room and never heard of the one that replaced it.

    Nobody is moved by an upgrade; who upgrades a room in the bot's name rarely invites them.
    """
    in_use = [claim for claim, _ in _at_home(claims, chats, homes) if not claim.archived]
    for claim in [*homes.values(), *in_use]:
        if claim.room.membership(claim.owner) is None:
            before = map(topology.room, predecessors_of(claim.room, topology).room_ids)
            known = (predecessor.membership(claim.owner) for predecessor in before if predecessor)
            if next(filter(None, known), None) in {"join", "invite"}:
                yield InviteToReplacement(room_id=claim.room.room_id, user_id=claim.owner)


def _at_home(
    claims: Claims, chats: dict[RoomID, Chat], homes: dict[UserID, Claim]
) -> Iterator[tuple[Claim, Claim]]:
    """The chats that are in their owner's home, each with that."""
    for claim in claims.chats():
        home = homes.get(claim.owner)
        if home and chats[claim.room.room_id].space_id == home.room.room_id:
            yield claim, home


def _changed_homes(rows: dict[UserID, Home], records: Records) -> Iterator[Change]:
    for owner, after in sorted(rows.items()):
        before = records.homes.get(owner)
        if before != after:
            yield SetHome(before=before, after=after)


def _changed_chats(rows: dict[RoomID, Chat], records: Records) -> Iterator[Change]:
    for room_id, after in sorted(rows.items()):
        before = records.chats.get(room_id)
        if before != after:
            yield SetChat(before=before, after=after)
