"""A scripted agent platform on loopback: OpenAI-compatible, and a webhook.

    async with AgentServer() as agent:
        agent.reply = lambda request: Say(["Hel", "lo"])
        config = {"platform": agent.openai()}
        ...
        assert [request.text for request in agent.requests] == ["Hi"]

One server speaks both protocols: `{url}/v1/chat/completions` (`base_url` is `{url}/v1`) and
`{url}/webhook`. What it says is a function from the request to an action, or a queue of actions
that are used up first. It speaks in the form that was asked for: pieces for `stream: true` and for
a webhook that accepts them, else one JSON object. Every request is recorded with its headers and
its body before it is answered.

It runs in the event loop of the test.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from multidict import CIMultiDictProxy
from typing_extensions import Self

from .http import Json
from .ports import LOOPBACK, free_port

TOKEN = "secret-of-the-agent-server"


@dataclass(slots=True, kw_only=True, eq=False)
class AgentRequest:
    """A request as it came in."""

    protocol: Literal["openai", "webhook"]
    headers: CIMultiDictProxy[str]
    body: Json
    at: float
    """When it came, on `time.monotonic()`."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it was answered to the end, or cannot be any more."""
    cut: bool = False
    """Whether whoever asked went away before the end."""

    @property
    def key(self) -> str | None:
        """Its idempotency key, which is the event ID."""
        return self.headers.get("Idempotency-Key")

    @property
    def text(self) -> str:
        """What was said last."""
        text: str = self.messages[-1]["content"] if self.messages else self.body["text"]
        return text

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation of an OpenAI request; empty for a webhook."""
        messages: list[dict[str, str]] = self.body.get("messages", [])
        return messages

    @property
    def conversation(self) -> str:
        """The `platform_chat_id`."""
        key: str = self.body["user" if self.protocol == "openai" else "platform_chat_id"]
        return key

    @property
    def wants_pieces(self) -> bool:
        if self.protocol == "openai":
            return bool(self.body.get("stream"))
        return "text/event-stream" in self.headers.get("Accept", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Answer; the pieces come one by one if pieces were asked for.

    `pieces` may be asynchronous, and wait for whatever the test wants to wait for.
    """

    pieces: Iterable[str] | AsyncIterable[str]
    every: float = 0
    """Seconds between two pieces."""
    whole: bool = False
    """Answer with one JSON object even if pieces were asked for."""
    end: Literal["proper", "cut", "hang"] = "proper"
    """How it ends: as it should; with a closed connection; never."""
    finish_reason: str = "stop"
    """OpenAI only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """Answer with a status and a body: JSON, or text if it is a string."""

    status: int
    body: Json = field(default_factory=lambda: {"error": {"message": "scripted", "code": None}})
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Send these bytes, whatever they are, with these headers."""

    chunks: Iterable[bytes] | AsyncIterable[bytes]
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"Content-Type": "text/event-stream"}
    )
    status: int = 200
    end: Literal["proper", "cut", "hang"] = "proper"


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Do nothing until released, then that."""

    then: Say | Fail | Raw | Drop
    released: asyncio.Event = field(default_factory=asyncio.Event)


Action = Say | Fail | Raw | Drop | Hold


def echo(request: AgentRequest) -> Action:
    """Say what the echo platform says."""
    return Say(pieces=[request.text])


def repeat(request: AgentRequest) -> Action:
    """Say it with a word before it, so that nobody takes it for the question."""
    return Say(pieces=[f"re: {request.text}"])


class AgentServer:
    """The platform; `reply` says what it does, `script` what it does before that."""

    def __init__(self, *, token: str = TOKEN, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.token = token
        self.requests: list[AgentRequest] = []
        self.reply: Callable[[AgentRequest], Action] = echo
        self._script: deque[Action] = deque()
        self._arrived = asyncio.Condition()
        self._ending = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        self._ending.clear()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/webhook", self._webhook)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self.port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def openai(self, **more: Any) -> dict[str, Any]:
        """The section `platform` of settings that use this server's OpenAI side."""
        section = {"base_url": f"{self.url}/v1", "api_key": self.token, "model": "scripted"}
        return {"kind": "openai", "openai": {**section, **more}}

    def webhook(self, **more: Any) -> dict[str, Any]:
        """The section `platform` of settings that use this server's webhook."""
        section = {"url": f"{self.url}/webhook", "token": self.token}
        return {"kind": "webhook", "webhook": {**section, **more}}

    def script(self, *actions: Action) -> None:
        """Do these first, one per request."""
        self._script.extend(actions)

    async def wait_for(self, count: int, *, timeout: float = 30) -> list[AgentRequest]:
        """Wait until so many requests have come in, in all; return all that there are."""

        async def wait() -> None:
            async with self._arrived:
                await self._arrived.wait_for(lambda: len(self.requests) >= count)

        await asyncio.wait_for(wait(), timeout)
        return self.requests

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request, protocol="openai")

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        return await self._take(request, protocol="webhook")

    async def _take(
        self, request: web.Request, *, protocol: Literal["openai", "webhook"]
    ) -> web.StreamResponse:
        seen = AgentRequest(
            protocol=protocol,
            headers=request.headers,
            body=await request.json(),
            at=time.monotonic(),
        )
        async with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        try:
            return await self._answer(request, seen)
        except (ConnectionError, asyncio.CancelledError):
            seen.cut = True
            raise
        finally:
            seen.done.set()

    async def _answer(self, request: web.Request, seen: AgentRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        action = self._script.popleft() if self._script else self.reply(seen)
        if isinstance(action, Hold):
            await action.released.wait()
            action = action.then
        match action:
            case Say():
                return await self._say(request, seen, action)
            case Fail():
                text = action.body if isinstance(action.body, str) else json.dumps(action.body)
                return web.Response(
                    status=action.status,
                    text=text,
                    content_type="application/json",
                    headers=action.headers,
                )
            case Raw():
                return await self._send(request, action)
            case Drop():
                return self._drop(request)

    async def _say(
        self, request: web.Request, seen: AgentRequest, action: Say
    ) -> web.StreamResponse:
        form = _OpenAI(action) if seen.protocol == "openai" else _Webhook()
        if action.whole or not seen.wants_pieces:
            text = "".join([piece async for piece in _each(action.pieces)])
            return web.json_response(form.whole(text))

        async def chunks() -> AsyncIterable[bytes]:
            yield form.begin
            async for piece in _each(action.pieces):
                yield form.piece(piece)
                if action.every:
                    await asyncio.sleep(action.every)
            if action.end == "proper":
                yield form.end

        return await self._send(request, Raw(chunks=chunks(), end=action.end))

    async def _send(self, request: web.Request, action: Raw) -> web.StreamResponse:
        response = web.StreamResponse(status=action.status, headers=action.headers)
        await response.prepare(request)
        async for chunk in _each(action.chunks):
            await response.write(chunk)
        if action.end == "hang":
            await self._ending.wait()
        if action.end != "proper" and request.transport is not None:
            # Not abort(): what was written must still arrive.
            request.transport.close()
        return response

    def _drop(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


class _OpenAI:
    def __init__(self, action: Say) -> None:
        self._finish_reason = action.finish_reason
        self.begin = _event(self._chunk({"role": "assistant", "content": ""}))

    @property
    def end(self) -> bytes:
        return _event(self._chunk({}, finish_reason=self._finish_reason)) + b"data: [DONE]\n\n"

    def piece(self, text: str) -> bytes:
        return _event(self._chunk({"content": text}))

    def whole(self, text: str) -> Json:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": self._finish_reason,
        }
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


class _Webhook:
    begin = b": hello\n\n"
    end = b"event: end\ndata: {}\n\n"

    def piece(self, text: str) -> bytes:
        return _event({"text": text})

    def whole(self, text: str) -> Json:
        return {"text": text}


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterable[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
