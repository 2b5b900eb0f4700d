"""One at a time, per owner."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from mautrix.types import UserID


class OwnerLocks:
    """A lock for every owner, kept only while somebody uses it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[UserID, asyncio.Lock] = WeakValueDictionary()

    def of(self, owner: UserID) -> asyncio.Lock:
        return self._locks.setdefault(owner, asyncio.Lock())
