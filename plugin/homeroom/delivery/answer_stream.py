"""Streaming: an answer appears while the platform is still at it, and ends whole or says why not.

    first message   as soon as there is text, after a moment that gathers the first words
    edits           of that message, at a pace that slows, and slower where the homeserver asks
                    for it; such an edit is never worth waiting for: the next one has fresher text
    last edit       the whole text; it waits as long as it takes

An answer that is there at once is one plain message. Of turns there are so many at a time, and one
is over as soon as the platform has said everything, however long the homeserver takes to show it.
What an unfinished answer consists of is kept in the table `open_answers`, so that after a crash
the same messages are gone on with: the platform is asked again under the same key, and the last
edit makes them whole, whatever the first attempt had come to. One whose question does not come
again is ended by the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

from mautrix.types import EventID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.conversation.answer_parts import OpenAnswer, Question, shown_text
from ..domain.conversation.text_parts import closed, divide
from ..matrix.errors import HomeserverError, RateLimited, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.typing_notice import TypingNotice
from ..platforms import Platform, PlatformError, Turn
from ..storage import Store, StoreError

GATHER: Final = 0.3
"""Seconds from the first words to the first message."""
EDIT_AFTER: Final = 1.0
"""Seconds to the first edit; the next ones come `SLOWER` each, up to `SLOWEST` seconds."""
SLOWER: Final = 1.5
SLOWEST: Final = 15.0
"""Seconds between two edits, at most."""
SHARE: Final = 10.0
"""So many times as long as the last one took is waited between two edits: what a busy homeserver
can do is better used for answers that are finished."""
RESUMED: Final = 4.0
"""So many times as long until the first edit of an answer that is given again: much of it may come
at once, and nobody wants to see it shrink."""
CLOSING: Final = 3.0
"""Seconds that a stop waits for an answer to say that it goes on later."""


class Streamer:
    def __init__(
        self,
        *,
        homeserver: Homeserver,
        platform: Platform,
        speaker: Speaker,
        typing: TypingNotice,
        store: Store,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._homeserver = homeserver
        self._platform = platform
        self._speaker = speaker
        self._typing = typing
        self._turns = asyncio.Semaphore(settings().parallel_turns)
        self._store = store
        self._settings = settings
        self._log = log
        self._under_way: dict[EventID, _Reading] = {}
        self._open: dict[EventID, list[OpenAnswer]] = {}
        self._said: dict[EventID, tuple[str, str | None]] = {}
        """What the platform has said, while the homeserver cannot be had for it."""
        self._limits = _Limits()
        self._is_stopping = False

    @property
    def in_line(self) -> int:
        """How many answers wait until the platform has a turn for them."""
        return sum(reading.is_in_line for reading in self._under_way.values())

    async def load(self) -> None:
        """Take over what an earlier life of the plugin left open."""
        self.remember(await self._store.open_answers())

    def remember(self, answers: Iterable[OpenAnswer]) -> None:
        """Take over messages of open answers, in their order, unless the answer is known."""
        found: dict[EventID, list[OpenAnswer]] = {}
        for answer in answers:
            found.setdefault(answer.question.event_id, []).append(answer)
        self._open = {**found, **self._open}

    def stop(self) -> None:
        """From now on whoever is cancelled goes on after a restart, and says so."""
        self._is_stopping = True

    def withdraw(self, event_id: EventID) -> None:
        """End the answer to an event that is redacted, if it is under way."""
        if event_id in self._under_way:
            self._under_way[event_id].withdraw()

    async def answer(self, question: Question, turn: Turn) -> None:
        """Have the platform answer, and show it.

        Raises:
            Unavailable, StoreError: it is not finished, and has to be tried again.
        """
        event_id = question.event_id
        messages = _Messages(
            question,
            speaker=self._speaker,
            store=self._store,
            open_=self._open.setdefault(event_id, []),
        )
        try:
            if event_id not in self._said:
                self._said[event_id] = await self._collect_answer(turn, messages)
            await self._finish(messages, *self._said[event_id])
        except Refused:
            self._said.pop(event_id, None)
            await self._close(event_id)
            raise
        finally:
            if not messages.open:
                self._open.pop(event_id, None)
        del self._said[event_id]

    async def end(self, event_id: EventID, why: str) -> None:
        """End an answer that was left open and will not be given again, with a sentence.

        What the room shows stays. Does nothing if no answer to the event is open.
        """
        self._said.pop(event_id, None)
        left = self._open.get(event_id)
        if not left:
            return
        try:
            await self._end(left[-1], why)
        except Refused as e:
            self._log.info("An answer to %s stays unfinished: %s", event_id, e)
        await self._close(event_id)

    async def end_abandoned(self, *, is_coming: Callable[[EventID], bool]) -> None:
        """End the answers to events that are not given to the inbox again."""
        abandoned = [answers[-1] for answers in self._open.values() if answers]
        for event_id, room_id in [(a.question.event_id, a.question.room_id) for a in abandoned]:
            if is_coming(event_id):
                continue
            try:
                await self.end(event_id, replies.INTERRUPTED)
                await self._store.mark_handled(event_id, room_id=room_id)
            except (HomeserverError, StoreError) as e:
                self._log.warning("The answer to %s is still unfinished: %s", event_id, e)

    async def _collect_answer(self, turn: Turn, messages: _Messages) -> tuple[str, str | None]:
        """What the platform says, shown as it comes; and the sentence for why it is not whole."""
        reading = _Reading(
            self._platform, turn, turns=self._turns, seconds=self._settings().turn_timeout
        )
        self._under_way[turn.event_id] = reading
        try:
            async with self._typing.shown(turn.room_id):
                await self._show_growing(reading, messages)
            return reading.text.strip(), self._what_went_wrong(reading)
        except asyncio.CancelledError:
            if self._is_stopping:
                await self._pause(messages, reading.text)
            raise
        except KeyboardInterrupt:
            # A signal stops maubot, and finds us at work: nobody will cancel what it ended.
            with suppress(Exception):
                await self._pause(messages, reading.text)
            raise
        finally:
            del self._under_way[turn.event_id]
            await reading.stop()

    async def _show_growing(self, reading: _Reading, messages: _Messages) -> None:
        """Show what there is, again and again, until the platform has finished."""
        interval = EDIT_AFTER * (RESUMED if messages.open else 1)
        await reading.has_begun.wait()
        await reading.done_within(interval if messages.open else GATHER)
        while not reading.is_done:
            started = time.monotonic()
            try:
                if text := reading.text.strip():
                    await messages.show(text, is_whole=False)
            except RateLimited as e:
                self._limits.note(e.seconds)
                interval = min(interval * 2, SLOWEST)
            except Unavailable as e:
                if not messages.open:
                    raise
                self._log.debug("An edit was left out: %s", e)
            busy = min((time.monotonic() - started) * SHARE, SLOWEST)
            await reading.done_within(max(interval, busy, self._limits.seconds_left))
            interval = min(interval * SLOWER, SLOWEST)

    def _what_went_wrong(self, reading: _Reading) -> str | None:
        """The sentence for an answer that did not come, or not to its end; None: it is whole.

        Raises:
            Unavailable, StoreError: nobody is to blame; it has to be tried again.
        """
        event_id = reading.event_id
        try:
            reading.result()
        except asyncio.CancelledError:
            return replies.WITHDRAWN
        except asyncio.TimeoutError:
            self._log.warning("The platform took too long over %s", event_id)
            return replies.TOOK_TOO_LONG
        except PlatformError as e:
            self._log.warning("The platform did not answer %s: %s", event_id, e)
            return replies.TROUBLES[e.trouble]
        except (HomeserverError, StoreError):
            raise
        except Exception:  # noqa: BLE001 (a bug of a platform is not one of its chats)
            self._log.exception("Error while the platform answered %s", event_id)
            return replies.NO_ANSWER
        return None

    async def _finish(self, messages: _Messages, text: str, trouble: str | None) -> None:
        """The last word: the whole text, or what there is of it and why it ends there."""
        question = messages.question
        if trouble is not None and text:
            text = _with_note(text, trouble)
        if not text and not messages.open:
            if trouble != replies.WITHDRAWN:
                await self._speaker.notice(
                    question.room_id,
                    trouble or replies.EMPTY,
                    about=question.event_id,
                    thread_root=question.thread_root,
                )
            return
        await messages.show(text or f"*{trouble or replies.EMPTY}*", is_whole=True)
        if messages.open:
            await self._close(question.event_id)

    async def _pause(self, messages: _Messages, text: str) -> None:
        """Say that the answer goes on after the restart: if that can be said at once."""
        if messages.open and text.strip():
            note = _with_note(text.strip(), replies.PAUSED)
            with suppress(HomeserverError, StoreError, asyncio.TimeoutError):
                await asyncio.wait_for(messages.show(note, is_whole=False), CLOSING)

    async def _end(self, last: OpenAnswer, why: str) -> None:
        question, answer_id = last.question, last.answer_id
        if answer_id is None:
            # Whether it was sent is not known; if it was, this is its ID.
            answer_id = await self._speaker.answer(
                question, f"*{why}*", part=last.part, has_more=False
            )
        event = await self._homeserver.message(question.room_id, answer_id)
        text = shown_text(event)
        if text is not None:
            for note in (replies.PAUSED, why):
                text = text.removesuffix(f"*{note}*").rstrip()
            if text:
                text = _with_note(text, why)
                await self._speaker.edit_answer(question, answer_id, text, has_more=False)
        elif event is not None:
            # What an encrypted message says is not at hand.
            await self._speaker.answer(question, f"*{why}*", part=last.part + 1, has_more=False)

    async def _close(self, event_id: EventID) -> None:
        await self._store.close_answer(event_id)
        if (left := self._open.pop(event_id, None)) is not None:
            left.clear()


class _Reading:
    """The pieces of an answer as they come in, whatever the writing waits for.

    Args:
        turns: what it waits in line for, before the platform is asked.
        seconds: how long the platform may take from then on.
    """

    def __init__(
        self, platform: Platform, turn: Turn, *, turns: asyncio.Semaphore, seconds: float
    ) -> None:
        self.event_id = turn.event_id
        self.is_in_line = True
        self.has_begun = asyncio.Event()
        """There are words, or there will be none."""
        self._platform = platform
        self._pieces: list[str] = []
        self._task = asyncio.create_task(
            self._take_turn(turn, turns, seconds), name=f"homeroom: reading {turn.event_id}"
        )
        self._task.add_done_callback(lambda _: self.has_begun.set())

    @property
    def text(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def is_done(self) -> bool:
        return self._task.done()

    async def done_within(self, seconds: float) -> None:
        """Wait until it is done, so long at most."""
        await asyncio.wait({self._task}, timeout=seconds)

    def result(self) -> None:
        """Raise what ended it, if it did not end by itself."""
        self._task.result()

    def withdraw(self) -> None:
        self._task.cancel()

    async def stop(self) -> None:
        """Read no more: whoever is answering is told so."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _take_turn(self, turn: Turn, turns: asyncio.Semaphore, seconds: float) -> None:
        async with turns:
            self.is_in_line = False
            await asyncio.wait_for(self._read(turn), seconds)

    async def _read(self, turn: Turn) -> None:
        async with aclosing(self._platform.answer(turn)) as pieces:
            async for piece in pieces:
                self._pieces.append(piece)
                if piece.strip():
                    self.has_begun.set()


