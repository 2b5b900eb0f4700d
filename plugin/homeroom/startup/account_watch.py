"""Watching the bot's own account: whether it is signed in, and whether its device is trusted.

While the homeserver does not take the token, everything that was accepted waits where it is. This
asks from time to time whether it works again, has maubot's sync go on, and says what to do, once.
"""

from __future__ import annotations

import asyncio
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
RETRY_AFTER: Final = (5, 15, 60, 300)
"""Seconds until it is asked again what could not be asked; the last one repeats."""


@dataclass(slots=True, kw_only=True)
class AccountWatch:
    client: CurrentClient
    homeserver: Homeserver
    trust: TrustCheck
    admins: Callable[[], frozenset[str]]
    instance: str
    log: TraceLogger
    _told: str | None = None
    _is_replaced: bool = False

    async def watch_trust(self) -> None:
        """Ask about the bot's own device now, and every hour."""
        while True:
            for seconds in waits(RETRY_AFTER):
                if await self._check():
                    break
                await asyncio.sleep(seconds)
            await asyncio.sleep(TRUST_EVERY)

    async def watch_sign_in(self) -> None:
        """Notice that the account is not served (any more), and that it is again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._notice_replacement()
            if self.homeserver.health.signed_out is not None or not self.client.is_syncing:
                await self._look()

    async def _look(self) -> None:
        with suppress(HomeserverError):
            await self.homeserver.position()
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
            await self._check()

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

    async def _check(self) -> bool:
        try:
            await self.trust.check(again=True)
        except HomeserverError as e:
            self.log.debug("Could not ask about the bot's own device: %s", e)
            return False
        return True
