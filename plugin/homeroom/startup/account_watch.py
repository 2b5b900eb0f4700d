"""Watching the bot's own account: whether it is signed in, and whether its device is trusted.

While the homeserver does not take the token, everything that was accepted waits where it is. This
asks from time to time whether it works again, has maubot's sync go on, and says what to do, once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from mautrix.util.logging import TraceLogger

from ..matrix.current_client import CurrentClient
from ..matrix.errors import HomeserverError
from ..matrix.homeserver import Homeserver
from ..matrix.own_trust import TrustCheck
from ..replies import encryption as words
from ..runtime.backoff import waits

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at what is known; nothing is asked while all is well."""
TRUST_EVERY: Final = 60 * 60.0
"""Seconds between two questions to the homeserver about the bot's own device."""
NOT_WELL_EVERY: Final = 60.0
"""The same, while the admin may be about to mend it."""
RETRY_AFTER: Final = (5, 15, 60, 300)
"""Seconds until it is asked again what could not be asked; the last one repeats."""


@dataclass(slots=True, kw_only=True)
class AccountWatch:
    """Looks after the bot's account: signed in, and its device trusted."""

    client: CurrentClient
    homeserver: Homeserver
    trust: TrustCheck
    admins: Callable[[], frozenset[str]]
    instance: str
    log: TraceLogger
    _told: str | None = None
    _is_replaced: bool = False

    async def watch_trust(self) -> None:
        """Ask about the bot's own device now, and every hour; more often while it is not well."""
        pauses, told_at = waits(RETRY_AFTER), -math.inf
        while True:
            is_time = time.monotonic() - told_at >= TRUST_EVERY
            if not await self._check(again=is_time):
                await asyncio.sleep(next(pauses))
                continue
            pauses = waits(RETRY_AFTER)
            told_at = time.monotonic() if is_time else told_at
            is_well = not self.trust.now.is_worth_telling
            await asyncio.sleep(TRUST_EVERY if is_well else NOT_WELL_EVERY)

    async def watch_sign_in(self) -> None:
        """Notice that the account is not served (any more), and that it is again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._notice_replacement()
            is_out = self.homeserver.health.signed_out is not None
            if is_out or self._told is not None or self.client.sync_has_ended:
                await self._look()

    async def _look(self) -> None:
        with suppress(HomeserverError):
            await self.homeserver.ask_who_we_are()
        errcode = self.homeserver.health.signed_out
        if errcode is not None:
            if errcode != self._told:
                self._told = errcode
                self.log.error(
                    "Not signed in (%s): %s. Nothing is lost: what was said waits",
                    errcode,
                    words.signed_out(errcode),
                )
            return
        self.client.revive_sync()
        if self._told is not None:
            self._told = None
            self.log.info("Signed in again: going on with what waits")
            await self._check(again=True)

    def _notice_replacement(self) -> None:
        if self.client.is_replaced and not self._is_replaced:
            self._is_replaced = True
            self.log.warning(
                "maubot has replaced the client of %s (a new token or device ID was saved);"
                " going on with the new one. %s: please restart the instance %s",
                self.client.first.mxid,
                ", ".join(sorted(self.admins())) or "Admin",
                self.instance,
            )

    async def _check(self, *, again: bool) -> bool:
        try:
            await self.trust.check(again=again)
        except HomeserverError as e:
            self.log.debug("Could not ask about the bot's own device: %s", e)
            return False
        return True
