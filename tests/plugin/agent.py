"""A platform for the tests, at the place where the real ones are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from homeroom.domain.conversation.answer import End, Item, Text
from homeroom.domain.conversation.turn import Turn

Answer = Callable[[Turn], Awaitable[str]]


class KeyedEcho:
    """Says what was said, and under which key it heard it."""

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        yield Text(f"{turn.text}\n\n({turn.platform_chat_id})")
        yield End()

    async def check(self) -> str:
        return ""

    async def close(self) -> None:
        pass


class Agent:
    """A platform that answers as a test likes, and remembers what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.turns: list[Turn] = []
        self.at_work = 0
        self.most_at_work = 0
        self.let_go = asyncio.Event()
        self._answer = answer

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        self.turns.append(turn)
        self.at_work += 1
        self.most_at_work = max(self.at_work, self.most_at_work)
        try:
            yield Text(await self._answer(turn) if self._answer else f"re: {turn.text}")
            yield End()
        finally:
            self.at_work -= 1

    async def check(self) -> str:
        return ""

    async def close(self) -> None:
        pass

    async def when_let_go(self, turn: Turn) -> str:
        await self.let_go.wait()
        return f"re: {turn.text}"

    @property
    def texts(self) -> list[str]:
        return [turn.text for turn in self.turns]
