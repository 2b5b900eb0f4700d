"""What a platform says to one turn, as it comes in, whatever showing it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from ..domain.conversation.answer import Ask, End, File, Status, Text, Trouble
from ..domain.conversation.turn import Turn
from ..domain.never import assert_never
from ..platforms import Platform, PlatformError
from ..runtime.fair_turns import FairTurns
from ..runtime.timeouts import timeout


class PlatformReading:
    """The pieces of an answer as they come in, whatever the writing waits for.

    Args:
        turns: what it waits in line for, before the platform is asked.
        prepare: reads what the platform will be told besides, when it is this turn's time.
        seconds: how long the platform may take from then on.
    """

    def __init__(
        self,
        platform: Platform,
        turn: Turn,
        *,
        turns: FairTurns,
        prepare: Callable[[Turn], Awaitable[None]],
        seconds: float,
    ) -> None:
        self.event_id = turn.event_id
        self.has_begun = asyncio.Event()
        """There are words, or there will be none."""
        self._platform = platform
        self._prepare = prepare
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

    def interrupt(self) -> None:
        """Cut the connection to the platform; what it said so far stays."""
        self._task.cancel()

    async def stop(self) -> None:
        """Read no more: whoever is answering is told so."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _take_turn(self, turn: Turn, turns: FairTurns, seconds: float) -> None:
        async with turns.turn(turn.user_id):
            await self._prepare(turn)
            async with timeout(seconds):
                await self._read(turn)

    async def _read(self, turn: Turn) -> None:
        async with aclosing(self._platform.answer(turn)) as items:
            async for item in items:
                match item:
                    case Text(markdown=piece):
                        self._pieces.append(piece)
                        if piece.strip():
                            self.has_begun.set()
                    case End():
                        return
                    case Status() | File() | Ask():
                        pass  # not shown yet
                    case _:
                        assert_never(item)
        raise PlatformError("the platform has ended without a word", trouble=Trouble.CUT_OFF)
