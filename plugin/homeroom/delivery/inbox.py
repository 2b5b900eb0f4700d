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
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Iterable,
    Mapping,
)
from typing import Any, Final

from mautrix.types import EventID, RoomID, SyncToken, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.sync.news import Encrypted, Message
from ..domain.sync.position import Progress
from ..matrix.errors import NotSignedIn, Unavailable
from ..runtime import clock
from ..runtime.backoff import waits
from ..runtime.tasks import Background
from ..storage import Store, StoreError

KEEP_HANDLED: Final = 7 * 24 * 60 * 60 * 1000
"""Milliseconds for which handled events are remembered: `catch_up.max_age` at most, so that
nothing older can come again."""
KEEP_AT_MOST: Final = 200_000
RETRY_AFTER: Final = (2, 5, 15, 60)
"""Seconds between attempts to answer a message; the last one repeats."""
PEOPLE: Final = 10
"""In one room so many times as many messages may wait as of one person."""
GIVE_UP_AFTER: Final = 60 * 60
"""Seconds after which a message that cannot be answered no longer holds up its room."""
SAVE_EVERY: Final = 5.0
"""Seconds between two savings of the position."""
REDACTED_AT_MOST: Final = 1000
"""Redacted events that are remembered."""

Handle = Callable[[Message], Awaitable[None]]
Open = Callable[[Message | Encrypted], Awaitable[Message | None]]


