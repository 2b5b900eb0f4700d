"""Rooms that an owner made and put into their Space by hand: they become chats.

All it takes is a marker like the one that a chat is born with. From then on the room is a chat
whose set-up a crash may have left undone: a reconcile gives it its number and its key, and the
repairs greet and stamp it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.homes.marker import MARKER_TYPE, Marker
from ..domain.homes.model import RoomType
from ..matrix.errors import Refused, Unavailable
from ..matrix.homeserver import Homeserver
from .owner_locks import OwnerLocks
from .provisioner import Provisioner
from .reconciler import Reconciler
from .repairer import Repairer
from .routes import Routes

FORBIDDEN: Final = 403


@dataclass(slots=True, kw_only=True)
class HandmadeRooms:
    """Makes a room a chat, if it is the owner's own and in their Space."""

    homeserver: Homeserver
    provisioner: Provisioner
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    locks: OwnerLocks
    settings: Callable[[], Settings]
    log: TraceLogger

    async def adopt(self, room_id: RoomID, *, owner: UserID) -> str | None:
        """Make it a chat of this owner's, unless it is one already.

        Returns why it is none, as a sentence; empty: it is one. None: it is not in their Space.

        Raises:
            HomeserverError, StoreError: it is not known; trying again goes on from there.
        """
        home = self.routes.home(owner)
        if home is None:
            return None
        link = await self.homeserver.state_content(
            home.space_id, "m.space.child", state_key=room_id
        )
        if not link or not isinstance(link.get("via"), list) or not link["via"]:
            return None
        async with self.locks.of(owner):
            if self.routes.chat(room_id) is not None:
                return ""
            if (why := await self._why_not(room_id, owner)) is not None:
                return why
            self.log.info("Making %s, which %s made, a chat", room_id, owner)
            return await self._mark(room_id, owner)

    async def _why_not(self, room_id: RoomID, owner: UserID) -> str | None:
        create = await self.homeserver.state_event(room_id, "m.room.create")
        if create is None or create.get("sender") != owner:
            return replies.NOT_YOUR_ROOM
        if await self.homeserver.state_content(room_id, "m.room.tombstone") is not None:
            return replies.NOT_YOUR_ROOM
        if self.provisioner.is_incomplete(owner):  # what was promised comes first
            await self.provisioner.ensure_locked(owner, reinvite_if_left=False)
        limit = self.settings().chats_per_owner
        if sum(chat.is_routed for chat in self.routes.chats_of(owner)) >= limit:
            return replies.too_many_chats(limit)
        return None

    async def _mark(self, room_id: RoomID, owner: UserID) -> str:
        bot = self.homeserver.bot
        present = await self.homeserver.state_content(room_id, MARKER_TYPE, state_key=bot)
        if not present:
            content = Marker(room_type=RoomType.CHAT, user_id=owner).to_content()
            try:
                await self.homeserver.put_state(room_id, MARKER_TYPE, content, state_key=bot)
            except Refused as e:
                if e.status != FORBIDDEN:
                    raise
                return replies.NEEDS_POWER
        seen = await self.reconciler.rescan({room_id})
        await self.repairer.run_locked(seen.plan.repairs, owner=owner)
        await self.reconciler.rescan({room_id})
        if self.routes.chat(room_id) is None:
            raise Unavailable(f"{room_id} was marked, but is not to be seen as a chat yet")
        return ""
