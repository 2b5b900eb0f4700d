"""What became of messages since they were sent: edits, redactions, and commands that end them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID, RoomID

from ..domain.newest import put_newest
from ..domain.sync.news import Edited, Encrypted, Message, Reaction, Redaction

REMEMBERED: Final = 1000
"""Redacted messages, edited ones, and rooms in which a command ended what was said before."""


class Superseded(Exception):
    """A message was edited while it was answered: it is to be handled once more, as it is now."""


@dataclass(slots=True)
class Revisions:
    """The newest revision of each message, of the last ones."""

    redactions: dict[EventID, Redaction] = field(default_factory=dict)
    edits: dict[EventID, Edited] = field(default_factory=dict)
    """By what is handled as it was edited: the message, or what has it answered once more."""
    ends: dict[RoomID, Message] = field(default_factory=dict)
    """The last command said elsewhere that ended what was said before it in a room."""
    stops: dict[EventID, None] = field(default_factory=dict)
    """Reactions and commands that stopped what was said before them."""

    def note_redaction(self, redaction: Redaction) -> None:
        put_newest(self.redactions, redaction.redacts, redaction, at_most=REMEMBERED)

    def note_edit(self, edit: Edited, *, of: EventID) -> None:
        put_newest(self.edits, of, edit, at_most=REMEMBERED)

    def note_end(self, room_id: RoomID, *, because_of: Message) -> None:
        put_newest(self.ends, room_id, because_of, at_most=REMEMBERED)

    def note_stop(self, stop: Message | Reaction) -> None:
        """A stop was carried out, and what was said before it had been taken in before it."""
        put_newest(self.stops, stop.event_id, None, at_most=REMEMBERED)

    def may_precede(self, message: Message | Encrypted, stop: Message | Reaction) -> bool:
        """Whether a message that is known was said before a stop that comes in.

        That comes after it, unless it comes in a second time: then only the times tell.
        """
        return stop.event_id not in self.stops or message.sent_at <= stop.sent_at

    def ended_by(self, message: Message | Encrypted) -> EventID | None:
        """The command that ended this message, which is read only now; None: nothing did."""
        end = self.ends.get(message.room_id)
        is_ended = end is not None and not message.is_live and message.sent_at <= end.sent_at
        return end.event_id if end is not None and is_ended else None
