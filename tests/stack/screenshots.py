"""`./build.sh screenshots`: the README's pictures, of the real thing.

A throw-away Synapse and maubot, and Chromium: the plugin is installed through maubot's web UI, as
the README says, people move in and talk, and the pictures are taken on the way. There is no
Matrix client to be had that starts from a package, so the picture of a home is drawn here, from
what the homeserver has of it; it says so itself.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment
from PIL import Image
from playwright.async_api import FloatRect, Page

from .agent_server import TOKEN, Action, AgentRequest, AgentServer, Say
from .browser import Browser
from .console import StepFailedError, run, step
from .demo import chat_row, linked
from .maubot_ui import MaubotUI
from .package import ROOT, build
from .stack import PLUGIN_ID, Stack
from .user import MatrixUser, Message

PICTURES = ROOT / ".github" / "pictures"
_SCALE = 1.5
_COLOURS = 128
_BELOW = 7
"""Lines of the settings that are in the picture below `admins`."""
_STATUS_TOKEN = "a-token-for-the-pictures"
_CHATS = ("General", "Travel")
_ASKED = ("What do I need for twelve rolls?", "And for twenty?")
_RESTART = "Here maubot was killed, the plugin's database deleted, and maubot started again."


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


_HOME = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A home</title><style>
*{box-sizing:border-box}body{margin:0;font:15px/1.5 system-ui,"DejaVu Sans",sans-serif;
color:#1b1d2a;background:#fff;display:grid;grid-template:1fr auto/15rem 1fr;min-height:100vh}
nav{background:#f0f1f8;padding:1rem .75rem}h1{font-size:1.05rem;margin:.25rem .5rem 1rem}
nav p{margin:0 0 .25rem;padding:.35rem .5rem;border-radius:8px}nav p.here{background:#fff;
font-weight:600}main{padding:1rem 1.5rem}h2{font-size:1.05rem;margin:.25rem 0 1rem}
article{margin:0 0 1rem}article b.who{display:block;font-size:.85rem;color:#4338ca}
article.bot b.who{color:#0b6b43}article p{margin:.2rem 0}table{border-collapse:collapse;
margin:.4rem 0}th,td{border:1px solid #d5d8e6;padding:.15rem .7rem;text-align:left}
code{background:#eef0fb;padding:0 .3em;border-radius:4px}.cut{color:#8a4b00;font-size:.85rem;
border-left:3px solid #f0a23c;padding-left:.75rem;margin:1rem 0}footer{grid-column:1/3;
font-size:.8rem;color:#5a5f78;border-top:1px solid #d5d8e6;padding:.5rem 1rem}
</style><nav><h1>{{ space }}</h1>{% for name in chats %}<p {% if name == chat %}class="here"
{% endif %}># {{ name }}</p>{% endfor %}</nav><main><h2># {{ chat }}</h2>
{% for message in messages %}{% if loop.index0 == cut %}<p class="cut">{{ restart }}</p>{% endif %}
<article {% if message.sender == bot %}class="bot"{% endif %}>
<b class="who">{{ message.sender }}</b>
{% if message.html %}{{ message.html | safe }}{% else %}<p>{{ message.body }}</p>{% endif %}
</article>{% endfor %}</main><footer>Not a Matrix client: drawn by ./build.sh screenshots from what
a real Synapse has of this Space. Clients show the same in their own way.</footer></html>"""


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


async def talk(stack: Stack, user: MatrixUser, chat: str) -> int:
    """Ask, lose the database, ask on; returns how many messages there were before."""
    await say(stack, user, chat, _ASKED[0], until="minutes")
    before = len(user.messages(chat))
    stack.maubot.kill()
    await stack.database.delete()
    await stack.maubot.start()
    await say(stack, user, chat, _ASKED[1], until="minutes")
    return before


async def draw(page: Page, *, bot: str, user: MatrixUser, space: str, chat: str, cut: int) -> None:
    """Draw a home from what the homeserver has of it."""
    names = [await _name(user, room) for room in await user.space_children(space)]
    messages: Sequence[Message] = user.messages(chat)
    template = Environment(autoescape=True).from_string(_HOME)
    html = template.render(
        space=await _name(user, space),
        chats=names,
        chat=await _name(user, chat),
        messages=messages,
        bot=bot,
        cut=cut,
        restart=_RESTART,
    )
    await page.set_content(html)
    await shoot(page, "home")


async def _name(user: MatrixUser, room: str) -> str:
    name: str = (await user.state(room))["m.room.name", ""]["content"]["name"]
    return name


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
        cut = await talk(stack, alice, bakery)
    with step("A home is drawn"):
        tab = await browser.open(width=860, height=720, scale=_SCALE)
        await draw(tab.page, bot=stack.bot.user_id, user=alice, space=space, chat=bakery, cut=cut)
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
