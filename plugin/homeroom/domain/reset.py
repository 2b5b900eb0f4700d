"""The decision of `!reset`: which rows, which rooms, in which order, under which code.

Pure, like every decision: dry run and real run print and act from the same plan. A room is a
target only if it is known to be one: what could not be read is skipped and says so, and without
`--scope joined` no room of another plugin is ever a target.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from mautrix.types import RoomID, UserID

from .homes.model import Chat, Home, Records, RoomType, Status
from .homes.ownership import Claim, make_claims
from .homes.topology import Room, Topology

CODE_LENGTH: Final = 8
STILL_LISTED: Final = "the homeserver still lists the bot as joined"


class Scope(str, Enum):
    """Whose rooms are left: Homeroom's, or every room that the bot account is in."""

    MANAGED = "managed"
    JOINED = "joined"


class Kind(str, Enum):
    """What a room is to the home that is reset."""

    CHAT = "chat"
    SPACE = "Space"
    OTHER = "other room"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One room to leave and forget."""

    room_id: RoomID
    kind: Kind
    name: str | None = None
    owner: UserID | None = None
    joined: bool = True
    """False: left already, by a run that was interrupted, but not forgotten."""
    table: str | None = None
    """Whose row for this room will say `left`; None: there is none, or it says so already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteParts:
    """The checkpoint in the bot's account data, and what became of it."""

    number: int
    """Of the events that it consists of; 0: there is none."""
    failure: str | None = None
    """Why it could not be read, or not be emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlan:
    """What `!reset local` deletes: the plugin's tables, and how many rows each has."""

    tables: Mapping[str, int]
    checkpoint: RemoteParts


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavePlan:
    """What `!reset leave-forget` does, in this order."""

    scope: Scope
    targets: tuple[Target, ...]
    skipped: tuple[Target, ...]
    """Rooms of which it cannot be told just now whether they are Homeroom's."""
    code: str


def plan_local(tables: Mapping[str, int], *, checkpoint: RemoteParts) -> LocalPlan:
    return LocalPlan(tables=dict(sorted(tables.items())), checkpoint=checkpoint)


def plan_leave(
    topology: Topology,
    records: Records,
    *,
    scope: Scope,
    left: Iterable[RoomID],
    command_room: RoomID,
    adopt_unmarked: bool,
) -> LeavePlan:
    """Decide which rooms are left and forgotten.

    Args:
        topology: a scan of every joined room.
        records: the rows.
        left: rooms that the bot has left, or was removed from, and has not forgotten.
        command_room: where the command was given; it comes last, and the code is for it alone.
    """
    claims = make_claims(topology, records, adopt_unmarked=adopt_unmarked).of_room
    by_row = _named_by_rows(records)
    targets = [
        _observed(room, claims.get(room.room_id), by_row.get(room.room_id))
        for room in topology.read()
        if scope is Scope.JOINED or room.room_id in claims
    ]
    unreadable = [_unseen(room.room_id, by_row, joined=True) for room in topology.unreadable]
    if scope is Scope.JOINED:
        targets += unreadable
    targets += [
        _unseen(room_id, by_row, joined=False)
        for room_id in set(left) - topology.rooms.keys()
        if scope is Scope.JOINED or room_id in by_row
    ]
    order = {Kind.OTHER: 0, Kind.CHAT: 1, Kind.SPACE: 2}
    ordered = sorted(
        targets, key=lambda t: (t.room_id == command_room, order[t.kind], t.owner or "", t.room_id)
    )
    return LeavePlan(
        scope=scope,
        targets=tuple(ordered),
        skipped=tuple(unreadable) if scope is Scope.MANAGED else (),
        code=_code(scope, command_room, (target.room_id for target in targets)),
    )


def _observed(room: Room, claim: Claim | None, row: Target | None) -> Target:
    """A joined room as it was read."""
    table = row.table if row else None
    if claim is None:
        return Target(room_id=room.room_id, kind=Kind.OTHER, name=room.name, table=table)
    return Target(
        room_id=room.room_id,
        kind=Kind.SPACE if claim.room_type is RoomType.SPACE else Kind.CHAT,
        name=room.name,
        owner=claim.owner,
        table=table,
    )


def _unseen(room_id: RoomID, by_row: Mapping[RoomID, Target], *, joined: bool) -> Target:
    """A room of which only rows can say what it is."""
    row = by_row.get(room_id) or Target(room_id=room_id, kind=Kind.OTHER)
    return replace(row, joined=joined)


def _named_by_rows(records: Records) -> dict[RoomID, Target]:
    """Every room that a row names. The Space of an earlier home is known by its chats only."""
    earlier_spaces = {
        chat.space_id: Target(room_id=chat.space_id, kind=Kind.SPACE, owner=chat.matrix_user_id)
        for _, chat in sorted(records.chats.items())
        if chat.space_id is not None
    }
    spaces = {
        home.space_id: Target(
            room_id=home.space_id,
            kind=Kind.SPACE,
            owner=home.matrix_user_id,
            table=_table(home, "homes"),
        )
        for _, home in sorted(records.homes.items())
    }
    chats = {
        chat.room_id: Target(
            room_id=chat.room_id,
            kind=Kind.CHAT,
            name=chat.name,
            owner=chat.matrix_user_id,
            table=_table(chat, "chats"),
        )
        for chat in records.chats.values()
    }
    return {**earlier_spaces, **spaces, **chats}


def _table(row: Home | Chat, table: str) -> str | None:
    return None if row.status in {Status.LEFT, Status.REPLACED} else table


def _code(scope: Scope, command_room: RoomID, room_ids: Iterable[RoomID]) -> str:
    """A short code for exactly this scope and set of rooms, asked for in this room."""
    text = "\n".join([scope.value, command_room, *sorted(room_ids)])
    return hashlib.sha256(text.encode()).hexdigest()[:CODE_LENGTH]


# What became of it


class Left(str, Enum):
    """What became of a request to leave a room."""

    LEFT = "left"
    NOT_IN = "was not in it"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that did not go through. Not refused: nobody knows whether it was carried out."""

    reason: str
    refused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one room. `reason` is the server's, or ours where it was skipped."""

    target: Target
    left: Left
    forgotten: bool = False
    reason: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be done with this room."""
        return self.left in {Left.LEFT, Left.NOT_IN} and self.forgotten


def outcome_of(
    target: Target,
    *,
    leave: Failure | None,
    forget: Failure | None,
    joined_now: bool | None,
) -> Outcome:
    """Judge one room by what the server answered and by a second look.

    Args:
        leave: what leaving failed with; None: it went through, or was not needed.
        forget: the same for forgetting.
        joined_now: whether the second look still shows the room; None: there was no second look.
    """
    still_listed = STILL_LISTED if joined_now else ""
    if joined_now and (leave is not None or not target.joined):
        reason = leave.reason if leave else still_listed
        return Outcome(target=target, left=Left.FAILED, reason=reason)
    if leave is not None and joined_now is None:
        return Outcome(target=target, left=Left.FAILED, reason=leave.reason)
    # Gone although leaving failed: refused means that the bot was out of it before; where the
    # answer was lost it is this run that left.
    was_in = target.joined and not (leave is not None and leave.refused)
    return Outcome(
        target=target,
        left=Left.LEFT if was_in else Left.NOT_IN,
        forgotten=forget is None,
        reason=forget.reason if forget else still_listed,
    )


def skipped(target: Target, reason: str) -> Outcome:
    """A room that was not touched."""
    return Outcome(target=target, left=Left.SKIPPED, reason=reason)
