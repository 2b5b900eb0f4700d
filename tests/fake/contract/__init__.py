"""What the plugin relies on in a homeserver, as checks that hold for Synapse and for the fake.

Each check is a coroutine that takes a `Contract` (a server and two users on it) and asserts.
Checks make their own rooms and leave the users' other rooms alone, so they can run in any order
on a server that is in use. A real server must not limit the rate of the two users.

    async with Contract.open(url, alice_token, bob_token) as contract:
        for check in CHECKS:
            await check(contract)
"""

from __future__ import annotations

from . import events, members, others, rooms, sliding, syncing
from .party import SLIDING, Check, Contract, Json, Party, room

__all__ = ["CHECKS", "SLIDING", "Check", "Contract", "Json", "Party", "room"]

CHECKS: list[Check] = [
    *rooms.CHECKS,
    *members.CHECKS,
    *events.CHECKS,
    *syncing.CHECKS,
    *sliding.CHECKS,
    *others.CHECKS,
]
