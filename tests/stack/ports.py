"""Free loopback ports that stay free.

A port that the system hands out for "any" comes from the range which outgoing connections use
too, so while a server restarts, somebody's connection may sit on its port. Ours come from below
that range: a server that stops and starts again finds its port as it left it.

Between picking a port and listening on it time passes, and while a server is stopped nobody
listens on its port. So a process picks no port twice, and each worker of pytest-xdist picks from
ports of its own.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

_RANGE = range(10_000, 30_000)
_generator = random.SystemRandom()
_picked: set[int] = set()


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
    """Pick a free port: the first of the preferred ones, else any; never the same one twice."""
    own = _own_range()
    for port in (*preferred, *_generator.sample(own, min(200, len(own)))):
        if port not in _picked and is_free(port):
            _picked.add(port)
            return port
    raise RuntimeError(f"No free port among 200 tried in {own}")


def _own_range() -> range:
    """The ports that no other worker of this test run picks."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return _RANGE[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
