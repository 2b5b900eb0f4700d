"""What an agent answers: a stream of these, of which `End` comes once and last.

Without `End` the answer is cut off; an `Ask` is followed by nothing else. The room shows the
items in their order, each once: the pieces of text in a row are one message (or several, if they
are long), a file is one. Why there is no answer, or no more of it, is a `Trouble`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

MAX_STATUS: Final = 120
"""Characters of a status line."""
MAX_STATE: Final = 1_000
"""Characters of what an agent has remembered for it."""
MAX_CHOICES: Final = 9
"""As many as there are reactions 1️⃣ to 9️⃣."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of Markdown; the pieces are joined as they are."""

    markdown: str


@dataclass(frozen=True, slots=True)
class Status:
    """What the agent is doing, shown until there is something better."""

    line: str
    """At most `MAX_STATUS` characters; empty takes the last one away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file for the room, bounded before it is given out."""

    name: str
    mime_type: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question of the agent's, with what may be answered."""

    id: str
    text: str
    choices: tuple[str, ...]
    """1 to `MAX_CHOICES`."""
    expires_in: int = 3_600
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The answer is whole."""

    state: str | None = None
    """What the agent wants to be told with the next turn; at most `MAX_STATE` characters."""
    tokens_in: int | None = None
    tokens_out: int | None = None


Item = Text | Status | File | Ask | End


class Trouble(Enum):
    """Why a platform did not answer (to the end), as far as the person who waits is concerned."""

    BUSY = "busy"
    """Too many requests, overloaded, in maintenance: the same again later helps."""
    UNREACHABLE = "unreachable"
    """No connection, or no usable answer within its time: the same again may help."""
    FAILING = "failing"
    """It is there, and something went wrong in it: the same again may help."""
    MISCONFIGURED = "misconfigured"
    """A wrong key, address or model: only the administrator can help."""
    REFUSED = "refused"
    """The platform will not answer this message, or not to the end: another one may be."""
    TOO_LARGE = "too large"
    """The answer is longer than it may be by our limit or by the platform's own; what there is of
    it was given out, which may be nothing."""
    CUT_OFF = "cut off"
    """The answer ended in the middle; what came until then was given out."""
