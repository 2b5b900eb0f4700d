"""Whose is this room? From markers, upgrades, Space links and rows to claims.

A claim says that a room is an owner's Space or chat, and which ids it asks for, best source
first. It is the answer to *who*; who of several claimants gets an id is decided in `planner.py`.

Order of trust: the room's own marker; the room it replaced (tombstone and predecessor must point
at each other); for rooms from before markers, the row, and the links that the bot itself made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mautrix.types import RoomID, UserID

from .marker import MAX_INITIAL_CHATS, Marker, is_chat_name
from .model import Chat, ChatID, Conversation, Home, PlatformChatID, Records, RoomType, Status
from .plan import Finding, FindingKind
from .topology import Room, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedIds:
    """Ids that a chat asks for; None: this source has nothing to say."""

    chat_id: ChatID | None = None
    platform_chat_id: PlatformChatID | None = None
    conversation: Conversation | None = None
    """Which of the room's conversations the `platform_chat_id` is the key of."""

    @property
    def tells_conversation(self) -> bool:
        return self.platform_chat_id is not None or self.conversation is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """This room is `owner`'s Space, or a chat of theirs."""

    room: Room
    room_type: RoomType
    owner: UserID
    age: tuple[int, RoomID]
    """Seniority where two claim the same; a room inherits the age of the room it replaced."""
    marked: RequestedIds = field(default_factory=RequestedIds)
    stored: RequestedIds = field(default_factory=RequestedIds)
    archived: bool = False
    initial_chats: tuple[str, ...] = ()
    marker: Marker | None = None
    """The room's own, or that of the room it replaced."""

    @property
    def origin(self) -> RoomID:
        """The first room of the upgrades that led here: what is derived is derived from it."""
        return self.age[1]

    @property
    def conversation(self) -> Conversation | None:
        """Which of the room's conversations is under way; None: the first."""
        source = self.marked if self.marked.tells_conversation else self.stored
        return source.conversation

    @property
    def is_current(self) -> bool:
        """False for a room that was upgraded or closed: nothing is routed there any more."""
        return not self.room.is_tombstoned


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessors:
    """The rooms that a room replaced, the latest first."""

    room_ids: tuple[RoomID, ...]
    """Of the last one nothing but this may be known: the bot is not in it any more."""
    are_all: bool
    """False: there may be more, behind a room that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Every claim of one look, and what was found on the way."""

    of_room: Mapping[RoomID, Claim]
    damaged: frozenset[RoomID]
    """Rooms with a marker of the bot that does not parse: their rows are left as they are."""
    unknown: frozenset[RoomID]
    """Unmarked rooms whose meaning hangs on a room that could not be read (or is damaged): what
    they replaced, or the Space that they are in. Their rows are left as they are."""
    findings: tuple[Finding, ...]

    def is_current(self, room_id: RoomID) -> bool:
        claim = self.of_room.get(room_id)
        return claim is not None and claim.is_current

    def is_lineage(self, old: RoomID, new: RoomID) -> bool:
        """Whether these are the same room, or one became the other by upgrades."""
        one, other = self.of_room.get(old), self.of_room.get(new)
        return one is not None and other is not None and one.origin == other.origin

    def is_undetermined(self, room_id: RoomID | None) -> bool:
        """Whether the room was read, and yet nobody can say what it is."""
        return room_id in self.damaged or room_id in self.unknown

    def spaces(self) -> list[Claim]:
        return self._current(RoomType.SPACE)

    def chats(self) -> list[Claim]:
        return self._current(RoomType.CHAT)

    def _current(self, room_type: RoomType) -> list[Claim]:
        return sorted(
            (c for c in self.of_room.values() if c.room_type is room_type and c.is_current),
            key=lambda claim: claim.age,
        )


def confirmed_replacement(room: Room, topology: Topology) -> Room | None:
    """The room that replaced this one, if both rooms say so and the new one could be read."""
    successor = topology.room(room.replacement)
    if (
        room.is_tombstoned
        and successor is not None
        and successor.predecessor == room.room_id
        and successor.is_space == room.is_space
    ):
        return successor
    return None


def predecessors_of(room: Room, topology: Topology) -> Predecessors:
    """The rooms that this one replaced, as far as they say so, too."""
    room_ids: dict[RoomID, None] = {}
    successor = room
    while (predecessor_id := successor.predecessor) is not None and predecessor_id not in room_ids:
        if topology.is_unreadable(predecessor_id):
            return Predecessors(room_ids=tuple(room_ids), are_all=False)
        predecessor = topology.room(predecessor_id)
        if (
            predecessor is not None
            and confirmed_replacement(predecessor, topology) is not successor
        ):
            break
        room_ids[predecessor_id] = None
        if predecessor is None:
            break
        successor = predecessor
    return Predecessors(room_ids=tuple(room_ids), are_all=True)


