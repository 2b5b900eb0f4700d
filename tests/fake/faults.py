"""Faults: what goes wrong, for which requests, how often.

A `Fault` is a rule: requests that match, after `skip` of them and for `times` of them, get an
answer other than the model's. The door asks `Faults.take` once per request. `DropBefore`,
`Respond`, `RateLimit` and `Hang` until its release happen before the model hears of the request;
`DropAfter`, `Truncate` and `Alter` after it has acted. What is `Late` takes effect when the client
has long given up, and what comes `Twice` takes effect a second time.

A client built on aiohttp tries GET, PUT and DELETE a second time by itself when a connection it
has used before is closed: to be seen, such a drop must happen twice (`times=2`); a POST is never
repeated.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import Json


@dataclass
class Recorded:
    """One request, as it came in, and what became of it."""

    method: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str]
    user: str | None
    """The user of the access token, None if there was none that is known."""
    body: Any
    """The JSON, None if there was none."""
    route: str = ""
    """The endpoint without its parameters: `createRoom`, `rooms/{room_id}/state/{type}` …"""
    status: int | None = None
    """None while it is being answered, and for good if the connection was dropped."""
    answer: Any = None
    fault: Fault | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    """The query as it came in, with what is named more than once."""

    @property
    def changes_rooms(self) -> bool:
        """Whether it can make an event: what a quiet restart must not send."""
        quiet = ("sync", "filter", "typing", "receipt", "read_markers", "account_data", "presence")
        return self.method != "GET" and not any(word in self.route for word in (*quiet, "login"))


@dataclass(frozen=True)
class Match:
    """Which requests; everything that is given must be true, nothing given is all of them."""

    method: str | None = None
    path: str | None = None
    """A regular expression, searched in the decoded path (or the route)."""
    user: str | None = None
    when: Callable[[Recorded], bool] | None = None

    def __call__(self, request: Recorded) -> bool:
        """Tell whether a request is meant."""
        if self.method is not None and request.method != self.method.upper():
            return False
        if self.user is not None and request.user != self.user:
            return False
        if self.path is not None and not (
            re.search(self.path, request.path) or re.search(self.path, request.route)
        ):
            return False
        return self.when is None or self.when(request)


@dataclass(frozen=True)
class Respond:
    """Answer this instead, without doing anything."""

    status: int
    json: Any = None
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RateLimit:
    """Refuse with `M_LIMIT_EXCEEDED`; None says nothing about how long to wait."""

    retry_after_ms: int | None = None
    header: bool = True
    """Whether there is a `Retry-After` header too."""


@dataclass(frozen=True)
class DropBefore:
    """Close the connection without having done anything."""


@dataclass(frozen=True)
class DropAfter:
    """Do what was asked, then close the connection without an answer."""


@dataclass(frozen=True)
class Truncate:
    """Do what was asked, send this share of the answer, then close the connection."""

    share: float = 0.5


@dataclass(frozen=True)
class Hang:
    """Wait for `Fault.release`, then go on as if nothing had been; `after`: having done it."""

    after: bool = False


@dataclass(frozen=True)
class Late:
    """Let the client down now, and do what was asked when the fault is released.

    It is done whatever became of the client meanwhile: `await fault.done()` waits for that.
    """

    status: int | None = None
    """What the client is told now; None closes the connection."""
    waits: bool = False
    """Whether the client gets no answer before it is done: it may give up first."""


@dataclass(frozen=True)
class Twice:
    """Do what was asked, answer, and do it once more when the fault is released."""


@dataclass(frozen=True)
class Alter:
    """Do what was asked, and change the JSON of a good answer on its way out."""

    change: Callable[[Json], Any]


Action = Respond | RateLimit | DropBefore | DropAfter | Truncate | Hang | Late | Twice | Alter


@dataclass(eq=False)
class Fault:
    """A fault that was asked for, and the handle on it."""

    match: Match
    action: Action
    skip: int = 0
    times: int | None = 1
    """None is until `cancel`."""
    hits: list[Recorded] = field(default_factory=list)
    later: list[asyncio.Future[Any]] = field(default_factory=list)
    """What is done on release, the clients not waiting for it."""
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _hit: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let the requests go that hang here, now and later."""
        self._released.set()

    def cancel(self) -> None:
        """Stop; what hangs is let go."""
        self.times = len(self.hits)
        self.release()

    async def reached(self) -> Recorded:
        """Wait until a request has met this fault, and give the first."""
        await self._hit.wait()
        return self.hits[0]

    async def released(self) -> None:
        """Wait for the release."""
        await self._released.wait()

    async def done(self) -> None:
        """Release it, and wait until what was late has been done."""
        self.release()
        await asyncio.gather(*self.later)

    def offer(self, request: Recorded) -> bool:
        """Take the request if it is meant and it is its turn."""
        if self.times is not None and len(self.hits) >= self.times:
            return False
        if not self.match(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits.append(request)
        self._hit.set()
        return True


@dataclass
class Faults:
    """The faults of one server, the oldest first."""

    rules: list[Fault] = field(default_factory=list)

    def take(self, request: Recorded) -> Fault | None:
        """Give the fault this request meets."""
        return next((fault for fault in self.rules if fault.offer(request)), None)

    def clear(self) -> None:
        """Cancel all of them."""
        for fault in self.rules:
            fault.cancel()
        self.rules.clear()
