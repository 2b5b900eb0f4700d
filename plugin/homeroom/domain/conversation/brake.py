"""The brake: two bots that answer each other do not go on for ever.

Ten answers in a row to somebody who is not the chat's owner, each question within ten seconds of
the last answer and nobody else saying anything, are no conversation of a person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from mautrix.types import UserID

ANSWERS_IN_A_ROW: Final = 10
WITHIN: Final = 10.0
"""Seconds from an answer to the next question."""


class Verdict(Enum):
    """What to do with the next answer to a person."""

    ANSWER = "answer"
    NOTICE = "notice"
    """Say that nothing is answered until somebody else speaks."""
    SILENCE = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The answers that one person got in a row. `answered_at` is in seconds, of any clock."""

    user_id: UserID
    answers: int = 0
    answered_at: float | None = None
    was_told: bool = False

    def judge(self, at: float) -> Verdict:
        """What to do about the next question of the same person, which came at this moment."""
        if self.was_told:
            return Verdict.SILENCE
        if self.answers < ANSWERS_IN_A_ROW or not self.goes_on(at):
            return Verdict.ANSWER
        return Verdict.NOTICE

    def goes_on(self, at: float) -> bool:
        """Whether a question at this moment is one more in the row."""
        return self.answered_at is None or at - self.answered_at <= WITHIN


def after_question(row: Row | None, user_id: UserID, *, at: float) -> Row:
    """The row that a question belongs to."""
    if row is None or row.user_id != user_id or not (row.was_told or row.goes_on(at)):
        return Row(user_id=user_id)
    return row


def after_answer(row: Row, *, at: float) -> Row:
    return replace(row, answers=row.answers + 1, answered_at=at)


def after_notice(row: Row) -> Row:
    return Row(
        user_id=row.user_id, answers=row.answers, answered_at=row.answered_at, was_told=True
    )
