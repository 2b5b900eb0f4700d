"""Which room a command is about, and who may stop or redact what others asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mautrix.types import RoomID, UserID

from ..domain.commands import (
    Again,
    ChangesChat,
    Stop,
    changes_chat,
    ends_answers,
    parse_command,
)
from ..domain.homes.model import Chat, ChatID
from ..domain.sync.news import Encrypted, Message, Reaction, Redaction


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRooms:
    """Knows what commands, reactions and redactions are about, and whether they count.

    Args:
        owns: whether a chat is somebody's own: they may redact and stop what others began.
        own_chat: somebody's chat with this number.
    """

    bot: UserID
    owns: Callable[[RoomID, UserID], bool]
    own_chat: Callable[[UserID, ChatID], Chat | None]

    def may_stop(self, message: Message | Encrypted, because_of: Message | Reaction) -> bool:
        """Whether the sender of a command or reaction may have a message not answered."""
        return because_of.sender == message.sender or self.owns(
            because_of.room_id, because_of.sender
        )

    def redacts(self, redaction: Redaction, message: Message | Encrypted) -> bool:
        """Whether it does: a homeserver may let through what does not count."""
        return (
            redaction.redacts
            in (message.event_id, message.about if isinstance(message, Message) else None)
            and redaction.room_id == message.room_id
            and (
                redaction.sender in (message.sender, self.bot)
                or self.owns(message.room_id, redaction.sender)
            )
        )

    def ended_by(self, message: Message) -> RoomID | None:
        """The room whose messages before this command are to be answered no further."""
        change = changes_chat(parse_command(message.text))
        return self._room_of(change, message) if change and ends_answers(change) else None

    def runs_beside(self, message: Message) -> bool:
        """Whether it is a command that need not wait for the answers before it in its room.

        A `!stop` of when the bot was away waits for what it stops.
        """
        command = parse_command(message.text)
        if isinstance(command, Stop) and not message.is_live:
            return False
        change = changes_chat(command)
        return (command is not None and not isinstance(command, Again)) and (
            change is None or self._room_of(change, message) != message.room_id
        )

    def _room_of(self, command: ChangesChat, message: Message) -> RoomID | None:
        """The room of the chat that a command is about; None: the sender has no such chat."""
        if command.chat_id is not None:
            chat = self.own_chat(message.sender, command.chat_id)
            return None if chat is None else chat.room_id
        return message.room_id if self.owns(message.room_id, message.sender) else None
