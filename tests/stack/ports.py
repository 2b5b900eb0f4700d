"""Free loopback ports that stay free.

A port that the system hands out for "any" comes from the range which outgoing connections use
too, so while a server restarts, somebody's connection may sit on its port. Ours come from below
that range: a server that stops and starts again finds its port as it left it.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

_RANGE = range(10_000, 30_000)
_generator = random.SystemRandom()


def is_free(port: int) -> bool:
    """Say whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As servers do, or a port counts as taken for a minute after each stop.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(*, preferred: Iterable[int] = ()) -> int:
    """Pick a free port: the first of the preferred ones, else any."""
    for port in (*preferred, *_generator.sample(_RANGE, 200)):
        if is_free(port):
            return port
    raise RuntimeError(f"No free port among 200 tried in {_RANGE.start}-{_RANGE.stop}")
