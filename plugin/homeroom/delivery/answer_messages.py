"""The messages of one answer: they are sent, edited, and noted while they are not finished."""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.types import EventID

from .. import replies
from ..domain.conversation.answer_parts import OpenAnswer, Question
from ..domain.conversation.text_parts import closed, divide
from ..matrix.messages import Speaker
from ..storage import Store


@dataclass(slots=True)
class _Message:
    """One message of an answer, and what it shows; None: not known."""

    answer_id: EventID | None = None
    text: str | None = None
    has_more: bool | None = None


class AnswerMessages:
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


def with_note(text: str, note: str) -> str:
    """The text in a readable state, with a sentence of our own below it."""
    return f"{closed(text)}\n\n*{note}*" if text else f"*{note}*"
