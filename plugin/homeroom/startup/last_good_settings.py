"""The last good settings, kept in the plugin's database.

They only matter when something else is wrong already, so what fails here is logged and is no
reason to stop.
"""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.util.logging import TraceLogger

from ..storage import Store, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class LastGoodSettings:
    """Keeps the text of the last good settings in the database."""

    store: Store
    log: TraceLogger

    async def read(self) -> str | None:
        """The text of the last good settings; None: there are none, or they cannot be read."""
        try:
            return await self.store.last_good_settings()
        except StoreError as e:
            self.log.warning("The last good settings are not to be had: %s", e)
            return None

    async def write(self, text: str) -> None:
        """Keep this text."""
        try:
            await self.store.keep_settings(text)
        except StoreError as e:
            self.log.warning("The settings are in force, but were not kept for later: %s", e)
