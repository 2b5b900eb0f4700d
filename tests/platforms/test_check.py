"""Asking an agent for nothing in particular: what that tells, and what it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from homeroom.domain.conversation.answer import Trouble
from homeroom.platforms import Platform, PlatformError
from tests.platforms.asking import KINDS
from tests.stack.agent_server import TOKEN


@dataclass
class Silent:
    """A server that answers every request with one status, and no model ever runs."""

    url: str
    status: int = 200
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
async def silent() -> AsyncIterator[Silent]:
    async def answer(request: web.Request) -> web.Response:
        found.asked.append((request.method, request.path, request.headers["Authorization"]))
        return web.json_response({"data": []}, status=found.status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        found = Silent(str(server.make_url("/agent")))
        yield found


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("openai", 200, ""),
        ("openai", 404, "no list of models (HTTP status 404 for `/models`), so address, key and"),
        ("openai", 405, "no list of models (HTTP status 405 for `/models`), so address, key and"),
        ("openai", 501, "look at `base_url`"),
        ("webhook", 200, ""),
        ("webhook", 405, ""),
        ("webhook", 404, "its address says HTTP status 404. That is as it should be if"),
        ("webhook", 500, "else look at `url`."),
    ],
)
async def test_what_an_answer_to_no_question_does_not_tell_is_said(
    silent: Silent, connect: Callable[..., Platform], kind: str, status: int, words: str
) -> None:
    silent.status = status
    uncertain = await connect(kind, url=silent.url).check()
    assert words in uncertain if words else uncertain == ""
    path = "/agent/models" if kind == "openai" else "/agent"
    assert silent.asked == [("GET", path, f"Bearer {TOKEN}")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (401, Trouble.MISCONFIGURED),
        (403, Trouble.MISCONFIGURED),
        (502, Trouble.UNREACHABLE),
        (503, Trouble.BUSY),
    ],
)
async def test_an_agent_that_would_not_answer_is_no_agent(
    silent: Silent,
    connect: Callable[..., Platform],
    kind: str,
    status: int,
    trouble: Trouble,
) -> None:
    silent.status = status
    with pytest.raises(PlatformError, match=f"HTTP status {status}") as raised:
        await connect(kind, url=silent.url).check()
    assert raised.value.trouble is trouble
