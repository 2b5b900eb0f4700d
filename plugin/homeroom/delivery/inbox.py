"""The inbox: every message is taken in once, in its room's order, and stays until it is done.

Messages come in by several ways and may come more than once; what is known is dropped. Rooms are
worked on side by side, each one message at a time. The position that is kept is one before which
nothing is open, so a process that dies is given everything again that was not done; what was done
by then is known from the store. A message that cannot be answered for long holds up only its own
room: the room's place is parked (`parking.py`), and the position goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any, Final, Protocol

from mautrix.types import EventID, RoomID, SyncToken, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.commands import STOP_REACTIONS, Stop, parse_command
from ..domain.conversation.asked_again import may_ask_again
from ..domain.sync.news import Edited, Encrypted, Message, Reaction, Redaction, asked_again
from ..domain.sync.position import Progress
from ..matrix.errors import NotSignedIn, Unavailable
from ..runtime import clock
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..storage import Store, StoreError
from .attempts import Attempts
from .command_rooms import CommandRooms
from .handled import HandledMarks
from .parking import Parking
from .revisions import Revisions, Superseded

KEEP_HANDLED: Final = 7 * 24 * 60 * 60 * 1000
"""Milliseconds for which handled events are remembered: `catch_up.max_age` at most, so that
nothing older can come again."""
KEEP_AT_MOST: Final = 200_000
ANSWER_AGAIN: Final = RetryPolicy(pauses=(2, 5, 15, 60), within=60 * 60)
"""After an hour a message that cannot be answered no longer holds up its room."""
PEOPLE: Final = 10
"""In one room so many times as many messages may wait as of one person."""
SAVE_EVERY: Final = 5.0
"""Seconds between two savings of the position."""

Lines = dict[RoomID, deque[Message | Encrypted]]
"""What waits in each room, in its order; the first one is worked on."""
Handle = Callable[[Message], Awaitable[None]]
Decrypt = Callable[[Message | Encrypted, Edited | None], Awaitable[Message | None]]


class Interrupt(Protocol):
    """`MessageHandler.interrupt`."""

    def __call__(self, event_id: EventID, *, is_redacted: bool, because_of: EventID) -> None: ...


@dataclass(slots=True, kw_only=True)
class Inbox:
    """Messages on their way.

    Args:
        handle: does all that is to be done about a message. Raises `Unavailable` or `StoreError`
            if it has to be tried again.
        turn_away: the same for a message that is one too many in its room.
        set_aside: says that a message is not answered, because the process dies of it.
        decrypt: says what is in it, as its newest edit has it; None: nothing to do anything
            about. It may take its time over that: only the room waits. Raises what `handle` does.
        peek: says what is in an encrypted one before its turn, if that can be told.
        interrupt: is told of a message that is redacted, or stopped, before it is done.
        stop_if_about: is told of a message that is stopped if it has this one answered again.
        question_of: what is being answered by an unfinished answer's message.
        supersede: is told of a message that is to be handled once more, as it is now.
        checkpoint: that of the rows of homes and chats at this moment; None: they have none.
    """

    bot: UserID
    handle: Handle
    turn_away: Handle
    set_aside: Callable[[Message | Encrypted], Awaitable[None]]
    decrypt: Decrypt
    peek: Callable[[Encrypted], Awaitable[Message | None]]
    interrupt: Interrupt
    stop_if_about: Callable[[EventID, EventID], None]
    question_of: Callable[[EventID], EventID]
    supersede: Callable[[EventID], None]
    command_rooms: CommandRooms
    checkpoint: Callable[[], str | None]
    handled: HandledMarks
    parking: Parking
    attempts: Attempts
    store: Store
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    _progress: Progress = field(default_factory=Progress, init=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, init=False)
    _waiting: Lines = field(default_factory=dict, init=False)
    _beside: Lines = field(default_factory=dict, init=False)
    """Commands that do not wait for the answers before them."""
    _in_hand: dict[EventID, int] = field(default_factory=dict, init=False)
    _begun: set[EventID] = field(default_factory=set, init=False)
    """What is worked on, and was not done before."""
    _late_stops: dict[RoomID, deque[Message]] = field(default_factory=dict, init=False)
    """`!stop`s in line of when the bot was away: what they stop is known when that begins."""
    _revisions: Revisions = field(default_factory=Revisions, init=False)
    _done: int = field(default=0, init=False)
    _activity: dict[RoomID, int] = field(default_factory=dict, init=False)
    _stored_activity_is_read: bool = field(default=False, init=False)
    _refused: deque[Message | Encrypted] = field(default_factory=deque, init=False)
    _workers: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _stopping: bool = field(default=False, init=False)
    _saved: str | None = field(default=None, init=False)
    _saved_at: float = field(default=0.0, init=False)
    _something_is_done: asyncio.Event = field(default_factory=asyncio.Event, init=False)

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
            stored = await self.store.last_handled()
            self._stored_activity_is_read = True
            self._activity = {**stored, **self._activity}
        return self._activity

    def begin(self, position: str | None) -> Hashable:
        """A response begins that ends at `position`; the work that `finish` ends.

        Without a position it is no account of what happened since another one.
        """
        work = ("response", next(self._numbers))
        self._progress.begin(position, {work})
        return work

    def add(self, work: Hashable, more: Iterable[Hashable]) -> None:
        """What this work is part of is not over before these are `finish`ed, too."""
        self._progress.extend(work, more)

    def take_in(self, messages: Iterable[Message | Encrypted], *, work: Hashable) -> None:
        """Take in messages that belong to some work; never waits.

        Synchronous, so that responses that come in one after the other stay in that order.
        """
        messages = [each for each in messages if not self._is_over(each)]
        self._progress.extend(
            work, (each.event_id for each in messages if not self.parking.has(each.room_id))
        )
        for message in messages:
            if not self.has(message.event_id):
                self._in_hand[message.event_id] = clock.now()
                self._queue(message)
        for message in messages:
            if isinstance(message, Message):
                self._carry_out_stop_elsewhere(message)

    def finish(self, work: Hashable) -> None:
        """What was begun or added is done."""
        self._progress.done(work)
        self.background.start(self._save_position_soon(), name="saving the position")

    async def until_done(self, room_id: RoomID) -> None:
        """Wait until nothing is in hand in a room; for ever, once nothing is begun any more."""
        while self._stopping or room_id in self._waiting or room_id in self._beside:
            self._something_is_done.clear()
            await self._something_is_done.wait()

    def has(self, event_id: EventID) -> bool:
        """Whether the message waits or is worked on."""
        return event_id in self._in_hand

    def withdraw(self, redaction: Redaction) -> None:
        """An event is redacted; it keeps its place in line, if it has one.

        If it has none, it is not taken in any more: Synapse gives out the same answer to the same
        `/sync` for two minutes, so an event may come with its content after its redaction.
        """
        self._revisions.note_redaction(redaction)
        for message in self._in_line(redaction.room_id):
            if self.command_rooms.redacts(redaction, message):
                self.interrupt(message.event_id, is_redacted=True, because_of=redaction.redacts)

    def react(self, reaction: Reaction, *, is_in_order: bool) -> None:
        """Stop the answer that a reaction is on, or whose question it is on."""
        if reaction.key not in STOP_REACTIONS:
            return
        question = self.question_of(reaction.target)
        for message in self._before(reaction):
            about = message.about if isinstance(message, Message) else None
            if message.event_id == question or about in (question, reaction.target):
                self._stop([message], because_of=reaction)
            elif may_ask_again(message) and self.command_rooms.may_stop(message, reaction):
                self.stop_if_about(message.event_id, reaction.target)
        if is_in_order:
            self._revisions.note_stop(reaction)

    def _before(self, stop: Message | Reaction) -> list[Message | Encrypted]:
        """What is in line in a room and was said before this."""
        line = self._waiting.get(stop.room_id, ())
        before = takewhile(lambda each: each.event_id != stop.event_id, line)
        return [message for message in before if self._revisions.may_precede(message, stop)]

    def _stop(
        self, messages: Iterable[Message | Encrypted], *, because_of: Message | Reaction
    ) -> None:
        """Answer these messages no further, where whoever asks for that may."""
        for message in messages:
            if self.command_rooms.may_stop(message, because_of):
                self.interrupt(message.event_id, is_redacted=False, because_of=because_of.event_id)

    def _carry_out_stop(self, message: Message) -> None:
        """Stop what is answered in the same room before a command that says so."""
        before, command = self._before(message), parse_command(message.text)
        if isinstance(command, Stop) and not command.everything:
            if before and (message.is_live or before[0].event_id in self._begun):
                self._stop(before[:1], because_of=message)
            elif not message.is_live:
                self._late_stops.setdefault(message.room_id, deque()).append(message)
        elif command is not None and (
            isinstance(command, Stop) or self.command_rooms.ended_by(message) == message.room_id
        ):
            self._stop(before, because_of=message)
        else:
            return
        self._revisions.note_stop(message)

    async def _carry_out_late_stop(self, message: Message | Encrypted) -> None:
        """Stop the first message that is not done before a `!stop` of when the bot was away.

        Raises:
            StoreError: nobody knows whether that has stopped another one.
        """
        line = self._waiting.get(message.room_id)
        stops = self._late_stops.get(message.room_id)
        while stops and line and line[0] is message and stops[0].event_id != message.event_id:
            stop = stops[0]  # it comes later in the line, so `message` was said before it
            is_done = await self.handled.has(stop.event_id, is_news=False)
            stops.popleft()
            if not is_done and self.command_rooms.may_stop(message, stop):
                self._stop([message], because_of=stop)
                return

    def _carry_out_stop_elsewhere(self, message: Message) -> None:
        """Stop what is answered in the chat that a command said in another room is about."""
        room_id = self.command_rooms.ended_by(message)
        if room_id is not None and room_id != message.room_id:
            self._revisions.note_end(room_id, because_of=message)
            for each in self._waiting.get(room_id, ()):
                if each.sent_at <= message.sent_at:
                    self.interrupt(each.event_id, is_redacted=False, because_of=message.event_id)

    async def _look_inside(self, message: Encrypted) -> None:
        """A command must not wait for the answers before it only because it is encrypted."""
        in_the_clear = await self.peek(message)
        if in_the_clear is None or not self.has(message.event_id):
            return
        in_the_clear = replace(in_the_clear, is_live=message.is_live)
        self._carry_out_stop(in_the_clear)
        self._carry_out_stop_elsewhere(in_the_clear)
        waiting = self._waiting.get(message.room_id, deque())
        if self.command_rooms.runs_beside(in_the_clear) and message in islice(waiting, 1, None):
            waiting.remove(message)
            self._put_beside(message)

    def revise(self, edit: Edited) -> None:
        """An event is edited: the newest version counts that is known as its turn begins."""
        self._revisions.note_edit(edit, of=edit.event_id)

    def answer_edit(self, edit: Edited, *, work: Hashable, is_live: bool) -> None:
        """Have a message handled as it is now, or once more if it is done; after `revise`."""
        question = self.question_of(edit.event_id)
        for place, message in enumerate(self._waiting.get(edit.room_id, ())):
            about = message.about if isinstance(message, Message) else None
            if message.sender == edit.sender and (
                message.event_id == question or about == edit.event_id
            ):
                if message.event_id != edit.edit_id:
                    self._revisions.note_edit(edit, of=message.event_id)
                    if place == 0:
                        self.supersede(message.event_id)
                return
        self.take_in([asked_again(edit, is_live=is_live)], work=work)

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
        await self.store.save_position(
            SyncToken(position), bot=self.bot, checkpoint=self.checkpoint()
        )
        self._saved = position  # not before: whoever saves may be stopped in the middle of it

    async def prune(self) -> None:
        """Forget handled events that cannot come again."""
        await self.store.prune(older_than=KEEP_HANDLED, keep=KEEP_AT_MOST)

    def _is_over(self, message: Message | Encrypted) -> bool:
        """Whether a message was redacted before it came in."""
        redaction = self._revisions.redactions.get(message.event_id)
        return (
            redaction is not None
            and not self.has(message.event_id)
            and self.command_rooms.redacts(redaction, message)
        )

    def _queue(self, message: Message | Encrypted) -> None:
        waiting = self._waiting.get(message.room_id)
        if isinstance(message, Message):
            self._carry_out_stop(message)
            if waiting is not None and self.command_rooms.runs_beside(message):
                self._put_beside(message)
                return
        elif waiting is not None:
            self.background.start(self._look_inside(message), name="looking for a command")
        # Nobody is turned away because the bot was away.
        if waiting is None or not message.is_live or self._has_place(message, waiting):
            self._put(message, self._waiting, name=f"answering in {message.room_id}")
        else:
            self._refused.append(message)
            if len(self._refused) == 1:
                self._start(self._refuse(), name="turning messages away")

    def _put_beside(self, message: Message | Encrypted) -> None:
        self._put(message, self._beside, name=f"a command in {message.room_id}")

    def _put(self, message: Message | Encrypted, lines: Lines, *, name: str) -> None:
        """Put a message at the end of its room's line, and work on that if nobody does."""
        if message.room_id in lines:
            lines[message.room_id].append(message)
            return
        lines[message.room_id] = deque([message])
        self._start(self._work(message.room_id, lines), name=name)

    def _has_place(
        self, message: Message | Encrypted, waiting: Collection[Message | Encrypted]
    ) -> bool:
        """Who writes much must not take the places of the others in the room."""
        limit = self.settings().waiting_messages
        own = sum(other.sender == message.sender for other in waiting)
        return own < limit and len(waiting) < limit * PEOPLE

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        worker = self.background.start(work, name=name)
        if worker is not None:
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, room_id: RoomID, lines: Lines) -> None:
        """Work on one line of a room until nothing waits in it."""
        line = lines[room_id]
        try:
            while line and not self._stopping:
                await self._until_it_works(self.handle, line[0])
                self._finish(line.popleft())
                await self._save_position_soon()
                if not line and not self._in_line(room_id):
                    await self.parking.leave(room_id)
        finally:
            del lines[room_id]
            if lines is self._waiting:
                self._late_stops.pop(room_id, None)
            self._something_is_done.set()

    def _in_line(self, room_id: RoomID) -> list[Message | Encrypted]:
        """All that waits or is worked on in a room."""
        return [*self._waiting.get(room_id, ()), *self._beside.get(room_id, ())]

    async def _refuse(self) -> None:
        """Turn messages away one after the other; that holds nobody up."""
        while self._refused and not self._stopping:
            message = self._refused[0]
            await self._until_it_works(self.turn_away, message)
            self._finish(message)
            self._refused.popleft()

    async def _until_it_works(self, handle: Handle, message: Message | Encrypted) -> None:
        """While the homeserver or the database cannot be had, the room waits with its message."""
        failures: list[float] = []

        async def attempt() -> None:
            if failures and time.monotonic() - failures[0] >= self.parking.PARK_AFTER:
                since = self._progress.position
                if await self.parking.park(
                    message.room_id, since=since, why=f"{message.event_id} cannot be answered now"
                ):
                    self._release(message.room_id)
            await self._handle_once(handle, message)

        def failed(error: Exception, seconds: float) -> None:
            failures.append(time.monotonic())
            self.log.warning(
                "%s is not answered yet: %s; again in %d s", message.event_id, error, seconds
            )

        try:
            await retry(
                attempt,
                policy=ANSWER_AGAIN,
                on=(StoreError, Unavailable),
                timeless=(NotSignedIn,),
                failed=failed,
            )
        except (StoreError, Unavailable) as e:
            self.log.error("%s is given up: %s", message.event_id, e)
        except Exception:
            self.log.exception("Error while answering %s", message.event_id)

    async def _handle_once(self, handle: Handle, message: Message | Encrypted) -> None:
        if await self.handled.has(message.event_id, is_news=message.is_live):
            return
        if self.attempts.is_to_be_set_aside(message):
            await self.set_aside(message)
        else:
            await self._carry_out_late_stop(message)
            self._begun.add(message.event_id)
            by = self._revisions.ended_by(message)
            if by is not None and not self._is_beside(message):
                self.interrupt(message.event_id, is_redacted=False, because_of=by)
            with self.attempts.at(message):
                await self._handle_as_edited(handle, message)
        await self.handled.add(message.event_id, room_id=message.room_id)

    def _is_beside(self, message: Message | Encrypted) -> bool:
        """Whether it is known to be a command that need not wait for the answers before it."""
        if isinstance(message, Message):
            return self.command_rooms.runs_beside(message)
        return message in self._beside.get(message.room_id, ())

    async def _handle_as_edited(self, handle: Handle, message: Message | Encrypted) -> None:
        """Handle it as it is now; an edit that comes too late for that is answered later."""
        while True:
            edit = self._revisions.edits.get(message.event_id)
            in_the_clear = await self.decrypt(message, edit)
            with suppress(Superseded):
                if in_the_clear is not None:
                    if isinstance(message, Encrypted):
                        self._carry_out_stop_elsewhere(in_the_clear)
                    await handle(in_the_clear)
                break
        newest = self._revisions.edits.get(message.event_id)
        if newest is not None and newest is not edit and self.settings().answer_edits:
            self.take_in([asked_again(newest, is_live=message.is_live)], work=message.event_id)

    def _release(self, room_id: RoomID) -> None:
        """The position need not wait for a room that remembers its own place."""
        for message in self._in_line(room_id):
            self._progress.done(message.event_id)

    def _finish(self, message: Message | Encrypted) -> None:
        self._in_hand.pop(message.event_id, None)
        self._begun.discard(message.event_id)
        self._activity[message.room_id] = clock.now()
        self._done += 1
        self._progress.done(message.event_id)

    async def _save_position_soon(self) -> None:
        try:
            await self.save_position()
        except StoreError as e:
            self.log.warning("The place in the timeline was not saved: %s", e)
