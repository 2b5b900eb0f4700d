"""Agent platforms: who answers in a chat.

A platform is one coroutine: a turn in, text out. It knows nothing of Matrix; what it does know a
conversation by is `platform_chat_id`, which stays the same whatever happens to the bot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mautrix.types import EventID, RoomID, UserID

from ...domain.model import ChatID, PlatformChatID


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation. `event_id` is its idempotency key."""

    platform_chat_id: PlatformChatID
    chat_id: ChatID
    user_id: UserID
    room_id: RoomID
    event_id: EventID
    text: str


class PlatformError(Exception):
    """The platform did not answer; the message is for the log."""


class Platform(Protocol):
    async def answer(self, turn: Turn) -> str:
        """Answer a turn.

        Called once for an event unless the process dies in the middle; then again with the same
        `event_id`. An empty answer sends nothing.

        Raises:
            PlatformError: no answer, for a reason that is in the message.
        """
        ...
