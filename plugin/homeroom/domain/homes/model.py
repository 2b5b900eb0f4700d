"""The words of Homeroom, and the rows that the database remembers of them.

owner   the user a home belongs to (`matrix_user_id` in a row)
home    one owner's Space and the chats in it
chat    a working room: one conversation with the agent platform
status  `active`, `archived` (set aside by its owner), `left` (the bot is no longer in it),
        `replaced` (the room was upgraded; the binding moved on)

A row is a memory, not the truth: it may be missing, outdated or damaged. What a row cannot tell
(NULL, or text that means nothing) is None here, and the planner fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, NewType

from mautrix.types import EventID, RoomID, UserID

ChatID = NewType("ChatID", str)
"""`C1`, `C2`, …: the chat's number among its owner's chats, never used twice by one owner."""

PlatformChatID = NewType("PlatformChatID", str)
"""The conversation's key on the agent platform. Opaque; at most 255 characters."""


class RoomType(str, Enum):
    """What a room is to Homeroom; the marker's `room_type`."""

    SPACE = "space"
    CHAT = "chat"


class Status(str, Enum):
    """What a row says of its room."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    LEFT = "left"
    REPLACED = "replaced"


ROUTED: Final = frozenset({Status.ACTIVE, Status.ARCHIVED})
"""Rows whose ids must be unique, because messages are routed by them."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One of the conversations that began with `!chat clear`; a room's first one has no value."""

    number: int
    """1, 2, …: how often the room was cleared. The key of the conversation follows from it."""
    since: EventID
    """The message that asked for it: what the room says before that is not part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """One row of `homes`: which Space is the owner's home."""

    matrix_user_id: UserID
    space_id: RoomID
    status: Status | None = Status.ACTIVE
    initial_chats: tuple[str, ...] = ()
    """Names of the chats that the home was promised at its birth, in order: `C1`, `C2`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One row of `chats`: the binding of a room to a conversation."""

    room_id: RoomID
    matrix_user_id: UserID
    space_id: RoomID | None
    chat_id: ChatID | None
    platform_chat_id: PlatformChatID | None
    name: str | None
    status: Status | None = Status.ACTIVE
    room_type: RoomType | None = RoomType.CHAT
    conversation: Conversation | None = None
    """None: the room's first."""
    answer: Literal["members"] | None = None
    """Whom the bot answers, after `!chat share`; None: as the settings say."""

    @property
    def is_routed(self) -> bool:
        """Whether messages in this room may reach the platform (or its archive notice)."""
        return (
            self.status in ROUTED
            and self.chat_id is not None
            and self.platform_chat_id is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything the store holds about homes and chats, at one moment."""

    homes: Mapping[UserID, Home] = field(default_factory=dict)
    chats: Mapping[RoomID, Chat] = field(default_factory=dict)

    @property
    def room_ids(self) -> frozenset[RoomID]:
        """Every room that a row names."""
        return frozenset(self.chats).union(home.space_id for home in self.homes.values())

    @property
    def joined(self) -> frozenset[RoomID]:
        """Every room that a row says the bot is in."""
        chats = (chat.room_id for chat in self.chats.values() if chat.status in ROUTED)
        homes = (home.space_id for home in self.homes.values() if home.status is Status.ACTIVE)
        return frozenset(chats).union(homes)
