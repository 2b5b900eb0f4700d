"""maubot's web UI, used as an administrator does: what is seen, clicked and typed.

    ui = await MaubotUI.open(browser, maubot)
    await ui.log_in()
    await ui.upload_plugin(path)

The management API is called by the UI itself only.
"""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Locator
from typing_extensions import Self

from .browser import Browser, Tab
from .maubot import Maubot
from .synapse import Account


class MaubotUI:
    """A tab with maubot's web UI in it."""

    def __init__(self, tab: Tab, maubot: Maubot) -> None:
        self.tab = tab
        self.page = tab.page
        self._maubot = maubot
        self._editor = self.page.locator(".ace_editor")

    @classmethod
    async def open(
        cls,
        browser: Browser,
        maubot: Maubot,
        *,
        width: int = 1280,
        height: int = 800,
        scale: float = 1,
    ) -> Self:
        tab = await browser.open(width=width, height=height, scale=scale)
        await tab.page.goto(maubot.ui_url)
        return cls(tab, maubot)

    @property
    def error(self) -> Locator:
        """What the form in front says went wrong; empty if nothing did."""
        return self.page.locator("main .error")

    async def log_in(self) -> None:
        await self.page.get_by_placeholder("Username").fill(self._maubot.admin_user)
        await self.page.get_by_placeholder("Password").fill(self._maubot.admin_password)
        await self.page.get_by_role("button", name="Log in").click()
        await self.page.get_by_role("link", name="Maubot Manager").wait_for()

    async def begin(self, kind: str) -> None:
        """Click the plus sign beside "Instances", "Clients" or "Plugins"."""
        await self.page.locator(f".sidebar .{kind.lower()}.list .title a").click()

    async def upload_plugin(self, path: Path) -> None:
        await self.begin("Plugins")
        await self.page.locator("main input[type=file]").set_input_files(path)
        await self.page.get_by_role("textbox", name="Version").wait_for()

    async def fill_in_client(self, account: Account, *, homeserver: str) -> None:
        """Type in a bot account, with "Autojoin" switched off."""
        await self.begin("Clients")
        await self.page.get_by_label("User ID").fill(account.user_id)
        await self._choose("Homeserver", homeserver)
        await self.page.get_by_label("Access token").fill(account.access_token)
        await self.page.locator("#Autojoin").click()

    async def create_client(self) -> None:
        """Create the client that was filled in; returns when it is started."""
        await self.page.get_by_role("button", name="Create").click()
        await self.page.get_by_role("button", name="Stop").wait_for()

    async def fill_in_instance(self, name: str, *, plugin_id: str) -> None:
        """Type in an instance of the first client."""
        await self.begin("Instances")
        await self.page.get_by_label("ID", exact=True).fill(name)
        await self._choose("Primary user")
        await self._choose("Type", plugin_id)

    async def create_instance(self) -> None:
        """Create the instance that was filled in; its settings are in the editor then."""
        await self.page.get_by_role("button", name="Create").click()
        await self._editor.wait_for()

    async def open_instance(self, name: str) -> None:
        """Open an instance as it is now in maubot."""
        await self.page.reload()
        await self.page.locator(".sidebar .instances.list a.entry", has_text=name).click()
        await self._editor.wait_for()

    async def settings(self) -> str:
        """Read what stands in the editor, also what would have to be scrolled to."""
        text: str = await self._editor.evaluate("editor => editor.env.editor.getValue()")
        return text

    async def write_settings(self, text: str) -> None:
        """Select all that stands in the editor and write something else."""
        await self._editor.locator(".ace_content").click()
        await self.page.keyboard.press("Control+a")
        await self.page.keyboard.insert_text(text)

    async def replace(self, old: str, new: str) -> None:
        """Change a piece of the settings, which must stand there just once."""
        text = await self.settings()
        assert text.count(old) == 1, (old, text)
        await self.write_settings(text.replace(old, new))

    async def save(self) -> int:
        """Click "Save"; returns the status with which maubot answers the UI."""
        async with self.page.expect_response(
            lambda response: "/instance/" in response.url and response.request.method == "PUT"
        ) as waiting:
            await self.page.get_by_role("button", name="Save").click()
        await self.page.get_by_role("button", name="Save").wait_for()
        return (await waiting.value).status

    async def open_log(self) -> Locator:
        """Open the log; returns its lines, those of other instances too."""
        await self.page.locator(".sidebar .open-log").click()
        await self.page.locator(".modal .log").wait_for()
        return self.page.locator(".modal .row")

    async def close_log(self) -> None:
        """Click beside it; the button for it is there on phones only."""
        await self.page.locator(".modal-wrapper-wrapper").click(position={"x": 5, "y": 5})

    async def _choose(self, label: str, text: str = "") -> None:
        """Choose from a list, or type what is not in it; without a text, what comes first."""
        await (
            self.page.locator(".entry", has=self.page.get_by_text(label, exact=True))
            .locator(".select")
            .click()
        )
        if text:
            await self.page.keyboard.type(text)
        await self.page.keyboard.press("Enter")
