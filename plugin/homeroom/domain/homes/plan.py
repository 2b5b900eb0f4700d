"""What a reconcile has to do, as data.

A plan has three parts that never mix: `changes` make the store agree with the homeserver,
`repairs` finish in Matrix what the bot itself left undone, `findings` are wrong in Matrix and
are reported, not rewritten. Dry run, real run, report and log line all read the same plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mautrix.types import RoomID, UserID

from .marker import Marker
from .model import Chat, Home, Status
from .topology import Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHome:
    """Write one row of `homes`; `before` is None for a new row."""

    before: Home | None
    after: Home


@dataclass(frozen=True, slots=True, kw_only=True)
class SetChat:
    """Write one row of `chats`; `before` is None for a new row."""

    before: Chat | None
    after: Chat


Change = SetHome | SetChat


@dataclass(frozen=True, slots=True, kw_only=True)
class StampMarker:
    """Write the marker of a room that has none yet, or one that is not up to date."""

    room_id: RoomID
    marker: Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChild:
    """Link a chat from its Space: a crash left it out, or the chat moved to a new room."""

    space_id: RoomID
    room_id: RoomID
    order: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlinkChild:
    """Take a chat's old room out of the Space's list: the chat goes on in another one."""

    space_id: RoomID
    room_id: RoomID


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveToSpace:
    """Have the chat name this Space as its parent and admit its members: one was upgraded."""

    room_id: RoomID
    space_id: RoomID
    former: tuple[RoomID, ...] = ()
    """The Spaces, replaced by this one, that the chat still names or admits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinReplacement:
    """Join the room that an upgraded room of this user's points to."""

    room_id: RoomID
    replacement: RoomID
    user_id: UserID


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteToReplacement:
    """Invite the owner, who was in the room before its upgrade, and was not asked into this."""

    room_id: RoomID
    user_id: UserID


Repair = (
    StampMarker | LinkChild | UnlinkChild | MoveToSpace | JoinReplacement | InviteToReplacement
)


class FindingKind(str, Enum):
    """Everything that is reported and not rewritten. `replies.py` says what to do about it."""

    UNOWNED_SPACE = "unowned-space"
    SECOND_SPACE = "second-space"
    AMBIGUOUS_OWNER = "ambiguous-owner"
    DUPLICATE_CHAT_ID = "duplicate-chat-id"
    DUPLICATE_PLATFORM_CHAT_ID = "duplicate-platform-chat-id"
    FOREIGN_MARKER = "foreign-marker"
    MALFORMED_MARKER = "malformed-marker"
    REPLACEMENT_NOT_JOINED = "replacement-not-joined"
    REPLACEMENT_NOT_CONFIRMED = "replacement-not-confirmed"
    CLOSED = "closed"
    OWNER_LEFT = "owner-left"
    UNLINKED = "unlinked"
    NOT_OURS = "not-ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong in Matrix and is only reported."""

    kind: FindingKind
    room_id: RoomID
    user_id: UserID | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The difference between what was observed and what is stored."""

    rooms: int = 0
    """How many rooms were scanned, Homeroom's or not."""
    changes: tuple[Change, ...] = ()
    repairs: tuple[Repair, ...] = ()
    findings: tuple[Finding, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def adopted(self) -> int:
        """Rows that are new."""
        return sum(change.before is None for change in self.changes)

    @property
    def updated(self) -> int:
        """Rows that exist and change, whatever about them."""
        return len(self.changes) - self.adopted

    @property
    def backfilled(self) -> int:
        """Chats whose row, or missing row, gets an id that no marker and no row had."""
        stamped = {
            repair.room_id: repair.marker
            for repair in self.repairs
            if isinstance(repair, StampMarker)
        }
        return sum(
            change.after.is_routed
            and change.after.room_id in stamped
            and (
                change.before is None
                or change.before.platform_chat_id is None
                or change.before.chat_id is None
            )
            for change in self.changes
            if isinstance(change, SetChat)
        )

    @property
    def left(self) -> int:
        """Rows whose room the bot turned out to be no longer in."""
        return sum(
            change.after.status is Status.LEFT
            and (change.before is None or change.before.status is not Status.LEFT)
            for change in self.changes
        )
