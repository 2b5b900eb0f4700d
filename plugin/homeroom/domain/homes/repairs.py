"""What a plan mends in Matrix: what the bot left undone, and what an upgrade left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mautrix.types import RoomID, UserID

from .ids import child_order
from .marker import Marker, chat_marker
from .model import Chat, Home, RoomType
from .ownership import Claim, Claims
from .plan import (
    Finding,
    FindingKind,
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Repair,
    StampMarker,
    UnlinkChild,
)
from .topology import ChildLink, Room, Topology
from .upgrades import predecessors_of


def find_repairs(
    claims: Claims,
    topology: Topology,
    *,
    chats: dict[RoomID, Chat],
    homes: dict[UserID, Claim],
    home_rows: dict[UserID, Home],
    contested: frozenset[RoomID],
) -> tuple[tuple[Repair, ...], tuple[Finding, ...]]:
    """The repairs, and the links that somebody removed: those are reported.

    Args:
        chats: the rows as they will be.
        homes: the home of every owner who has one.
        home_rows: the rows as they will be.
        contested: chats whose markers stay what they are.
    """
    links = list(_links(claims, chats, homes, topology))
    repairs = (
        *_joins(claims, topology, chats, home_rows),
        *_stamps(claims, chats, contested),
        *_invites(claims, chats, homes, topology),
        *(link for link in links if not isinstance(link, Finding)),
        *_unlinks(claims, chats, homes, topology),
        *_moves(claims, chats, homes, topology),
    )
    return repairs, tuple(link for link in links if isinstance(link, Finding))


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
) -> Iterable[Repair | Finding]:
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
            yield Finding(
                kind=FindingKind.UNLINKED,
                room_id=room_id,
                user_id=claim.owner,
                detail=space_id,
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
