"""The inbox: every message is taken in once, in its room's order, and stays until it is done.

Messages come in by several ways and may come more than once; what is known is dropped. Rooms are
worked on side by side, each one message at a time. The position that is kept is one before which
nothing is open, so a process that dies is given everything again that was not done; what was done
by then is known from the store.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from mautrix.types import EventID, RoomID, SyncToken, UserID
from mautrix.util.logging import TraceLogger

from .adapters.errors import Unavailable
from .adapters.store import Store, StoreError
from .background import Background
from .config import Settings
from .domain.events import Message
from .domain.progress import Progress
from .waits import waits

KEEP_HANDLED: Final = 7 * 24 * 60 * 60 * 1000
"""Milliseconds for which handled events are remembered: `catch_up.max_age` at most, so that
nothing older can come again."""
KEEP_AT_MOST: Final = 200_000
RETRY_AFTER: Final = (2, 5, 15, 60)
"""Seconds between attempts to answer a message; the last one repeats."""
GIVE_UP_AFTER: Final = 60 * 60
"""Seconds after which a message that cannot be answered no longer holds up its room."""
SAVE_EVERY: Final = 5.0
"""Seconds between two savings of the position."""

Handle = Callable[[Message], Awaitable[None]]


class Inbox:
    """Messages on their way.

    Args:
        handle: does all that is to be done about a message. Raises `Unavailable` or `StoreError`
            if it has to be tried again.
        turn_away: the same for a message that is one too many in its room.
    """

    def __init__(
        self,
        *,
        bot: UserID,
        handle: Handle,
        turn_away: Handle,
        store: Store,
        background: Background,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._bot = bot
        self._handle = handle
        self._turn_away = turn_away
        self._store = store
        self._background = background
        self._settings = settings
        self._log = log
        self._progress = Progress()
        self._waiting: dict[RoomID, deque[Message]] = {}
        self._in_hand: set[EventID] = set()
        self._turns = asyncio.Semaphore(settings().parallel_turns)
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._saved: str | None = None
        self._saved_at = 0.0

    def take_in(self, messages: Iterable[Message], *, position: str | None) -> None:
        """Take in the messages of one response that ends at `position`; never waits.

        Synchronous, so that responses that come in one after the other stay in that order.
        """
        messages = list(messages)
        if position is not None:
            self._progress.begin(position, {message.event_id for message in messages})
        for message in messages:
            if message.event_id not in self._in_hand:
                self._in_hand.add(message.event_id)
                self._queue(message)
        if not messages:
            self._background.start(self._save_position_soon(), name="saving the position")

    async def drain(self, *, seconds: float) -> None:
        """Begin nothing more, and wait for what is in hand; what is not done is given again."""
        self._stopping = True
        if self._workers:
            await asyncio.wait(self._workers, timeout=seconds)

    async def save_position(self, *, now: bool = False) -> None:
        """Persist how far everything is handled, every few seconds at most."""
        position = self._progress.position
        if position is None or position == self._saved:
            return
        if not now and time.monotonic() - self._saved_at < SAVE_EVERY:
            return
        self._saved, self._saved_at = position, time.monotonic()
        await self._store.save_position(SyncToken(position), bot=self._bot)

    async def prune(self) -> None:
        """Forget handled events that cannot come again."""
        await self._store.prune(older_than=KEEP_HANDLED, keep=KEEP_AT_MOST)

    def _queue(self, message: Message) -> None:
        waiting = self._waiting.get(message.room_id)
        if waiting is None:
            self._waiting[message.room_id] = deque([message])
            self._start(self._work(message.room_id), name=f"answering in {message.room_id}")
        elif not message.is_live or len(waiting) < self._settings().waiting_messages:
            waiting.append(message)  # nobody is turned away because the bot was away
        else:
            self._start(self._refuse(message), name="turning a message away")

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        worker = self._background.start(work, name=name)
        if worker is not None:
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, room_id: RoomID) -> None:
        """Work on one room until nothing waits in it."""
        waiting = self._waiting[room_id]
        try:
            while waiting and not self._stopping:
                await self._until_it_works(self._handle, waiting[0])
                self._finish(waiting.popleft())
                await self._save_position_soon()
        finally:
            del self._waiting[room_id]

    async def _refuse(self, message: Message) -> None:
        await self._until_it_works(self._turn_away, message)
        self._finish(message)

    async def _until_it_works(self, handle: Handle, message: Message) -> None:
        """While the homeserver or the database cannot be had, the room waits with its message."""
        give_up_at = time.monotonic() + GIVE_UP_AFTER
        for seconds in waits(RETRY_AFTER):
            try:
                async with self._turns:
                    await self._handle_once(handle, message)
                    return
            except (StoreError, Unavailable) as e:
                if time.monotonic() + seconds > give_up_at:
                    self._log.error("%s is given up: %s", message.event_id, e)
                    return
                self._log.warning(
                    "%s is not answered yet: %s; again in %d s", message.event_id, e, seconds
                )
            await asyncio.sleep(seconds)

    async def _handle_once(self, handle: Handle, message: Message) -> None:
        if not await self._store.was_handled(message.event_id):
            await handle(message)
            await self._store.mark_handled(message.event_id, room_id=message.room_id)

    def _finish(self, message: Message) -> None:
        self._in_hand.discard(message.event_id)
        self._progress.done(message.event_id)

    async def _save_position_soon(self) -> None:
        try:
            await self.save_position()
        except StoreError as e:
            self._log.warning("The place in the timeline was not saved: %s", e)
