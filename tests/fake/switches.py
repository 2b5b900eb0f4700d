"""How the homeserver differs from Synapse: what a test sets on `FakeHomeserver.switches`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FutureSince = Literal["now", "initial", "refused"]


@dataclass(eq=False)
class Switches:
    """What other homeservers, proxies and installations do otherwise. Sizes are in bytes."""

    honours_to: bool = True
    """Whether `to` ends a walk through `/messages`; some homeservers go on to the beginning."""
    future_since: FutureSince = "now"
    """What `/sync` makes of a position that the server has not reached (it was restored from an
    older backup): Synapse takes it for now, others give an initial sync or refuse it."""
    sends_date: bool = True
    """Whether answers have a `Date` header."""
    largest_request: int | None = None
    """A larger body is refused by the proxy, with 413 and no JSON."""
    largest_answer: int | None = None
    """The proxy gives up on a larger answer, with 502 and no JSON; what was asked is done."""
    largest_account_data: int | None = None
    """Larger account data is refused with `M_TOO_LARGE`."""
