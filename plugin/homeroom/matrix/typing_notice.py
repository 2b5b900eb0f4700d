"""Typing notifications (`m.typing`): that the platform is at it, or will be when it is its turn.

Decoration: it holds nothing up, nor fails. An answer that comes at once needs none; nor does one
that is there and only waits for a busy homeserver, which had one more request to answer then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from mautrix.types import RoomID

from ..runtime.tasks import Background
from .errors import HomeserverError
from .homeserver import Homeserver

TYPING_MS: Final = 30_000
TYPING_AFTER: Final = 1.0
"""Seconds."""


@dataclass(slots=True, kw_only=True)
class TypingNotice:
    """Shows the bot as typing while an answer is being made."""

    homeserver: Homeserver
    background: Background

    @asynccontextmanager
    async def shown(self, room_id: RoomID) -> AsyncIterator[None]:
        """Show it in a room from `TYPING_AFTER` on until the block ends."""
        is_shown = False

        async def keep_typing() -> None:
            nonlocal is_shown
            with suppress(HomeserverError):
                await asyncio.sleep(TYPING_AFTER)
                is_shown = True
                while True:
                    await self.homeserver.signs.set_typing(room_id, milliseconds=TYPING_MS)
                    await asyncio.sleep(TYPING_MS / 1000 * 0.8)

        task = asyncio.create_task(keep_typing())
        try:
            yield
        finally:
            task.cancel()
            if is_shown:
                self.background.start(self._end(room_id), name="typing no more")

    async def _end(self, room_id: RoomID) -> None:
        with suppress(HomeserverError):
            await self.homeserver.signs.set_typing(room_id, milliseconds=0)
