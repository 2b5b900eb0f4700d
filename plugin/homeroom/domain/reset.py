"""The decision of `!reset`: which rows, which rooms, in which order, under which code.

Pure, like every decision: dry run and real run print and act from the same plan. A room is a
target only if it is known to be one: what could not be read is skipped and says so, and without
`--scope joined` no room of another plugin is ever named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mautrix.types import RoomID, UserID

from .claims import Claim, make_claims
from .model import Records, RoomType
from .topology import Topology

CODE_LENGTH: Final = 8


class Scope(str, Enum):
    """Whose rooms are left: Homeroom's, or every room that the bot account is in."""

    MANAGED = "managed"
    JOINED = "joined"


class Kind(str, Enum):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlan:
    """What `!reset local` deletes: the plugin's tables, and how many rows each has."""

    tables: Mapping[str, int]
    owners: tuple[UserID, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavePlan:
    """What `!reset leave-forget` does, in this order."""

    scope: Scope
    targets: tuple[Target, ...]
    unreadable: tuple[RoomID, ...]
    """Rooms of which it cannot be told just now whether they are Homeroom's; skipped."""
    code: str

    @property
    def owners(self) -> tuple[UserID, ...]:
        return tuple(sorted({target.owner for target in self.targets if target.owner}))


def plan_local(records: Records, *, tables: Mapping[str, int]) -> LocalPlan:
    return LocalPlan(tables=dict(sorted(tables.items())), owners=tuple(sorted(records.homes)))


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
        topology: a look at every joined room.
        records: the rows.
        left: rooms that the bot has left, or was removed from, and has not forgotten.
        command_room: where the command was given; it comes last, and the code is for it alone.
    """
    claims = make_claims(topology, records, adopt_unmarked=adopt_unmarked).of_room
    targets = [
        _target(room.room_id, claims.get(room.room_id), name=room.name)
        for room in topology.read()
        if scope is Scope.JOINED or room.room_id in claims
    ]
    unreadable = [room.room_id for room in topology.unreadable]
    if scope is Scope.JOINED:
        targets += [_target(room_id, None) for room_id in unreadable]
        unreadable = []
    remembered = _remembered(records)
    targets += [
        remembered.get(room_id, Target(room_id=room_id, kind=Kind.OTHER, joined=False))
        for room_id in left
        if room_id not in topology.rooms and (scope is Scope.JOINED or room_id in remembered)
    ]
    order = {Kind.OTHER: 0, Kind.CHAT: 1, Kind.SPACE: 2}
    ordered = sorted(
        targets, key=lambda t: (t.room_id == command_room, order[t.kind], t.owner or "", t.room_id)
    )
    return LeavePlan(
        scope=scope,
        targets=tuple(ordered),
        unreadable=tuple(unreadable),
        code=_code(scope, command_room, (target.room_id for target in targets)),
    )


def _target(room_id: RoomID, claim: Claim | None, *, name: str | None = None) -> Target:
    if claim is None:
        return Target(room_id=room_id, kind=Kind.OTHER, name=name)
    kind = Kind.SPACE if claim.room_type is RoomType.SPACE else Kind.CHAT
    return Target(room_id=room_id, kind=kind, name=name, owner=claim.owner)


def _remembered(records: Records) -> dict[RoomID, Target]:
    """Rooms that rows name, as they are if the bot is not in them any more."""
    spaces = {
        home.space_id: Target(
            room_id=home.space_id, kind=Kind.SPACE, owner=home.matrix_user_id, joined=False
        )
        for home in records.homes.values()
    }
    chats = {
        chat.room_id: Target(
            room_id=chat.room_id,
            kind=Kind.CHAT,
            name=chat.name,
            owner=chat.matrix_user_id,
            joined=False,
        )
        for chat in records.chats.values()
    }
    return {**spaces, **chats}


def _code(scope: Scope, command_room: RoomID, room_ids: Iterable[RoomID]) -> str:
    """A short code for exactly this scope and set of rooms, asked for in this room."""
    text = "\n".join([scope.value, command_room, *sorted(room_ids)])
    return hashlib.sha256(text.encode()).hexdigest()[:CODE_LENGTH]


# What became of it


class Left(str, Enum):
    LEFT = "left"
    NOT_IN = "was not in it"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one target. `reason` is the server's, or ours where it was skipped."""

    target: Target
    left: Left
    forgotten: bool = False
    reason: str = ""


def outcome_of(
    target: Target,
    *,
    leave_error: str | None,
    forget_error: str | None,
    joined_now: bool | None,
) -> Outcome:
    """Judge one room by what the server answered and by a second look.

    Args:
        leave_error: what leaving failed with; None: it went through, or was not needed.
        forget_error: the same for forgetting.
        joined_now: whether the second look still shows the room; None: there was no second look.
    """
    if joined_now is True:
        reason = leave_error or "the homeserver still lists the bot as joined"
        return Outcome(target=target, left=Left.FAILED, reason=reason)
    if leave_error is not None and joined_now is None:
        return Outcome(target=target, left=Left.FAILED, reason=leave_error)
    was_in = target.joined and leave_error is None
    return Outcome(
        target=target,
        left=Left.LEFT if was_in else Left.NOT_IN,
        forgotten=forget_error is None,
        reason=forget_error or "",
    )
