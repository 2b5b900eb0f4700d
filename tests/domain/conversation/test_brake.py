"""Two bots that answer each other stop; people do not notice that there is a brake."""

from __future__ import annotations

from mautrix.types import UserID

from homeroom.domain.conversation.brake import (
    ANSWERS_IN_A_ROW,
    WITHIN,
    Streak,
    Verdict,
    after_answer,
    after_notice,
    after_question,
)

BEN, CARA = UserID("@ben:test"), UserID("@cara:test")
SOON, LATER = WITHIN, WITHIN + 0.1


def talk(*steps: tuple[UserID, float]) -> list[str]:
    """Somebody asks so many seconds after the last answer, and is answered at once; or not."""
    streak: Streak | None = None
    at = 0.0
    verdicts = []
    for user_id, seconds in steps:
        at += seconds
        streak = after_question(streak, user_id, at=at)
        verdict = streak.judge(at)
        verdicts.append(verdict.value)
        if verdict is Verdict.ANSWER:
            streak = after_answer(streak, at=at)
        elif verdict is Verdict.NOTICE:
            streak = after_notice(streak)
    return verdicts


MANY = ANSWERS_IN_A_ROW


def test_who_asks_at_once_again_and_again_gets_one_notice_and_then_nothing() -> None:
    said = talk(*[(BEN, SOON)] * (MANY + 3))
    assert said == ["answer"] * MANY + ["notice", "silence", "silence"]


def test_silence_lasts_until_somebody_else_speaks() -> None:
    before = [(BEN, SOON)] * (MANY + 1)
    assert talk(*before, (BEN, 9999.0))[-1] == "silence"
    assert talk(*before, (CARA, SOON), (BEN, SOON))[-2:] == ["answer", "answer"]


def test_who_takes_their_time_is_always_answered() -> None:
    assert set(talk(*[(BEN, LATER)] * (3 * MANY))) == {"answer"}
    assert set(talk(*([(BEN, SOON)] * (MANY - 1) + [(BEN, LATER)]) * 3)) == {"answer"}


def test_several_people_are_always_answered() -> None:
    assert set(talk(*[(BEN, SOON), (CARA, SOON)] * (3 * MANY))) == {"answer"}
