"""One question over HTTP: asked again while that may help.

What a platform's answer looks like is `webhook.py`'s and `openai.py`'s business; here is what they
have in common. A request that failed for a passing reason is sent again with the same idempotency
key, as long as nothing of an answer was given out. Redirects are not followed. Nothing of
aiohttp's is chained to an error, because its errors carry the request's headers.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Final
from urllib.parse import quote, urlsplit

from aiohttp import (
    ClientConnectorCertificateError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from mautrix.util.logging import TraceLogger

from ..domain.conversation.answer import End, Item, Status, Text, Trouble
from ..runtime.http import backoff, in_words
from . import PlatformError
from .http_answer import MAX_ERROR_TEXT, Answer, Limits, TransientError

FAILING_FOR: Final = 30.0
"""Seconds in which a failure is worth another attempt, unless the platform says how long."""
CONNECT_TIMEOUT: Final = 10.0
PROBE_TIMEOUT: Final = 15.0
REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-litellm-call-id")
_KEY: Final = re.compile(r"\b(?:sk|pk|rk)-\S{4,}|\b(?:bearer|basic)\s+\S+", re.IGNORECASE)

Read = Callable[[Answer], AsyncGenerator[Item, None]]


class PlatformClient:
    """Asks one address.

    Args:
        token: sent as a bearer token; empty: none is.
        sleep: `asyncio.sleep`, or a clock of the tests'.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str,
        limits: Callable[[], Limits],
        log: TraceLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._token = token
        self._limits = limits
        self._log = log
        self._sleep = sleep
        self._session: ClientSession | None = None

    async def ask(
        self,
        body: Mapping[str, object],
        *,
        accept: str,
        key: str,
        read: Read,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Item, None]:
        """Ask, and give out what `read` finds in the answer.

        Args:
            key: the idempotency key, the same for every attempt.
            read: raises what `Answer.broken` and its like return.

        Raises:
            PlatformError: as `Platform.answer` has it.
        """
        sent = {**self._headers(accept=accept, key=key), **(headers or {})}
        content = json.dumps(body).encode()
        limits, begin, attempt = self._limits(), time.monotonic(), 0
        text = _BoundedText(limits.answer_length)
        while True:
            attempt += 1
            try:
                async with aclosing(self._attempt(content, sent, read, limits)) as items:
                    async for item in items:
                        for whole in text.pass_on(item):
                            yield whole
                        if text.is_full:
                            raise PlatformError(
                                f"the answer is longer than {limits.answer_length} characters",
                                trouble=Trouble.TOO_LARGE,
                            )
                return
            except PlatformError as error:
                if text.has_begun:
                    raise _in_the_middle(error) from None
                if not isinstance(error, TransientError):
                    raise
                delay = backoff(attempt, first=1, most=10) if error.after is None else error.after
                worth = limits.turn_timeout
                if error.after is None:
                    worth = min(worth, FAILING_FOR)
                if time.monotonic() + delay > begin + worth:
                    raise
                self._log.debug(
                    "The platform: %s; trying again in %.1f s (attempt %d)", error, delay, attempt
                )
            await self._sleep(delay)

    async def probe(self, url: str, *, passes: Callable[[int], bool]) -> int:
        """Ask an address for nothing in particular, once; return the status of its answer.

        Args:
            passes: whether an answer with this status is good enough.

        Raises:
            PlatformError: there is none, or it is another one.
        """
        timeout = ClientTimeout(total=PROBE_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        with self._judging(request_id=lambda: None):
            async with self._open_session().get(
                url, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if not passes(response.status):
                    answer = Answer(
                        response,
                        request_id=_request_id(response),
                        limits=self._limits(),
                        scrub=self._scrub,
                    )
                    raise await answer.failure()
                return response.status

    @contextmanager
    def _judging(self, *, request_id: Callable[[], str | None]) -> Iterator[None]:
        """Make our own error of what goes wrong on the way, without anything secret in it."""
        try:
            yield
        except InvalidURL:
            raise PlatformError(
                "the address is no URL that can be used", trouble=Trouble.MISCONFIGURED
            ) from None
        except ClientConnectorCertificateError as e:
            reason = self._scrub(in_words(e))
            raise PlatformError(reason, trouble=Trouble.MISCONFIGURED) from None
        except (ClientError, OSError, asyncio.TimeoutError, zlib.error) as e:
            raise TransientError(self._scrub(in_words(e)), request_id=request_id()) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _attempt(
        self, content: bytes, headers: Mapping[str, str], read: Read, limits: Limits
    ) -> AsyncGenerator[Item, None]:
        request_id = None
        with self._judging(request_id=lambda: request_id):
            async with self._open_session().post(
                self._url,
                data=content,
                headers=headers,
                timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
                allow_redirects=False,
            ) as response:
                request_id = _request_id(response)
                answer = Answer(response, request_id=request_id, limits=limits, scrub=self._scrub)
                if response.status == 204:
                    yield End()
                    return
                if not 200 <= response.status < 300:
                    raise await answer.failure()
                async with aclosing(read(answer)) as items:
                    async for item in items:
                        yield item

    def _open_session(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=0),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "Homeroom"},
            )
        return self._session

    def _headers(self, *, accept: str, key: str) -> dict[str, str]:
        headers = {
            "Accept": accept,
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Idempotency-Key": header_value(key),
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _scrub(self, text: str) -> str:
        """The beginning of a text that others wrote, without what is secret."""
        address = urlsplit(self._url)
        for secret in (self._token, self._url, address.path, address.query):
            if len(secret) > 3:
                text = text.replace(secret, "***")
        text = " ".join(_KEY.sub("***", text).split())
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[
            :MAX_ERROR_TEXT
        ]


class _BoundedText:
    """The text of an answer as it is given out: whole characters, and so many at most."""

    def __init__(self, longest: int) -> None:
        self._left = longest
        self._half = ""
        self.has_begun = False
        """Whether something was given out that cannot be taken back."""
        self.is_full = False

    def pass_on(self, item: Item) -> list[Item]:
        """What can be given out now. Half of a surrogate pair waits for the other half."""
        match item:
            case Text(markdown=piece):
                piece = self._half + piece
                is_half = "\ud800" <= piece[-1:] <= "\udbff"
                self._half = piece[-1] if is_half else ""
                return self._give(piece[:-1] if is_half else piece)
            case Status():
                return [item]
            case _:
                half, self._half = self._half, ""
                self.has_begun = True
                return [*self._give(half), item]

    def _give(self, piece: str) -> list[Item]:
        piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self.is_full = len(piece) > self._left
        piece = piece[: self._left]
        self._left -= len(piece)
        self.has_begun = self.has_begun or bool(piece)
        return [Text(piece)] if piece else []


def header_value(value: str) -> str:
    """An id as a header can carry it: what is not printable ASCII is percent-encoded."""
    return quote(value, safe="".join(map(chr, range(0x21, 0x7F))).replace("%", ""))


def _in_the_middle(error: PlatformError) -> PlatformError:
    """The same error for an answer of which something was given out."""
    if error.trouble in (Trouble.TOO_LARGE, Trouble.REFUSED):
        return error
    middle = PlatformError(str(error), trouble=Trouble.CUT_OFF)
    middle.request_id = error.request_id
    return middle


def _request_id(response: ClientResponse) -> str | None:
    """What the platform calls this request, if that is a word."""
    for name in REQUEST_ID_HEADERS:
        value = response.headers.get(name, "")
        if re.fullmatch(r"[\x21-\x7e]{1,100}", value):
            return value
    return None
