"""The messages of one answer: they are sent, edited, and noted while they are not finished."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mautrix.types import EventID

from ..domain.conversation.answer_parts import OpenAnswer, Question
from ..domain.conversation.text_parts import closed, divide
from ..matrix.current_client import EncryptionGone
from ..matrix.errors import RateLimited, Refused
from ..matrix.messages import Edit, Speaker
from ..storage import Store


@dataclass(slots=True)
class _Message:
    """One message of an answer, and what it shows; None: not known."""

    answer_id: EventID | None = None
    text: str | None = None
    has_more: bool | None = None
    is_growing: bool | None = None


class AnswerMessages:
    """The messages of one answer.

    Nothing is sent while it is not known whether what was sent before has arrived: it is sent
    again first, under the same transaction ID. Else a late edit would undo the one after it. The
    homeserver may have forgotten that ID (after a day, or with a new token), so before a message
    is sent again the room is asked whether it is there.

    Args:
        find: reads from the room which messages of the answer are there, in their order.
        left_open: those that an earlier attempt left unfinished, or that are to be replaced.
        holds_answer: whether they hold a whole answer, which is better than none.
    """

    def __init__(
        self,
        question: Question,
        *,
        speaker: Speaker,
        store: Store,
        find: Callable[[Question], Awaitable[Sequence[EventID]]],
        left_open: Sequence[OpenAnswer],
        holds_answer: bool = False,
    ) -> None:
        self.question = question
        self.open = list(left_open)
        """Those that are not finished."""
        self.holds_answer = holds_answer
        self.shown: set[EventID] = set()
        """Those that a sync response told of."""
        self._speaker = speaker
        self._store = store
        self._find = find
        self._messages = [_Message(answer.answer_id) for answer in left_open]
        self._may_be_there = set(range(len(self._messages)))
        """Which of the messages may have been sent, if their ID is not known."""
        self._unknown: Edit | None = None
        """An edit that may have arrived, or may still."""

    async def show(self, text: str, *, is_whole: bool) -> None:
        """Make the room show this text, and whether there is more to come.

        Raises:
            RateLimited: not now; only while there is more to come.
        """
        encrypted = await self._speaker.seems_encrypted(self.question.room_id)
        parts = divide(text, encrypted=encrypted)
        last = len(parts) - 1
        if self._unknown is not None:
            await self._send_edit(self._unknown, best_effort=not is_whole)
        for number, part in enumerate(parts):
            is_last = is_whole and number == last
            if is_last:
                await self._take_away(after=number)  # nothing is left to do after the last word
            is_growing = not is_whole and number == last
            await self._show(number, part, has_more=not is_last, is_growing=is_growing)

    async def _take_away(self, *, after: int) -> None:
        """Take back the messages that the answer has no use for this time."""
        while len(self._messages) > after + 1:
            number = len(self._messages) - 1
            if self._messages[number].answer_id is None:
                await self._send(number, "…")
            answer_id = self._messages[number].answer_id
            assert answer_id is not None
            await self._speaker.take_back(self.question.room_id, answer_id)
            self._messages.pop()
            del self.open[number:]

    async def _show(self, number: int, text: str, *, has_more: bool, is_growing: bool) -> None:
        if number == len(self._messages):
            if has_more:
                # An unfinished one is noted before it is sent: that may be our last deed.
                await self._note(number, None)
            self._messages.append(_Message(text=text, has_more=has_more, is_growing=is_growing))
        message = self._messages[number]
        if message.answer_id is None:
            await self._send(number, text)
        assert message.answer_id is not None
        shown = (message.text, message.has_more, message.is_growing)
        if shown != (text, has_more, is_growing):
            message.text = None
            edit = await self._speaker.edit_of_answer(
                self.question,
                message.answer_id,
                text,
                has_more=has_more,
                is_growing=is_growing,
            )
            await self._send_edit(edit, best_effort=is_growing)
            message.text, message.has_more, message.is_growing = text, has_more, is_growing

    async def _send(self, number: int, text: str) -> None:
        """Send a message, or find out the ID of one that may have been sent.

        What it was to say the first time it says again: the homeserver may have that already. If
        that is not known any more, whatever it shows is replaced. So is one of several that an
        earlier life has sent without our knowing: else the room would show parts of two answers.
        """
        message = self._messages[number]
        self.holds_answer = False
        is_known = number in self._may_be_there
        is_one_of_several = number > 0 or (message.has_more and not message.is_growing)
        sent = await self._find(self.question) if is_known or is_one_of_several else ()
        if number < len(sent):
            message.answer_id = sent[number]
            if not is_known:
                message.text = None
        else:
            self._may_be_there.add(number)
            try:
                message.answer_id = await self._speaker.answer(
                    self.question,
                    message.text if message.text is not None else text,
                    part=number,
                    has_more=message.has_more is not False,
                    is_growing=message.is_growing is True,
                )
            except (RateLimited, Refused, EncryptionGone):
                self._may_be_there.discard(number)
                raise
        if message.has_more is not False:
            await self._note(number, message.answer_id)

    async def _send_edit(self, edit: Edit, *, best_effort: bool) -> None:
        was_unknown = self._unknown is edit
        self.holds_answer = False
        self._unknown = edit
        try:
            await self._speaker.send_edit(edit, best_effort=best_effort)
        except RateLimited:
            if not was_unknown:
                self._unknown = None  # this one was not sent
            raise
        except (Refused, EncryptionGone):
            self._unknown = None
            raise
        self._unknown = None

    async def _note(self, number: int, answer_id: EventID | None) -> None:
        answer = OpenAnswer(question=self.question, part=number, answer_id=answer_id)
        if not self.question.is_again:  # else the room tells, to what comes again
            await self._store.note_open_answer(answer)
        self.open[number:] = [answer]


def with_note(text: str, note: str) -> str:
    """The text in a readable state, with a sentence of our own below it."""
    return f"{closed(text)}\n\n*{note}*" if text else f"*{note}*"
