"""The platform that needs nothing: it says what was said, and under which key it heard it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ..domain.conversation.answer import End, Item, Text
from ..domain.conversation.turn import Turn


class EchoPlatform:
    """Repeats what was said."""

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        yield Text(f"{turn.text}\n\n({turn.platform_chat_id})")
        yield End()

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass
