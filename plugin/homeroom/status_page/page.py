"""The HTTP side: paths, methods, who may see the page, and the headers of every answer.

    /              the page               GET, signed in
    /status.json   the same for machines  GET, signed in or token
    /metrics       the same for Prometheus
    /healthz       one word               GET, anybody
    /sign-in       the form               GET, POST: opens a session
    /sign-out                             POST: ends it

Without `status.token` every path is "not found", as if there was no such page. HEAD works
wherever GET does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from aiohttp import hdrs
from aiohttp.web import Request, Response
from maubot.handlers import web

from ..replies import status as replies
from .access import SESSION_SECONDS, WrongTokens, is_session, is_token, new_key, new_session
from .listing import Query, read_query
from .snapshot import Condition, Snapshot
from .views import Pages, as_json, as_metrics

COOKIE: Final = "homeroom_status"
MAX_FORM: Final = 8 * 1024
"""Bytes."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
NO_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
TOKEN_NAMES: Final = frozenset(
    {
        "access_token",
        "api_key",
        "auth",
        "authorization",
        "bearer",
        "key",
        "password",
        "secret",
        "status.token",
        "status_token",
        "token",
    }
)

View = Callable[[bool], Awaitable[Snapshot]]
"""Takes a snapshot, with or without the rows."""
Answer = Callable[[Request], Awaitable[Response]]


class StatusPage:
    """Registered with maubot by `register_handler_class`, before anything else is there.

    Args:
        token: asked at every request, because the setting can change; empty: there is no page.
        view: takes a snapshot.
    """

    def __init__(
        self,
        *,
        token: Callable[[], str],
        view: View,
        files: Mapping[str, str],
        wrong_tokens: WrongTokens | None = None,
    ) -> None:
        self._token = token
        self._view = view
        self._key = new_key()
        self._pages = Pages(files)
        self._wrong_tokens = wrong_tokens or WrongTokens()
        self._paths: Mapping[tuple[str, str], Answer] = {
            ("", hdrs.METH_GET): self._page,
            ("status.json", hdrs.METH_GET): self._json,
            ("metrics", hdrs.METH_GET): self._metrics,
            ("healthz", hdrs.METH_GET): self._healthz,
            ("sign-in", hdrs.METH_GET): self._form,
            ("sign-in", hdrs.METH_POST): self._sign_in,
            ("sign-out", hdrs.METH_POST): self._sign_out,
        }

    @web.view("/{path:.*}")  # type: ignore[arg-type]
    async def handle(self, request: Request) -> Response:  # type: ignore[misc]
        """Answer any request to the instance's web address."""
        response = await self._answer(request)
        response.headers.setdefault("Content-Security-Policy", NO_CONTENT_POLICY)
        response.headers.update(HEADERS)
        return response

    async def _answer(self, request: Request) -> Response:
        path = request.match_info["path"]
        allowed = [method for known, method in self._paths if known == path]
        if not allowed or not self._token():
            return Response(status=404, text=replies.NOT_FOUND)
        if hdrs.METH_GET in allowed:
            allowed.append(hdrs.METH_HEAD)
        if request.method not in allowed:
            names = ", ".join(allowed)
            return Response(status=405, text=replies.wrong_method(names), headers={"Allow": names})
        if _has_token_in_query(request):
            return Response(status=400, text=replies.NOT_IN_THE_ADDRESS)
        if request.method == hdrs.METH_POST and _is_from_elsewhere(request):
            return Response(status=403, text=replies.FROM_ELSEWHERE)
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        return await self._paths[path, method](request)

    # Who may look

    async def _refusal(self, request: Request) -> Response | None:
        """Why this request may not see anything; None if it may."""
        if self._is_signed_in(request):
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            return _unauthorized(replies.NOT_SIGNED_IN)
        if is_token(given.strip(), self._token()):
            return None
        if await self._wrong_tokens.hold_up():
            return _unauthorized(replies.NOT_THE_ONE)
        return _too_many(Response(text=replies.TOO_MANY_WRONG))

    def _is_signed_in(self, request: Request) -> bool:
        session = request.cookies.get(COOKIE, "")
        return is_session(session, self._token(), key=self._key, now=time.time())

    # Signing in and out

    async def _form(self, request: Request) -> Response:
        if self._is_signed_in(request):
            return _see("./")
        return self._html(self._pages.sign_in())

    async def _sign_in(self, request: Request) -> Response:
        form = await request.content.read(MAX_FORM + 1)
        while len(form) <= MAX_FORM and not request.content.at_eof():
            form += await request.content.read(MAX_FORM + 1 - len(form))
        if len(form) > MAX_FORM:
            return Response(status=413, text=replies.TOO_LARGE)
        given = parse_qs(form.decode(errors="replace")).get("token", [""])[0].strip()
        if not is_token(given, self._token()):
            if await self._wrong_tokens.hold_up():
                return self._html(self._pages.sign_in(message=replies.NOT_THE_ONE), status=401)
            return _too_many(self._html(self._pages.sign_in(message=replies.TOO_MANY_WRONG)))
        response = _see("./")
        session = new_session(self._token(), key=self._key, now=time.time())
        _set_cookie(request, response, session, seconds=SESSION_SECONDS)
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = _see("sign-in")
        _set_cookie(request, response, "", seconds=0)
        return response

    # What there is to see

    async def _page(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal if "Authorization" in request.headers else _see("sign-in")
        snapshot = await self._view(True)
        return self._html(await asyncio.to_thread(self._pages.status, snapshot, _query(request)))

    async def _json(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        text = await asyncio.to_thread(as_json, await self._view(True), _query(request))
        return Response(text=text, content_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        if refusal := await self._refusal(request):
            return refusal
        snapshot = await self._view(True)
        try:
            content_type, body = await asyncio.to_thread(as_metrics, snapshot)
        except ImportError:
            return Response(status=404, text=replies.NO_METRICS)
        return Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, request: Request) -> Response:
        condition = (await self._view(False)).condition
        status = 200 if condition is Condition.OK else 503
        return Response(status=status, text=f"{condition.value}\n")

    def _html(self, text: str, *, status: int = 200) -> Response:
        return Response(
            status=status,
            text=text,
            content_type="text/html",
            headers={"Content-Security-Policy": self._pages.policy},
        )


def _has_token_in_query(request: Request) -> bool:
    """By its name: to compare the value would tell whoever guesses, at full speed."""
    return any(name.lower() in TOKEN_NAMES for name in request.query)


def _query(request: Request) -> Query:
    given = request.query
    return read_query(given.get("q", ""), given.get("status", ""), given.get("page", ""))


def _is_from_elsewhere(request: Request) -> bool:
    """https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header; old browsers do not say."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}


def _is_https(request: Request) -> bool:
    forwarded = request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip().lower()
    return request.secure or forwarded == "https"


def _set_cookie(request: Request, response: Response, value: str, *, seconds: int) -> None:
    """Without a path of its own, which makes it the directory of the address that was asked for.

    So it is right behind any proxy (https://www.rfc-editor.org/rfc/rfc6265#section-5.1.4).
    """
    response.headers["Set-Cookie"] = (
        f"{COOKIE}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
        + ("; Secure" if _is_https(request) else "")
    )


def _see(address: str) -> Response:
    return Response(status=303, headers={"Location": address})


def _unauthorized(text: str) -> Response:
    challenge = 'Bearer realm="Homeroom status"'
    return Response(status=401, text=text, headers={"WWW-Authenticate": challenge})


def _too_many(response: Response) -> Response:
    response.set_status(429)
    response.headers["Retry-After"] = "1"
    return response
