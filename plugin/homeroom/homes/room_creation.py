"""Creating a room once for each purpose, however late the homeserver answers or whoever is killed.

Each purpose has an alias (`alias_name`), which the homeserver gives to one room only. So a request
whose outcome is unknown may be sent again, and what it made is found by its alias:

    note (alias, purpose) in the database
    createRoom with the alias
        created                  that is the room
        M_ROOM_IN_USE, unknown   resolve the alias: to a room of the bot's, that is the room
                                 to nothing: again
                                 to a room that the bot has left, or that never came to be: delete
                                 the alias, again
                                 to somebody else's: the next generation of the alias
    note the room's ID, so that the next start knows it, whatever it reads

A homeserver that forbids aliases gets requests without one, and then nobody knows what became of
a request without an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.homes.marker import MARKER_TYPE
from ..domain.homes.model import Records, Status
from ..domain.homes.provisioning import ALIAS_PREFIX, alias_name, with_alias
from ..domain.sync.told_state import TRUSTED_FOR
from ..matrix.errors import HomeserverError, OutcomeUnknown, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..runtime.clock import now
from ..storage import RoomRequest, Store, StoreError
from .routes import Routes

SETTLE: Final = (0.5, 2.0, 5.0, 10.0)
"""Seconds between attempts to find out what became of a request."""
ABANDONED_AFTER: Final = 2 * 60 * 1000
"""Milliseconds after which a room that an alias names, and that still cannot be read, is none: the
homeserver stores the alias before the room, and may have died in between."""
MAX_GENERATIONS: Final = 10


class _Holder(Enum):
    """Who has an alias, if no room of the bot's."""

    NOBODY = auto()
    SOMEBODY_ELSE = auto()
    UNKNOWN = auto()
    """It names a room that cannot be read (yet)."""
    UNTOLD = auto()
    """The homeserver does not tell."""


