"""`./build.sh screenshots`: the README's pictures, of the real thing.

A throw-away Synapse and maubot, and Chromium: the plugin is installed through maubot's web UI, as
the README says, people move in and talk, and the pictures are taken on the way. That of a home
is taken in Cinny, if CINNY names the folder of a built one (`cinny.py`); else it stays as it is.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from PIL import Image
from playwright.async_api import FloatRect, Page

from .agent_server import TOKEN, Action, AgentRequest, AgentServer, Say
from .browser import Browser
from .cinny import CinnyServer
from .console import StepFailedError, run, step
from .demo import chat_row, linked
from .maubot_ui import MaubotUI
from .package import ROOT, build
from .stack import PLUGIN_ID, Stack
from .user import MatrixUser

PICTURES = ROOT / ".github" / "pictures"
_SCALE = 1.5
_COLOURS = 128
_BELOW = 7
"""Lines of the settings that are in the picture below `admins`."""
_STATUS_TOKEN = "a-token-for-the-pictures"
_CHATS = ("General", "Travel")
_ASKED = ("What do I need for twelve rolls?", "And for twenty?")


class Baker:
    """An agent that remembers each conversation by its `platform_chat_id`, in its own memory."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = defaultdict(list)

    def reply(self, request: AgentRequest) -> Action:
        said = self._said[request.conversation]
        said.append(request.text)
        rolls, grams = (12, 600) if len(said) == 1 else (20, 1000)
        about = (
            f"“{said[0]}” was your first question, so for **{rolls}**" if said[1:] else "For 12"
        )
        table = f"| flour | water | salt | yeast |\n|---|---|---|---|\n| {grams} g |"
        table += f" {grams * 62 // 100} ml | {grams // 50} g | {grams // 60} g |"
        return Say(pieces=[f"{about} rolls:\n\n{table}\n\n", "Bake them at 220 °C, `18` minutes."])


async def shoot(page: Page, name: str, *, height: int | None = None) -> None:
    """Take a picture of what is in sight, or its upper part; with few colours it is small."""
    size = page.viewport_size
    assert size is not None
    clip = FloatRect(x=0, y=0, width=size["width"], height=height or size["height"])
    shot = await page.screenshot(clip=clip, animations="disabled")
    with Image.open(io.BytesIO(shot)) as image:
        few = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        few.save(PICTURES / f"{name}.png", optimize=True)


async def install(ui: MaubotUI, stack: Stack, plugin: Path, *, agent: AgentServer) -> None:
    """Install the plugin as the README says, with a picture of each step."""
    await ui.log_in()
    await ui.upload_plugin(plugin)
    await shoot(ui.page, "1-plugin", height=380)
    await ui.fill_in_client(stack.bot, homeserver=stack.synapse.url)
    token = ui.page.get_by_label("Access token")
    await token.fill("syt_...")
    await token.blur()
    await shoot(ui.page, "2-client", height=540)
    await token.fill(stack.bot.access_token)
    await ui.create_client()
    await ui.fill_in_instance(stack.instance, plugin_id=PLUGIN_ID)
    await ui.create_instance()
    await ui.replace("admins: []", f'admins: ["@alice:{stack.synapse.server_name}"]')
    above = (await ui.settings()).split("admins:")[0].count("\n")
    await ui.page.keyboard.press("Control+Home")
    for _ in range(above + _BELOW):
        await ui.page.keyboard.press("ArrowDown")
    await shoot(ui.page, "3-instance")
    await ui.replace("initial_chats: [General]", f"initial_chats: [{', '.join(_CHATS)}]")
    await ui.replace("    version: ''\n", "    version: '11'\n")  # Cinny reads no later ones
    await ui.replace("kind: echo", "kind: webhook")
    webhook = f"{agent.url}/webhook"
    await ui.replace("        url: ''\n", f"        url: {webhook}\n")
    settings = await ui.settings()
    head, tail = settings.split(f"{webhook}\n")
    tail = tail.replace("token: ''", f"token: {TOKEN}", 1)
    tail = tail.replace("token: ''", f"token: {_STATUS_TOKEN}", 1)
    await ui.write_settings(f"{head}{webhook}\n{tail}")
    await ui.save()


