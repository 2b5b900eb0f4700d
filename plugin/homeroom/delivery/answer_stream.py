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
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.conversation.answer_parts import OpenAnswer, Question, shown_text
from ..domain.conversation.asked_again import Answered, answer_to
from ..domain.conversation.turn import Turn
from ..domain.conversation.unanswered import is_finished
from ..domain.json_shapes import as_dict
from ..domain.sync.news import OwnMessage
from ..matrix.errors import HomeserverError, RateLimited, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.outgoing import Priority
from ..matrix.typing_notice import TypingNotice
from ..platforms import Platform, PlatformError
from ..runtime.fair_turns import FairTurns
from ..runtime.timeouts import timeout
from ..storage import Store, StoreError
from .answer_messages import AnswerMessages, with_note
from .platform_reading import PlatformReading
from .revisions import Superseded

GATHER: Final = 0.3
"""Seconds from the first words to the first message."""
EDIT_AFTER: Final = 1.0
"""Seconds to the first edit; the next ones come `SLOWER` each, up to `STEADY` seconds."""
SLOWER: Final = 1.5
STEADY: Final = 3.0
"""Seconds between two edits, at most, as long as the homeserver has not asked for less: longer
looks as if nothing more would come."""
SLOWEST: Final = 15.0
"""Seconds between two edits, at most, where it asks again and again."""
SHARE: Final = 10.0
"""So many times as long as the last one took is waited between two edits, up to `STEADY` seconds:
what a busy homeserver can do is better used for answers that are finished."""
RESUMED: Final = 4.0
"""So many times as long until the first edit of an answer that is given again: much of it may come
at once, and nobody wants to see it shrink."""
LOOK_BACK: Final = 5
"""Pages of a room that are read to find a question and what was said after it."""
CLOSING: Final = 3.0
"""Seconds that a stop waits for an answer to say that it goes on later."""


