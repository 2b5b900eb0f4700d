"""A notice about work that takes long: said when it does, and edited as it goes on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID

from ..domain.sync.news import Message
from ..matrix.errors import HomeserverError
from ..matrix.messages import Speaker
from ..runtime.tasks import Background
from ..runtime.timeouts import timeout

WITHIN: Final = 30.0
"""Seconds that one edit may take; it is out of date then."""


@dataclass(slots=True, kw_only=True)
class ProgressMessage:
    """What a person who gave a command sees of it while they wait.

    Decoration: it holds nothing up, and its failures are nobody's.
    """

    message: Message
    speaker: Speaker
    background: Background
    _notice: EventID | None = field(default=None, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    async def begin(self, text: str) -> None:
        """Say this before the work begins.

        Raises:
            HomeserverError: it could not be said; the one failure that is somebody's.
        """
        self._notice = await self.speaker.notice(
            self.message.room_id, text, about=self._about, thread_root=self.message.thread_root
        )

    def show(self, text: str) -> None:
        """Say this instead of what was said before, unless that is still on its way."""
        if self._task is None or self._task.done():
            self._task = self.background.start(self._say(text), name="showing progress")

    async def end(self, text: str) -> None:
        """Say the last of it, if anything was said at all."""
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._notice is not None:
            await self._say(text)

    @property
    def _about(self) -> str:
        return f"work {self.message.event_id}"

    async def _say(self, text: str) -> None:
        with suppress(HomeserverError, asyncio.TimeoutError):
            if self._notice is None:
                await self.begin(text)
                return
            self._count += 1
            async with timeout(WITHIN):
                await self.speaker.edit(
                    self.message.room_id, self._notice, text, about=f"{self._about} {self._count}"
                )
