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
class Streak:
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
        """Whether a question at this moment is one more in a row."""
        return self.answered_at is None or at - self.answered_at <= WITHIN


def after_question(streak: Streak | None, user_id: UserID, *, at: float) -> Streak:
    """The streak that a question belongs to."""
    if streak is None or streak.user_id != user_id or not (streak.was_told or streak.goes_on(at)):
        return Streak(user_id=user_id)
    return streak


def after_answer(streak: Streak, *, at: float) -> Streak:
    return replace(streak, answers=streak.answers + 1, answered_at=at)


def after_notice(streak: Streak) -> Streak:
    return replace(streak, was_told=True)
