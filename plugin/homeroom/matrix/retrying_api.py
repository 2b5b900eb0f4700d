"""Homeroom's own way to talk to the homeserver: patient, bounded, and never shared.

maubot's `client.api` belongs to all plugins of the client and gives up at the first 429, so it
is left alone; `PatientAPI` is a second `HTTPAPI` with the same address and token. It waits out
rate limits as long as the homeserver asks for, repeats what failed for a passing reason, reads
no more than a bounded answer, and tells `Refused` from `Unavailable` (see `errors.py`).

Not repeated blindly: `POST /createRoom`, the one request that a second sending would do twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientTimeout
from mautrix.api import HTTPAPI, Method
from mautrix.util.logging import TraceLogger
from yarl import URL

from ..runtime import sliced_json as large_json
from ..runtime.clock import ServerClock, now
from ..runtime.fair_turns import FairTurns
from ..runtime.gc_tuning import large_garbage
from ..runtime.http import backoff, in_words, retry_after
from ..runtime.timeouts import timeout
from .errors import (
    NOT_SIGNED_IN,
    HomeserverError,
    NotSignedIn,
    OutcomeUnknown,
    RateLimited,
    Refused,
    TooLarge,
    Unavailable,
)
from .outgoing import Outgoing, Priority

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes. The largest answer that is read; one window of a full scan is some ten megabytes."""
MAX_ERROR_TEXT: Final = 200
MAX_WAIT_MS: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How long, in seconds, a call is worth going on with."""

    call: float
    """In all, waiting for rate limits and repeating included."""
    failing: float
    """While it fails for other reasons than rate limits."""
    attempt: float
    """For one attempt."""


_EVERYBODY: Final = "everybody"
"""Requests take turns as they come."""
_PATIENCE: ContextVar[RetryBudget] = ContextVar("patience")
_READ: ContextVar[Callable[[Any], Any] | None] = ContextVar("read")
_AT_MOST: ContextVar[int | None] = ContextVar("at_most")
_PRIORITY: ContextVar[Priority | None] = ContextVar("priority")
"""Those of the request under way, which mautrix knows nothing of."""


@dataclass(slots=True, kw_only=True)
class Health:
    """How the homeserver answers; times are in milliseconds since 1970, None: not yet."""

    answered_at: int | None = None
    """Any answer of the homeserver's own counts, a refusal too."""
    failed_at: int | None = None
    failure: str = ""
    failures: int = 0
    """Attempts without an answer, since the start."""
    rate_limits: int = 0
    """Answers that asked to wait, since the start."""
    signed_out: str | None = None
    """Why the homeserver does not serve the account (the error code); None: it does."""
    signed_out_at: int | None = None

    def note_answer(self, *, is_signed_in: bool = False) -> None:
        self.answered_at = now()
        if is_signed_in:
            self.signed_out = self.signed_out_at = None

    def note_signed_out(self, errcode: str) -> None:
        self.answered_at = now()
        if self.signed_out is None:
            self.signed_out_at = self.answered_at
        self.signed_out = errcode

    def note_rate_limit(self) -> None:
        self.answered_at, self.rate_limits = now(), self.rate_limits + 1

    def note_failure(self, reason: str) -> None:
        self.failed_at, self.failure, self.failures = now(), reason, self.failures + 1


