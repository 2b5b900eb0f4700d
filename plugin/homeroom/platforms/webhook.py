"""A server of the administrator's own: a message is posted to it, its answer is the answer.

The contract is in the README, section "Platforms", with a server that speaks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from mautrix.util.logging import TraceLogger

from ..config import WebhookSettings
from ..domain.conversation.answer import Trouble
from ..domain.conversation.turn import Turn
from .http_client import Answer, Limits, PlatformClient


class WebhookPlatform:
    def __init__(
        self,
        settings: WebhookSettings,
        *,
        limits: Callable[[], Limits],
        log: TraceLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = PlatformClient(
            url=settings.url, token=settings.token, limits=limits, log=log, sleep=sleep
        )

    async def answer(self, turn: Turn) -> AsyncGenerator[str, None]:
        body = {
            "platform_chat_id": turn.platform_chat_id,
            "chat_id": turn.chat_id,
            "user_id": turn.user_id,
            "room_id": turn.room_id,
            "event_id": turn.event_id,
            "text": turn.text,
            "name": turn.name,
        }
        accept = "text/event-stream, application/json"
        asking = self._client.ask(body, accept=accept, key=turn.key, read=_read)
        async with aclosing(asking) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        await self._client.close()


async def _read(answer: Answer) -> AsyncGenerator[str, None]:
    if not answer.is_stream:
        yield _text(answer, await answer.json())
        return
    async with aclosing(answer.events()) as events:
        async for name, data in events:
            if name == "end":
                return
            if name == "error":
                raise answer.judge(answer.object_in(data))
            if name in ("", "message"):
                yield _text(answer, answer.object_in(data))
    raise answer.cut_off()


def _text(answer: Answer, said: dict[str, object]) -> str:
    text = said.get("text")
    if not isinstance(text, str):
        raise answer.broken('the answer has no "text" that is a text', Trouble.MISCONFIGURED)
    return text
