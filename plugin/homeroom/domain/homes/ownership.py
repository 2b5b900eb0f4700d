"""Whose is this room? From markers, upgrades, Space links and rows to claims.

A claim says that a room is an owner's Space or chat, and which ids it asks for, best source
first. It is the answer to *who*; who of several claimants gets an id is decided in `planner.py`.

Order of trust: the room's own marker; the room it replaced (tombstone and predecessor must point
at each other); for rooms from before markers, the row, and the links that the bot itself made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID, UserID

from .marker import MAX_INITIAL_CHATS, Marker, is_chat_name
from .model import Chat, ChatID, Conversation, Home, PlatformChatID, Records, RoomType, Status
from .plan import Finding, FindingKind
from .topology import Room, Topology
from .upgrades import confirmed_replacement, predecessor_of


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
class Claims:
    """Every claim of one scan, and what was found on the way."""

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


def make_claims(topology: Topology, records: Records, *, adopt_unmarked: bool) -> Claims:
    """Find out whose each observed room is. Spaces first: unmarked chats follow from them."""
    rooms = list(topology.read())
    findings = [finding for room in rooms for finding in _marker_problems(room)]
    damaged = frozenset(f.room_id for f in findings if f.kind is FindingKind.MALFORMED_MARKER)
    claims: dict[RoomID, Claim] = {}
    unknown: set[RoomID] = set()
    evidence = _Evidence(
        topology=topology,
        records=records,
        adopt_unmarked=adopt_unmarked,
        damaged=damaged,
        claims=claims,
        unknown=unknown,
        homes_of_space=_homes_of_space(records),
        links=_links_by_the_bot(topology),
    )
    for room in _in_order(rooms, topology):
        verdict = evidence.judge(room)
        findings += verdict.findings
        if verdict.claim is not None:
            claims[room.room_id] = verdict.claim
        elif verdict.is_unknown:
            unknown.add(room.room_id)
    return Claims(
        of_room=claims, damaged=damaged, unknown=frozenset(unknown), findings=tuple(findings)
    )


def _marker_problems(room: Room) -> Iterator[Finding]:
    """Markers of other people, and a marker of the bot that says nothing about this room."""
    for problem in room.marker_problems:
        kind = FindingKind.MALFORMED_MARKER if problem.own else FindingKind.FOREIGN_MARKER
        yield Finding(kind=kind, room_id=room.room_id, detail=problem.reason)
    if room.marker and (room.marker.room_type is RoomType.SPACE) != room.is_space:
        says, is_a = room.marker.room_type.value, "Space" if room.is_space else "plain room"
        yield Finding(
            kind=FindingKind.MALFORMED_MARKER,
            room_id=room.room_id,
            detail=f"it says {says}, the room is a {is_a}",
        )


def _homes_of_space(records: Records) -> dict[RoomID, list[Home]]:
    homes: dict[RoomID, list[Home]] = {}
    for home in records.homes.values():
        homes.setdefault(home.space_id, []).append(home)
    return homes


def _links_by_the_bot(topology: Topology) -> dict[RoomID, list[RoomID]]:
    """The Spaces of the bot that each room is linked from by the bot itself."""
    links: dict[RoomID, list[RoomID]] = {}
    for space in topology.read():
        for child, link in space.children.items():
            if space.creator == topology.bot == link.sender and link.linked:
                links.setdefault(child, []).append(space.room_id)
    return links


def _in_order(rooms: Iterable[Room], topology: Topology) -> Iterator[Room]:
    """Every room once: Spaces first, and each room after those that it replaced.

    A loop, no recursion: members can upgrade a room as often as they like, and in a circle.
    """
    seen: set[RoomID] = set()
    for room in sorted(rooms, key=lambda room: not room.is_space):
        lineage: list[Room] = []
        earlier: Room | None = room
        while earlier is not None and earlier.room_id not in seen:
            seen.add(earlier.room_id)
            lineage.append(earlier)
            earlier = predecessor_of(earlier, topology)
        yield from reversed(lineage)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What a room is: somebody's (`claim`), not to be told today (`is_unknown`), or not ours."""

    claim: Claim | None = None
    is_unknown: bool = False
    findings: tuple[Finding, ...] = ()


