"""The decision of a reconcile: `make_plan(topology, records) -> Plan`.

Pure: no await, no clock, no log. The same input gives the same plan, whatever the order of rooms
and rows; a plan that was applied leaves nothing for the next one. The twenty cases that it
decides are listed in DESIGN.md §3 and are the named tests of `tests/domain/homes/test_plan_*.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mautrix.types import RoomID, UserID

from .id_assignment import Ids, assign_ids
from .ids import derive_platform_chat_id
from .left_chats import left_chats
from .model import ROUTED, Chat, Home, Records, RoomType, Status
from .ownership import Claim, Claims, make_claims
from .plan import (
    Change,
    Finding,
    FindingKind,
    Plan,
    SetChat,
    SetHome,
)
from .repairs import find_repairs
from .topology import Topology
from .upgrades import confirmed_replacement, predecessors_of


def make_plan(topology: Topology, records: Records, *, adopt_unmarked: bool = True) -> Plan:
    """Decide what has to change so that the store agrees with what was observed.

    Args:
        topology: the scan. A room of a row that is not in it counts as not joined, so a scan of
            a few rooms must have every room of the `records` that it is compared with.
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
            row = records.chats.get(room_id)
            chats[room_id] = _chat_row(claim, numbering.of_room.get(room_id), space_id, row=row)
    for room_id, row in remembered.items():
        if room_id not in chats:
            status = _without_claim(row.status)
            chats[room_id] = replace(row, status=status, space_id=spaces.of_row(row))
    home_rows = {owner: _home_row(claim) for owner, claim in homes.items()}
    for owner, home in records.homes.items():
        if owner not in home_rows:
            home_rows[owner] = _home_without_claim(home, claims, topology)

    for claim in claims.of_room.values():
        findings += _look_at_state(claim, topology)
    findings += _not_ours(chats, home_rows, records, topology)
    repairs, unlinked = find_repairs(
        claims,
        topology,
        chats=chats,
        homes=homes,
        home_rows=home_rows,
        contested=numbering.contested,
    )
    findings += unlinked
    return Plan(
        rooms=len(topology.rooms),
        changes=(
            *_changed_homes(home_rows, records),
            *_changed_chats(chats, records),
        ),
        repairs=repairs,
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


def _chat_row(claim: Claim, ids: Ids | None, space_id: RoomID | None, *, row: Chat | None) -> Chat:
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
        answer=source.answer if (source := claim.marker or row) is not None else None,
    )


def _home_row(claim: Claim) -> Home:
    return Home(
        matrix_user_id=claim.owner,
        space_id=claim.room.room_id,
        status=Status.ACTIVE,
        initial_chats=claim.initial_chats,
    )


def _is_unknown(room_id: RoomID, claims: Claims, topology: Topology) -> bool:
    """Nothing can be said about the room: it, or the room it was upgraded to, is undetermined."""
    if topology.is_unreadable(room_id) or claims.is_undetermined(room_id):
        return True
    claim = claims.of_room.get(room_id)
    if claim is None or claim.is_current:
        return False
    successor = confirmed_replacement(claim.room, topology)
    return topology.is_unreadable(claim.room.replacement) or (
        successor is not None and claims.is_undetermined(successor.room_id)
    )


def _without_claim(status: Status | None) -> Status:
    """What becomes of a row whose room nobody claims."""
    return status if status in {Status.LEFT, Status.REPLACED} else Status.LEFT


def _home_without_claim(row: Home, claims: Claims, topology: Topology) -> Home:
    """What becomes of a home whose Space is not the owner's any more."""
    if _is_unknown(row.space_id, claims, topology):
        return row
    claim = claims.of_room.get(row.space_id)
    if claim and not claim.is_current and claim.owner == row.matrix_user_id:
        return replace(row, status=Status.REPLACED)
    return replace(row, status=_without_claim(row.status))


def _not_ours(
    chats: dict[RoomID, Chat],
    home_rows: dict[UserID, Home],
    records: Records,
    topology: Topology,
) -> Iterable[Finding]:
    """Rooms that become `left` in the database although the bot is in them."""
    rows: list[tuple[RoomID, Home | Chat, Home | Chat]] = [
        *((room_id, row, chats[room_id]) for room_id, row in records.chats.items()),
        *((row.space_id, row, home_rows[owner]) for owner, row in records.homes.items()),
    ]
    for room_id, before, after in rows:
        is_new = after.status is Status.LEFT and before.status not in {
            Status.LEFT,
            Status.REPLACED,
        }
        if is_new and topology.room(room_id) is not None:
            yield Finding(
                kind=FindingKind.NOT_OURS,
                room_id=room_id,
                user_id=before.matrix_user_id,
                detail="the database called it a room of Homeroom's, the room itself does not",
            )


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
