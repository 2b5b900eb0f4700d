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

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..domain.sync.changed_rooms import cached_state_in
from ..domain.sync.timeline import event_id_of
from ..homes.checkpoint_state import CheckpointState
from ..homes.mautrix_state import MautrixState
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import StoreError
from .inbox import Inbox

WRITE_AGAIN: Final = RetryPolicy(pauses=(1, 5, 15, 60), within=10 * 60)
REMEMBERED_AT_MOST: Final = 20_000
"""What was written last of so many members and power levels."""

_Key = tuple[RoomID, str, str]
"""Room, type and state key."""


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
    _newest: dict[_Key, EventID | None] = field(default_factory=dict, init=False)
    """What was taken in last: with each message the homeserver tells again who its sender is."""

    def take_in(
        self, response: object, *, is_ours: Callable[[RoomID], bool], work: Hashable
    ) -> None:
        """Write what a response says; the work is not done before that is."""
        told = cached_state_in(response, is_ours=is_ours)
        events = [each for each in told if not self._is_known(*each)]
        if events:
            self._remember(events)
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
                self._give_up()
            except Exception:
                self.log.exception("Error while telling the state store")
                self._give_up()
        self.inbox.finish(writing)

    def _give_up(self) -> None:
        self._newest.clear()
        self.checkpoint_state.invalidate()

    def _is_known(self, room_id: RoomID, event: dict[str, Any]) -> bool:
        """Whether it was taken in last: then it is written, or the position waits for it."""
        event_id = event_id_of(event)
        return event_id is not None and self._newest.get(_key(room_id, event)) == event_id

    def _remember(self, events: list[tuple[RoomID, dict[str, Any]]]) -> None:
        if len(self._newest) > REMEMBERED_AT_MOST:
            self._newest.clear()
        self._newest.update((_key(*each), event_id_of(each[1])) for each in events)


def _key(room_id: RoomID, event: dict[str, Any]) -> _Key:
    return room_id, event["type"], event["state_key"]
