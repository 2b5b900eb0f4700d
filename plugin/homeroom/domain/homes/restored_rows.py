"""The rows to go on with, where only the account data has a valid checkpoint.

The checkpoint's rows are the truth at its position. What the database still has was written by
somebody, perhaps later: it is kept, and where the two differ nobody knows until the rooms are
scanned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mautrix.types import RoomID

from .model import Records
from .plan import Change, SetChat, SetHome


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The rows to go on with, and the rooms that have to be scanned first."""

    records: Records
    """All rows: the database's, and the checkpoint's where the database has none."""
    missing: tuple[Change, ...]
    """What has to be written so that the database has them all."""
    in_doubt: frozenset[RoomID]
    """Rooms of rows that the database has and the checkpoint has not, or not so."""


def restore(checkpoint: Records, *, stored: Records) -> Restored:
    """Put the rows together.

    Args:
        checkpoint: the truth at some position.
        stored: what is in the database.
    """
    homes, chats = checkpoint.homes, checkpoint.chats
    lost_homes = [home for owner, home in homes.items() if owner not in stored.homes]
    lost_chats = [chat for room_id, chat in chats.items() if room_id not in stored.chats]
    return Restored(
        records=Records(homes={**homes, **stored.homes}, chats={**chats, **stored.chats}),
        missing=(
            *(SetHome(before=None, after=home) for home in lost_homes),
            *(SetChat(before=None, after=chat) for chat in lost_chats),
        ),
        in_doubt=frozenset(_in_doubt(checkpoint, stored)),
    )


def _in_doubt(checkpoint: Records, stored: Records) -> Iterator[RoomID]:
    for owner, home in stored.homes.items():
        known = checkpoint.homes.get(owner)
        if home != known:
            yield home.space_id
            if known is not None:
                yield known.space_id
    for room_id, chat in stored.chats.items():
        if chat != checkpoint.chats.get(room_id):
            yield room_id
