"""How the agent is doing, since the start: what answered, what failed and why, how long it took.

Only figures and the beginning of an error; nothing of what was asked or answered.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from ..domain.conversation.answer import End, Item, Status, Trouble
from ..runtime.clock import now
from . import PlatformError

BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds; the last bucket has no bound."""
FAILING_AFTER: Final = 60 * 1000
"""Milliseconds without an answer to anybody, and with failures, after which that is a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often something took how long."""

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    """Of each bucket, and of what took longer than all."""
    seconds: float = 0.0
    """In all."""

    def with_one(self, seconds: float) -> Histogram:
        counts = list(self.counts)
        counts[bisect_left(BUCKETS, seconds)] += 1
        return Histogram(counts=tuple(counts), seconds=self.seconds + seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """At one moment; times are in milliseconds since 1970."""

    answered: int = 0
    answered_at: int | None = None
    stopped: int = 0
    """By people, by the time limit, or by the end of the plugin."""
    failed: Counter[Trouble] = field(default_factory=Counter)
    failed_at: int | None = None
    failing_since: int | None = None
    """Since then nobody was answered, and somebody was not; None: the last one was."""
    error: str = ""
    """The last one, without the words of the platform, which may be about a message."""
    running: int = 0
    waiting: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    first_word: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)

    def is_failing(self, at: int) -> bool:
        """Whether it fails for everybody, and has for a while."""
        return self.failing_since is not None and at - self.failing_since >= FAILING_AFTER


class AgentHealth:
    """Watches answers as they come in."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.figures = Figures()

    async def watched(self, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        """Pass an answer on, and note how it went."""
        begin = self._clock()
        is_first, is_whole = True, False
        self._note(running=self.figures.running + 1)
        try:
            async with aclosing(items):
                async for item in items:
                    if is_first and not isinstance(item, Status | End):
                        is_first = False
                        seconds = self._clock() - begin
                        self._note(first_word=self.figures.first_word.with_one(seconds))
                    if isinstance(item, End):
                        is_whole = True
                        self._note_end(item, seconds=self._clock() - begin)
                    yield item
        except PlatformError as error:
            is_whole = True
            self._note_failure(error)
            raise
        finally:
            self._note(running=self.figures.running - 1)
            if not is_whole:
                self._note(stopped=self.figures.stopped + 1)

    def _note_end(self, end: End, *, seconds: float) -> None:
        figures = self.figures
        self._note(
            answered=figures.answered + 1,
            answered_at=now(),
            failing_since=None,
            tokens_in=figures.tokens_in + (end.tokens_in or 0),
            tokens_out=figures.tokens_out + (end.tokens_out or 0),
            whole=figures.whole.with_one(seconds),
        )

    def _note_failure(self, error: PlatformError) -> None:
        figures, at = self.figures, now()
        self._note(
            failed=figures.failed + Counter({error.trouble: 1}),
            failed_at=at,
            error=str(error).partition(": ")[0],
        )
        if figures.failing_since is None:
            self._note(failing_since=at)

    def _note(self, **changes: object) -> None:
        self.figures = replace(self.figures, **changes)  # type: ignore[arg-type]
