"""Friends: whoever writes in a chat where only its owner is answered is told so, once a month.

It is all that talk of those nobody answers costs: one notice a chat and month, behind all that
somebody waits for. When it was said is kept by the homeserver, in the account data of the room, so
a lost database says nothing again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.homes.model import Status
from ..domain.json_shapes import as_dict
from ..domain.newest import put_newest
from ..homes.routes import Routes
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.outgoing import Priority
from ..runtime.tasks import Background

TOLD_TYPE: Final = "dev.homeroom.told_friends"
"""Account data of a chat: `at` is when it was last said, in milliseconds since 1970."""
TELL_EVERY: Final = 30 * 24 * 60 * 60 * 1000
WAITING_AT_MOST: Final = 100
REMEMBERED: Final = 10_000


@dataclass(slots=True, kw_only=True)
class Friends:
    """Tells people who are not answered in a chat why."""

    homeserver: Homeserver
    speaker: Speaker
    routes: Routes
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    _told: dict[RoomID, int] = field(default_factory=dict, init=False)
    """When it was last said, as far as this life knows."""
    _waiting: dict[RoomID, None] = field(default_factory=dict, init=False)

    def wrote(self, room_id: RoomID) -> None:
        """Somebody wrote in a chat in which they are not answered. Never waits."""
        if (
            self._is_recent(self._told.get(room_id, 0))
            or room_id in self._waiting
            or len(self._waiting) >= WAITING_AT_MOST
        ):
            return
        self._waiting[room_id] = None
        if len(self._waiting) == 1:
            self.background.start(self._tell_all(), name="telling friends who is answered")

    def _is_recent(self, at: int) -> bool:
        return self.homeserver.clock.now() - at < TELL_EVERY

    async def _tell_all(self) -> None:
        """One chat after the other. Where it fails, the next word of a friend tries again."""
        while self._waiting:
            room_id = next(iter(self._waiting))
            try:
                await self._tell(room_id)
            except HomeserverError as e:
                self.log.info("Nobody was told who is answered in %s: %s", room_id, e)
            finally:
                del self._waiting[room_id]

    async def _tell(self, room_id: RoomID) -> None:
        account_data = self.homeserver.account_data
        at = as_dict(await account_data.get(TOLD_TYPE, room_id=room_id)).get("at")
        at = at if type(at) is int else 0
        chat = self.routes.chat(room_id)
        if chat is None or chat.status is not Status.ACTIVE or self.settings().hears_members(chat):
            return
        if not self._is_recent(at):
            # The same words, should this be the second attempt after an unknown outcome.
            await self.speaker.notice(
                room_id,
                replies.only_the_owner(may_share=self.settings().share),
                about=f"friend {room_id} {at}",
                priority=Priority.REPAIR,
                fixed_words=True,
            )
            at = self.homeserver.clock.now()
            await account_data.set(TOLD_TYPE, {"at": at}, room_id=room_id)
        put_newest(self._told, room_id, at, at_most=REMEMBERED)
