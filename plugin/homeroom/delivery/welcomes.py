"""Arrivals: the bot has come into a room that somebody invited it to, and that person gets a home.

What makes it certain that they do is the bot's own join in the room's timeline: it is news like a
message, so it comes again after a stop or a crash until the home is complete. A position is kept
only when nobody before it still waits; whom the homeserver keeps waiting (its rate limits allow a
new home in minutes only) takes no turn away from the chats.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID
from mautrix.util.logging import TraceLogger

from ..domain.sync.news import Arrival
from ..homes.onboarding import Onboarding
from ..matrix.errors import HomeserverError, NotSignedIn, Refused
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import StoreError
from .handled import HandledMarks
from .inbox import Inbox

WELCOME_AGAIN: Final = RetryPolicy(pauses=(5, 15, 60, 300), within=60 * 60)
"""After an hour the person has to write, or to invite the bot, again."""


@dataclass(slots=True, kw_only=True)
class Welcomes:
    """Gives a home to whoever invited the bot, again and again until that works."""

    onboarding: Onboarding
    inbox: Inbox
    handled: HandledMarks
    background: Background
    log: TraceLogger
    _in_hand: set[EventID] = field(default_factory=set, init=False)

    def take_in(self, arrivals: Iterable[Arrival]) -> None:
        """Begin to answer; the inbox is told when each is done. Never waits."""
        for arrival in arrivals:
            if arrival.event_id not in self._in_hand:
                self._in_hand.add(arrival.event_id)
                self.background.start(
                    self._answer(arrival), name=f"welcoming in {arrival.room_id}"
                )

    async def _answer(self, arrival: Arrival) -> None:
        def failed(error: Exception, seconds: float) -> None:
            self.log.warning(
                "The invite to %s has not led to a home yet: %s; again in %d s",
                arrival.room_id,
                error,
                seconds,
            )

        try:
            await retry(
                lambda: self._answer_once(arrival),
                policy=WELCOME_AGAIN,
                on=(HomeserverError, StoreError),
                unless=(Refused,),
                timeless=(NotSignedIn,),
                failed=failed,
            )
        except Refused as e:
            self.log.warning("Could not welcome anybody in %s: %s", arrival.room_id, e)
        except (HomeserverError, StoreError) as e:
            self.log.error("The invite to %s is given up: %s", arrival.room_id, e)
        except Exception:
            self.log.exception("Error while welcoming in %s", arrival.room_id)
        self._in_hand.discard(arrival.event_id)
        self.inbox.finish(arrival.event_id)

    async def _answer_once(self, arrival: Arrival) -> None:
        if not await self.handled.has(arrival.event_id, is_news=False):
            await self.onboarding.welcome(arrival)
            await self.handled.add(arrival.event_id, room_id=arrival.room_id)
