"""Two Homerooms with one account notice each other: the newest works, the other goes idle.

Both would answer every message and make a home for every newcomer, and nobody would be told why.
Each start names itself in the bot's account data; whoever sees another name there later has been
superseded. A restart takes over again. Where the homeserver has no account data nothing is
noticed, and everything else works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from maubot.handlers import event
from mautrix.client import InternalEventType
from mautrix.util.logging import TraceLogger

from ..domain.sync.instance import (
    INSTANCE_TYPE,
    Running,
    next_running,
    read_running,
    running_in,
)
from ..matrix.account_data import AccountData
from ..matrix.errors import HomeserverError, Refused
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background

ANNOUNCING: Final = RetryPolicy(pauses=(2, 10, 60), within=600)


@dataclass(kw_only=True)
class InstanceWatch:
    """Notices that a newer instance uses the same account.

    Args:
        superseded: called once, when another instance is the newest.
    """

    account_data: AccountData
    superseded: Callable[[], None]
    background: Background
    log: TraceLogger
    is_superseded: bool = field(default=False, init=False)
    _own: Running | None = field(default=None, init=False)

    async def announce(self) -> None:
        """Say that this instance is the newest."""

        def failed(error: Exception, pause: float) -> None:
            self.log.debug("Could not announce this instance: %s; again in %d s", error, pause)

        try:
            await retry(
                self._announce,
                policy=ANNOUNCING,
                on=(HomeserverError,),
                unless=(Refused,),
                failed=failed,
            )
        except HomeserverError as e:
            self.log.info("Another instance with this account would not be noticed: %s", e)

    async def _announce(self) -> None:
        before = read_running(await self.account_data.get(INSTANCE_TYPE))
        # Known before it is written, because it comes back in the next sync response.
        self._own = next_running(before, id_=uuid4().hex)
        await self.account_data.set(INSTANCE_TYPE, self._own.content)

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        other = running_in(data.get("data"))
        own = self._own
        if own is not None and own.is_superseded_by(other) and not self.is_superseded:
            self.background.start(self._confirm(own), name="looking for the newest instance")

    async def _confirm(self, own: Running) -> None:
        """Two that start at once see each other: the one whose word stands is the newest."""
        try:
            newest = read_running(await self.account_data.get(INSTANCE_TYPE))
        except HomeserverError as e:
            self.log.warning("Another instance uses this account, and may be newer: %s", e)
            return
        if own is self._own and own.is_superseded_by(newest) and not self.is_superseded:
            self.is_superseded = True
            self.log.warning(
                "Another Homeroom has started with this account, so this one answers nothing any"
                " more. Stop the other one and restart this instance if this is the right one"
            )
            self.superseded()
