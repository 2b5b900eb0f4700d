"""Invites of the bot: whose are accepted, and what becomes of the others.

People who may have a home are answered side by side, so many times an hour each; a join that fails
is tried again. Strangers wait in one short queue: whatever they send costs nobody else anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.homes.topology import Invite
from ..domain.newest import put_newest
from ..matrix.errors import HomeserverError, NotSignedIn, Refused
from ..runtime.hourly import Hourly
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import StoreError
from .onboarding import Onboarding

JOINS_AN_HOUR: Final = 20
"""Of one person's invites."""
STRANGERS_AT_MOST: Final = 200
"""Invites of strangers that wait; more stay as they are."""
REMEMBERED: Final = 10_000
"""Rooms of which it is remembered that an invite to them was answered, or it was tried."""
JOIN_AGAIN: Final = RetryPolicy(pauses=(5, 30, 120, 600), within=60 * 60)


@dataclass(slots=True, kw_only=True)
class Invites:
    """Answers invites of the bot: people who may have a home first, strangers one by one."""

    onboarding: Onboarding
    settings: Callable[[], Settings]
    background: Background
    log: TraceLogger
    _under_way: set[RoomID] = field(default_factory=set, init=False)
    _tried: dict[RoomID, None] = field(default_factory=dict, init=False)
    _strangers: deque[Invite] = field(default_factory=deque, init=False)
    _waiting: set[UserID] = field(default_factory=set, init=False)
    """Who was told of in the log, because they sent more than are answered in an hour."""
    _joins: Hourly = field(default_factory=lambda: Hourly(at_most=JOINS_AN_HOUR), init=False)

    def answer(self, invite: Invite) -> None:
        """The bot was invited; answered once, however often the server says so. Never waits."""
        put_newest(self._tried, invite.room_id, None, at_most=REMEMBERED)
        if invite.room_id in self._under_way:
            return
        if self.onboarding.is_welcome(invite):
            self._under_way.add(invite.room_id)
            self.background.start(self._accept(invite), name=f"answering {invite.inviter}")
        elif len(self._strangers) < STRANGERS_AT_MOST:
            self._under_way.add(invite.room_id)
            self._strangers.append(invite)
            if len(self._strangers) == 1:
                self.background.start(self._turn_away(), name="turning strangers away")

    def remind(self, invites: Iterable[Invite]) -> None:
        """These invites are pending; those that nobody has seen to in this life are answered."""
        for invite in invites:
            if invite.room_id not in self._tried:
                self.answer(invite)

    async def _accept(self, invite: Invite) -> None:
        def failed(error: Exception, seconds: float) -> None:
            self.log.warning(
                "Could not answer the invite of %s to %s: %s; again in %d s",
                invite.inviter,
                invite.room_id,
                error,
                seconds,
            )

        try:
            while (seconds := self._joins.take(invite.inviter)) > 0:
                if invite.inviter not in self._waiting:
                    self._waiting.add(invite.inviter)
                    self.log.warning(
                        "%s sends more than %d invites an hour: the others are answered later",
                        invite.inviter,
                        JOINS_AN_HOUR,
                    )
                await asyncio.sleep(seconds)
            self._waiting.discard(invite.inviter)
            await retry(
                lambda: self.onboarding.accept_invite(invite),
                policy=JOIN_AGAIN,
                on=(HomeserverError, StoreError),
                unless=(Refused,),
                timeless=(NotSignedIn,),
                failed=failed,
            )
        except (HomeserverError, StoreError) as e:
            self.log.warning(
                "Could not answer the invite of %s to %s: %s", invite.inviter, invite.room_id, e
            )
        finally:
            self._under_way.discard(invite.room_id)

    async def _turn_away(self) -> None:
        """One stranger after the other."""
        while self._strangers:
            invite = self._strangers[0]
            try:
                if self.settings().reject:
                    await self.onboarding.reject_invite(invite)
            except HomeserverError as e:
                self.log.warning(
                    "Could not reject the invite of %s to %s: %s",
                    invite.inviter,
                    invite.room_id,
                    e,
                )
            finally:
                self._strangers.popleft()
                self._under_way.discard(invite.room_id)
