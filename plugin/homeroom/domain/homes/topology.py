"""What was observed on the homeserver in one scan: frozen, complete, and honest about gaps.

A room is present in three ways: as a `Room` (read), as `Unreadable` (the bot is in it, but its
state could not be had: unknown, which is not absent), or not at all (the homeserver said that
the bot is not joined). Everything here is observed; what is remembered is in `model.Records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mautrix.types import RoomID, UserID

from .marker import Marker
from .model import ChatID


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLink:
    """An `m.space.child` event of a Space. Without a valid `via` the child is not linked."""

    sender: UserID
    linked: bool
    """False: there is an event, but no valid `via`: somebody removed the child."""
    chat_id: ChatID | None = None
    """The number of the chat that it names; it says so also when the bot has left the room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerProblem:
    """A marker event that is ignored."""

    reason: str
    own: bool
    """True: under the bot's own state key, sent by the bot, yet it does not parse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a room says of one user."""

    membership: str
    was_removed: bool = False
    """Whether somebody else ended the membership: kicked, banned, or took an invite back."""
    displayname: str | None = None
    avatar_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedState:
    """What mautrix's state store keeps of a room, as the homeserver has it now.

    As JSON texts (keys sorted): nobody decides by them, and ten thousand rooms have to fit into
    memory.
    """

    create: str
    """The event, without what differs from one endpoint to the other; the others are contents."""
    power_levels: str | None = None
    encryption: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A room that the bot is joined to, reduced to what the planner needs.

    For a room that cannot be Homeroom's (neither made by the bot, nor marked, nor the successor
    of another room) `members`, `children`, `cached_state` and the like are left out.
    """

    room_id: RoomID
    creator: UserID
    created_at: int
    """`origin_server_ts` of the create event, in milliseconds."""
    is_space: bool = False
    room_version: str = "1"
    name: str | None = None
    predecessor: RoomID | None = None
    is_tombstoned: bool = False
    replacement: RoomID | None = None
    """Where the tombstone points to; None if there is none, or it names no room."""
    marker: Marker | None = None
    marker_problems: tuple[MarkerProblem, ...] = ()
    parents: frozenset[RoomID] = frozenset()
    """Spaces that the bot itself named as `m.space.parent`."""
    other_parents: frozenset[RoomID] = frozenset()
    """Spaces about which there is an `m.space.parent` that was emptied, or is somebody else's."""
    admits: frozenset[RoomID] = frozenset()
    """Rooms whose members may join by a restricted join rule."""
    children: Mapping[RoomID, ChildLink] = field(default_factory=dict)
    members: Mapping[UserID, Member] = field(default_factory=dict)
    """Every member event of the room, whatever the membership."""
    cached_state: CachedState | None = None

    @property
    def age_key(self) -> tuple[int, RoomID]:
        """Sorts the older room first; equal ages by room ID."""
        return self.created_at, self.room_id

    def membership(self, user_id: UserID) -> str | None:
        """`join`, `invite`, `leave`, …; None if the room never heard of this user."""
        member = self.members.get(user_id)
        return None if member is None else member.membership

    def users(self, membership: str) -> frozenset[UserID]:
        """Everybody with this membership."""
        return frozenset(
            user_id for user_id, member in self.members.items() if member.membership == membership
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The bot is joined, but the room's state could not be had."""

    room_id: RoomID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite:
    """A pending invite of the bot."""

    room_id: RoomID
    inviter: UserID
    is_space: bool = False
    predecessor: RoomID | None = None
    """The room that it says it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """One scan of the homeserver."""

    bot: UserID
    rooms: Mapping[RoomID, Room | Unreadable] = field(default_factory=dict)
    invites: tuple[Invite, ...] = ()
    is_whole: bool = False
    """Whether a room that is not in here is one that the bot is not in."""

    def room(self, room_id: RoomID | None) -> Room | None:
        """The room if it was read, else None (also if it is unreadable)."""
        room = self.rooms.get(room_id) if room_id is not None else None
        return room if isinstance(room, Room) else None

    def is_unreadable(self, room_id: RoomID | None) -> bool:
        return room_id is not None and isinstance(self.rooms.get(room_id), Unreadable)

    def read(self) -> Iterator[Room]:
        """The rooms that were read, oldest first."""
        rooms = [room for room in self.rooms.values() if isinstance(room, Room)]
        return iter(sorted(rooms, key=lambda room: room.age_key))

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        rooms = [room for room in self.rooms.values() if isinstance(room, Unreadable)]
        return tuple(sorted(rooms, key=lambda room: room.room_id))
