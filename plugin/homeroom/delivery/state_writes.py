"""mautrix's state store learns what each response says, before the position may pass it.

mautrix writes memberships and power levels itself, but nobody can wait for it: a process that
ends in the middle would resume with a store that says less than the position, and share keys with
the wrong people.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.sync.changed_rooms import cached_state_in
from ..homes.checkpoint_state import CheckpointState
from ..homes.mautrix_state import MautrixState
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import StoreError
from .inbox import Inbox

WRITE_AGAIN: Final = RetryPolicy(pauses=(1, 5, 15, 60), within=10 * 60)


@dataclass(slots=True, kw_only=True)
class StateWrites:
    """Writes what responses say into mautrix's state store, one response after the other."""

    mautrix_state: MautrixState
    inbox: Inbox
    checkpoint_state: CheckpointState
    background: Background
    log: TraceLogger
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def take_in(
        self, response: object, *, is_ours: Callable[[RoomID], bool], work: Hashable
    ) -> None:
        """Write what a response says; the work is not done before that is."""
        events = cached_state_in(response, is_ours=is_ours)
        if events:
            writing = ("the state store", next(self._numbers))
            self.inbox.add(work, [writing])
            self.background.start(self._write(events, writing), name="telling the state store")

    async def _write(self, events: list[tuple[RoomID, dict[str, Any]]], writing: Hashable) -> None:
        def failed(error: Exception, seconds: float) -> None:
            self.log.warning("%s; again in %d s", error, seconds)

        async with self._one_at_a_time:
            try:
                await retry(
                    lambda: self.mautrix_state.note(events),
                    policy=WRITE_AGAIN,
                    on=(StoreError,),
                    failed=failed,
                )
            except StoreError as e:
                self.log.error("%s; the next start looks at everything", e)
                self.checkpoint_state.invalidate()
            except Exception:
                self.log.exception("Error while telling the state store")
                self.checkpoint_state.invalidate()
        self.inbox.finish(writing)
