"""Chats that nothing but a link of their Space remembers: the bot has left them, and the database
was lost.

Their numbers are not used again, and a home that was promised them is not given them a second
time.
"""

from __future__ import annotations

from collections.abc import Iterator

from .model import Chat, Records, RoomType, Status
from .ownership import Claims
from .topology import Topology
from .upgrades import predecessors_of


def left_chats(claims: Claims, topology: Topology, records: Records) -> Iterator[Chat]:
    """Their rows: what a link tells, which is whose they were and which number they had.

    A scan of a few rooms finds none: a room that it does not have may be one that it did not ask
    for.
    """
    if not topology.is_whole:
        return
    known = {
        *topology.rooms,
        *records.room_ids,
        *(
            room_id
            for claim in claims.of_room.values()
            for room_id in predecessors_of(claim.room, topology).room_ids
        ),
    }
    for space_id, space in sorted(claims.of_room.items()):
        if space.room_type is not RoomType.SPACE:
            continue
        for room_id, link in space.room.children.items():
            if link.chat_id is not None and room_id not in known:
                known.add(room_id)
                yield Chat(
                    room_id=room_id,
                    matrix_user_id=space.owner,
                    space_id=space_id,
                    chat_id=link.chat_id,
                    platform_chat_id=None,
                    name=None,
                    status=Status.LEFT,
                )
