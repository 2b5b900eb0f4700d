"""Who may look: the token, the sessions that it opens, and how fast one may guess.

A machine shows the token with every request. A person shows it once, and gets a session: a time
of expiry, signed. It is signed with the token, so that another token ends all sessions, and with
a key that nobody is told, because whoever could make sessions could find the token by trying, as
fast as they like. So nothing has to be kept, and a restart of the instance ends all sessions, too.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

SESSION_SECONDS: Final = 12 * 60 * 60
WRONG_TOKEN_SECONDS: Final = 1.0
"""After which a wrong token is answered."""
HELD_UP_AT_MOST: Final = 20
"""Wrong tokens that are held up at once; more are turned away."""


def new_key() -> bytes:
    """Make a key for sessions."""
    return secrets.token_bytes(32)


def is_token(given: str, token: str) -> bool:
    """Compare in a time that tells nothing about the token."""
    return hmac.compare_digest(_digest(given), _digest(token))


def new_session(token: str, *, key: bytes, now: float) -> str:
    """Make the value of the cookie; `now` is in seconds since 1970."""
    expires = str(int(now) + SESSION_SECONDS)
    return f"{expires}.{_sign(expires, token, key)}"


def is_session(session: str, token: str, *, key: bytes, now: float) -> bool:
    """Whether the token opened this session, and it has not expired."""
    expires, _, signature = session.partition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 15):
        return False
    is_ours = hmac.compare_digest(_digest(signature), _digest(_sign(expires, token, key)))
    return is_ours and now < int(expires) <= now + SESSION_SECONDS


def _sign(expires: str, token: str, key: bytes) -> str:
    return hmac.new(key, f"{expires}.{token}".encode(), hashlib.sha256).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


class WrongTokens:
    """Makes guessing slow, and nothing else: a right token is compared first, and never waits.

    So nobody can keep the right token out by guessing, from however many addresses.
    """

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._sleep = sleep
        self._held_up = 0

    async def hold_up(self) -> bool:
        """Let whoever showed a wrong token wait; False: too many do, and this one may not."""
        if self._held_up >= HELD_UP_AT_MOST:
            return False
        self._held_up += 1
        try:
            await self._sleep(WRONG_TOKEN_SECONDS)
        finally:
            self._held_up -= 1
        return True
