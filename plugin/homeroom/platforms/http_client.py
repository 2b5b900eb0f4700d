"""One question over HTTP: asked again while that may help, and judged when it does not.

What a platform's answer looks like is `webhook.py`'s and `openai.py`'s business; here is what they
have in common. A request that failed for a passing reason is sent again with the same idempotency
key, as long as nothing of an answer was given out. Everything that is read is bounded after
decompression: an error, an event, a whole answer, a stream. Redirects are not followed.

An error's message is for the log: it names the status, the platform's own words (cut, and without
anything that looks like a key) and the platform's id of the request. Of a 401 or 403 the words are
left out, because servers put parts of the key into them. Nothing of aiohttp's is chained to it,
because its errors carry the request's headers.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
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

from ..domain.conversation.answer import Trouble
from ..runtime import sliced_json as large_json
from . import PlatformError, sse

MAX_STREAM: Final = 64 * 1024 * 1024
"""Bytes of a stream: a long answer in pieces of one letter, each with its envelope."""
MAX_ERROR: Final = 16 * 1024
"""Bytes of an error's body."""
ENVELOPE: Final = 64 * 1024
"""Bytes of a whole answer, or characters of an event, that are not the answer's text."""
BYTES_PER_CHARACTER: Final = 12
"""The longest spelling in JSON: two escaped surrogates."""
INFLATE_AT_ONCE: Final = 256 * 1024
MAX_ERROR_TEXT: Final = 200
FAILING_FOR: Final = 30.0
"""Seconds in which a failure is worth another attempt, unless the platform says how long."""
CONNECT_TIMEOUT: Final = 10.0

