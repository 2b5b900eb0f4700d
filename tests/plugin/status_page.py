"""The status page of a test's bot, and how one signs in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fake import FakeHomeserver
from tests.plugin.harness import Bot, running
from tests.plugin.web import Web, WebAnswer, served

TOKEN = "a-token-of-the-tests-only"
CONFIG = f'status: {{token: "{TOKEN}"}}\nadmins: ["@admin:fake.test"]\ndev: {{reset: true}}'
PATHS = ("", "status.json", "metrics", "healthz", "sign-in", "sign-out")
SECRET = ("", "status.json", "metrics")


@asynccontextmanager
async def page_of(
    hs: FakeHomeserver, path: Path, *, config: str = CONFIG
) -> AsyncIterator[tuple[Bot, Web]]:
    async with running(hs, path, config=config) as bot, served(bot) as web:
        yield bot, web


async def status_of(web: Web, query: str = "") -> Any:
    answer = await web.get(f"status.json{query}", token=TOKEN)
    assert answer.status == 200, answer
    return json.loads(answer.text)


async def sign_in(web: Web, token: str = TOKEN, **headers: str) -> WebAnswer:
    return await web.ask("POST", "sign-in", data={"token": token}, headers=headers)


def cookie(answer: WebAnswer) -> dict[str, str]:
    """What the browser would send back."""
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def require_armour(answer: WebAnswer) -> None:
    """Every answer has these headers, whatever it is."""
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    expected = {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    assert {name: answer.headers[name] for name in expected} == expected
