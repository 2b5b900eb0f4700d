"""The time, as Matrix counts it: the homeserver's, where it says what that is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

from mautrix.util.logging import TraceLogger

WRONG_ABOVE: Final = 60_000
"""Milliseconds of difference from which on the homeserver's clock counts, and not our own. (What
it says is in whole seconds, and has been under way.)"""


def now() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    return int(time.time() * 1000)


@dataclass(slots=True, kw_only=True)
class ServerClock:
    """The homeserver's clock, as its answers tell it."""

    log: TraceLogger
    _ahead: int = field(default=0, init=False)

    @property
    def ahead(self) -> int:
        """Milliseconds by which this machine's clock is ahead; 0: it is right."""
        return self._ahead

    def now(self) -> int:
        """Milliseconds since 1970."""
        return now() - self._ahead

    def note(self, date: str | None) -> None:
        """Compare with the `Date` header of an answer that has just come in."""
        try:
            said = parsedate_to_datetime(date or "").timestamp() * 1000
        except (ValueError, TypeError, OverflowError):
            return
        ahead = now() - int(said)
        if abs(ahead) <= WRONG_ABOVE:
            ahead = 0
        if abs(ahead - self._ahead) <= WRONG_ABOVE and bool(ahead) == bool(self._ahead):
            return
        self._ahead = ahead
        if ahead:
            self.log.warning(
                "The clock of this machine is %d s %s of the homeserver's, whose time counts",
                abs(ahead) // 1000,
                "ahead" if ahead > 0 else "behind",
            )
        else:
            self.log.info("The clock of this machine is right again")
