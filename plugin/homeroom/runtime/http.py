"""What the clients of the homeserver and of the agents have in common."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientPayloadError,
    ClientResponseError,
    ServerDisconnectedError,
    ServerTimeoutError,
)

SOONEST: Final = 0.05
"""Seconds: a server that says "at once" means "not quite yet"."""

_NO_ANSWER: Final[tuple[tuple[type[BaseException], str], ...]] = (
    # There is no time limit for a single read, so this one is about connecting.
    (ServerTimeoutError, "cannot connect (nothing answers at this address)"),
    (ServerDisconnectedError, "the connection was closed before an answer came"),
    (ClientPayloadError, "the connection was cut in the middle of the answer"),
    (ClientResponseError, "what came is not HTTP: {}"),
    (zlib.error, "the answer cannot be decompressed"),
    (asyncio.TimeoutError, "no answer came in time"),
    (OSError, "the connection broke: {}"),
)
_NO_CONNECTION: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (socket.gaierror, "its name is not known)"),
    (ConnectionRefusedError, "nothing listens there)"),
    (TimeoutError, "nothing answers there)"),
    (ssl.SSLCertVerificationError, "its certificate is not valid): {}"),
    (ssl.SSLError, "it does not speak HTTPS): {}"),
)
"""The first class that fits; `{}` is what the library says."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait; None if the server does not say, or nothing that makes sense.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,8}(\.\d{1,6})?", value, re.ASCII):
        return max(float(value), SOONEST)
    with suppress(ValueError, TypeError, OverflowError):
        seconds = parsedate_to_datetime(value).timestamp() - time.time()
        return max(seconds, SOONEST) if seconds > 0 else None
    return None


def backoff(attempt: int, *, first: float, most: float) -> float:
    """Half to all of `first` seconds after the first attempt, twice that after every other."""
    longest = min(first * 2.0 ** min(attempt - 1, 10), most)
    return longest * random.uniform(0.5, 1)  # noqa: S311 (no secret: jitter)


def in_words(error: BaseException) -> str:
    """Why a request got no whole answer, for people who know no Python.

    What stands before the first ": " are our own words and the server's name.
    """
    if isinstance(error, ClientConnectorError):
        place = f"cannot connect to {error.host}:{error.port}"
        return f"{place} ({_worded(error.os_error, _NO_CONNECTION, otherwise='no way there): {}')}"
    return _worded(error, _NO_ANSWER, otherwise="the connection failed: {}")


def _worded(
    error: BaseException, words: tuple[tuple[type[BaseException], str], ...], *, otherwise: str
) -> str:
    sentence = next((said for kind, said in words if isinstance(error, kind)), otherwise)
    message = getattr(error, "message", "")
    text = message if isinstance(message, str) and message else str(error)
    return sentence.format(text or type(error).__name__)