@dataclass(slots=True, kw_only=True)
class Streamer:
    """Asks the agent, and shows its answers while they grow."""

    homeserver: Homeserver
    platform: Platform
    prepare: Callable[[Turn], Awaitable[None]]
    """Reads what the platform is told besides a turn."""
    speaker: Speaker
    typing: TypingNotice
    store: Store
    settings: Callable[[], Settings]
    log: TraceLogger
    _turns: FairTurns = field(init=False)
    _under_way: dict[EventID, PlatformReading] = field(default_factory=dict, init=False)
    _interrupted: dict[EventID, str] = field(default_factory=dict, init=False)
    """Why an answer under way was interrupted."""
    _superseded: set[EventID] = field(default_factory=set, init=False)
    """Questions under way that are asked once more as they are now."""
    _open: dict[EventID, list[OpenAnswer]] = field(default_factory=dict, init=False)
    _said: dict[EventID, tuple[str, str | None]] = field(default_factory=dict, init=False)
    """What the platform has said, by key, while the homeserver cannot be had for it."""
    _messages: dict[EventID, AnswerMessages] = field(default_factory=dict, init=False)
    """Of answers that are not finished: what is known of them is what was sent."""
    _limits: _RateLimits = field(init=False)
    _is_stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._turns = FairTurns(lambda: self.settings().parallel_turns)
        self._limits = _RateLimits()

    @property
    def in_line(self) -> int:
        """How many answers wait until the platform has a turn for them."""
        return self._turns.waiting

    def settings_changed(self) -> None:
        """Begin the turns for which there is room now."""
        self._turns.limit_changed()

    async def load(self) -> None:
        """Take over what an earlier life of the plugin left open."""
        self.remember(await self.store.open_answers())

    def remember(self, answers: Iterable[OpenAnswer]) -> None:
        """Take over messages of open answers, in their order, unless the answer is known."""
        found: dict[EventID, list[OpenAnswer]] = {}
        for answer in answers:
            found.setdefault(answer.question.event_id, []).append(answer)
        self._open = {**found, **self._open}

    def note_found(self, unfinished: Iterable[OpenAnswer], finished: Iterable[EventID]) -> None:
        """Take note of what the rooms say: it outranks what the database remembers."""
        for event_id in finished:
            if event_id not in self._under_way:
                self._open.pop(event_id, None)
        self.remember(unfinished)

    def stop(self) -> None:
        """From now on whoever is cancelled goes on after a restart, and says so."""
        self._is_stopping = True

    def interrupt(self, event_id: EventID, *, why: str) -> bool:
        """End the answer to an event with a sentence; whether it is under way."""
        if event_id not in self._under_way:
            return False
        self._interrupted[event_id] = why
        self._under_way[event_id].interrupt()
        return True

    def supersede(self, event_id: EventID) -> None:
        """Have a question that is under way asked once more: `answer` raises `Superseded`."""
        if event_id in self._under_way:
            self._superseded.add(event_id)
            self._under_way[event_id].interrupt()

    def is_said(self, key: EventID) -> bool:
        """Whether the agent has answered, and only the homeserver is waited for."""
        return key in self._said

    def question_of(self, answer_id: EventID) -> EventID | None:
        """The question that an unfinished answer's message belongs to."""
        for event_id, messages in self._open.items():
            if any(message.answer_id == answer_id for message in messages):
                return event_id
        for event_id, answer in self._messages.items():
            if answer_id in answer.shown:
                return event_id
        return None

    def answer_shown(self, message: OwnMessage) -> None:
        """A room shows a message of an answer, maybe before the homeserver says it was sent."""
        if (answer := self._messages.get(message.answers)) is not None:
            answer.shown.add(message.event_id)

    async def answer(
        self, question: Question, turn: Turn, *, earlier: Answered | None = None
    ) -> None:
        """Have the platform answer, and show it.

        Args:
            earlier: the answer whose place this one takes.

        Raises:
            Unavailable, StoreError: it is not finished, and has to be tried again.
            Superseded: it is to be asked once more, as it is now.
        """
        event_id = question.event_id
        messages = self._messages.get(event_id) or self._messages_of(question, earlier)
        messages.question = question
        self._messages[event_id], self._open[event_id] = messages, messages.open
        try:
            if turn.key not in self._said:
                self._said[turn.key] = await self._collect_answer(turn, messages)
            await self._finish(messages, *self._said[turn.key])
        except Refused:
            self._said.pop(turn.key, None)
            await self._close(event_id)
            raise
        finally:
            if not messages.open:
                self._open.pop(event_id, None)
        del self._said[turn.key]
        self._messages.pop(event_id, None)

    def _messages_of(self, question: Question, earlier: Answered | None) -> AnswerMessages:
        """What the answer consists of so far."""
        return AnswerMessages(
            question,
            speaker=self.speaker,
            store=self.store,
            find=self._messages_in_room,
            left_open=self._open.get(question.event_id, ())
            if earlier is None
            else [
                OpenAnswer(question=question, part=part, answer_id=answer_id)
                for part, answer_id in enumerate(earlier.messages)
            ],
            holds_answer=earlier is not None and not earlier.is_unfinished,
        )

    async def _messages_in_room(self, question: Question) -> tuple[EventID, ...]:
        """The messages of an answer that the room itself shows, in their order."""
        events: list[Any] = []
        async for page, _ in self.homeserver.pages_back(question.room_id, at_most=LOOK_BACK):
            events += page
            if any(as_dict(each).get("event_id") == question.event_id for each in page):
                break
        bot = self.homeserver.bot
        return answer_to(question.event_id, reversed(events), bot=bot).messages

    async def end(self, event_id: EventID, why: str) -> bool:
        """End an answer that was left open and will not be given again, with a sentence.

        What the room shows stays. Does nothing, and is False, if no answer to the event is open.
        """
        self._said.pop(event_id, None)
        left = self._open.get(event_id)
        if not left:
            return False
        try:
            await self._end(left[-1], why)
        except Refused as e:
            self.log.info("An answer to %s stays unfinished: %s", event_id, e)
        await self._close(event_id)
        return True

    async def end_again(self, question: Question, earlier: Answered, why: str) -> None:
        """Give an answer once more no further, and say why; a life before may have begun to."""
        if earlier.is_unfinished and earlier.messages:
            last = len(earlier.messages) - 1
            answer_id = earlier.messages[last]
            self.remember([OpenAnswer(question=question, part=last, answer_id=answer_id)])
            await self.end(question.event_id, why)
        elif why != replies.WITHDRAWN:
            await self._say_why(question, why)

    async def end_abandoned(
        self,
        *,
        until_done: Callable[[RoomID], Awaitable[None]],
    ) -> None:
        """End the answers that nobody goes on with, because what asked for them is gone.

        Args:
            until_done: waits until all that was said in a room is read and handled.
        """

        async def end(question: Question) -> None:
            event_id, room_id = question.asked or question.event_id, question.room_id
            await until_done(room_id)
            if question.event_id not in self._open:
                return
            try:
                are_gone = [
                    await self._is_deleted(room_id, each) for each in {question.event_id, event_id}
                ]
                why = replies.WITHDRAWN if any(are_gone) else replies.INTERRUPTED
                await self.end(question.event_id, why)
                await self.store.mark_handled(event_id, room_id=room_id)
            except (HomeserverError, StoreError) as e:
                self.log.warning("The answer to %s is still unfinished: %s", event_id, e)

        left = [answers[-1].question for answers in self._open.values() if answers]
        await asyncio.gather(*map(end, left))

    async def _collect_answer(
        self, turn: Turn, messages: AnswerMessages
    ) -> tuple[str, str | None]:
        """What the platform says, shown as it comes; and the sentence for why it is not whole."""
        reading = PlatformReading(
            self.platform,
            turn,
            turns=self._turns,
            prepare=self.prepare,
            seconds=self.settings().turn_timeout,
        )
        self._under_way[turn.event_id] = reading
        try:
            async with self.typing.shown(turn.room_id):
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
            self._interrupted.pop(turn.event_id, None)
            self._superseded.discard(turn.event_id)
            await reading.stop()

    async def _show_growing(self, reading: PlatformReading, messages: AnswerMessages) -> None:
        """Show what there is, again and again, until the platform has finished."""
        is_resumed = bool(messages.open) and not messages.holds_answer
        interval = EDIT_AFTER * (RESUMED if is_resumed else 1)
        steady = min(STEADY, SLOWEST)
        await reading.has_begun.wait()
        await reading.done_within(interval if is_resumed else GATHER)
        while not reading.is_done:
            started, is_limited = time.monotonic(), False
            try:
                if text := reading.text.strip():
                    await messages.show(text, is_whole=False)
            except RateLimited as e:
                self._limits.note(e.seconds)
                interval, is_limited = min(interval * 2, SLOWEST), True
            except Unavailable as e:
                if not messages.open:
                    raise
                self.log.debug("An edit was left out: %s", e)
            busy = min((time.monotonic() - started) * SHARE, steady)
            await reading.done_within(max(interval, busy, self._limits.seconds_left))
            if not is_limited:
                interval = min(interval * SLOWER, steady) if interval < steady else steady

    def _what_went_wrong(self, reading: PlatformReading) -> str | None:
        """The sentence for an answer that did not come, or not to its end; None: it is whole.

        Raises:
            Unavailable, StoreError: nobody is to blame; it has to be tried again.
            Superseded: it is to be asked once more.
        """
        event_id = reading.event_id
        try:
            reading.result()
        except asyncio.CancelledError:
            if event_id in self._superseded and event_id not in self._interrupted:
                raise Superseded from None
            return self._interrupted.pop(event_id, replies.WITHDRAWN)
        except asyncio.TimeoutError:
            self.log.warning("The platform took too long over %s", event_id)
            return replies.TOOK_TOO_LONG
        except PlatformError as e:
            self.log.warning("The platform did not answer %s: %s", event_id, e)
            return replies.TROUBLES[e.trouble]
        except (HomeserverError, StoreError):
            raise
        except Exception:
            self.log.exception("Error while the platform answered %s", event_id)
            return replies.NO_ANSWER
        return None

    async def _finish(self, messages: AnswerMessages, text: str, trouble: str | None) -> None:
        """The last word: the whole text, or what there is of it and why it ends there."""
        question = messages.question
        if text and (note := trouble or question.note):
            text = with_note(text, note)
        if not text and (messages.holds_answer or not messages.open):
            if trouble != replies.WITHDRAWN:
                await self._say_why(question, trouble or replies.EMPTY)
            if messages.open:
                await self._close(question.event_id)
            return
        await messages.show(text or f"*{trouble or replies.EMPTY}*", is_whole=True)
        if messages.open:
            await self._close(question.event_id)

    async def _is_deleted(self, room_id: RoomID, event_id: EventID) -> bool:
        event = await self.homeserver.message(room_id, event_id)
        return event is not None and not event.get("content")

    async def _say_why(self, question: Question, why: str) -> None:
        """Why there is no answer: that is all there is to say to what asked for one."""
        await self.speaker.notice(
            question.room_id,
            why,
            about=question.asked or question.event_id,
            thread_root=question.thread_root,
            priority=Priority.ANSWER,
        )

    async def _pause(self, messages: AnswerMessages, text: str) -> None:
        """Say that the answer goes on after the restart: if that can be said at once."""
        if messages.open and text.strip():
            note = with_note(text.strip(), replies.PAUSED)
            with suppress(HomeserverError, StoreError, asyncio.TimeoutError):
                async with timeout(CLOSING):
                    await messages.show(note, is_whole=False)

    async def _end(self, last: OpenAnswer, why: str) -> None:
        question, answer_id = last.question, last.answer_id
        if answer_id is None:
            # Whether it was sent is not known; if it was, this is its ID.
            sent = await self._messages_in_room(question)
            answer_id = (
                sent[last.part]
                if last.part < len(sent)
                else await self.speaker.answer(
                    question, f"*{why}*", part=last.part, has_more=False
                )
            )
        event = await self.homeserver.message(question.room_id, answer_id)
        if is_finished(event):
            return  # the database is older than the room
        text = shown_text(event)
        if text is not None:
            for note in (replies.PAUSED, why):
                text = text.removesuffix(f"*{note}*").rstrip()
            if text:
                text = with_note(text, why)
                edit = await self.speaker.edit_of_answer(question, answer_id, text, has_more=False)
                await self.speaker.send_edit(edit)
        elif event is not None:
            # What an encrypted message says is not at hand.
            await self.speaker.answer(question, f"*{why}*", part=last.part + 1, has_more=False)

    async def _close(self, event_id: EventID) -> None:
        await self.store.close_answer(event_id)
        self._messages.pop(event_id, None)
        if (left := self._open.pop(event_id, None)) is not None:
            left.clear()


class _RateLimits:
    """Until when the homeserver wants fewer requests: of all answers together."""

    def __init__(self) -> None:
        self._until = 0.0

    def note(self, seconds: float) -> None:
        self._until = max(self._until, time.monotonic() + seconds)

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._until - time.monotonic())
