"""What a platform sent over HTTP: read within bounds, and judged if it cannot be used.

Everything is bounded after decompression (an error, an event, a whole answer, a stream, its
lines), and read in slices: an answer that is there all at once still lets everybody else go on.

An error's message is for the log: it names the status, the platform's own words (cut, and without
anything that looks like a key) and the platform's id of the request. Of a 401 or 403 the words are
left out, because servers put parts of the key into them.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientError, ClientResponse

from ..domain.conversation.answer import Trouble
from ..runtime import sliced_json
from ..runtime.breather import Breather
from ..runtime.http import retry_after
from ..runtime.timeouts import timeout
from . import PlatformError, sse

MAX_STREAM: Final = 64 * 1024 * 1024
"""Bytes of a stream: a long answer in pieces of one letter, each with its envelope."""
MAX_LINES: Final = 1_000_000
"""Lines of a stream: as many pieces of one letter as an answer may have, and some."""
MAX_ERROR: Final = 16 * 1024
"""Bytes of an error's body."""
ENVELOPE: Final = 64 * 1024
"""Bytes of a whole answer, or characters of an event, that are not the answer's text."""
BYTES_PER_CHARACTER: Final = 12
"""The longest spelling in JSON: two escaped surrogates."""
SLICE: Final = 16 * 1024
"""Bytes that are inflated, or looked at, at once."""
MAX_RATIO: Final = 100
"""How many times as long as it came a text may become, from the first megabyte on."""
MAX_ERROR_TEXT: Final = 200
READING_ERRORS_FOR: Final = 10.0
"""Seconds that an error's body may take."""

PERMANENT: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 426, 501, 505})
PASSING: Final = frozenset({408, 409, 425})
GATEWAY: Final = frozenset({502, 504})
"""Said by what is in front of a platform that it cannot reach."""
BUSY: Final = frozenset({429, 503, 529})
_ABOUT_THE_SETTINGS: Final = re.compile(r"model|auth|api_key|permission|billing|no_db_connection")
"""Codes. The last one is how LiteLLM without a database calls a wrong key."""
_ABOUT_THE_MODEL: Final = re.compile(
    r"\b(?:invalid|unknown|no such|unsupported)\b.{0,20}\bmodel\b"
    r"|\bmodel\b.{0,100}\b(?:not found|not exist|not supported|no access)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of an answer is read."""

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
        answer = await _json(b"".join(parts))
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
                async for event in sse.events(chunks, longest=self._longest, most_lines=MAX_LINES):
                    yield event.name, event.data
        except sse.TooLong as e:
            raise self.broken(str(e), Trouble.TOO_LARGE) from None

    async def object_in(self, data: str) -> dict[str, Any]:
        """The JSON object that an event carries.

        Raises:
            PlatformError: it is none. Leaving it out would be an answer with a hole in it.
        """
        value = await _json(data.encode("utf-8", "surrogatepass"))
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
            async with timeout(READING_ERRORS_FOR):
                await read()
        body = b"".join(parts)
        payload = await _json(body)
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
        after = retry_after(self._response.headers) if status else None
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
            is_there = said is not None and said >= 500 and said not in GATEWAY
            trouble = Trouble.FAILING if is_there else Trouble.UNREACHABLE
            return TransientError(
                message, trouble=trouble, request_id=self._request_id, after=after
            )
        is_ours = fault.is_about_the_request and said != 413
        return self.broken(message, Trouble.MISCONFIGURED if is_ours else Trouble.REFUSED)

    async def _chunks(self, *, at_most: int) -> AsyncGenerator[bytes, None]:
        """The body as it is meant, in bounded pieces."""
        size = 0
        breather = Breather()
        async for chunk in _inflated(self._response):
            await breather.step()
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


async def _inflated(response: ClientResponse) -> AsyncIterator[bytes]:
    """The body as it is meant, in slices."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        async for chunk in response.content.iter_any():
            for start in range(0, len(chunk), SLICE):
                yield chunk[start : start + SLICE]
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise PlatformError(
            "the answer is compressed, though that was not asked for",
            trouble=Trouble.MISCONFIGURED,
        )
    # 32: gzip or zlib, whichever it is.
    inflate = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    came = 0
    became = -1024 * 1024
    async for chunk in response.content.iter_any():
        waiting = chunk
        came += len(chunk)
        while waiting and not inflate.eof:
            inflated = inflate.decompress(waiting, SLICE)
            became += len(inflated)
            if became > came * MAX_RATIO:
                raise PlatformError("the answer is a bomb", trouble=Trouble.TOO_LARGE)
            yield inflated
            waiting = inflate.unconsumed_tail


async def _json(body: bytes) -> Any:
    """The JSON value; None if it is none."""
    with suppress(ValueError):
        return await sliced_json.parse(body)
    return None


def _word(value: object) -> str:
    return str(value)[:MAX_ERROR_TEXT] if isinstance(value, str | int) else ""


def _first_words(value: object) -> str:
    """A message, or that of the first of several problems; what was wrong with it is left out."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0].get("msg")
    return value if isinstance(value, str) else ""


def count(value: object) -> int | None:
    """A number of tokens; None if it is none."""
    return value if type(value) is int and value >= 0 else None
