"""Faults between a client and the homeserver.

A reverse proxy on loopback, in the event loop of the test. It records every request and applies
the first rule that matches it; without rules it forwards. A rule answers, delays, holds, cuts off
or drops a request; `sever_after` lets so many requests pass and then takes the whole server away,
as a power cut between two requests would, until `heal`.

A connection to the homeserver is made for each request, so a homeserver that restarts behind the
proxy is found again; while it is away, clients see their connections closed. Bodies are held in
memory; nothing is streamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from typing_extensions import Self
from yarl import URL

from .http import Json
from .ports import LOOPBACK, free_port
from .synapse import READ_METHODS

# What belongs to one connection, or is computed anew for the next one.
_HOP_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}
)


@dataclass(slots=True, kw_only=True, eq=False)
class ProxiedRequest:
    """A request as it came in; `status` is what the client was sent, None for nothing (yet)."""

    method: str
    path: str
    query: str
    body: Json
    token: str | None
    forwarded: bool = False
    status: int | None = None
    answer: Json = None
    seconds: float = 0.0
    """How long the client waited."""

    @property
    def writes(self) -> bool:
        """Whether the request could change something."""
        return self.method not in READ_METHODS

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status}"


@dataclass(frozen=True, slots=True)
class Delay:
    """Forward after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the homeserver's place; `body` is JSON, or text if it is a string."""

    status: int
    body: Json = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropBefore:
    """Close the connection, the homeserver never sees the request."""


@dataclass(frozen=True, slots=True)
class DropAfter:
    """Have the homeserver handle the request, close the connection in place of its answer."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Send half of the homeserver's answer and close the connection."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Have the homeserver handle the request, answer otherwise; `body` as in `Answer`."""

    body: Json
    status: int = 200


@dataclass(frozen=True, slots=True)
class Hold:
    """Forward once released."""

    released: asyncio.Event = field(default_factory=asyncio.Event)


Action = Delay | Answer | DropBefore | DropAfter | Truncate | Replace | Hold
Where = Callable[[ProxiedRequest], bool]
Choose = Callable[[ProxiedRequest], Action | None]
Route = Callable[[ProxiedRequest], str]


@dataclass(slots=True, kw_only=True, eq=False)
class Rule:
    """An action and the requests it is for; made by `FaultProxy.rule`."""

    action: Action
    matches: Where
    skip: int
    times: int | None
    hits: list[ProxiedRequest] = field(default_factory=list)
    hit: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, request: ProxiedRequest) -> bool:
        """Say whether the action is for this request, and count it."""
        if self.times == len(self.hits) or not self.matches(request):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.hits.append(request)
        self.hit.set()
        return True


@dataclass(slots=True, kw_only=True, eq=False)
class _Sever:
    remaining: int
    when: Literal["before", "after"]
    matches: Where