def make_claims(topology: Topology, records: Records, *, adopt_unmarked: bool) -> Claims:
    """Find out whose each observed room is. Spaces first: unmarked chats follow from them."""
    register = _Register(topology, records, adopt_unmarked=adopt_unmarked)
    rooms = list(topology.read())
    for room in rooms:
        register.note_marker_problems(room)
    for room in sorted(rooms, key=lambda room: not room.is_space):
        register.claim(room)
    return Claims(
        of_room=register.claims,
        damaged=frozenset(register.damaged),
        unknown=frozenset(register.unknown),
        findings=tuple(register.findings),
    )


class _Register:
    """The working state of `make_claims`: claims are found once per room, predecessors first."""

    def __init__(self, topology: Topology, records: Records, *, adopt_unmarked: bool) -> None:
        self.topology = topology
        self.records = records
        self.adopt_unmarked = adopt_unmarked
        self.claims: dict[RoomID, Claim] = {}
        self.damaged: set[RoomID] = set()
        self.unknown: set[RoomID] = set()
        self.findings: list[Finding] = []
        self._seen: set[RoomID] = set()
        self._homes_of_space: dict[RoomID, list[Home]] = {}
        for home in records.homes.values():
            self._homes_of_space.setdefault(home.space_id, []).append(home)
        self._links: dict[RoomID, list[RoomID]] = {}
        for space in topology.read():
            for child, link in space.children.items():
                if space.creator == topology.bot == link.sender and link.linked:
                    self._links.setdefault(child, []).append(space.room_id)

    def note_marker_problems(self, room: Room) -> None:
        for problem in room.marker_problems:
            kind = FindingKind.MALFORMED_MARKER if problem.own else FindingKind.FOREIGN_MARKER
            self.note(kind, room, detail=problem.reason)
            if problem.own:
                self.damaged.add(room.room_id)
        if room.marker and (room.marker.room_type is RoomType.SPACE) != room.is_space:
            says, is_a = room.marker.room_type.value, "Space" if room.is_space else "plain room"
            self.note(
                FindingKind.MALFORMED_MARKER, room, detail=f"it says {says}, the room is a {is_a}"
            )
            self.damaged.add(room.room_id)

    def note(
        self, kind: FindingKind, room: Room, *, user_id: UserID | None = None, detail: str = ""
    ) -> None:
        self.findings.append(
            Finding(kind=kind, room_id=room.room_id, user_id=user_id, detail=detail)
        )

    def claim(self, room: Room) -> None:
        """Claim this room, and before it those that it replaced.

        A loop, no recursion: members can upgrade a room as often as they like.
        """
        lineage: list[Room] = []
        predecessor: Room | None = room
        while (
            predecessor is not None and predecessor.room_id not in self._seen
        ):  # it may run in a circle
            self._seen.add(predecessor.room_id)
            lineage.append(predecessor)
            predecessor = self._predecessor(predecessor)
        for successor in reversed(lineage):
            self._claim_one(successor)

    def _claim_one(self, room: Room) -> None:
        if room.room_id in self.damaged:
            return
        if room.marker is None and self._is_unknown(room.predecessor):
            self.unknown.add(room.room_id)
            return
        predecessor = self._predecessor(room)
        inherited = self.claims.get(predecessor.room_id) if predecessor else None
        claim = (
            self._from_marker(room, inherited)
            or self._from_predecessor(room, inherited)
            or (self._from_space_before_markers(room) if room.is_space else None)
            or (self._from_chat_before_markers(room) if not room.is_space else None)
        )
        if claim is not None:
            self.claims[room.room_id] = claim

    def _predecessor(self, room: Room) -> Room | None:
        """The room that this one replaced, if both say so."""
        predecessor = self.topology.room(room.predecessor)
        if predecessor and confirmed_replacement(predecessor, self.topology) is room:
            return predecessor
        return None

    def _is_unknown(self, room_id: RoomID | None) -> bool:
        return (
            self.topology.is_unreadable(room_id)
            or room_id in self.damaged
            or room_id in self.unknown
        )

    def _row(self, room: Room) -> Chat | None:
        return self.records.chats.get(room.room_id)

    def _from_marker(self, room: Room, inherited: Claim | None) -> Claim | None:
        marker = room.marker
        if marker is None:
            return None
        row = self._row(room)
        return Claim(
            room=room,
            room_type=marker.room_type,
            owner=marker.user_id,
            age=inherited.age if inherited else room.age_key,
            marked=RequestedIds(
                chat_id=marker.chat_id,
                platform_chat_id=marker.platform_chat_id,
                conversation=marker.conversation,
            ),
            stored=_requested_ids(row),
            archived=marker.archived,
            initial_chats=marker.initial_chats,
            marker=marker,
        )

    def _from_predecessor(self, room: Room, inherited: Claim | None) -> Claim | None:
        """The binding moves to the new room, with the ids that the old one had or would get."""
        if inherited is None:
            return None
        row = self._row(room)
        own, old = _requested_ids(row), inherited.stored
        telling = own if own.tells_conversation else old
        return Claim(
            room=room,
            room_type=inherited.room_type,
            owner=inherited.owner,
            age=inherited.age,
            marked=inherited.marked,
            stored=RequestedIds(
                chat_id=own.chat_id or old.chat_id,
                platform_chat_id=telling.platform_chat_id,
                conversation=telling.conversation,
            ),
            # The old room's row says `replaced` from now on: that it was archived is told by
            # the new one until the marker is stamped.
            archived=inherited.archived or (row is not None and row.status is Status.ARCHIVED),
            initial_chats=inherited.initial_chats,
            marker=inherited.marker,
        )

    def _from_space_before_markers(self, room: Room) -> Claim | None:
        if room.creator != self.topology.bot:
            return None
        home = self._home_row(room)
        if home is None and not self.adopt_unmarked:
            return None
        owner = home.matrix_user_id if home else self._only_companion(room)
        if owner is None:
            if not room.is_tombstoned:
                others = len(self._companions(room))
                self.note(
                    FindingKind.UNOWNED_SPACE,
                    room,
                    detail=f"{others} people could be its owner, expected one",
                )
            return None
        return Claim(
            room=room,
            room_type=RoomType.SPACE,
            owner=owner,
            age=room.age_key,
            initial_chats=tuple(filter(is_chat_name, home.initial_chats))[:MAX_INITIAL_CHATS]
            if home
            else (),
        )

    def _home_row(self, room: Room) -> Home | None:
        """The row that calls this Space, or the one that replaced it, somebody's home.

        Rows about people who never were in this Space are passed over; two that are left say
        nothing.
        """
        seen: set[RoomID] = set()
        successor: Room | None = room
        while successor is not None and successor.room_id not in seen:
            seen.add(successor.room_id)
            homes = [
                home
                for home in self._homes_of_space.get(successor.room_id, ())
                if room.membership(home.matrix_user_id) is not None
            ]
            # A home that was given up is no evidence against one that is in use.
            homes = [home for home in homes if home.status is Status.ACTIVE] or homes
            if homes:
                return homes[0] if len(homes) == 1 else None
            successor = confirmed_replacement(successor, self.topology)
        return None

    def _from_chat_before_markers(self, room: Room) -> Claim | None:
        row = self._row(room)
        if room.creator != self.topology.bot and not (row and self._was_moved_here(room, row)):
            return None
        spaces = {*room.parents, row.space_id} if row else room.parents
        if any(self._is_unknown(space_id) for space_id in spaces):
            self.unknown.add(room.room_id)  # its Space may say whose it is
            return None
        owner = self._owner_by_links(room)
        if owner is None and row and room.membership(row.matrix_user_id) is not None:
            owner = row.matrix_user_id
        if owner is None:
            return None
        return Claim(
            room=room,
            room_type=RoomType.CHAT,
            owner=owner,
            age=room.age_key,
            stored=_requested_ids(row) if row else RequestedIds(),
            archived=row is not None and row.status is Status.ARCHIVED,
        )

    def _owner_by_links(self, room: Room) -> UserID | None:
        """The one owner among the bot's Spaces that the bot linked this room from."""
        if not self.adopt_unmarked:
            return None
        spaces = [self.claims.get(space_id) for space_id in self._links.get(room.room_id, ())]
        owners = sorted({space.owner for space in spaces if space is not None})
        if len(owners) > 1:
            self.note(FindingKind.AMBIGUOUS_OWNER, room, detail=f"linked from {len(owners)} homes")
        return owners[0] if len(owners) == 1 else None

    def _was_moved_here(self, room: Room, row: Chat) -> bool:
        """Whether a binding moved here from a room that the bot has left since.

        The store remembers the old room as replaced. As long as the bot is in the old room, what
        that room itself says counts, not the row.
        """
        if room.predecessor is None or room.predecessor in self.topology.rooms:
            return False
        old = self.records.chats.get(room.predecessor)
        return (
            old is not None
            and old.status is Status.REPLACED
            and old.matrix_user_id == row.matrix_user_id
        )

    def _companions(self, room: Room) -> list[UserID]:
        return sorted(
            user_id
            for user_id, member in room.members.items()
            if user_id != self.topology.bot and member.membership in {"join", "invite"}
        )

    def _only_companion(self, room: Room) -> UserID | None:
        companions = self._companions(room)
        return companions[0] if len(companions) == 1 else None


def _requested_ids(row: Chat | None) -> RequestedIds:
    if row is None:
        return RequestedIds()
    return RequestedIds(
        chat_id=row.chat_id,
        platform_chat_id=row.platform_chat_id,
        conversation=row.conversation,
    )
