"""Any server with OpenAI's Chat Completions API; the room's own history is the conversation.

Servers differ, so little is relied on. A stream ends with `[DONE]` or with a `finish_reason`,
whichever there is; a server that ignores `stream` answers in one piece; chunks without choices
(usage, pings) say nothing. Only fields that every server knows are sent, the rest if it is set.
Turns alternate and the user begins, because the templates of many models insist on it: what one
side said in a row is joined, and answers whose question is not there any more are left out.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from mautrix.util.logging import TraceLogger

from ..config import OpenAISettings
from ..domain.conversation.answer import End, Item, Text, Trouble
from ..domain.conversation.turn import Turn, Utterance
from ..domain.json_shapes import as_dict
from . import History
from .http_answer import Answer, Limits, count
from .http_client import PlatformClient, header_value

CONVERSATION_HEADER: Final = "X-Homeroom-Conversation"
MAX_CONVERSATION_FIELD: Final = 64
"""Characters that OpenAI takes in `user`; a longer id is only in the header."""


class OpenAIPlatform:
    """Speaks the Chat Completions API."""

    def __init__(
        self,
        settings: OpenAISettings,
        *,
        history: History,
        limits: Callable[[], Limits],
        log: TraceLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._history = history
        self._client = PlatformClient(
            url=f"{settings.base_url}/chat/completions",
            token=settings.api_key,
            limits=limits,
            log=log,
            sleep=sleep,
        )

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        history = await self._history.before(turn)
        asking = self._client.ask(
            self._body(turn, history),
            accept="text/event-stream" if self._settings.stream else "application/json",
            key=turn.key,
            headers={CONVERSATION_HEADER: header_value(turn.platform_chat_id)},
            read=_read,
        )
        async with aclosing(asking) as items:
            async for item in items:
                yield item

    async def check(self) -> str:
        # Some servers have no list of models; they answer all the same. Who gives a wrong
        # `base_url` hears the same.
        def passes(status: int) -> bool:
            return 200 <= status < 300 or status in (404, 405, 501)

        status = await self._client.probe(f"{self._settings.base_url}/models", passes=passes)
        if status < 300:
            return ""
        return (
            f"It has no list of models (HTTP status {status} for `/models`), so address, key and"
            " model are not proven. If it should have one, look at `base_url`: for many servers"
            " it ends in `/v1`."
        )

    async def close(self) -> None:
        await self._client.close()

    def _body(self, turn: Turn, history: Sequence[Utterance]) -> dict[str, object]:
        settings = self._settings
        said = [*history, Utterance("user", turn.text)]
        body: dict[str, object] = {
            "model": settings.model,
            "messages": _messages(settings.system_prompt, said),
            "stream": settings.stream,
        }
        if settings.temperature is not None:
            body["temperature"] = settings.temperature
        if settings.max_tokens:
            body["max_tokens"] = settings.max_tokens
        if settings.conversation_field and len(turn.platform_chat_id) <= MAX_CONVERSATION_FIELD:
            body[settings.conversation_field] = turn.platform_chat_id
        return body


def _messages(system_prompt: str, said: Sequence[Utterance]) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for utterance in said:
        if messages and messages[-1]["role"] == utterance.role:
            messages[-1]["content"] += f"\n\n{utterance.text}"
        elif messages or utterance.role == "user":
            messages.append({"role": utterance.role, "content": utterance.text})
    if system_prompt:
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


async def _read(answer: Answer) -> AsyncGenerator[Item, None]:
    if not answer.is_stream:
        said = await answer.json()
        if "error" in said and not said.get("choices"):
            raise answer.judge(said)
        choice = _choice(said)
        if choice is None:
            raise answer.broken("the answer has no choices", Trouble.MISCONFIGURED)
        yield _text(choice.get("message"))
        _require_end(answer, choice.get("finish_reason"))
        yield _end(said.get("usage"))
        return
    finish_reason = usage = None
    async with aclosing(answer.events()) as events:
        async for _, data in events:
            if data.strip() == "[DONE]":
                break
            chunk = await answer.object_in(data)
            if chunk.get("error"):
                raise answer.judge(chunk)
            usage = chunk.get("usage") or usage
            if choice := _choice(chunk):
                yield _text(choice.get("delta"))
                finish_reason = choice.get("finish_reason") or finish_reason
                if finish_reason is not None:
                    break
        else:
            raise answer.cut_off()
    _require_end(answer, finish_reason)
    yield _end(usage)


def _end(usage: object) -> End:
    used = as_dict(usage)
    return End(
        tokens_in=count(used.get("prompt_tokens")), tokens_out=count(used.get("completion_tokens"))
    )


def _choice(said: dict[str, Any]) -> dict[str, Any] | None:
    choices = said.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(message: object) -> Text:
    """What a message or a piece of one says: its content, or why there is none."""
    said = as_dict(message)
    content = said.get("content") or said.get("refusal")
    if isinstance(content, list):
        content = "".join(
            part["text"]
            for part in content
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return Text(content if isinstance(content, str) else "")


def _require_end(answer: Answer, finish_reason: object) -> None:
    """Raise what the reason for the end means; most mean nothing."""
    if finish_reason == "length":
        raise answer.broken("the answer has reached the model's limit", Trouble.TOO_LARGE)
    if finish_reason == "content_filter":
        raise answer.broken("the platform's content filter ended the answer", Trouble.REFUSED)
