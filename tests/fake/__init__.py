"""A homeserver for the fast tests: stateful, in memory, behind a real HTTP port.

It behaves as Synapse 1.163 does in what the plugin uses; `contract.py` holds the behaviours that
matter, and can be run against a real Synapse too.
"""

from .errors import MatrixError
from .faults import (
    Alter,
    DropAfter,
    DropBefore,
    Fault,
    Hang,
    Match,
    RateLimit,
    Recorded,
    Respond,
    Truncate,
)
from .server import FakeHomeserver, RoomSnapshot
from .user import User
from .world import World

__all__ = [
    "Alter",
    "DropAfter",
    "DropBefore",
    "FakeHomeserver",
    "Fault",
    "Hang",
    "Match",
    "MatrixError",
    "RateLimit",
    "Recorded",
    "Respond",
    "RoomSnapshot",
    "Truncate",
    "User",
    "World",
]
