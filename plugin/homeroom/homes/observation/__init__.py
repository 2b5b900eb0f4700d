"""Scanning the homeserver: from requests to one frozen `Topology`.

`/joined_rooms` says what there is; every other way only says more about it, so a server that
leaves something out, or lies, costs time but no truth: what the fast way did not tell of a joined
room is read room by room, and what cannot be read is `Unreadable`. If the list itself cannot be
had there is no scan at all (`Unavailable` is raised).

    observer   which way, and that nothing is left out
    sliding    the fast way: simplified sliding sync (MSC4186), some hundred rooms at a time
    by_room    every room's `/state`, some at once
    by_sync    one filtered `/sync`, for what `/state` cannot say
    found      what a scan has found so far
    progress   how far it is
"""

from __future__ import annotations

from .observer import Observer
from .progress import Progress

__all__ = ["Observer", "Progress"]