async def move_in(stack: Stack, name: str) -> tuple[MatrixUser, str, list[str]]:
    """Have a person invite the bot; returns them, their Space and their chats."""
    user = await stack.user(name)
    await user.start_dm(stack.bot.user_id)
    space = await user.wait_for_invite(space=True)
    chats = [await user.wait_for_invite(name=chat, space=False) for chat in _CHATS]
    for room in (space, *chats):
        await user.join(room)
    for chat in chats:
        await linked(user, space=space, chat=chat)
        await chat_row(stack, chat)
    return user, space, chats


async def say(stack: Stack, user: MatrixUser, room: str, text: str, *, until: str) -> None:
    """Say something and wait for an answer that has this in it."""
    event = await user.send_text(room, text)
    await user.wait_for_message(
        room, sender=stack.bot.user_id, body=lambda body: until in body, after=event
    )


async def talk(stack: Stack, user: MatrixUser, chat: str) -> None:
    """Ask, lose the database, ask on."""
    await say(stack, user, chat, _ASKED[0], until="minutes")
    stack.maubot.kill()
    await stack.database.delete()
    await stack.maubot.start()
    await say(stack, user, chat, _ASKED[1], until="minutes")


async def home(browser: Browser, stack: Stack, user: MatrixUser, *, space: str, chat: str) -> None:
    """A home in a real client."""
    async with CinnyServer(Path(os.environ["CINNY"])) as cinny:
        page = await cinny.open(
            browser,
            user,
            homeserver=stack.synapse.url,
            width=1000,
            height=720,
            scale=_SCALE,
        )
        await cinny.show(page, space, chat, until=_ASKED[1])
        await shoot(page, "home")


async def status_page(browser: Browser, stack: Stack) -> None:
    url = f"{stack.maubot.url}/_matrix/maubot/plugin/{stack.instance}/"
    for kind, width, height in (("desktop", 1100, 800), ("phone", 390, 844)):
        tab = await browser.open(width=width, height=height, dark=kind == "phone", scale=_SCALE)
        await tab.page.goto(url)
        await tab.page.locator("input[name=token]").fill(_STATUS_TOKEN)
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_url(url)
        await shoot(tab.page, f"status-{kind}")


async def take_all(stack: Stack, plugin: Path, browser: Browser, agent: AgentServer) -> None:
    with step("A throw-away Synapse and maubot start"):
        await stack.start_servers()
    with step("The plugin is installed through maubot's web UI"):
        ui = await MaubotUI.open(browser, stack.maubot, width=960, height=640, scale=_SCALE)
        await install(ui, stack, plugin, agent=agent)
    with step("People move in and talk, and the database is lost"):
        alice, space, chats = await move_in(stack, "alice")
        bob, _, bobs = await move_in(stack, "bob")
        await move_in(stack, "carol")
        await say(stack, alice, chats[0], "!chat new Bakery", until="Bakery")
        bakery = await alice.wait_for_invite(name="Bakery", space=False)
        await alice.join(bakery)
        await linked(alice, space=space, chat=bakery)
        await say(stack, bob, bobs[1], "!chat archive", until="rchived")
        await bob.leave(bobs[0])
        await talk(stack, alice, bakery)
    if os.environ.get("CINNY"):
        with step("A home, in Cinny"):
            await home(browser, stack, alice, space=space, chat=bakery)
    with step("The status page"):
        await status_page(browser, stack)
    with step("A value that cannot be used"):
        await ui.open_instance(stack.instance)
        await ui.replace("start_timeout: 10", "start_timeout: 5")
        await ui.save()
        await ui.replace("answer: owner", "answer: everybody")
        await ui.save()
        await ui.page.set_viewport_size({"width": 1200, "height": 300})
        lines = await ui.open_log()
        await lines.filter(has_text='found "everybody"').wait_for()
        await shoot(ui.page, "4-log")


async def screenshots() -> int:
    """Take all pictures; return the exit status."""
    directory = Path(tempfile.mkdtemp(prefix="homeroom-screenshots-"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        with step("The plugin is built"):
            plugin = build()
        stack = Stack(directory, plugin=None)
        async with AgentServer() as agent, Browser() as browser:
            agent.reply = Baker().reply
            try:
                await take_all(stack, plugin, browser, agent)
            finally:
                await stack.close()
    except StepFailedError as failure:
        print(f"\n{failure.report()}\n\nThe servers' logs are in {directory}")
        return 1
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)
    for picture in sorted(PICTURES.glob("*.png")):
        print(f"  {picture.relative_to(ROOT)}  {picture.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(run(screenshots()))
