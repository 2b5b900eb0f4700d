"""A server of the administrator's own: a message is posted to it, its answer is the answer.

The contract is in docs/agents.md, with a server that speaks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from mautrix.util.logging import TraceLogger

from ..config import WebhookSettings
from ..domain.conversation.answer import MAX_STATE, MAX_STATUS, End, Item, Status, Text, Trouble
from ..domain.conversation.turn import Turn
from ..domain.json_shapes import as_dict
from .http_answer import Answer, Limits, count
from .http_client import PlatformClient


class WebhookPlatform:
    """Posts turns to an administrator's own server."""

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        limits: Callable[[], Limits],
        log: TraceLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = settings.url
        self._client = PlatformClient(
            url=settings.url, token=settings.token, limits=limits, log=log, sleep=sleep
        )

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
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
        async with aclosing(asking) as items:
            async for item in items:
                yield item

    async def check(self) -> str:
        # The contract has nothing but turns. A server that answers is there; one that knows tokens
        # says 401 or 403 to a wrong one whatever is asked for.
        def passes(status: int) -> bool:
            return status not in (401, 403, 407, 502, 503, 504)

        status = await self._client.probe(self._url, passes=passes)
        if status < 300 or status == 405:
            return ""
        return (
            f"Asked without a message, its address says HTTP status {status}. That is as it should"
            " be if it takes messages only; else look at `url`."
        )

    async def close(self) -> None:
        await self._client.close()


async def _read(answer: Answer) -> AsyncGenerator[Item, None]:
    if not answer.is_stream:
        said = await answer.json()
        yield _text(answer, said)
        yield _end(said)
        return
    async with aclosing(answer.events()) as events:
        async for name, data in events:
            match name:
                case "" | "message":
                    yield _text(answer, await answer.object_in(data))
                case "status":
                    yield _status(await answer.object_in(data))
                case "error":
                    raise answer.judge(await answer.object_in(data))
                case "end":
                    yield _end(await answer.object_in(data) if data.strip() else {})
                    return
    raise answer.cut_off()


def _text(answer: Answer, said: dict[str, object]) -> Text:
    text = said.get("text")
    if not isinstance(text, str):
        raise answer.broken('the answer has no "text" that is a text', Trouble.MISCONFIGURED)
    return Text(text)


def _status(said: dict[str, object]) -> Status:
    line = said.get("text")
    return Status(" ".join(line.split())[:MAX_STATUS] if isinstance(line, str) else "")


def _end(said: dict[str, object]) -> End:
    state, usage = said.get("state"), as_dict(said.get("usage"))
    return End(
        state=state[:MAX_STATE] if isinstance(state, str) else None,
        tokens_in=count(usage.get("input")),
        tokens_out=count(usage.get("output")),
    )
