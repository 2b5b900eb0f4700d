"""What is said while Homeroom can do nothing, because there are no settings to run with.

Registered in place of the real handlers. An administrator who asks is told what is wrong; people
who write in a chat, or alone with the bot, are told once that something is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from maubot.handlers import event
from mautrix.client import InternalEventType
from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..domain.commands import Reconcile, parse_command
from ..domain.sync.news import Encrypted, Message, read_response
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..runtime.clock import now
from ..runtime.tasks import Background
from ..storage import Store, StoreError

NEW_FOR: Final = 5 * 60 * 1000
"""Milliseconds for which somebody may still be waiting for an answer."""
ROOMS_AT_MOST: Final = 1000
"""Rooms in which something is said; nobody has that many chats going on at once."""


@dataclass(frozen=True, kw_only=True)
class WithoutSettings:
    """Says that there are no settings, instead of everything else.

    Args:
        is_idle: whether there are still no settings; the handlers stay until the instance stops.
        explanation: what is wrong with those that were saved.
    """

    homeserver: Homeserver
    speaker: Speaker
    store: Store
    is_idle: Callable[[], bool]
    admins: Callable[[], Collection[UserID]]
    explanation: Callable[[], str]
    background: Background
    log: TraceLogger
    _asked: set[RoomID] = field(default_factory=set, init=False)

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        response = data.get("data")
        if not self.is_idle():
            return
        for news in read_response(response, bot=self.homeserver.bot):
            if isinstance(news, Message) and self._is_asked_why(news):
                self.background.start(self._explain(news), name="explaining")
            elif isinstance(news, Message | Encrypted) and self._is_first_in_room(news):
                self.background.start(self._tell(news), name="saying that nothing goes")

    def _is_first_in_room(self, message: Message | Encrypted) -> bool:
        """Whether this is the first new message in its room; it is remembered."""
        is_new = message.sent_at > now() - NEW_FOR
        is_known = message.room_id in self._asked or len(self._asked) >= ROOMS_AT_MOST
        if is_known or not is_new:
            return False
        self._asked.add(message.room_id)
        return True

    def _is_asked_why(self, message: Message) -> bool:
        is_reconcile = isinstance(parse_command(message.text), Reconcile)
        return is_reconcile and message.sender in self.admins()

    async def _explain(self, message: Message) -> None:
        try:
            await self.speaker.notice(message.room_id, self.explanation(), about=message.event_id)
        except HomeserverError as e:
            self.log.warning("Could not answer %s: %s", message.event_id, e)

    async def _tell(self, message: Message | Encrypted) -> None:
        """Say it where a person expects an answer; the message stays open for later."""
        try:
            if await self._is_talked_to(message):
                about = f"no settings {message.event_id}"
                await self.speaker.notice(message.room_id, replies.NO_SETTINGS, about=about)
        except (HomeserverError, StoreError) as e:
            self.log.warning("Could not say in %s that nothing goes: %s", message.room_id, e)

    async def _is_talked_to(self, message: Message | Encrypted) -> bool:
        chat = (await self.store.snapshot()).chats.get(message.room_id)
        if chat is not None:
            return chat.is_routed and chat.matrix_user_id == message.sender
        members = await self.homeserver.joined_members(message.room_id)
        return members == {self.homeserver.bot, message.sender}
