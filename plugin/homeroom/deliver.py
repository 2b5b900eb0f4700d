"""Delivery: every message is taken in once, in its room's order, and answered once.

Messages come in by several ways (live, the response that maubot throws away, what happened while
the bot was down) and may come more than once; the inbox drops what is known. Rooms are worked on
side by side, each one message at a time. The position that is kept is one before which nothing
is open, so that a process that dies is given everything again; what was already answered then is
known from the store, and a reply sent twice has the same transaction ID.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Final

from mautrix.types import EventID, RoomID, SyncToken
from mautrix.util.logging import TraceLogger

from . import replies
from .adapters.errors import HomeserverError, Refused, Unavailable
from .adapters.homeserver import Homeserver
from .adapters.platforms import Platform, PlatformError, Turn
from .adapters.store import Store, StoreError
from .background import Background
from .commands import Commands
from .config import Settings
from .domain.commands import parse_command
from .domain.events import Message
from .domain.model import Chat, Status
from .domain.progress import Progress
from .provision import Provisioner
from .routes import Routes
from .speak import Speaker

TYPING_MS: Final = 30_000
KEEP_HANDLED: Final = 7 * 24 * 60 * 60 * 1000
"""Milliseconds for which handled events are remembered; older ones cannot come again, because a
position is never that old."""
KEEP_AT_MOST: Final = 200_000
SAVE_EVERY: Final = 5.0
"""Seconds between two savings of the position."""


class Delivery:
    def __init__(
        self,
        *,
        homeserver: Homeserver,
        platform: Platform,
        store: Store,
        routes: Routes,
        provisioner: Provisioner,
        commands: Commands,
        speaker: Speaker,
        background: Background,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._homeserver = homeserver
        self._platform = platform
        self._store = store
        self._routes = routes
        self._provisioner = provisioner
        self._commands = commands
        self._speaker = speaker
        self._background = background
        self._settings = settings
        self._log = log
        self._progress = Progress()
        self._waiting: dict[RoomID, deque[Message]] = {}
        self._in_hand: set[EventID] = set()
        self._turns = asyncio.Semaphore(settings().parallel_turns)
        self._told_paused: set[RoomID] = set()
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
            self._background.start(self.save_position(), name="saving the position")

    def _queue(self, message: Message) -> None:
        waiting = self._waiting.get(message.room_id)
        if waiting is not None:
            if len(waiting) >= self._settings().waiting_messages:
                self._background.start(self._turn_away(message), name="turning a message away")
                return
            waiting.append(message)
            return
        self._waiting[message.room_id] = deque([message])
        self._background.start(self._work(message.room_id), name=f"answering in {message.room_id}")

    async def _work(self, room_id: RoomID) -> None:
        waiting = self._waiting[room_id]
        try:
            while waiting:
                message = waiting[0]
                try:
                    async with self._turns:
                        await self._handle(message)
                    self._finish(message)
                    await self.save_position()
                except (StoreError, Unavailable) as e:
                    # Left open: whether it was answered is not known for good, so the position
                    # stays before it and the next start is given it again.
                    self._log.error("%s is left open: %s", message.event_id, e)
                waiting.popleft()
        finally:
            del self._waiting[room_id]

    def _finish(self, message: Message) -> None:
        self._in_hand.discard(message.event_id)
        self._progress.done(message.event_id)

    async def _turn_away(self, message: Message) -> None:
        try:
            if await self._store.claim_notice(message.room_id, "too-many", every_ms=60_000):
                await self._speaker.notice(
                    message.room_id, replies.TOO_MANY_WAITING, about=message.event_id
                )
            await self._store.mark_handled(message.event_id, room_id=message.room_id)
        except (HomeserverError, StoreError) as e:
            self._log.warning("Could not say in %s that it is too much: %s", message.room_id, e)
        finally:
            self._finish(message)

    async def _handle(self, message: Message) -> None:
        """One message, from the inbox to the last word about it."""
        if await self._store.was_handled(message.event_id):
            return
        try:
            chat = self._routes.chat(message.room_id)
            command = parse_command(message.text)
            if command is not None and await self._commands.run(command, message, chat):
                pass
            elif self._routes.is_paused:
                await self._say_paused(message)
            elif chat is None:
                await self._provisioner.answer_stray(
                    message.sender, room_id=message.room_id, event_id=message.event_id
                )
            elif self._is_answered(message, chat):
                await self._take_turn(message, chat)
        except Refused as e:
            self._log.error("Could not answer %s in %s: %s", message.event_id, message.room_id, e)
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ):
            # A bug. One message that runs into it must not stop its room.
            self._log.exception("Error while answering %s", message.event_id)
        await self._store.mark_handled(message.event_id, room_id=message.room_id)

    async def _say_paused(self, message: Message) -> None:
        """After a reset: once in each room that was a chat."""
        if self._routes.was_chat(message.room_id) and message.room_id not in self._told_paused:
            self._told_paused.add(message.room_id)
            await self._notice(message, replies.RESET_PAUSED)

    def _is_answered(self, message: Message, chat: Chat) -> bool:
        return self._settings().answer_members or message.sender == chat.matrix_user_id

    async def _take_turn(self, message: Message, chat: Chat) -> None:
        if message.sender == chat.matrix_user_id:
            self._background.start(
                self._provisioner.complete(chat.matrix_user_id), name="finishing a home"
            )
        if chat.status is Status.ARCHIVED:
            await self._notice(message, replies.ARCHIVED)
            return
        assert chat.platform_chat_id is not None
        assert chat.chat_id is not None
        turn = Turn(
            platform_chat_id=chat.platform_chat_id,
            chat_id=chat.chat_id,
            user_id=message.sender,
            room_id=message.room_id,
            event_id=message.event_id,
            text=message.text,
        )
        try:
            async with self._typing(message.room_id):
                answer = await asyncio.wait_for(
                    self._platform.answer(turn), self._settings().turn_timeout
                )
        except asyncio.TimeoutError:
            self._log.warning("The platform took too long over %s", message.event_id)
            await self._notice(message, replies.TOOK_TOO_LONG)
        except PlatformError as e:
            self._log.warning("The platform did not answer %s: %s", message.event_id, e)
            await self._notice(message, replies.NO_ANSWER)
        else:
            if answer.strip():
                await self._speaker.answer(
                    message.room_id,
                    answer,
                    about=message.event_id,
                    thread_root=message.thread_root,
                )

    async def _notice(self, message: Message, text: str) -> None:
        await self._speaker.notice(
            message.room_id, text, about=message.event_id, thread_root=message.thread_root
        )

    @asynccontextmanager
    async def _typing(self, room_id: RoomID) -> AsyncIterator[None]:
        """Show typing while the platform works. Decoration: it holds nothing up, nor fails."""

        async def keep_typing() -> None:
            with suppress(HomeserverError):
                while True:
                    await asyncio.sleep(1)  # an answer that comes at once needs no typing
                    await self._homeserver.set_typing(room_id, milliseconds=TYPING_MS)
                    await asyncio.sleep(TYPING_MS / 1000 * 0.8)

        task = asyncio.create_task(keep_typing())
        try:
            yield
        finally:
            task.cancel()

    async def save_position(self, *, now: bool = False) -> None:
        """Persist how far everything is handled, every few seconds at most."""
        position = self._progress.position
        if position is None or position == self._saved:
            return
        if not now and time.monotonic() - self._saved_at < SAVE_EVERY:
            return
        self._saved, self._saved_at = position, time.monotonic()
        await self._store.save_position(SyncToken(position), bot=self._homeserver.bot)

    async def prune(self) -> None:
        """Forget handled events that cannot come again."""
        await self._store.prune(older_than=KEEP_HANDLED, keep=KEEP_AT_MOST)