class FaultProxy:
    """The proxy; clients use its `url` in place of the homeserver's."""

    def __init__(self, upstream: str | Route, *, port: int | None = None) -> None:
        """`upstream` is the homeserver's URL, or gives that of the worker for a request."""
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.requests: list[ProxiedRequest] = []
        self.severed = asyncio.Event()
        self._route: Route = (lambda _: upstream) if isinstance(upstream, str) else upstream
        self._rules: list[Rule] = []
        self._choose: Choose | None = None
        self._sever: _Sever | None = None
        self._open: dict[ProxiedRequest, web.Request] = {}
        self._session: aiohttp.ClientSession | None = None
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        # What was opened before the port turned out to be taken is closed here, or it would be
        # another test that is told of it.
        async with contextlib.AsyncExitStack() as exits:
            self._session = await exits.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, force_close=True),
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,
                )
            )
            app = web.Application(client_max_size=2**26)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            exits.push_async_callback(runner.cleanup)
            await runner.setup()
            await web.TCPSite(runner, LOOPBACK, self.port).start()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sever()
        await self._exits.aclose()

    def mark(self) -> int:
        """Return a place in the record, for `requests[mark:]`."""
        return len(self.requests)

    def writes(self, *, since: int = 0) -> list[ProxiedRequest]:
        """Return the recorded requests since a mark that could change something."""
        return [request for request in self.requests[since:] if request.writes]

    def rule(
        self,
        action: Action,
        *,
        method: str | Collection[str] | None = None,
        path: str | None = None,
        where: Where | None = None,
        skip: int = 0,
        times: int | None = None,
    ) -> Rule:
        """Apply an action to requests: `path` is a regular expression to be found in the path.

        The first `skip` matching requests pass, then the rule takes `times` of them (None: all).
        Rules are tried in the order in which they were made.
        """
        matches = _matcher(method=method, path=path, where=where)
        rule = Rule(action=action, matches=matches, skip=skip, times=times)
        self._rules.append(rule)
        return rule

    def choose(self, choose: Choose) -> None:
        """Have a function choose what becomes of each request that no rule takes, until `heal`."""
        self._choose = choose

    def remove(self, rule: Rule) -> None:
        """Forget a rule; what it holds stays held until released."""
        self._rules.remove(rule)

    def sever(self) -> None:
        """Take the server away: every connection is closed, now and until `heal`."""
        self._sever = None
        self.severed.set()
        for request in tuple(self._open.values()):
            _abort(request)

    def sever_after(
        self,
        count: int,
        *,
        when: Literal["before", "after"],
        path: str | None = None,
        where: Where = lambda request: request.writes,
    ) -> None:
        """Take the server away at the `count`-th matching request (1 is the next), until `heal`.

        "before": the homeserver does not see that request. "after": it does, but nobody sees the
        answer. Requests that are not matched pass until then. `severed` is set when it happens.
        """
        matches = _matcher(method=None, path=path, where=where)
        self._sever = _Sever(remaining=count, when=when, matches=matches)

    def heal(self) -> None:
        """Forward everything again: no rules, not severed; what is held is released."""
        self._sever = None
        self.severed.clear()
        for rule in self._rules:
            if isinstance(rule.action, Hold):
                rule.action.released.set()
        self._rules.clear()
        self._choose = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        seen = _record(request, raw)
        self.requests.append(seen)
        self._open[seen] = request
        began = time.monotonic()
        try:
            return await self._respond(request, raw, seen)
        finally:
            seen.seconds = time.monotonic() - began
            self._open.pop(seen, None)

    async def _respond(
        self, request: web.Request, raw: bytes, seen: ProxiedRequest
    ) -> web.StreamResponse:
        if self.severed.is_set():
            return _abort(request)
        if (sever := self._sever) is not None and sever.matches(seen):
            sever.remaining -= 1
            if sever.remaining <= 0:
                # Nothing else passes from here on; this one's connection stays open until the
                # homeserver has done what it will do.
                del self._open[seen]
                self.sever()
                if sever.when == "after":
                    await self._forward(request, raw, seen)
                return _abort(request)

        action = next((rule.action for rule in self._rules if rule.takes(seen)), None)
        if action is None and self._choose is not None:
            action = self._choose(seen)
        match action:
            case DropBefore():
                return _abort(request)
            case Answer():
                seen.status = action.status
                answer = _made_up(action)
                answer.headers.update(action.headers)
                return answer
            case Delay():
                await asyncio.sleep(action.seconds)
            case Hold():
                await action.released.wait()
        if self.severed.is_set():
            return _abort(request)
        answer = await self._forward(request, raw, seen)
        if answer is None or isinstance(action, DropAfter) or self.severed.is_set():
            return _abort(request)
        if isinstance(action, Truncate):
            return await _send_half(request, answer)
        if isinstance(action, Replace):
            answer = _made_up(action)
        seen.status = answer.status
        return answer

    async def _forward(
        self, request: web.Request, raw: bytes, seen: ProxiedRequest
    ) -> web.Response | None:
        """Pass a request on; None when the homeserver is away."""
        assert self._session is not None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS}
        url = self._route(seen) + request.raw_path
        try:
            async with self._session.request(
                request.method, URL(url, encoded=True), data=raw or None, headers=headers
            ) as response:
                seen.forwarded = True
                body = await response.read()
        except (aiohttp.ClientError, OSError):
            return None
        seen.answer = _json(body)
        kept = {k: v for k, v in response.headers.items() if k.lower() not in _HOP_HEADERS}
        return web.Response(status=response.status, body=body, headers=kept)


def _made_up(action: Answer | Replace) -> web.Response:
    if isinstance(action.body, str):
        return web.Response(status=action.status, text=action.body)
    return web.json_response(action.body, status=action.status)


def _matcher(
    *, method: str | Collection[str] | None, path: str | None, where: Where | None
) -> Where:
    methods = {method} if isinstance(method, str) else set(method or ())
    pattern = re.compile(path or "")

    def matches(request: ProxiedRequest) -> bool:
        return (
            (not methods or request.method in methods)
            and pattern.search(request.path) is not None
            and (where is None or where(request))
        )

    return matches


def _record(request: web.Request, raw: bytes) -> ProxiedRequest:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return ProxiedRequest(
        method=request.method,
        path=request.path,
        query=request.query_string,
        body=_json(raw),
        token=token if scheme == "Bearer" else None,
    )


def _json(raw: bytes) -> Json:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _abort(request: web.Request) -> web.Response:
    """Close the client's connection at once; the response returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


async def _send_half(request: web.Request, answer: web.Response) -> web.StreamResponse:
    body = answer.body if isinstance(answer.body, bytes) else b""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(body)
    with contextlib.suppress(ConnectionError):  # the client may be gone
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    if request.transport is not None:
        # Not abort(): what was written must still arrive.
        request.transport.close()
    return response
