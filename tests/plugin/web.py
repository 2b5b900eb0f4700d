"""The instance's web address, as maubot's own server serves it, on a real socket.

async with running(hs, tmp_path, config=CONFIG) as bot, served(bot) as web:
    answer = await web.get("status.json", token=TOKEN)
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web
from maubot.server import MaubotServer
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from .harness import Bot

BASE = "/_matrix/maubot/plugin/"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    status: int
    headers: CIMultiDictProxy[str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """Asks like a machine does: no cookies but those given, no redirect followed."""

    url: str
    """The instance's address, with a slash at its end."""
    port: int
    session: aiohttp.ClientSession

    async def get(self, path: str = "", *, token: str | None = None, **more: Any) -> WebAnswer:
        return await self.ask("GET", path, token=token, **more)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> WebAnswer:
        """Ask for a path below the address, which is percent-encoded already."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self.session.request(
            method,
            URL(self.url + path, encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
        ) as response:
            text = await response.text()
            return WebAnswer(status=response.status, headers=response.headers, text=text)

    async def raw(self, target: str) -> WebAnswer:
        """Ask for a target that no client would let through."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(request.encode("latin-1"))
        answer = (await reader.read()).decode("latin-1")
        writer.close()
        await writer.wait_closed()
        head, _, text = answer.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        pairs = [line.partition(": ")[::2] for line in lines]
        headers: Any = CIMultiDictProxy(CIMultiDict(pairs))
        return WebAnswer(status=int(status.split()[1]), headers=headers, text=text)


@asynccontextmanager
async def served(bot: Bot) -> AsyncIterator[Web]:
    """Serve what the bot's plugin registers until the end of the block."""
    config: Any = {
        "server.plugin_base_path": BASE,
        "server.public_url": "",
        "server.ui_base_path": "/_matrix/maubot",
        "server.override_resource_path": False,
    }
    loop = asyncio.get_running_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server = MaubotServer(web.Application(), config, loop)
    server.plugin_routes[f"{BASE}homeroom/"] = bot.webapp
    await server.runner.setup()
    try:
        site = web.TCPSite(server.runner, "127.0.0.1", 0)
        await site.start()
        port = server.runner.addresses[0][1]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Web(url=f"http://127.0.0.1:{port}{BASE}homeroom/", port=port, session=session)
    finally:
        await server.runner.cleanup()