@dataclass(slots=True)
class _Message:
    """One message of an answer, and what it shows; None: not known."""

    answer_id: EventID | None = None
    text: str | None = None
    has_more: bool | None = None


class _Messages:
    """The messages of one answer.

    Args:
        open_: those that were left unfinished; kept up to date here.
    """

    def __init__(
        self, question: Question, *, speaker: Speaker, store: Store, open_: list[OpenAnswer]
    ) -> None:
        self.question = question
        self.open = open_
        self._speaker = speaker
        self._store = store
        self._messages = [_Message(answer.answer_id) for answer in open_]

    async def show(self, text: str, *, is_whole: bool) -> None:
        """Make the room show this text, and whether there is more to come.

        Raises:
            RateLimited: not now; only while there is more to come.
        """
        encrypted = await self._speaker.is_encrypted(self.question.room_id)
        parts = divide(text, encrypted=encrypted)
        last = len(parts) - 1
        for number, part in enumerate(parts):
            is_last = is_whole and number == last
            best_effort = not is_whole and number == last
            await self._show(number, part, has_more=not is_last, best_effort=best_effort)
        if is_whole:
            for number in range(len(parts), len(self._messages)):
                await self._show(number, f"*{replies.SHORTER}*", has_more=False, best_effort=False)

    async def _show(self, number: int, text: str, *, has_more: bool, best_effort: bool) -> None:
        if number == len(self._messages):
            await self._send(number, text, has_more=has_more)
        message = self._messages[number]
        if message.answer_id is None:
            # It may have been sent, and then this is its ID, and it shows what it showed then.
            message.answer_id = await self._speaker.answer(
                self.question, text, part=number, has_more=True
            )
            await self._note(number, message.answer_id)
        if (message.text, message.has_more) != (text, has_more):
            await self._speaker.edit_answer(
                self.question, message.answer_id, text, has_more=has_more, best_effort=best_effort
            )
            message.text, message.has_more = text, has_more

    async def _send(self, number: int, text: str, *, has_more: bool) -> None:
        """Send a new message; an unfinished one is noted before: that may be our last deed."""
        if has_more:
            await self._note(number, None)
        message = _Message(text=text, has_more=has_more)
        message.answer_id = await self._speaker.answer(
            self.question, text, part=number, has_more=has_more
        )
        self._messages.append(message)
        if has_more:
            await self._note(number, message.answer_id)

    async def _note(self, number: int, answer_id: EventID | None) -> None:
        answer = OpenAnswer(question=self.question, part=number, answer_id=answer_id)
        await self._store.note_open_answer(answer)
        self.open[number:] = [answer]


class _Limits:
    """Until when the homeserver wants fewer requests: of all answers together."""

    def __init__(self) -> None:
        self._until = 0.0

    def note(self, seconds: float) -> None:
        self._until = max(self._until, time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._until - time.monotonic())


def _with_note(text: str, note: str) -> str:
    """The text in a readable state, with a sentence of our own below it."""
    return f"{closed(text)}\n\n*{note}*" if text else f"*{note}*"
