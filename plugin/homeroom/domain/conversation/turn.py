"""What an agent is asked: one message of a conversation, and what belongs to it.

Nothing of Matrix but IDs is in here: an agent knows a conversation by its `platform_chat_id`,
which stays the same whatever happens to the bot or to its database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from mautrix.types import EventID, RoomID, UserID

from ..homes.model import ChatID, PlatformChatID

MAX_QUOTE: Final = 2_000
"""Characters of a quoted message."""
MAX_INSTRUCTIONS: Final = 4_000
"""Characters of a chat's topic."""

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that somebody sent. What is in it is not here: it is read when an agent wants it."""

    event_id: EventID
    name: str
    """Cleaned, at most 255 characters."""
    mime_type: str
    """As announced; `application/octet-stream` if that is none."""
    kind: Literal["image", "audio", "video", "file"]
    """A sticker is an image."""
    size: int | None
    """Bytes, as announced; None: not said."""
    is_voice: bool = False
    source: Mapping[str, Any]
    """The event's `url` or `file`: what the file is downloaded and decrypted by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The message that a reply answers."""

    event_id: EventID
    role: Role
    user_id: UserID
    user_name: str
    text: str
    """At most `MAX_QUOTE` characters; empty if it is redacted or unreadable."""
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of an `Ask`'s choices a turn takes."""

    ask_id: str
    number: int
    """From 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation, which an agent is to answer."""

    key: EventID
    """The idempotency key: the ID of the event that made the bot ask. Asked again under the same
    key, an agent should say the same."""
    event_id: EventID
    """The question; the answer names it."""
    replaces: EventID | None = None
    """The key under which this question was asked before; None: it was not."""
    platform_chat_id: PlatformChatID
    chat_id: ChatID
    room_id: RoomID
    name: str | None
    """The chat's name; None if the room has none."""
    user_id: UserID
    user_name: str
    is_shared: bool = False
    """Whether several people are heard, so that the speaker of every message is to be named."""
    text: str
    """Empty if there are only attachments."""
    attachments: tuple[Attachment, ...] = ()
    quote: Quote | None = None
    choice: Choice | None = None
    thread_root: EventID | None = None
    instructions: str = ""
    """The room's topic, at most `MAX_INSTRUCTIONS` characters."""
    state: str | None = None
    """`End.state` of the conversation's last answer."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was said in a conversation before a turn."""

    role: Role
    text: str
    name: str = ""
    """Who said it; empty: that need not be told."""
    attachments: tuple[Attachment, ...] = ()