PERMANENT: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 426, 501, 505})
PASSING: Final = frozenset({408, 409, 425})
BUSY: Final = frozenset({429, 503, 529})
REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-litellm-call-id")
_KEY: Final = re.compile(r"\b(?:sk|pk|rk)-\S{4,}|\b(?:bearer|basic)\s+\S+", re.IGNORECASE)
_ABOUT_THE_SETTINGS: Final = re.compile(r"model|auth|api_key|permission|billing|no_db_connection")
"""Codes. The last one is how LiteLLM without a database calls a wrong key."""
_ABOUT_THE_MODEL: Final = re.compile(
    r"\b(?:invalid|unknown|no such|unsupported)\b.{0,20}\bmodel\b"
    r"|\bmodel\b.{0,100}\b(?:not found|not exist|not supported|no access)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    answer_length: int
    """Characters."""
    turn_timeout: float
    """Seconds that all attempts together are worth."""


class TransientError(PlatformError):
    """It may work if it is tried again.

    Args:
        after: seconds, if the platform says when; None if not.
    """

    def __init__(
        self,
        message: str,
        *,
        trouble: Trouble = Trouble.UNREACHABLE,
        request_id: str | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(message, trouble=trouble, request_id=request_id)
        self.after = after


Read = Callable[["Answer"], AsyncGenerator[str, None]]


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
    ) -> AsyncGenerator[str, None]:
        """Ask, and give out the answer in the pieces that `read` finds in it.

        Args:
            key: the idempotency key, the same for every attempt.
            read: raises what `Answer.broken` and its like return.

        Raises:
            PlatformError: as `Platform.answer` has it.
        """
        sent = {**self._headers(accept=accept, key=key), **(headers or {})}
        content = json.dumps(body).encode()
        limits, begin, attempt = self._limits(), time.monotonic(), 0
        text = _Text(limits.answer_length)
        while True:
            attempt += 1
            try:
                async with aclosing(self._attempt(content, sent, read, limits)) as pieces:
                    async for piece in pieces:
                        if whole := text.take(piece):
                            yield whole
                        if text.is_full:
                            raise PlatformError(
                                f"the answer is longer than {limits.answer_length} characters",
                                trouble=Trouble.TOO_LARGE,
                            )
                if rest := text.rest():
                    yield rest
                return
            except PlatformError as error:
                if text.has_begun:
                    raise _in_the_middle(error) from None
                if not isinstance(error, TransientError):
                    raise
                delay = _backoff(attempt) if error.after is None else error.after
                worth = limits.turn_timeout
                if error.after is None:
                    worth = min(worth, FAILING_FOR)
                if time.monotonic() + delay > begin + worth:
                    raise
                self._log.debug(
                    "The platform: %s; trying again in %.1f s (attempt %d)", error, delay, attempt
                )
            await self._sleep(delay)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _attempt(
        self, content: bytes, headers: Mapping[str, str], read: Read, limits: Limits
    ) -> AsyncGenerator[str, None]:
        request_id = None
        try:
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
                    return
                if not 200 <= response.status < 300:
                    raise await answer.failure()
                async with aclosing(read(answer)) as pieces:
                    async for piece in pieces:
                        yield piece
        except InvalidURL:
            raise PlatformError(
                "the address is no URL that can be used", trouble=Trouble.MISCONFIGURED
            ) from None
        except ClientConnectorCertificateError as e:
            reason = self._scrub(_reason(e))
            raise PlatformError(reason, trouble=Trouble.MISCONFIGURED) from None
        except (ClientError, OSError, asyncio.TimeoutError, zlib.error) as e:
            raise TransientError(self._scrub(_reason(e)), request_id=request_id) from None

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


class Answer:
    """What the platform sent, and what to raise if it cannot be used."""

    def __init__(
        self,
        response: ClientResponse,
        *,
        request_id: str | None,
        limits: Limits,
        scrub: Callable[[str], str],
    ) -> None:
        self._response = response
        self._request_id = request_id
        self._longest = BYTES_PER_CHARACTER * limits.answer_length + ENVELOPE
        self._scrub = scrub

    @property
    def is_stream(self) -> bool:
        return self._response.content_type == "text/event-stream"

    async def json(self) -> dict[str, Any]:
        """The whole answer, which must be a JSON object.

        Raises:
            PlatformError: it is not, or it is too large.
        """
        parts = [chunk async for chunk in self._chunks(at_most=self._longest)]
        answer = await _parse(b"".join(parts))
        if not isinstance(answer, dict):
            raise TransientError("the answer is not a JSON object", request_id=self._request_id)
        return answer

    async def events(self) -> AsyncGenerator[tuple[str, str], None]:
        """The names (empty for none) and the data of a stream's events.

        Raises:
            PlatformError: the stream, or one event, is too large.
        """
        try:
            async with aclosing(self._chunks(at_most=MAX_STREAM)) as chunks:
                async for event in sse.events(chunks, longest=self._longest):
                    yield event.name, event.data
        except sse.TooLong as e:
            raise self.broken(str(e), Trouble.TOO_LARGE) from None

    def object_in(self, data: str) -> dict[str, Any]:
        """The JSON object that an event carries.

        Raises:
            PlatformError: it is none. Leaving it out would be an answer with a hole in it.
        """
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise TransientError("an event is not a JSON object", request_id=self._request_id)
        return value

    def broken(self, message: str, trouble: Trouble) -> PlatformError:
        """The error for an answer that would be the same another time."""
        return PlatformError(message, trouble=trouble, request_id=self._request_id)

    def cut_off(self) -> PlatformError:
        """The error for a stream that ends without saying so."""
        return TransientError("the stream ended in the middle", request_id=self._request_id)

    async def failure(self) -> PlatformError:
        """The error for a status outside 2xx."""
        parts: list[bytes] = []

        async def read() -> None:
            async with aclosing(self._chunks(at_most=MAX_ERROR)) as chunks:
                async for chunk in chunks:
                    parts.append(chunk)  # noqa: PERF401 (what came before an error counts)

        with suppress(ClientError, OSError, asyncio.TimeoutError, PlatformError, zlib.error):
            await asyncio.wait_for(read(), CONNECT_TIMEOUT)
        body = b"".join(parts)
        payload = await _parse(body)
        if payload is None:
            payload = {"message": body.decode("utf-8", "replace")}
        return self.judge(payload, status=self._response.status)

    def judge(self, payload: object, *, status: int | None = None) -> PlatformError:
        """The error for what a platform says about its failure.

        Args:
            status: None in the middle of a stream, where the payload may have one.
        """
        fault = _Fault.read(payload)
        said = status or fault.status
        after = _retry_after(self._response.headers) if status else None
        message = f"HTTP status {status}" if status else "an error in the stream"
        if fault.code:
            message += f" ({self._scrub(fault.code)})"
        if fault.message and said not in (401, 403, 407) and not fault.is_about_the_key:
            message += f": {self._scrub(fault.message)}"
        if said in BUSY and fault.code != "insufficient_quota":
            return TransientError(
                message, trouble=Trouble.BUSY, request_id=self._request_id, after=after
            )
        if fault.code == "insufficient_quota" or said in PERMANENT or 300 <= (said or 0) < 400:
            return self.broken(message, Trouble.MISCONFIGURED)
        if said is None or said >= 500 or said in PASSING:
            return TransientError(message, request_id=self._request_id, after=after)
        is_ours = fault.is_about_the_request and said != 413
        return self.broken(message, Trouble.MISCONFIGURED if is_ours else Trouble.REFUSED)

    async def _chunks(self, *, at_most: int) -> AsyncGenerator[bytes, None]:
        """The body as it is meant, in bounded pieces."""
        size = 0
        async for chunk in _inflated(self._response):
            size += len(chunk)
            if size > at_most:
                raise self.broken(f"more than {at_most} bytes", Trouble.TOO_LARGE)
            yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """What a platform says about a failure, in one of the forms that there are."""

    code: str
    message: str
    param: str
    status: int | None

    @classmethod
    def read(cls, payload: object) -> _Fault:
        fields = payload if isinstance(payload, dict) else {}
        error = fields.get("error", fields)
        if isinstance(error, str):
            error = {"message": error}
        if not isinstance(error, dict):
            error = {}
        message = error.get("message") or error.get("detail") or fields.get("detail")
        code = _word(error.get("code"))
        is_status = code.isascii() and code.isdigit() and len(code) == 3
        return cls(
            code=_word(error.get("type")) if is_status or not code else code,
            message=_first_words(message),
            param=_word(error.get("param")),
            status=int(code) if is_status else None,
        )

    @property
    def is_about_the_request(self) -> bool:
        """Whether it is the settings that are refused, not what somebody said."""
        if self.param and self.param.split("[")[0] not in ("messages", "input", "prompt", "None"):
            return True
        return bool(_ABOUT_THE_SETTINGS.search(self.code) or _ABOUT_THE_MODEL.search(self.message))

    @property
    def is_about_the_key(self) -> bool:
        return "auth" in self.code or "key" in self.code


class _Text:
    """The answer so far: as text that can be encoded, and no longer than it may be."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._half = ""
        self.has_begun = False
        self.is_full = False

    def take(self, piece: str) -> str:
        """What can be given out now. Half of a surrogate pair waits for the other half."""
        piece = self._half + piece
        self._half = ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return self._give(piece)

    def rest(self) -> str:
        half, self._half = self._half, ""
        return self._give(half)

    def _give(self, piece: str) -> str:
        piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self.is_full = len(piece) > self._left
        piece = piece[: self._left]
        self._left -= len(piece)
        self.has_begun = self.has_begun or bool(piece)
        return piece


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


async def _inflated(response: ClientResponse) -> AsyncIterator[bytes]:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in response.content.iter_any():
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise PlatformError(
            "the answer is compressed, though that was not asked for",
            trouble=Trouble.MISCONFIGURED,
        )
    # 32: gzip or zlib, whichever it is.
    inflate = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    async for chunk in response.content.iter_any():
        waiting = chunk
        while waiting and not inflate.eof:
            yield inflate.decompress(waiting, INFLATE_AT_ONCE)
            waiting = inflate.unconsumed_tail


async def _parse(body: bytes) -> Any:
    """The JSON value; None if it is none."""
    try:
        if len(body) > large_json.LARGE:
            return await asyncio.to_thread(large_json.loads, body)
        return large_json.loads(body)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait; None if the platform does not say, or nothing that makes sense."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?", value, re.ASCII):
        return max(float(value), 0.05)
    with suppress(ValueError, TypeError, OverflowError):
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.05)
    return None


def _request_id(response: ClientResponse) -> str | None:
    """What the platform calls this request, if that is a word."""
    for name in REQUEST_ID_HEADERS:
        value = response.headers.get(name, "")
        if re.fullmatch(r"[\x21-\x7e]{1,100}", value):
            return value
    return None


def _word(value: object) -> str:
    return str(value)[:MAX_ERROR_TEXT] if isinstance(value, str | int) else ""


def _first_words(value: object) -> str:
    """A message, or that of the first of several problems; what was wrong with it is left out."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0].get("msg")
    return value if isinstance(value, str) else ""


def _backoff(attempt: int) -> float:
    """0.5 to 1 s after the first attempt, twice that after every other, 10 s at most."""
    longest: float = min(2.0 ** min(attempt - 1, 10), 10)
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret: jitter)


def _reason(error: BaseException) -> str:
    message = getattr(error, "message", "")
    text = message if isinstance(message, str) and message else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
