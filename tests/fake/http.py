"""The HTTP door: aiohttp on one side, endpoints and faults on the other.

Reads a request, writes it down, lets a fault have it or answers it. Decides nothing about Matrix.
"""

from __future__ import annotations

import asyncio
import copy
import json
import math
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from typing_extensions import assert_never

from .call import Call, Service
from .endpoints import Route, find_route
from .errors import MatrixError
from .faults import (
    Alter,
    DropAfter,
    DropBefore,
    Fault,
    Faults,
    Hang,
    Late,
    RateLimit,
    Recorded,
    Respond,
    Truncate,
    Twice,
)


class Door:
    """Answers HTTP requests from a world, unless a fault is in the way."""

    def __init__(self, service: Service, faults: Faults, requests: list[Recorded]) -> None:
        self.service = service
        self.faults = faults
        self.requests = requests

    def app(self) -> web.Application:
        """Make the application; one is good for one run of the server."""
        app = web.Application(client_max_size=50 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        app.on_response_prepare.append(self._date)
        return app

    async def _date(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.service.switches.sends_date:
            seconds = self.service.world.clock.read() / 1000
            response.headers["Date"] = formatdate(seconds, usegmt=True)
        else:
            response.headers.popall("Date", None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        raw_path = request.raw_path.partition("?")[0]
        raw_body = await request.read()
        header = request.headers.get("Authorization", "")
        token = header.removeprefix("Bearer ") or request.query.get("access_token")
        session = self.service.world.sessions.get(token or "")
        recorded = Recorded(
            request.method,
            unquote(raw_path),
            dict(request.query),
            session.user_id if session else None,
            _json_or_none(raw_body),
            parameters=tuple(request.query.items()),
        )
        self.requests.append(recorded)

        async def answer() -> Any:
            route, params = find_route(request.method, raw_path)
            call = Call(self.service, params, recorded.query, raw_path, raw_body, session, token)
            return await self._execute(route, call)

        try:
            recorded.route = find_route(request.method, raw_path)[0].template
        except MatrixError:
            recorded.route = ""
        recorded.fault = self.faults.take(recorded)
        largest = self.service.switches.largest_request
        if largest is not None and len(raw_body) > largest:
            recorded.status = 413
            return web.Response(status=413, text="<html>Request Entity Too Large</html>")
        return await self._respond(request, recorded, answer)

    async def _execute(self, route: Route, call: Call) -> Any:
        """Call the endpoint, once for each transaction."""
        if not route.public:
            call.world.session(call.token)
        if not any(word in route.template for word in ("/send/", "/redact/")):
            return await route.endpoint(call)
        transactions = self.service.transactions
        return await transactions.once(call.session, call.path, lambda: route.endpoint(call))

    async def _respond(
        self, request: web.Request, recorded: Recorded, answer: Callable[[], Any]
    ) -> web.StreamResponse:
        match recorded.fault:
            case None:
                return await self._normal(recorded, answer)
            case Fault(action=Respond() | RateLimit() as action):
                response = _instead(action)
                recorded.status = response.status
                return response
            case Fault(action=DropBefore()):
                return _drop(request)
            case Fault(action=Hang() as action) as fault:
                return await self._hang(fault, action, recorded, answer)
            case Fault(action=Late() | Twice() as action) as fault:
                return await self._later(fault, action, request, recorded, answer)
            case Fault(action=DropAfter() | Truncate() | Alter() as action):
                whole = await self._normal(recorded, answer)
                return await _spoil(request, recorded, whole, action)
            case _:
                raise AssertionError(recorded.fault)

    async def _hang(
        self, fault: Fault, action: Hang, recorded: Recorded, answer: Callable[[], Any]
    ) -> web.StreamResponse:
        if not action.after:
            await fault.released()
        response = await self._normal(recorded, answer)
        if action.after:
            await fault.released()
        return response

    async def _later(
        self,
        fault: Fault,
        action: Late | Twice,
        request: web.Request,
        recorded: Recorded,
        answer: Callable[[], Any],
    ) -> web.StreamResponse:
        async def act() -> web.Response:
            await fault.released()
            return await self._normal(recorded, answer)

        if isinstance(action, Twice):
            response = await self._normal(recorded, answer)
            fault.later.append(asyncio.ensure_future(act()))
            return response
        acting = asyncio.ensure_future(act())
        fault.later.append(acting)
        if action.waits:
            return await asyncio.shield(acting)
        if action.status is None:
            return _drop(request)
        return web.Response(status=action.status, text="<html>Gateway time-out</html>")

    async def _normal(self, recorded: Recorded, answer: Callable[[], Any]) -> web.Response:
        try:
            status, body = 200, await answer()
        except MatrixError as error:
            status, body = error.status, error.body
        response = _json(status, body)
        largest = self.service.switches.largest_answer
        if largest is not None and (response.content_length or 0) > largest:
            recorded.status = 502
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        recorded.status, recorded.answer = status, body
        return response


def _json_or_none(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def _json(status: int, body: Any) -> web.Response:
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return web.Response(status=status, body=text, content_type="application/json")


def _instead(action: Respond | RateLimit) -> web.Response:
    if isinstance(action, RateLimit):
        return _too_many(action)
    if action.text is not None:
        return web.Response(status=action.status, text=action.text, headers=action.headers)
    response = _json(action.status, {} if action.json is None else action.json)
    response.headers.update(action.headers)
    return response


def _too_many(action: RateLimit) -> web.Response:
    body: dict[str, Any] = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}
    if action.retry_after_ms is None:
        return _json(429, body)
    response = _json(429, {**body, "retry_after_ms": action.retry_after_ms})
    if action.header:
        response.headers["Retry-After"] = str(math.ceil(action.retry_after_ms / 1000))
    return response


async def _spoil(
    request: web.Request,
    recorded: Recorded,
    whole: web.Response,
    action: DropAfter | Truncate | Alter,
) -> web.StreamResponse:
    """Do something to an answer that is ready."""
    match action:
        case DropAfter():
            recorded.status = None
            return _drop(request)
        case Truncate():
            return await _cut(request, whole, action)
        case Alter():
            if recorded.status == 200:
                recorded.answer = action.change(copy.deepcopy(recorded.answer))
            return _json(whole.status, recorded.answer)
        case _:
            assert_never(action)


def _drop(request: web.Request) -> web.Response:
    """Close the connection; the response is never written."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, whole: web.Response, action: Truncate) -> web.StreamResponse:
    """Promise the whole answer, send a part of it, close."""
    body = whole.body if isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=whole.status, headers={"Content-Length": str(len(body))})
    response.content_type = "application/json"
    await response.prepare(request)
    await response.write(body[: int(len(body) * action.share)])
    if request.transport is not None:
        request.transport.close()
    return response
