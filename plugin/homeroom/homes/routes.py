"""Where a message goes: room ID -> chat, owner -> home, in memory.

The routes are the rows as the last reconcile made them, nothing else: `load` takes over a whole
store, `apply` the changes of a plan. `known` are the rooms that were scanned, Homeroom's or
not, so that a room that was never seen can be told from one that is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable

from mautrix.types import RoomID, UserID

from ..domain.homes.model import Chat, ChatID, Home, Records, Status
from ..domain.homes.plan import Change, SetChat, SetHome
from ..domain.homes.topology import Room, Topology, Unreadable
from ..domain.never import assert_never


class Routes:
    """The rows of homes and chats in memory, for whoever has to find one."""

    def __init__(self) -> None:
        self._homes: dict[UserID, Home] = {}
        self._chats: dict[RoomID, Chat] = {}
        self._chats_of: dict[UserID, set[RoomID]] = {}
        self._owners_of_space: dict[RoomID, UserID] = {}
        self._read: set[RoomID] = set()
        self._unreadable: set[RoomID] = set()
        self._unmarked: set[RoomID] = set()
        self._left_spaces: set[RoomID] = set()
        """Spaces that their owner left or declined."""
        self._paused: frozenset[RoomID] | None = None

    # Written by the reconciler

    def load(self, records: Records) -> None:
        """Take over the rows of a store."""
        self._paused = None
        self._forget_rows()
        for home in records.homes.values():
            self._set_home(home)
        for chat in records.chats.values():
            self._set_chat(chat)

    def resume(self, records: Records) -> None:
        """Take over rows that a checkpoint says are true: their rooms need no scan."""
        self.load(records)
        self._read = set(records.room_ids)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over rows that were just written."""
        for change in changes:
            match change:
                case SetHome(after=home):
                    self._set_home(home)
                case SetChat(after=chat):
                    self._set_chat(chat)
                case _:
                    assert_never(change)

    def note_scan(self, topology: Topology, *, whole: bool) -> None:
        """Remember which rooms were scanned; `whole`: there are no others."""
        if whole:
            self._forget_looks()
        for room_id, room in topology.rooms.items():
            unreadable = isinstance(room, Unreadable)
            (self._unreadable if unreadable else self._read).add(room_id)
            (self._read if unreadable else self._unreadable).discard(room_id)
            self._unmarked.discard(room_id)
            self._left_spaces.discard(room_id)
            if isinstance(room, Room) and room.marker is not None and room.is_space:
                member = room.members.get(room.marker.user_id)
                if member is not None and member.membership == "leave":
                    self._left_spaces.add(room_id)
            if isinstance(room, Room) and not room.marker and room.creator == topology.bot:
                self._unmarked.add(room_id)

    def pause(self) -> None:
        """Forget every route until the next `load`; only remember which rooms were chats."""
        if self._paused is None:
            self._paused = frozenset(room_id for room_id in self._chats if self.chat(room_id))
        self._forget_rows()
        self._forget_looks()

    def _forget_looks(self) -> None:
        self._read, self._unreadable, self._unmarked = set(), set(), set()
        self._left_spaces = set()

    def _forget_rows(self) -> None:
        self._homes, self._chats = {}, {}
        self._chats_of, self._owners_of_space = {}, {}

    def _set_home(self, home: Home) -> None:
        before = self._homes.get(home.matrix_user_id)
        if before is not None:
            self._owners_of_space.pop(before.space_id, None)
        self._homes[home.matrix_user_id] = home
        self._owners_of_space[home.space_id] = home.matrix_user_id

    def _set_chat(self, chat: Chat) -> None:
        before = self._chats.get(chat.room_id)
        if before is not None:
            self._chats_of[before.matrix_user_id].discard(chat.room_id)
        self._chats[chat.room_id] = chat
        self._chats_of.setdefault(chat.matrix_user_id, set()).add(chat.room_id)

    # Read by everybody

    @property
    def is_paused(self) -> bool:
        return self._paused is not None

    def was_chat(self, room_id: RoomID) -> bool:
        """Whether the room was a chat before the pause."""
        return self._paused is not None and room_id in self._paused

    @property
    def known(self) -> frozenset[RoomID]:
        """Rooms whose state was read, and that cannot turn out to be somebody's any more.

        A room of the bot's own without a marker may have been seen while the homeserver was
        making it (the bot is in it before its marker is): it is read again until it is marked
        or a row names it.
        """
        unsettled = self._unmarked - self._chats.keys() - self._owners_of_space.keys()
        return frozenset(self._read - unsettled)

    @property
    def unreadable(self) -> frozenset[RoomID]:
        """Rooms that the bot is in and that could not be read at the last scan."""
        return frozenset(self._unreadable)

    @property
    def unknown(self) -> frozenset[RoomID]:
        """Rooms that could not be read and of which no row says whose they are."""
        return frozenset(self._unreadable) - self._chats.keys() - self._owners_of_space.keys()

    def chat(self, room_id: RoomID) -> Chat | None:
        """The chat that messages in this room belong to."""
        chat = self._chats.get(room_id)
        return chat if chat is not None and chat.is_routed else None

    def chat_rooms(self) -> list[RoomID]:
        """Every room that messages may be routed in, in one order."""
        return sorted(room_id for room_id, chat in self._chats.items() if chat.is_routed)

    def home(self, owner: UserID) -> Home | None:
        home = self._homes.get(owner)
        return home if home is not None and home.status is Status.ACTIVE else None

    def is_outside(self, owner: UserID) -> bool:
        """Whether the owner, when it was last scanned, had left their Space."""
        home = self.home(owner)
        return home is not None and home.space_id in self._left_spaces

    def has_moved(self, owner: UserID) -> bool:
        """The owner's Space was upgraded to a room that the bot is not in."""
        home = self._homes.get(owner)
        return home is not None and home.status is Status.REPLACED

    def owner_of(self, room_id: RoomID) -> UserID | None:
        """Whose Space or chat this is, routed or not; None if it is nobody's."""
        chat = self._chats.get(room_id)
        return chat.matrix_user_id if chat else self._owners_of_space.get(room_id)

    def has_left(self, room_id: RoomID) -> bool:
        """Whether a row says that the bot was in this room and has left it."""
        chat, owner = self._chats.get(room_id), self._owners_of_space.get(room_id)
        row = chat or (None if owner is None else self._homes[owner])
        return row is not None and row.status is Status.LEFT

    def is_space(self, room_id: RoomID) -> bool:
        return room_id in self._owners_of_space

    def chats_of(self, owner: UserID) -> tuple[Chat, ...]:
        """Every chat of the owner that is remembered, whatever its status."""
        return tuple(self._chats[room_id] for room_id in self._chats_of.get(owner, ()))

    def own_chat(self, owner: UserID, chat_id: ChatID) -> Chat | None:
        """The owner's chat with this number, if it is in use."""
        own = (chat for chat in self.chats_of(owner) if chat.is_routed)
        return next((chat for chat in own if chat.chat_id == chat_id), None)

    def owners(self, room_ids: Iterable[RoomID]) -> frozenset[UserID]:
        owners = (self.owner_of(room_id) for room_id in room_ids)
        return frozenset(owner for owner in owners if owner is not None)

    def rooms_of(self, owners: Iterable[UserID]) -> frozenset[RoomID]:
        """Every room that a row of these owners names."""
        return self.records_of(owners).room_ids

    def records_of(self, owners: Iterable[UserID]) -> Records:
        """The rows of these owners."""
        owners = frozenset(owners)
        return Records(
            homes={owner: self._homes[owner] for owner in owners if owner in self._homes},
            chats={chat.room_id: chat for owner in owners for chat in self.chats_of(owner)},
        )

    @property
    def records(self) -> Records:
        """Every row."""
        return Records(homes=dict(self._homes), chats=dict(self._chats))

    def homes(self) -> int:
        """How many homes there are."""
        return sum(home.status is Status.ACTIVE for home in self._homes.values())
