"""Read receipts: that the bot has taken a message in, as a person waits for its answer.

Decoration: it holds nothing up, nor fails. An answer that comes at once needs none, nor one that
only the homeserver is too busy to take: a receipt costs it half as much as an answer. Of what
comes in while one is on its way only the newest is marked; where the homeserver wants fewer
requests none is.

https://spec.matrix.org/latest/client-server-api/#receipts
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID, RoomID

from ..domain.sync.news import Encrypted, Message
from ..runtime.tasks import Background
from .errors import HomeserverError
from .homeserver import Homeserver

READ_AFTER: Final = 1.0
"""Seconds."""


@dataclass(slots=True, kw_only=True)
class ReadReceipts:
    """Marks messages as read, in the background.

    Args:
        is_waiting: whether the agent has still not answered a message.
    """

    homeserver: Homeserver
    is_waiting: Callable[[EventID], bool]
    background: Background
    _newest: dict[RoomID, EventID] = field(default_factory=dict, init=False)
    """Of the rooms for which a receipt is on its way."""
    _marked: dict[RoomID, EventID] = field(default_factory=dict, init=False)
    """What was marked last: a response that comes twice is no news. One of each chat."""

    def taken_in(self, message: Message | Encrypted) -> None:
        """The bot has taken in a message, and everything before it."""
        is_under_way = message.room_id in self._newest
        self._newest[message.room_id] = message.event_id
        if not is_under_way:
            self.background.start(self._mark(message.room_id), name="marking as read")

    async def _mark(self, room_id: RoomID) -> None:
        try:
            await asyncio.sleep(READ_AFTER)
            while (event_id := self._newest[room_id]) != self._marked.get(room_id):
                self._marked[room_id] = event_id  # one that fails is not worth another request
                if self.is_waiting(event_id):
                    with suppress(HomeserverError):
                        await self.homeserver.signs.mark_read(room_id, event_id)
        finally:
            del self._newest[room_id]
