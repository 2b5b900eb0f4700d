"""The platform that needs nothing: it says what was said, and admins that it is no agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass

from mautrix.types import UserID

from ..domain.conversation.answer import End, Item, Text
from ..domain.conversation.turn import Turn


@dataclass(slots=True, kw_only=True)
class EchoPlatform:
    """Repeats what was said.

    Args:
        note: what `admins` are told besides, who can set up an agent.
    """

    admins: Callable[[], Collection[UserID]]
    note: str

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        yield Text(turn.text)
        if turn.user_id in self.admins():
            yield Text(f"\n\n{self.note}")
        yield End()

    async def check(self) -> str:
        return ""

    async def close(self) -> None:
        pass