@dataclass(slots=True, kw_only=True)
class RoomCreation:
    """Creates rooms, each once for its purpose."""

    homeserver: Homeserver
    routes: Routes
    store: Store
    log: TraceLogger
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _without_aliases: bool = field(init=False, default=False)
    """The homeserver does not let the bot make any."""

    async def create(self, request: dict[str, Any], *, purpose: str) -> RoomID:
        """Create the room of a purpose, or find the one that was created for it before.

        Raises:
            Refused: the homeserver does not let the bot create it.
            Unavailable: it is not certain yet whether there is one; to be tried again.
            OutcomeUnknown: the same, and trying again may create a second one.
            StoreError: nothing was done.
        """
        for generation in range(1, MAX_GENERATIONS + 1):
            if self._without_aliases:
                break
            name = alias_name(purpose, bot=self.homeserver.bot, generation=generation)
            alias = f"#{name}:{self.homeserver.server_name}"
            noted = await self.store.note_room_request(alias, purpose=purpose)
            room_id = await self._create_as(request, name, noted)
            if room_id is not None:
                await self.store.note_created_room(alias, room_id=room_id)
                return room_id
            self.log.warning("The alias %s belongs to somebody else", alias)
        return await self.homeserver.create_room(request)

    async def _create_as(
        self, request: dict[str, Any], name: str, noted: RoomRequest
    ) -> RoomID | None:
        """None: somebody else has the alias."""
        error: HomeserverError | None = None
        for seconds in (0.0, *SETTLE):
            await self.sleep(seconds)
            try:
                return await self.homeserver.create_room(with_alias(request, name))
            except (OutcomeUnknown, Refused) as e:
                error = e
            refusal = error if isinstance(error, Refused) and not _is_taken(error) else None
            holder = await self._holder(noted)
            match holder:
                case _Holder.NOBODY | _Holder.UNTOLD:
                    if refusal is not None:
                        return await self._create_without(request, refusal)
                case _Holder.SOMEBODY_ELSE:
                    return None
                case _Holder.UNKNOWN:
                    if refusal is not None:
                        raise refusal
                case _:
                    self.log.info("Found %s by its alias, after: %s", holder, error)
                    return holder
        raise Unavailable(f"nobody knows whether there is a room {noted.alias}: {error}")

    async def _create_without(self, request: dict[str, Any], refusal: Refused) -> RoomID:
        """Create a room without an alias, if that may be what was refused."""
        if refusal.status != 403 and refusal.errcode != "M_EXCLUSIVE":
            raise refusal
        room_id = await self.homeserver.create_room(request)
        self._without_aliases = True
        self.log.warning("The homeserver forbids aliases (%s): going on without", refusal)
        return room_id

    async def _holder(self, noted: RoomRequest) -> RoomID | _Holder:
        """The room of the bot's that has the alias. One that is nobody's any more is freed."""
        try:
            room_id = await self.homeserver.aliases.room(noted.alias)
        except Refused:
            return _Holder.UNTOLD
        if room_id is None:
            return _Holder.NOBODY
        bot = self.homeserver.bot
        try:
            create = await self.homeserver.state_event(room_id, "m.room.create")
            member = await self.homeserver.state_content(room_id, "m.room.member", state_key=bot)
            marker = await self.homeserver.state_content(room_id, MARKER_TYPE, state_key=bot)
        except Refused:
            create = member = marker = None
        if create is not None and create.get("sender", bot) != bot:
            return _Holder.SOMEBODY_ELSE
        is_joined = member is not None and member.get("membership") == "join"
        if is_joined and marker is not None:
            self.homeserver.told.created(room_id, now=now())
            return room_id
        # Without its marker the room is being made just now, or was refused half-way.
        is_over = (
            (member is not None and not is_joined)
            or self.routes.has_left(room_id)
            or now() - noted.asked_at > ABANDONED_AFTER
        )
        return await self._free(noted.alias) if is_over else _Holder.UNKNOWN

    async def _free(self, alias: str) -> _Holder:
        try:
            await self.homeserver.aliases.delete(alias)
        except Refused as e:
            self.log.warning("The alias %s cannot be deleted: %s", alias, e)
            return _Holder.SOMEBODY_ELSE
        return _Holder.NOBODY

    async def resolve(self, *, known: Records) -> frozenset[RoomID]:
        """After a start, before any news: the rooms that were created lately, whatever is listed.

        Args:
            known: rows of which it is known that they were the truth, and of which the news since
                are to come. Other rooms are asked whether the bot has left them since.

        Raises:
            HomeserverError, StoreError: what became of a request is not to be had.
        """
        created: set[RoomID] = set()
        joined = known.joined
        for noted in await self.store.room_requests(since=now() - TRUSTED_FOR):
            made = noted.room_id
            if made is not None and made not in joined and await self._was_left(made, known):
                continue
            room_id = noted.room_id or await self._holder(noted)
            if not isinstance(room_id, _Holder):
                self.homeserver.told.created(room_id, now=noted.asked_at)
                created.add(room_id)
        return frozenset(created)

    async def _was_left(self, room_id: RoomID, known: Records) -> bool:
        """Whether the bot has certainly left a room that it created lately."""
        if room_id in known.chats:
            return known.chats[room_id].status is Status.LEFT
        bot = self.homeserver.bot
        try:
            member = await self.homeserver.state_content(room_id, "m.room.member", state_key=bot)
        except Refused:
            return False  # maybe the worker has not heard of the room
        return member is not None and member.get("membership") in ("leave", "ban")

    async def release(self, room_id: RoomID) -> None:
        """Take away the aliases of a room that the bot is about to leave.

        Then the same purpose may have a room again. What goes wrong is only logged.
        """
        try:
            for alias in await self.homeserver.aliases.of_room(room_id):
                if alias.startswith(f"#{ALIAS_PREFIX}"):
                    await self.homeserver.aliases.delete(alias)
                    await self.store.forget_room_request(alias)
        except (HomeserverError, StoreError) as e:
            self.log.warning("The aliases of %s cannot be taken away: %s", room_id, e)


def _is_taken(refusal: Refused) -> bool:
    """Synapse says 409 to the slower of two that ask for one alias at the same moment."""
    return refusal.errcode == "M_ROOM_IN_USE" or refusal.status == 409