class Inbox:
    """Messages on their way.

    Args:
        handle: does all that is to be done about a message. Raises `Unavailable` or `StoreError`
            if it has to be tried again.
        turn_away: the same for a message that is one too many in its room.
        open_: says what is in it; None: nothing to do anything about. It may take its time over
            that: only the room waits. Raises what `handle` does.
        withdraw: is told of a message that is redacted before it is done.
        proof: what the rows of homes and chats prove at this moment.
    """

    def __init__(
        self,
        *,
        bot: UserID,
        handle: Handle,
        turn_away: Handle,
        open_: Open,
        withdraw: Callable[[EventID], None],
        checkpoint: Callable[[], str | None],
        store: Store,
        background: Background,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._bot = bot
        self._handle = handle
        self._turn_away = turn_away
        self._open = open_
        self._withdraw = withdraw
        self._checkpoint = checkpoint
        self._store = store
        self._background = background
        self._settings = settings
        self._log = log
        self._progress = Progress()
        self._waiting: dict[RoomID, deque[Message | Encrypted]] = {}
        self._in_hand: dict[EventID, int] = {}
        self._redacted: dict[EventID, None] = {}
        self._done = 0
        self._activity: dict[RoomID, int] = {}
        self._stored_activity_is_read = False
        self._refused: deque[Message | Encrypted] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._saved: str | None = None
        self._saved_at = 0.0

    @property
    def not_done(self) -> int:
        """How many messages wait or are worked on."""
        return len(self._in_hand)

    @property
    def busy_rooms(self) -> int:
        """How many rooms they are in; each works on one, or waits with it for the platform."""
        return len(self._waiting)

    @property
    def done(self) -> int:
        """How many messages were done since the start."""
        return self._done

    @property
    def behind_since(self) -> int | None:
        """When the oldest message that is not done came in, in milliseconds since 1970.

        The position that is kept is from before that. None: everything is done.
        """
        return next(iter(self._in_hand.values()), None)

    async def activity(self) -> Mapping[RoomID, int]:
        """When the last message of each room was done, in milliseconds since 1970.

        What was before the start is read from the store when somebody first asks.
        """
        if not self._stored_activity_is_read:
            stored = await self._store.last_handled()
            self._stored_activity_is_read = True
            self._activity = {**stored, **self._activity}
        return self._activity

    def take_in(
        self,
        messages: Iterable[Message | Encrypted],
        *,
        position: str | None,
        beside: Iterable[Hashable] = (),
    ) -> None:
        """Take in the messages of one response that ends at `position`; never waits.

        `beside` is what somebody else sees to because of the response: `finish` ends each.
        Synchronous, so that responses that come in one after the other stay in that order.
        """
        messages = [each for each in messages if not self._is_over(each.event_id)]
        if position is not None:
            work: set[Hashable] = {message.event_id for message in messages}
            self._progress.begin(position, work | set(beside))
        for message in messages:
            if not self.has(message.event_id):
                self._in_hand[message.event_id] = clock.now()
                self._queue(message)
        if not messages:
            self._background.start(self._save_position_soon(), name="saving the position")

    def finish(self, work: Hashable) -> None:
        """What was taken in as `beside` is done."""
        self._progress.done(work)
        self._background.start(self._save_position_soon(), name="saving the position")

    def has(self, event_id: EventID) -> bool:
        """Whether the message waits or is worked on."""
        return event_id in self._in_hand

    def withdraw(self, event_id: EventID) -> None:
        """An event is redacted; it keeps its place in line, if it has one.

        If it has none, it is not taken in any more: Synapse gives out the same answer to the same
        `/sync` for two minutes, so an event may come with its content after its redaction.
        """
        self._redacted[event_id] = None
        if len(self._redacted) > REDACTED_AT_MOST:
            del self._redacted[next(iter(self._redacted))]
        if self.has(event_id):
            self._withdraw(event_id)

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
        self._saved_at = time.monotonic()
        await self._store.save_position(
            SyncToken(position), bot=self._bot, checkpoint=self._checkpoint()
        )
        self._saved = position  # not before: whoever saves may be stopped in the middle of it

    async def prune(self) -> None:
        """Forget handled events that cannot come again."""
        await self._store.prune(older_than=KEEP_HANDLED, keep=KEEP_AT_MOST)

    def _is_over(self, event_id: EventID) -> bool:
        """Whether an event was redacted before it came in."""
        return event_id in self._redacted and not self.has(event_id)

    def _queue(self, message: Message | Encrypted) -> None:
        waiting = self._waiting.get(message.room_id)
        if waiting is None:
            self._waiting[message.room_id] = deque([message])
            self._start(self._work(message.room_id), name=f"answering in {message.room_id}")
        elif not message.is_live or self._has_place(message, waiting):
            waiting.append(message)  # nobody is turned away because the bot was away
        else:
            self._refused.append(message)
            if len(self._refused) == 1:
                self._start(self._refuse(), name="turning messages away")

    def _has_place(
        self, message: Message | Encrypted, waiting: Collection[Message | Encrypted]
    ) -> bool:
        """Who writes much must not take the places of the others in the room."""
        limit = self._settings().waiting_messages
        own = sum(other.sender == message.sender for other in waiting)
        return own < limit and len(waiting) < limit * PEOPLE

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
                await self._until_it_works(self._handle_once, waiting[0])
                self._finish(waiting.popleft())
                await self._save_position_soon()
        finally:
            del self._waiting[room_id]

    async def _refuse(self) -> None:
        """Turn messages away one after the other; that holds nobody up."""
        while self._refused and not self._stopping:
            message = self._refused[0]
            await self._until_it_works(self._turn_away_once, message)
            self._finish(message)
            self._refused.popleft()

    async def _until_it_works(
        self,
        handle: Callable[[Message | Encrypted], Awaitable[None]],
        message: Message | Encrypted,
    ) -> None:
        """While the homeserver or the database cannot be had, the room waits with its message."""
        give_up_at = time.monotonic() + GIVE_UP_AFTER
        for seconds in waits(RETRY_AFTER):
            try:
                await handle(message)
                return
            except (StoreError, Unavailable) as e:
                if time.monotonic() + seconds > give_up_at and not isinstance(e, NotSignedIn):
                    self._log.error("%s is given up: %s", message.event_id, e)
                    return
                self._log.warning(
                    "%s is not answered yet: %s; again in %d s", message.event_id, e, seconds
                )
            except Exception:  # noqa: BLE001 (a bug: one message must not stop its room)
                self._log.exception("Error while answering %s", message.event_id)
                return
            await asyncio.sleep(seconds)

    async def _handle_once(self, message: Message | Encrypted) -> None:
        if await self._store.was_handled(message.event_id):
            return
        opened = await self._open(message)
        if opened is not None:
            await self._handle(opened)
        await self._store.mark_handled(message.event_id, room_id=message.room_id)

    async def _turn_away_once(self, message: Message | Encrypted) -> None:
        if await self._store.was_handled(message.event_id):
            return
        opened = await self._open(message)
        if opened is not None:
            await self._turn_away(opened)
        await self._store.mark_handled(message.event_id, room_id=message.room_id)

    def _finish(self, message: Message | Encrypted) -> None:
        self._in_hand.pop(message.event_id, None)
        self._activity[message.room_id] = clock.now()
        self._done += 1
        self._progress.done(message.event_id)

    async def _save_position_soon(self) -> None:
        try:
            await self.save_position()
        except StoreError as e:
            self._log.warning("The place in the timeline was not saved: %s", e)
