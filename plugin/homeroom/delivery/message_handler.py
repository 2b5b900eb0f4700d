"""Delivery: from a message to its answer.

A message in a chat becomes a turn of its conversation; a command goes to `commands/`; what is said
outside of chats goes to onboarding. A failure is a short notice in the room that says what to do,
and the details are in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..commands.dispatch import Commands
from ..config import Settings
from ..domain.commands import Again, Stop, parse_command
from ..domain.conversation.answer_parts import Question
from ..domain.conversation.asked_again import Answered
from ..domain.conversation.brake import (
    Streak,
    Verdict,
    after_answer,
    after_notice,
    after_question,
)
from ..domain.conversation.turn import Turn
from ..domain.homes.model import Chat, Status
from ..domain.never import assert_never
from ..domain.sync.news import Encrypted, Message
from ..homes.onboarding import Onboarding
from ..homes.provisioner import Provisioner
from ..homes.routes import Routes
from ..matrix.errors import HomeserverError, Refused, Unavailable
from ..matrix.messages import Speaker
from ..runtime.tasks import Background
from ..storage import StoreError
from .answer_stream import Streamer
from .earlier_questions import Earlier, EarlierQuestions
from .revisions import Superseded

STOPS_AT_MOST: Final = 1000
ONLY_TEXT_EVERY: Final = 24 * 60 * 60 * 1000
"""Milliseconds between two explanations in one room that only words are understood."""


@dataclass(slots=True, kw_only=True)
class MessageHandler:
    """Handles one message: a command, a turn of a conversation, or a word of a newcomer."""

    streamer: Streamer
    earlier_questions: EarlierQuestions
    routes: Routes
    onboarding: Onboarding
    provisioner: Provisioner
    commands: Commands
    speaker: Speaker
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    _streaks: dict[RoomID, Streak] = field(default_factory=dict, init=False)
    """Of rooms in which somebody else than the owner was answered last."""
    _told_paused: set[RoomID] = field(default_factory=set, init=False)
    _turning_away: set[RoomID] = field(default_factory=set, init=False)
    """Rooms in which it is being said that a message is one too many."""
    _interrupted: dict[EventID, tuple[str, EventID]] = field(default_factory=dict, init=False)
    """Questions that are not to be answered (any further), with the sentence that says why, and
    what interrupted them."""
    _asking: dict[EventID, EventID] = field(default_factory=dict, init=False)
    """What has a question answered once more, and that question, while it is."""
    _stop_if_about: dict[EventID, list[EventID]] = field(default_factory=dict, init=False)
    """What may have one of these events answered once more, and is stopped in that case."""
    _stops: dict[EventID, bool] = field(default_factory=dict, init=False)
    """What stopped something, and whether that is said; at most `STOPS_AT_MOST`."""

    async def handle(self, message: Message) -> None:
        """One message, to the last word about it.

        Raises:
            Unavailable, StoreError: it is not done, and has to be tried again.
            Superseded: the same, as it is now.
        """
        try:
            await self._handle(message)
            self._asking.pop(message.event_id, None)
            self._interrupted.pop(message.event_id, None)
            self._stop_if_about.pop(message.event_id, None)
            self._stops.pop(message.event_id, None)
        except Refused as e:
            self.log.error("Could not answer %s in %s: %s", message.event_id, message.room_id, e)
        except (Unavailable, StoreError, Superseded):
            raise
        except Exception:
            self.log.exception("Error while answering %s", message.event_id)

    def interrupt(self, event_id: EventID, *, is_redacted: bool, because_of: EventID) -> None:
        """A message that is not done is redacted, or stopped: it is not answered any further."""
        why = replies.WITHDRAWN if is_redacted else replies.STOPPED
        self._interrupted[event_id] = why, because_of
        if len(self._stops) >= STOPS_AT_MOST:
            self._stops.clear()  # somebody may hear once too often that there is nothing to stop
        is_under_way = self.streamer.interrupt(self._asking.get(event_id, event_id), why=why)
        self._stops[because_of] = is_redacted or is_under_way or self._stops.get(because_of, False)

    def stop_if_about(self, event_id: EventID, target: EventID) -> None:
        """A message that is not done, if it has this question or answer given once more."""
        if len(self._stop_if_about) >= STOPS_AT_MOST:
            self._stop_if_about.clear()
        targets = self._stop_if_about.setdefault(event_id, [])
        targets[:] = [*targets[-9:], target]

    def supersede(self, event_id: EventID) -> None:
        """A message that is not done was edited: if it is being answered, that begins anew."""
        self.streamer.supersede(self._asking.get(event_id, event_id))

    def question_of(self, event_id: EventID) -> EventID:
        """What is being answered by this message, or about this question; else the event itself.

        That is the message that made the bot ask: the question, or what has it asked once more.
        """
        question = self.streamer.question_of(event_id) or event_id
        return next((by for by, asked in self._asking.items() if asked == question), question)

    async def set_aside(self, message: Message | Encrypted) -> None:
        """Give a message up in which the process died again and again, and say so in its chat."""
        self.log.error(
            "%s of %s in %s is set aside: Homeroom ended in the middle of it again and again."
            " Please report this",
            message.event_id,
            message.sender,
            message.room_id,
        )
        with suppress(Refused):
            if await self.streamer.end(message.event_id, replies.SET_ASIDE):
                return
            if self.routes.chat(message.room_id) is not None:
                await self.speaker.notice(
                    message.room_id, replies.SET_ASIDE, about=message.event_id, fixed_words=True
                )

    async def turn_away(self, message: Message) -> None:
        """Say that a message is one too many, in chats, once a minute; never waits for that."""
        room_id = message.room_id
        if self.routes.chat(room_id) is not None and room_id not in self._turning_away:
            self._turning_away.add(room_id)
            self.background.start(self._say_too_many(message), name="turning a message away")

    async def _say_too_many(self, message: Message) -> None:
        text = replies.TOO_MANY_WAITING
        try:
            with suppress(HomeserverError, StoreError):
                await self.speaker.reply_once(message, "too-many", text, every_ms=60_000)
        finally:
            self._turning_away.discard(message.room_id)

    async def _handle(self, message: Message) -> None:
        if not self.routes.is_paused:
            self._told_paused.clear()
        if self.routes.chat(message.room_id) is None:
            await self.onboarding.scan_for_chat(message.room_id)
        chat, command = self.routes.chat(message.room_id), parse_command(message.text)
        has_again = message.about is not None or (isinstance(command, Again) and chat is not None)
        if not has_again and await self._is_interrupted(message):
            return
        if chat is not None and message.sender == chat.matrix_user_id:
            self._streaks.pop(message.room_id, None)
        if isinstance(command, Stop) and chat is not None:
            await self._answer_stop(message, chat)
            return
        if message.about is not None and chat is None:
            return
        if (command is not None and not has_again) and await self.commands.run(
            command, message, chat
        ):
            return
        if self.routes.is_paused:
            await self._say_paused(message)
        elif message.room_id in self.routes.unknown:
            raise Unavailable("it may be in a chat, but the room could not be read yet")
        elif chat is None:
            await self._answer_outside_chats(message)
        elif self.settings().hears(chat, message.sender):
            await (self._ask_again if has_again else self._take_turn)(message, chat)

    async def _answer_outside_chats(self, message: Message) -> None:
        await self.onboarding.answer_outside_chats(
            message.sender, room_id=message.room_id, event_id=message.event_id
        )
        if self.routes.chat(message.room_id) is not None:
            await self._handle(message)  # its owner has made it one

    async def _is_interrupted(self, message: Message) -> bool:
        """Whether nothing is to be done about it; what there is of an answer says so then.

        Where there is nothing, a word says it, one for all that is stopped at once.
        """
        if message.event_id not in self._interrupted:
            return False
        why, by = self._interrupted[message.event_id]
        is_said = await self.streamer.end(message.event_id, why)
        if not is_said and not self._stops.get(by, True):
            await self.speaker.notice(message.room_id, why, about=message.event_id)
        if by in self._stops:
            self._stops[by] = True
        return True

    async def _answer_stop(self, message: Message, chat: Chat) -> None:
        """The answer that ends says so itself. A word is only needed where there is none."""
        is_heard = self.settings().hears(chat, message.sender)
        if message.event_id not in self._stops and message.is_live and is_heard:
            await self.speaker.reply(message, replies.NOTHING_TO_STOP)

    async def _say_paused(self, message: Message) -> None:
        """After a reset: once in each room that was a chat."""
        if self.routes.was_chat(message.room_id) and message.room_id not in self._told_paused:
            self._told_paused.add(message.room_id)
            await self.speaker.reply(message, replies.RESET_PAUSED)

    async def _take_turn(self, message: Message, chat: Chat) -> None:
        if message.sender == chat.matrix_user_id:
            self.background.start(
                self.onboarding.owner_wrote(message.sender, room_id=message.room_id),
                name="finishing a home",
            )
        if chat.status is Status.ARCHIVED:
            await self.speaker.reply(message, replies.ARCHIVED)
            return
        if not message.is_text:
            await self._answer_wordless(message)
            return
        if await self._is_interrupted(message):
            return
        if not await self._may_go_on(message, chat):
            return
        question = Question(
            room_id=message.room_id,
            event_id=message.event_id,
            thread_root=message.thread_root,
            asked=message.version,
            note=replies.not_seen(message.attached),
        )
        turn = _turn(message, chat, is_shared=self.settings().hears_members(chat))
        await self._ask(question, turn)

    async def _answer_wordless(self, message: Message) -> None:
        """Say from time to time that only words are understood; else a reaction is enough."""
        if not await self.speaker.reply_once(
            message, "only-text", replies.ONLY_TEXT, every_ms=ONLY_TEXT_EVERY
        ):
            self.background.start(self._react(message), name="reacting to a file")

    async def _react(self, message: Message) -> None:
        with suppress(HomeserverError):
            await self.speaker.react(message, replies.NOT_UNDERSTOOD)

    async def _ask_again(self, message: Message, chat: Chat) -> None:
        """Have the newest question answered once more, in the same place."""
        key = message.version or message.event_id
        earlier = await self.earlier_questions.newest(
            message.room_id,
            before=key,
            since=chat.conversation.since if chat.conversation else None,
            hears=lambda user_id: self.settings().hears(chat, user_id),
        )
        if earlier is not None and key in earlier.answered.keys:
            return
        if (why := self._why_not_again(message, chat, earlier)) is not None:
            if why and message.version is None:
                await self.speaker.reply(message, why)
            return
        assert earlier is not None
        self._asking[message.event_id] = earlier.message.event_id
        question = Question(
            room_id=message.room_id,
            event_id=earlier.message.event_id,
            thread_root=earlier.message.thread_root,
            asked=key,
            note=replies.not_seen(earlier.message.attached),
            is_again=True,
        )
        why, _ = self._interrupted.get(message.event_id, (None, None))
        if any(map(earlier.is_about, self._stop_if_about.get(message.event_id, ()))):
            why = why or replies.STOPPED
        if why is not None:
            await self.streamer.end_again(question, earlier.answered, why)
        elif await self._may_go_on(message, chat):
            before = [asked for asked in earlier.answered.keys if asked != key]
            turn = replace(
                _turn(earlier.message, chat, is_shared=self.settings().hears_members(chat)),
                key=key,
                replaces=before[-1] if before else None,
            )
            await self._ask(question, turn, earlier=earlier.answered)

    def _why_not_again(self, message: Message, chat: Chat, earlier: Earlier | None) -> str | None:
        """Why it is not asked again, as a sentence; empty: there is nothing to say about it."""
        if chat.status is Status.ARCHIVED:
            return replies.ARCHIVED
        if message.version is not None:
            is_newest = earlier is not None and message.version == earlier.message.version
            return None if is_newest else ""
        if earlier is None:
            return replies.NOTHING_TO_REPEAT
        if message.about is not None and not earlier.is_about(message.about):
            return replies.NOT_NEWEST
        if message.sender not in (earlier.message.sender, chat.matrix_user_id):
            return replies.NOT_YOURS
        return None

    async def _ask(
        self, question: Question, turn: Turn, *, earlier: Answered | None = None
    ) -> None:
        await self.streamer.answer(question, turn, earlier=earlier)
        if (streak := self._streaks.get(turn.room_id)) is not None:
            self._streaks[turn.room_id] = after_answer(streak, at=time.monotonic())

    async def _may_go_on(self, message: Message, chat: Chat) -> bool:
        """Whether it is a person who asks, as far as that can be told; else say so, once."""
        if message.sender == chat.matrix_user_id:
            return True
        at = time.monotonic()
        streak = after_question(self._streaks.get(message.room_id), message.sender, at=at)
        self._streaks[message.room_id] = streak
        match streak.judge(at):
            case Verdict.ANSWER:
                return True
            case Verdict.NOTICE:
                self._streaks[message.room_id] = after_notice(streak)
                self.log.warning(
                    "%s in %s seems to be a bot: silent until somebody else says something",
                    message.sender,
                    message.room_id,
                )
                await self.speaker.reply(message, replies.BRAKE)
            case Verdict.SILENCE:
                pass
            case verdict:
                assert_never(verdict)
        return False


def _turn(message: Message, chat: Chat, *, is_shared: bool) -> Turn:
    assert chat.platform_chat_id is not None
    assert chat.chat_id is not None
    return Turn(
        key=message.version or message.event_id,
        event_id=message.event_id,
        platform_chat_id=chat.platform_chat_id,
        chat_id=chat.chat_id,
        room_id=message.room_id,
        name=chat.name,
        user_id=message.sender,
        user_name=message.sender,
        is_shared=is_shared,
        text=message.text,
        thread_root=message.thread_root,
    )
