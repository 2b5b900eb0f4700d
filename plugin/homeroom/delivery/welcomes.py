"""Arrivals: the bot has come into a room that somebody invited it to, and that person gets a home.

What makes it certain that they do is the bot's own join in the room's timeline: it is news like a
message, so it comes again after a stop or a crash until the home is complete. A position is kept
only when nobody before it still waits; whom the homeserver keeps waiting (its rate limits allow a
new home in minutes only) takes no turn away from the chats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from mautrix.types import EventID
from mautrix.util.logging import TraceLogger

from ..domain.sync.news import Arrival
from ..homes.onboarding import Onboarding
from ..matrix.errors import HomeserverError, Refused
from ..runtime.backoff import waits
from ..runtime.tasks import Background
from ..storage import Store, StoreError
from .inbox import Inbox

RETRY_AFTER: Final = (5, 15, 60, 300)
"""Seconds between attempts to finish a home; the last one repeats."""
GIVE_UP_AFTER: Final = 60 * 60
"""Seconds after which it takes another sign of life of the person."""


class Welcomes:
    def __init__(
        self,
        *,
        onboarding: Onboarding,
        inbox: Inbox,
        store: Store,
        background: Background,
        log: TraceLogger,
    ) -> None:
        self._onboarding = onboarding
        self._inbox = inbox
        self._store = store
        self._background = background
        self._log = log
        self._in_hand: set[EventID] = set()

    def take_in(self, arrivals: Iterable[Arrival]) -> None:
        """Begin to answer; the inbox is told when each is done. Never waits."""
        for arrival in arrivals:
            if arrival.event_id not in self._in_hand:
                self._in_hand.add(arrival.event_id)
                self._background.start(
                    self._answer(arrival), name=f"welcoming in {arrival.room_id}"
                )

    async def _answer(self, arrival: Arrival) -> None:
        give_up_at = time.monotonic() + GIVE_UP_AFTER
        for seconds in waits(RETRY_AFTER):
            try:
                await self._answer_once(arrival)
            except Refused as e:
                self._log.warning("Could not welcome anybody in %s: %s", arrival.room_id, e)
            except (HomeserverError, StoreError) as e:
                if time.monotonic() + seconds < give_up_at:
                    self._log.warning(
                        "The invite to %s has not led to a home yet: %s; again in %d s",
                        arrival.room_id,
                        e,
                        seconds,
                    )
                    await asyncio.sleep(seconds)
                    continue
                self._log.error("The invite to %s is given up: %s", arrival.room_id, e)
            except Exception:  # noqa: BLE001 (a bug: one invite must not hold the position)
                self._log.exception("Error while welcoming in %s", arrival.room_id)
            break
        self._in_hand.discard(arrival.event_id)
        self._inbox.finish(arrival.event_id)

    async def _answer_once(self, arrival: Arrival) -> None:
        if not await self._store.was_handled(arrival.event_id):
            await self._onboarding.welcome(arrival)
            await self._store.mark_handled(arrival.event_id, room_id=arrival.room_id)
