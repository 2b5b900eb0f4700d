"""Provisioning: from nothing, or half a home, to a complete home.

`ensure_home` is the whole of it: scan, decide the next step, do it, scan again, until nothing is
missing. One at a time per owner. Only a definite "has no home" creates one; a request whose
outcome is unknown is followed by scans, never by a second request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.homes.model import Home, Status
from ..domain.homes.provisioning import (
    CreateChat,
    CreateSpace,
    InviteOwner,
    Step,
    chat_request,
    is_allowed,
    next_step,
    space_request,
)
from ..domain.never import assert_never
from ..matrix.errors import HomeserverError, OutcomeUnknown, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from .owner_locks import OwnerLocks
from .reconciler import Reconciled, Reconciler
from .repairer import Repairer
from .room_creation import SETTLE, RoomCreation
from .routes import Routes

INVITE_EVERY: Final = 60 * 60
"""Seconds between two invites of an owner to one room, if they did not accept the first."""
MAX_STEPS: Final = 50
"""More than any home needs; a loop that does not end is a bug, not a reason to make rooms."""


class Denied(Exception):
    """What was asked for is not to be had; the message is for the person who asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensured:
    """A home that is complete."""

    home: Home
    was_invited: bool = False
    """Whether the owner was invited, again or at last, to some of it."""
    is_kept_out: bool = False
    """Whether somebody else removed the owner from the Space."""


