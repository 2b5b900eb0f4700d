"""Where a message goes: room ID -> chat, owner -> home, in memory.

The routes are what the last reconcile wrote into the store, nothing else: they are replaced, not
edited. `known` are the rooms that were looked at, Homeroom's or not, so that a room that was
never seen can be told from one that is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable

from mautrix.types import RoomID, UserID

from .domain.model import Chat, Home, Records, Status
from .domain.topology import Topology, Unreadable


class Routes:
    def __init__(self) -> None:
        self._homes: dict[UserID, Home] = {}
        self._chats: dict[RoomID, Chat] = {}
        self._owners_of_space: dict[RoomID, UserID] = {}
        self._read: frozenset[RoomID] = frozenset()
        self._unmarked: frozenset[RoomID] = frozenset()
        self._unreadable: frozenset[RoomID] = frozenset()
        self._paused: frozenset[RoomID] | None = None

    def pause(self) -> None:
        """Forget every route until the next `load`; only remember which rooms were chats."""
        if self._paused is None:
            self._paused = frozenset(room_id for room_id in self._chats if self.chat(room_id))
        self._homes, self._chats, self._owners_of_space = {}, {}, {}
        self._read = self._unreadable = frozenset()

    @property
    def is_paused(self) -> bool:
        return self._paused is not None

    def was_chat(self, room_id: RoomID) -> bool:
        """Whether the room was a chat before the pause."""
        return self._paused is not None and room_id in self._paused

    def load(self, records: Records) -> None:
        """Take over the rows of a store that a reconcile has just made true."""
        self._paused = None
        self._homes = dict(records.homes)
        self._chats = dict(records.chats)
        self._owners_of_space = {home.space_id: owner for owner, home in records.homes.items()}

    def note_look(self, topology: Topology, *, whole: bool) -> None:
        """Remember which rooms were looked at; `whole`: there are no others."""
        unreadable = frozenset(
            room_id for room_id, room in topology.rooms.items() if isinstance(room, Unreadable)
        )
        read = topology.rooms.keys() - unreadable
        self._read = frozenset(read if whole else self._read - unreadable | read)
        self._unreadable = unreadable if whole else self._unreadable - read | unreadable
        unmarked = frozenset(
            room.room_id
            for room in topology.read()
            if room.marker is None and room.creator == topology.bot
        )
        self._unmarked = unmarked if whole else self._unmarked - read | unmarked

    @property
    def known(self) -> frozenset[RoomID]:
        """Rooms whose state was read, and that cannot turn out to be somebody's any more.

        A room of the bot's own without a marker may have been seen while the homeserver was
        making it (the bot is in it before its marker is): it is read again until it is marked
        or a row names it.
        """
        return self._read - (self._unmarked - self._chats.keys() - self._owners_of_space.keys())

    @property
    def unknown(self) -> frozenset[RoomID]:
        """Rooms that could not be read and of which no row says whose they are."""
        return self._unreadable - self._chats.keys() - self._owners_of_space.keys()

    def chat(self, room_id: RoomID) -> Chat | None:
        """The chat that messages in this room belong to."""
        chat = self._chats.get(room_id)
        return chat if chat is not None and chat.is_routed else None

    def home(self, owner: UserID) -> Home | None:
        home = self._homes.get(owner)
        return home if home is not None and home.status is Status.ACTIVE else None

    def has_moved(self, owner: UserID) -> bool:
        """The owner's Space was upgraded to a room that the bot is not in."""
        home = self._homes.get(owner)
        return home is not None and home.status is Status.REPLACED

    def owner_of(self, room_id: RoomID) -> UserID | None:
        """Whose Space or chat this is, routed or not; None if it is nobody's."""
        chat = self._chats.get(room_id)
        return chat.matrix_user_id if chat else self._owners_of_space.get(room_id)

    def is_space(self, room_id: RoomID) -> bool:
        return room_id in self._owners_of_space

    def chats_of(self, owner: UserID) -> tuple[Chat, ...]:
        """Every chat of the owner that is remembered, whatever its status."""
        return tuple(chat for chat in self._chats.values() if chat.matrix_user_id == owner)

    def owners(self, room_ids: Iterable[RoomID]) -> frozenset[UserID]:
        owners = (self.owner_of(room_id) for room_id in room_ids)
        return frozenset(owner for owner in owners if owner is not None)

    def rooms_of(self, owners: frozenset[UserID]) -> frozenset[RoomID]:
        """Every room that a row of these owners names."""
        rooms = {chat.room_id for chat in self._chats.values() if chat.matrix_user_id in owners}
        rooms |= {home.space_id for home in self._homes.values() if home.matrix_user_id in owners}
        return frozenset(rooms)

    def homes(self) -> int:
        """How many homes there are."""
        return sum(home.status is Status.ACTIVE for home in self._homes.values())
