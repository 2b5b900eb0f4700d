"""A real client, Cinny, in a browser, as people see it.

    async with CinnyServer(folder) as cinny:
        page = await cinny.open(browser, user, homeserver=url, width=390, height=844)
        await cinny.show(page, space, chat, until="the last message")

No registry has it: `folder` is what its `npm run build` leaves in `dist`
(https://github.com/cinnyapp/cinny).
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from playwright.async_api import Page
from typing_extensions import Self

from .browser import Browser
from .ports import LOOPBACK, free_port
from .user import MatrixUser

_SIGN_IN = """([token, device, user, homeserver]) => {
    localStorage.setItem("cinny_access_token", token);
    localStorage.setItem("cinny_device_id", device);
    localStorage.setItem("cinny_user_id", user);
    localStorage.setItem("cinny_hs_base_url", homeserver);
}"""


class CinnyServer:
    """Serves a built Cinny on loopback until the end of the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/config.json", self._config)
        app.router.add_static("/", self._folder)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, LOOPBACK, self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def open(
        self,
        browser: Browser,
        user: MatrixUser,
        *,
        homeserver: str,
        width: int,
        height: int,
        scale: float = 1,
    ) -> Page:
        """Open a tab in which somebody is signed in."""
        tab = await browser.open(width=width, height=height, scale=scale)
        await tab.page.goto(f"{self.url}/config.json")
        account = user.account
        session = [account.access_token, account.device_id, account.user_id, homeserver]
        await tab.page.evaluate(_SIGN_IN, session)
        return tab.page

    async def show(self, page: Page, space_id: str, room_id: str, *, until: str) -> None:
        """Show a room of a Space, until this text is there."""
        await page.goto(f"{self.url}/#/{quote(space_id)}/{quote(room_id)}/")
        await page.get_by_text(until).last.wait_for()

    async def _index(self, _: web.Request) -> web.FileResponse:
        return web.FileResponse(self._folder / "index.html")

    async def _config(self, _: web.Request) -> web.Response:
        config = json.loads((self._folder / "config.json").read_text(encoding="utf-8"))
        return web.json_response({**config, "hashRouter": {"enabled": True, "basename": "/"}})
