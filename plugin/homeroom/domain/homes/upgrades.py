"""Which room replaced which: an upgrade counts only if both rooms say so.

The old room has a tombstone that names the new one, and the new room names the old one as its
predecessor. Anybody may write one of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.types import RoomID

from .topology import Room, Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessors:
    """The rooms that a room replaced, the latest first."""

    room_ids: tuple[RoomID, ...]
    """Of the last one nothing but this may be known: the bot is not in it any more."""
    are_all: bool
    """False: there may be more, behind a room that could not be read."""


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


def predecessor_of(room: Room, topology: Topology) -> Room | None:
    """The room that this one replaced, if both say so."""
    predecessor = topology.room(room.predecessor)
    if predecessor and confirmed_replacement(predecessor, topology) is room:
        return predecessor
    return None
