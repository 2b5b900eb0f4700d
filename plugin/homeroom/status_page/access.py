"""Who may look: the token, the sessions that it opens, and how often one may guess.

A machine shows the token with every request. A person shows it once, and gets a session: a time
of expiry, signed. It is signed with the token, so that another token ends all sessions, and with
a key that nobody is told, because whoever could make sessions could find the token by trying,
past every limit. So nothing has to be kept, and a restart of the instance ends all sessions, too.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

SESSION_SECONDS: Final = 12 * 60 * 60
PER_ADDRESS: Final = 10
"""Wrong attempts of one address at once; after that, one every `PER_ADDRESS_EVERY` seconds."""
PER_ADDRESS_EVERY: Final = 10.0
IN_ALL: Final = 100
IN_ALL_EVERY: Final = 1.0
MAX_ADDRESSES: Final = 10_000
"""Addresses that are remembered; then those that tried longest ago are forgotten."""

_NEAR: Final = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"),
    )
)
"""Where a proxy of one's own may be: this machine, and private networks."""


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


class Attempts:
    """Limits wrong tokens, of each address and of all together.

    While an address has none left, its right token is refused as well: a limit that lets the
    right one through limits nobody who guesses. Sessions are not guessed, so they go on. When all
    addresses together have none left, an address that was right before is not held up by that.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Bucket(IN_ALL, IN_ALL_EVERY)
        self._of: OrderedDict[str, _Bucket] = OrderedDict()
        self._were_right: OrderedDict[str, None] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """How long this address has to wait; 0: it may try now."""
        now = self._clock()
        bucket = self._of.get(address)
        wait = bucket.wait(now) if bucket is not None else 0.0
        if address not in self._were_right:
            wait = max(wait, self._all.wait(now))
        return math.ceil(wait)

    def note_wrong(self, address: str) -> None:
        now = self._clock()
        bucket = self._of.pop(address, None) or _Bucket(PER_ADDRESS, PER_ADDRESS_EVERY)
        self._of[address] = bucket
        bucket.take(now)
        self._all.take(now)
        if len(self._of) > MAX_ADDRESSES:
            self._of.popitem(last=False)

    def note_right(self, address: str) -> None:
        self._were_right[address] = None
        self._were_right.move_to_end(address)
        if len(self._were_right) > MAX_ADDRESSES:
            self._were_right.popitem(last=False)


class _Bucket:
    """Holds `size` attempts and gets one back every so many seconds."""

    def __init__(self, size: int, every: float) -> None:
        self._size = size
        self._every = every
        self._left = float(size)
        self._at: float | None = None

    def wait(self, now: float) -> float:
        self._fill(now)
        return 0.0 if self._left >= 1 else (1 - self._left) * self._every

    def take(self, now: float) -> None:
        self._fill(now)
        self._left = max(self._left - 1, 0.0)

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._left = min(self._size, self._left + (now - self._at) / self._every)
        self._at = now


def address_of(peer: str | None, forwarded_for: str) -> str:
    """Whose attempts are counted together.

    A connection from the machine itself or a private network may be a proxy's: then the last
    address that it names is who came to it (those before are whatever that one claims to be). Of
    an IPv6 address only the network counts, because one customer has all of it.
    """
    address = _ip(peer or "")
    if address is None:
        return "unknown"
    if any(address in network for network in _NEAR):
        address = _ip(forwarded_for.rpartition(",")[2]) or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
