"""How a sync response is taken in, and who takes it in."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from mautrix.types import EventID, RoomID


class TakeIn(Protocol):
    """`EventDispatcher.take_in`."""

    def __call__(
        self,
        response: object,
        *,
        work: Hashable,
        leave_out: frozenset[EventID],
        later: frozenset[RoomID],
        is_live: bool,
        rescanned: frozenset[RoomID],
        only_messages: bool,
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a response is to be taken."""

    is_live: bool
    """Whether it is news of this moment, and not what happened meanwhile."""
    not_before: int | None = None
    """Messages older than this are passed over, in milliseconds since 1970; None: none is."""
    since: str | None = None
    """The position before it."""
    since_at: int | None = None
    """When the bot had seen all that came before."""
    has_questions: bool = True
    """False: nothing in it is answered; it only tells what there is."""
    is_maubots: bool = False
    """Whether maubot's sync was told it: that may be an old answer which the homeserver repeats.
    (It never repeats our own, each of which asks for something else.)"""


LIVE: Final = Terms(is_live=True, is_maubots=True)
