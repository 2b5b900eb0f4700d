"""The door while Homeroom can do nothing: it tells an administrator why.

Registered in place of the real handlers when the settings cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class WithoutSettings:
    """Answers `!reconcile` of these administrators with what is wrong, nobody else.

    Args:
        is_idle: whether there are still no settings; the handlers stay until the instance stops.
    """

    bot: UserID
    speaker: Speaker
    is_idle: Callable[[], bool]
    admins: Callable[[], Collection[UserID]]
    explanation: Callable[[], str]
    background: Background
    log: TraceLogger

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        if not self.is_idle():
            return
        for news in read_response(data.get("data"), bot=self.bot):
            if (
                isinstance(news, Message)
                and news.sender in self.admins()
                and isinstance(parse_command(news.text), Reconcile)
            ):
                self.background.start(self._explain(news, self.explanation()), name="explaining")

    async def _explain(self, message: Message, explanation: str) -> None:
        try:
            await self.speaker.notice(message.room_id, explanation, about=message.event_id)
        except HomeserverError as e:
            self.log.warning("Could not answer %s: %s", message.event_id, e)
