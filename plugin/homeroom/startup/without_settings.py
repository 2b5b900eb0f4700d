"""The door while Homeroom can do nothing: it tells an administrator why.

Registered in place of the real handlers when the settings cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from maubot.handlers import event
from mautrix.client import InternalEventType
from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from ..domain.commands import Reconcile, parse_command
from ..domain.sync.news import Message, read_response
from ..matrix.errors import HomeserverError
from ..matrix.messages import Speaker
from ..runtime.tasks import Background


class WithoutSettings:
    """Answers `!reconcile` of these administrators with what is wrong, nobody else."""

    def __init__(
        self,
        *,
        bot: UserID,
        speaker: Speaker,
        admins: Callable[[], Collection[UserID]],
        explanation: Callable[[], str],
        background: Background,
        log: TraceLogger,
    ) -> None:
        self._bot = bot
        self._speaker = speaker
        self._admins = admins
        self._explanation = explanation
        self._background = background
        self._log = log
        self._is_closed = False

    def close(self) -> None:
        """Say nothing more. The handlers themselves go when the instance stops."""
        self._is_closed = True

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        if self._is_closed:
            return
        for news in read_response(data.get("data"), bot=self._bot):
            if (
                isinstance(news, Message)
                and news.sender in self._admins()
                and isinstance(parse_command(news.text), Reconcile)
            ):
                self._background.start(self._explain(news, self._explanation()), name="explaining")

    async def _explain(self, message: Message, explanation: str) -> None:
        try:
            await self._speaker.notice(message.room_id, explanation, about=message.event_id)
        except HomeserverError as e:
            self._log.warning("Could not answer %s: %s", message.event_id, e)