class PatientAPI(HTTPAPI):
    """An `HTTPAPI` that waits and repeats.

    Args:
        shared: maubot's own; address, token and session are read from it at every request,
            because maubot may have another one by then.
        slots: bounds how many requests are under way at once.
        patience: seconds.
        health: is told of every attempt.
        clock: is told what time the homeserver says it is.
        outgoing: where requests with a priority wait for their turn.
        parsing: held while a large answer is parsed, which takes several times its size.
        sleep: `asyncio.sleep`, or a clock of the tests'.
    """

    def __init__(
        self,
        shared: Callable[[], HTTPAPI],
        *,
        slots: FairTurns,
        budget: RetryBudget,
        log: TraceLogger,
        health: Health | None = None,
        clock: ServerClock | None = None,
        outgoing: Outgoing | None = None,
        parsing: asyncio.Lock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        now = shared()
        super().__init__(now.base_url, now.token, client_session=now.session, log=log, txn_id=0)
        self._shared = shared
        self._slots = slots
        self._patience = budget
        self._health = health or Health()
        self._clock = clock or ServerClock(log=log)
        self._outgoing = outgoing or Outgoing(sleep=sleep)
        self._parsing = parsing or asyncio.Lock()
        self._sleep = sleep

    async def request(
        self,
        method: Method,
        path: Any,
        *args: Any,
        budget: RetryBudget | None = None,
        priority: Priority | None = None,
        read: Callable[[Any], Any] | None = None,
        at_most: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make a request.

        Args:
            budget: if it is worth another one than the others.
            priority: of a request that counts against what an account may send.
            read: makes what is returned of the JSON of a good answer, in the thread where that is
                parsed, so that neither holds anybody up and a large answer is soon gone.
            at_most: bytes of an answer that are read; None: `MAX_ANSWER`.
        """
        shared = self._shared()
        self.base_url, self.token, self.session = shared.base_url, shared.token, shared.session
        # Contents are people's words: not for the debug log.
        kwargs["sensitive"] = method != Method.GET
        patience_before = _PATIENCE.set(budget or self._patience)
        read_before = _READ.set(read)
        at_most_before = _AT_MOST.set(at_most)
        priority_before = _PRIORITY.set(priority)
        try:
            return await super().request(method, path, *args, **kwargs)
        finally:
            _PRIORITY.reset(priority_before)
            _AT_MOST.reset(at_most_before)
            _READ.reset(read_before)
            _PATIENCE.reset(patience_before)

    async def _send(
        self,
        method: Method,
        url: URL,
        content: Any,
        query_params: dict[str, str],
        headers: dict[str, str],
    ) -> tuple[Any, ClientResponse]:
        priority = _PRIORITY.get()
        once = method == Method.POST and url.path.endswith("/createRoom")
        attempts = _Attempts(f"{method} {url.path}", _PATIENCE.get())
        while True:
            if priority is not None:
                await self._wait_for_turn(priority, attempts)
            try:
                async with self._slots.turn(_EVERYBODY):
                    answer = await self._attempt(method, url, content, query_params, headers)
                self._health.note_answer(
                    is_signed_in=_shows_service(method, url.path, errcode=self._health.signed_out)
                )
                return answer
            except NotSignedIn as e:
                self._health.note_signed_out(e.errcode)
                raise
            except Refused:
                self._health.note_answer()
                raise
            except _TransientError as later:
                if later.is_rate_limit:
                    self._health.note_rate_limit()
                else:
                    self._health.note_failure(f"{attempts.what}: {later}")
                if once and later.may_have_happened:
                    raise OutcomeUnknown(f"{attempts.what}: {later}") from later
                delay = attempts.failed(later)
                waits_in_line = later.is_rate_limit and priority is not None
                if later.is_rate_limit and priority is not None:
                    self._outgoing.note_rate_limit(priority, seconds=delay)
                attempts.require_another(later, delay=delay)
                self.log.debug("%s: %s; trying again in %.1f s", attempts.what, later, delay)
            if not waits_in_line:
                await self._sleep(delay)

    async def _wait_for_turn(self, priority: Priority, attempts: _Attempts) -> None:
        seconds = self._outgoing.try_now(priority)
        if seconds == 0:
            return
        try:
            if seconds > attempts.seconds_left:
                raise asyncio.TimeoutError
            async with timeout(attempts.seconds_left):
                await self._outgoing.turn(priority)
        except asyncio.TimeoutError:
            raise attempts.given_up("not its turn", seconds=seconds) from None

    async def _attempt(
        self,
        method: Method,
        url: URL,
        content: Any,
        query_params: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> tuple[Any, ClientResponse]:
        try:
            async with self.session.request(
                str(method),
                url,
                data=content,
                params=query_params,
                headers=headers,
                timeout=ClientTimeout(total=_PATIENCE.get().attempt, sock_connect=10),
                allow_redirects=False,
            ) as response:
                body = await _read(response)
                self._clock.note(response.headers.get("Date"))
                if not 200 <= response.status < 300:
                    raise _judge(response, await self._parse(body))
                return await self._parse(body, is_object=method != Method.GET), response
        except ClientConnectorError as e:
            raise _TransientError(_line(in_words(e)), may_have_happened=False) from e
        except (ClientError, OSError, asyncio.TimeoutError) as e:
            raise _TransientError(_line(in_words(e)), may_have_happened=True) from e

    async def _parse(self, body: bytes, *, is_object: bool | None = None) -> Any:
        """Parse an answer, and read what is good for something.

        Args:
            is_object: whether it has to be a JSON object; None: it is an error, which may be
                anything.
        """
        read = None if is_object is None else _READ.get()
        if len(body) > large_json.LARGE:
            async with self._parsing:
                return await asyncio.to_thread(_parse_now, body, is_object, read)
        if read is not None:
            return await asyncio.to_thread(_parse_now, body, is_object, read)
        return _parse_now(body, is_object, read)


class _Attempts:
    """The attempts of one request, and whether another one is worth it."""

    def __init__(self, what: str, budget: RetryBudget) -> None:
        self.what = what
        self._budget = budget
        self._deadline = time.monotonic() + budget.call
        self._failures = 0
        self._failing_since: float | None = None
        self._may_have_happened = False

    @property
    def seconds_left(self) -> float:
        return max(0, self._deadline - time.monotonic())

    def failed(self, later: _TransientError) -> float:
        """Note that one has failed; returns the seconds until there should be another one."""
        self._failures += 1
        self._may_have_happened = self._may_have_happened or later.may_have_happened
        if later.is_rate_limit:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = time.monotonic()
        return later.seconds or backoff(self._failures, first=0.5, most=30)

    def require_another(self, later: _TransientError, *, delay: float) -> None:
        """Raise what it is that failed, if another one after that delay is not worth it.

        Raises:
            RateLimited, Unavailable: there is none.
        """
        at = time.monotonic() + delay
        if self._failing_since is None:
            if at > self._deadline:
                raise self.given_up(str(later), seconds=delay) from later
        elif at > min(self._deadline, self._failing_since + self._budget.failing):
            raise Unavailable(f"{self.what}: {later} (attempt {self._failures})") from later

    def given_up(self, reason: str, *, seconds: float) -> Unavailable:
        """The error for a request that would have to wait for too long."""
        if self._may_have_happened:
            return Unavailable(f"{self.what}: {reason}")
        return RateLimited(f"{self.what}: {reason}", seconds=seconds)


class _TransientError(Exception):
    """A passing failure of one attempt."""

    def __init__(
        self,
        reason: str,
        *,
        may_have_happened: bool,
        is_rate_limit: bool = False,
        seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.may_have_happened = may_have_happened
        self.is_rate_limit = is_rate_limit
        self.seconds = seconds


async def _read(response: ClientResponse) -> bytes:
    chunks, size, at_most = [], 0, _AT_MOST.get() or MAX_ANSWER
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > at_most:
            raise TooLarge(f"the answer is larger than {at_most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parse_now(body: bytes, is_object: bool | None, read: Callable[[Any], Any] | None) -> Any:
    with large_garbage():
        try:
            answer = large_json.loads(body)
        except (ValueError, RecursionError):
            if is_object is None:
                return None
            raise _TransientError("the answer is not JSON", may_have_happened=True) from None
        if is_object and not isinstance(answer, dict):
            raise _TransientError("the answer is not a JSON object", may_have_happened=True)
        return answer if read is None else read(answer)


def _judge(response: ClientResponse, answer: Any) -> HomeserverError | _TransientError:
    """What an answer outside 2xx means.

    Without an `errcode` it is not the homeserver that speaks but something in front of it, so
    even a 404 says nothing about what exists.
    """
    errcode = answer.get("errcode") if isinstance(answer, dict) else None
    if response.status == 429 or errcode == "M_LIMIT_EXCEEDED":
        return _TransientError(
            "rate limited",
            may_have_happened=False,
            is_rate_limit=True,
            seconds=_retry_after(response, answer),
        )
    if isinstance(errcode, str) and 400 <= response.status < 500 and response.status != 408:
        error = answer.get("error")
        message = _line(error) if isinstance(error, str) else ""
        if errcode in NOT_SIGNED_IN:
            return NotSignedIn(f"{errcode}: {message}", errcode=errcode)
        return Refused(status=response.status, errcode=_line(errcode), message=message)
    return _TransientError(
        f"HTTP status {response.status}", may_have_happened=response.status >= 500
    )


def _shows_service(method: Method, path: str, *, errcode: str | None) -> bool:
    """Whether a good answer shows that the account is served (again).

    Args:
        errcode: why it was not. Over its limit of users Synapse goes on answering all but `/sync`
            and what makes events: reads, receipts and account data, for example.
    """
    if errcode == "M_RESOURCE_LIMIT_EXCEEDED":
        makes_event = method == Method.PUT and ("/send/" in path or "/state/" in path)
        return makes_event or path.endswith(("/sync", "/createRoom"))
    if method == Method.GET:
        return path.endswith(("/sync", "/account/whoami"))
    return "/typing/" not in path


def _retry_after(response: ClientResponse, answer: Any) -> float | None:
    """Seconds to wait: `retry_after_ms`, else `Retry-After`, else None (back off as usual)."""
    milliseconds = answer.get("retry_after_ms") if isinstance(answer, dict) else None
    if (
        isinstance(milliseconds, int | float)
        and not isinstance(milliseconds, bool)
        and 0 <= milliseconds < MAX_WAIT_MS
    ):
        return max(milliseconds / 1000, 0.05)
    return retry_after(response.headers)


def _line(text: str) -> str:
    """One short line, whatever it was: other servers have a say in what an error says."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_ERROR_TEXT])