@dataclass(slots=True, kw_only=True)
class Provisioner:
    """Makes homes and finishes them."""

    homeserver: Homeserver
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    room_creation: RoomCreation
    locks: OwnerLocks
    settings: Callable[[], Settings]
    log: TraceLogger
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _invited_at: dict[RoomID, float] = field(init=False, default_factory=dict)
    """When an owner was last invited to a room, within the last `INVITE_EVERY`."""
    _making: set[UserID] = field(init=False, default_factory=set)
    """Who was promised a home, and may not have it yet."""

    def allows(self, user_id: UserID) -> bool:
        return is_allowed(user_id, allow=self.settings().allow, bot=self.homeserver.bot)

    def is_incomplete(self, owner: UserID) -> bool:
        """Whether the home lacks a chat that it was promised at its birth."""
        step = next_step(
            owner=owner,
            home=self.routes.home(owner),
            chats=self.routes.chats_of(owner),
            rooms=(),
            initial_chats=(),
        )
        return step is not None

    async def ensure_home(self, owner: UserID, *, reinvite_if_left: bool = False) -> Ensured:
        """Give the owner a complete home; one that is complete is left alone.

        With `reinvite_if_left` an owner who left it is invited again to the Space and to the
        active chats, once an hour at most while they do not accept.

        Raises:
            Denied: there can be no home for this owner, with the reason.
            HomeserverError: it could not be finished; trying again later goes on from there.
        """
        async with self.locks.of(owner):
            try:
                return await self.ensure_locked(owner, reinvite_if_left=reinvite_if_left)
            finally:
                self._making.discard(owner)

    async def ensure_locked(self, owner: UserID, *, reinvite_if_left: bool) -> Ensured:
        """`ensure_home` for a caller that holds the owner's lock."""
        was_invited, created = False, None
        for _ in range(MAX_STEPS):
            seen = await self.scan_for(owner, created)
            await self.repairer.run_locked(seen.plan.repairs, owner=owner)
            step = self._next_step(owner, seen, reinvite_if_left=reinvite_if_left)
            if step is None:
                home = self.routes.home(owner)
                assert home is not None
                space = seen.topology.room(home.space_id)
                member = space.members.get(owner) if space is not None else None
                return Ensured(
                    home=home,
                    was_invited=was_invited,
                    is_kept_out=member is not None and member.was_removed,
                )
            if isinstance(step, InviteOwner):
                for room_id in step.room_ids:
                    await self._invite(room_id, owner)
                was_invited = True
            else:
                await self._require_that_it_is_missing(owner)
                created = await self._take(step, owner)
        raise AssertionError(f"the home of {owner} is not complete after {MAX_STEPS} steps")

    async def scan_for(self, owner: UserID, room_id: RoomID | None) -> Reconciled:
        """Scan what may be new of this owner's, until a room that was created is among it.

        Raises:
            HomeserverError: the homeserver does not tell of the room yet.
        """
        for seconds in (0.0, *SETTLE):
            await self.sleep(seconds)
            seen = await self.reconciler.scan_for_new(owner)
            if room_id is None or self.routes.owner_of(room_id) == owner:
                return seen
        raise Unavailable(f"{room_id} was made for {owner}, but is not to be seen yet")

    async def _require_that_it_is_missing(self, owner: UserID) -> None:
        """Raise `Unavailable` while the Space or chat to be made may be there already, unread."""
        unknown = await self.reconciler.possible_homes()
        if unknown:
            raise Unavailable(
                f"{len(unknown)} rooms cannot be read, and what {owner} seems to lack might be"
                f" among them: {unknown[0]}"
            )

    def _next_step(
        self, owner: UserID, seen: Reconciled, *, reinvite_if_left: bool
    ) -> Step | None:
        home = self.routes.home(owner)
        chats = self.routes.chats_of(owner)
        if home is None:
            if self.routes.has_moved(owner):
                raise Denied(replies.SPACE_MOVED)
            promised = sum(self.routes.home(other) is None for other in self._making - {owner})
            if self.routes.homes() + promised >= self.settings().homes:
                raise Denied(replies.too_many_homes())
            self._making.add(owner)
        own = {chat.room_id for chat in chats if chat.status is Status.ACTIVE}
        own |= {home.space_id} if home else set()
        return next_step(
            owner=owner,
            home=home,
            chats=chats,
            rooms=[
                room
                for room in seen.topology.read()
                if room.room_id in own and not self._was_just_invited(room.room_id)
            ],
            initial_chats=self.settings().initial_chats,
            reinvite_if_left=reinvite_if_left,
        )

    async def _invite(self, room_id: RoomID, owner: UserID) -> None:
        # Noted first: it may be accepted before the homeserver's answer comes.
        self._invited_at[room_id] = time.monotonic()
        try:
            await self.homeserver.invite(room_id, owner)
        except HomeserverError:
            self._invited_at.pop(room_id, None)
            raise

    def invite_accepted(self, room_id: RoomID) -> None:
        """An owner is in their room: if they leave it, they may be invited at once again."""
        self._invited_at.pop(room_id, None)

    def _was_just_invited(self, room_id: RoomID) -> bool:
        due = time.monotonic() - INVITE_EVERY
        self._invited_at = {room: at for room, at in self._invited_at.items() if at > due}
        return room_id in self._invited_at

    async def _take(self, step: CreateSpace | CreateChat, owner: UserID) -> RoomID | None:
        """Returns the room that was created, if it is known."""
        match step:
            case CreateSpace(purpose=purpose, initial_chats=initial_chats):
                self.log.info("Making a home for %s", owner)
                request = space_request(
                    bot=self.homeserver.bot,
                    owner=owner,
                    name=self.settings().space_name,
                    topic=replies.SPACE_TOPIC,
                    initial_chats=initial_chats,
                    version=await self._room_version(),
                    avatar=await self._avatar(),
                )
                return await self._create(request, owner, purpose=purpose)
            case CreateChat():
                return await self.create_chat(step, owner)
            case _:
                assert_never(step)

    async def create_chat(self, step: CreateChat, owner: UserID) -> RoomID | None:
        """Create a chat in the owner's home; None as in `_create`."""
        home = self.routes.home(owner)
        assert home is not None
        self.log.info("Making chat %s for %s", step.chat_id, owner)
        request = chat_request(
            bot=self.homeserver.bot,
            owner=owner,
            space_id=home.space_id,
            step=step,
            version=await self._room_version(),
            encrypted=self.settings().encrypted,
            avatar=await self._avatar(),
        )
        return await self._create(request, owner, purpose=step.purpose)

    async def _create(
        self, request: dict[str, object], owner: UserID, *, purpose: str
    ) -> RoomID | None:
        """Create a room. None: nobody knows which, but a scan found that there is a new one.

        Raises:
            OutcomeUnknown: and no scan since has found a room. There may still be one soon.
        """
        before = self.routes.rooms_of(frozenset({owner}))
        try:
            return await self.room_creation.create(request, purpose=purpose)
        except (OutcomeUnknown, Refused) as e:
            # Refused, too: Synapse keeps the room if it was the invite that was refused.
            self.log.warning("Was a room made for %s? Looking: %s", owner, e)
            for seconds in SETTLE if isinstance(e, OutcomeUnknown) else (0.0,):
                await self.sleep(seconds)
                with suppress(Unavailable):  # the next scan may see more
                    await self.reconciler.scan_for_new(owner)
                if self.routes.rooms_of(frozenset({owner})) - before:
                    return None
            raise

    async def _avatar(self) -> str | None:
        """The picture of new rooms. That it cannot be had holds nobody up."""
        chosen = self.settings().avatar
        if chosen:
            return None if chosen == "none" else chosen
        with suppress(HomeserverError):
            return await self.homeserver.about.own_avatar()
        return None

    async def _room_version(self) -> str | None:
        return self.settings().room_version or await self.homeserver.about.default_room_version()