_NOT_OURS: Final = _Verdict()
_UNKNOWN: Final = _Verdict(is_unknown=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """What a verdict on a room goes by. Read only: `make_claims` adds each verdict."""

    topology: Topology
    records: Records
    adopt_unmarked: bool
    damaged: AbstractSet[RoomID]
    claims: Mapping[RoomID, Claim]
    """Those of the rooms that were judged before."""
    unknown: AbstractSet[RoomID]
    homes_of_space: Mapping[RoomID, Sequence[Home]]
    links: Mapping[RoomID, Sequence[RoomID]]

    def judge(self, room: Room) -> _Verdict:
        """Say what the room is, once the rooms that it replaced and the Spaces are judged."""
        if room.room_id in self.damaged:
            return _NOT_OURS
        if room.marker is not None:
            return _Verdict(claim=self._from_marker(room, room.marker))
        if self._is_unknown(room.predecessor):
            return _UNKNOWN
        if (inherited := self._inherited(room)) is not None:
            return _Verdict(claim=self._from_predecessor(room, inherited))
        if room.is_space:
            return self._space_before_markers(room)
        return self._chat_before_markers(room)

    def _inherited(self, room: Room) -> Claim | None:
        """The claim of the room that this one replaced."""
        predecessor = predecessor_of(room, self.topology)
        return self.claims.get(predecessor.room_id) if predecessor else None

    def _is_unknown(self, room_id: RoomID | None) -> bool:
        return (
            self.topology.is_unreadable(room_id)
            or room_id in self.damaged
            or room_id in self.unknown
        )

    def _row(self, room: Room) -> Chat | None:
        return self.records.chats.get(room.room_id)

    def _from_marker(self, room: Room, marker: Marker) -> Claim:
        row, inherited = self._row(room), self._inherited(room)
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

    def _from_predecessor(self, room: Room, inherited: Claim) -> Claim:
        """The binding moves to the new room, with the ids that the old one had or would get."""
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

    def _space_before_markers(self, room: Room) -> _Verdict:
        if room.creator != self.topology.bot:
            return _NOT_OURS
        home = self._home_row(room)
        if home is None and not self.adopt_unmarked:
            return _NOT_OURS
        companions = self._companions(room)
        if home is not None:
            owner = home.matrix_user_id
        elif len(companions) == 1:
            owner = companions[0]
        elif room.is_tombstoned:
            return _NOT_OURS
        else:
            detail = f"{len(companions)} people could be its owner, expected one"
            return _Verdict(
                findings=(
                    Finding(kind=FindingKind.UNOWNED_SPACE, room_id=room.room_id, detail=detail),
                )
            )
        promised = filter(is_chat_name, home.initial_chats if home else ())
        claim = Claim(
            room=room,
            room_type=RoomType.SPACE,
            owner=owner,
            age=room.age_key,
            initial_chats=tuple(promised)[:MAX_INITIAL_CHATS],
        )
        return _Verdict(claim=claim)

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
                for home in self.homes_of_space.get(successor.room_id, ())
                if room.membership(home.matrix_user_id) is not None
            ]
            # A home that was given up is no evidence against one that is in use.
            homes = [home for home in homes if home.status is Status.ACTIVE] or homes
            if homes:
                return homes[0] if len(homes) == 1 else None
            successor = confirmed_replacement(successor, self.topology)
        return None

    def _chat_before_markers(self, room: Room) -> _Verdict:
        row = self._row(room)
        if room.creator != self.topology.bot and not (row and self._was_moved_here(room, row)):
            return _NOT_OURS
        spaces = {*room.parents, row.space_id} if row else room.parents
        if any(self._is_unknown(space_id) for space_id in spaces):
            return _UNKNOWN  # its Space may say whose it is
        owners = self._owners_by_links(room)
        findings: tuple[Finding, ...] = ()
        if len(owners) > 1:
            detail = f"linked from {len(owners)} homes"
            findings = (
                Finding(kind=FindingKind.AMBIGUOUS_OWNER, room_id=room.room_id, detail=detail),
            )
        if len(owners) == 1:
            owner = owners[0]
        elif row and room.membership(row.matrix_user_id) is not None:
            owner = row.matrix_user_id
        else:
            return _Verdict(findings=findings)
        claim = Claim(
            room=room,
            room_type=RoomType.CHAT,
            owner=owner,
            age=room.age_key,
            stored=_requested_ids(row),
            archived=row is not None and row.status is Status.ARCHIVED,
        )
        return _Verdict(claim=claim, findings=findings)

    def _owners_by_links(self, room: Room) -> list[UserID]:
        """The owners of the bot's Spaces that the bot linked this room from."""
        if not self.adopt_unmarked:
            return []
        spaces = (self.claims.get(space_id) for space_id in self.links.get(room.room_id, ()))
        return sorted({space.owner for space in spaces if space is not None})

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


def _requested_ids(row: Chat | None) -> RequestedIds:
    if row is None:
        return RequestedIds()
    return RequestedIds(
        chat_id=row.chat_id,
        platform_chat_id=row.platform_chat_id,
        conversation=row.conversation,
    )
