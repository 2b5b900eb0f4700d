"""What became of messages since they were sent: their newest edits, and their redactions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from mautrix.types import EventID

from ..domain.sync.news import Edited, Redaction

REMEMBERED: Final = 1000
"""Redacted messages, and edited ones."""

Revision = TypeVar("Revision", Redaction, Edited)


class Superseded(Exception):
    """A message was edited while it was answered: it is to be handled once more, as it is now."""


@dataclass(slots=True)
class Revisions:
    """The newest revision of each message, of the last ones."""

    redactions: dict[EventID, Redaction] = field(default_factory=dict)
    edits: dict[EventID, Edited] = field(default_factory=dict)
    """By what is handled as it was edited: the message, or what has it answered once more."""

    def note_redaction(self, redaction: Redaction) -> None:
        _remember(self.redactions, redaction.redacts, redaction)

    def note_edit(self, edit: Edited, *, of: EventID) -> None:
        _remember(self.edits, of, edit)


def _remember(known: dict[EventID, Revision], event_id: EventID, revision: Revision) -> None:
    known.pop(event_id, None)
    known[event_id] = revision
    if len(known) > REMEMBERED:
        del known[next(iter(known))]
