"""A real browser: headless Chromium, driven by Playwright.

    async with Browser() as browser:
        tab = await browser.open(width=390, height=844, dark=True)
        await tab.page.goto(url)
        tab.require_quiet()

Chromium is the system's own (Debian's package `chromium`), never one that Playwright downloads.
Every tab has a profile of its own, and notes what went wrong in it and who it talked to.
"""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser as Chromium
from playwright.async_api import ConsoleMessage, Page, Request, async_playwright
from typing_extensions import Self

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def find_chromium() -> Path:
    """Find the browser in PATH, or raise FileNotFoundError."""
    for name in _NAMES:
        if path := shutil.which(name):
            return Path(path)
    raise FileNotFoundError(f"none of {', '.join(_NAMES)} is in PATH (Debian: chromium)")


@dataclass
class Tab:
    """A page, and what it was seen doing."""

    page: Page
    errors: list[str] = field(default_factory=list)
    """Errors in the console and uncaught exceptions."""
    requests: list[str] = field(default_factory=list)
    """The address of every request, but for those that stay in the browser (`data:`)."""

    def require_quiet(self) -> None:
        """Require that nothing went wrong, and that it talked to its own origin only."""
        assert not self.errors, self.errors
        ours = _origin(self.page.url)
        strangers = [url for url in self.requests if _origin(url) != ours]
        assert not strangers, strangers

    async def violations(self, *, rules: list[str] | None = None) -> list[str]:
        """What axe-core finds wrong for people who see, hear or move less; or only by rules."""
        options = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
        results = await Axe().run(self.page, options=options)
        return [
            f"{found['id']} ({found['impact']}): {node['target']}: {node['failureSummary']}"
            for found in results.response["violations"]
            for node in found["nodes"]
        ]

    async def focused(self) -> dict[str, Any]:
        """Where the keyboard is, and whether one can see it."""
        answer: dict[str, Any] = await self.page.evaluate(
            """() => {
                const at = document.activeElement, style = getComputedStyle(at);
                return {
                    tag: at.tagName.toLowerCase(),
                    name: at.name || at.id || at.innerText.trim().slice(0, 40),
                    shown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
                };
            }"""
        )
        return answer

    async def first_paint(self) -> float:
        """Milliseconds from the start of the navigation to the first contentful paint."""
        at: float = await self.page.evaluate(
            """() => new Promise(done => {
                const look = () => {
                    const [paint] = performance.getEntriesByName("first-contentful-paint");
                    paint ? done(paint.startTime) : requestAnimationFrame(look);
                };
                look();
            })"""
        )
        return at


class Browser:
    """Chromium until the end of the block."""

    def __init__(self) -> None:
        self._exits = AsyncExitStack()
        self._chromium: Chromium | None = None

    async def __aenter__(self) -> Self:
        try:
            playwright = await self._exits.enter_async_context(async_playwright())
            self._chromium = await playwright.chromium.launch(
                executable_path=find_chromium(),
                headless=True,
                chromium_sandbox=False,
                args=_FLAGS,
            )
            self._exits.push_async_callback(self._chromium.close)
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def open(
        self, *, width: int = 1280, height: int = 800, dark: bool = False, scale: float = 1
    ) -> Tab:
        """Open an empty tab with a profile of its own; below 600 pixels it is a phone's."""
        assert self._chromium is not None
        context = await self._chromium.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
            is_mobile=width < 600,
            has_touch=width < 600,
        )
        page = await context.new_page()
        tab = Tab(page)

        def note_console(message: ConsoleMessage) -> None:
            if message.type == "error":
                tab.errors.append(message.text)

        def note_request(request: Request) -> None:
            if not request.url.startswith(("data:", "blob:", "about:")):
                tab.requests.append(request.url)

        page.on("console", note_console)
        page.on("pageerror", lambda error: tab.errors.append(str(error)))
        page.on("request", note_request)
        return tab


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
