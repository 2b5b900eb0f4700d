"""What the README tells an administrator to do in maubot's web UI, done in a real browser.

Issue 7, "Must be seen", 1. Nobody but the UI itself calls the management API.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Locator

from tests.integration.homes import Home, ask, invite_bot, is_echo, move_in, say_and_hear
from tests.stack.browser import Browser
from tests.stack.maubot_ui import MaubotUI
from tests.stack.package import ROOT
from tests.stack.stack import PLUGIN_ID, MakeMaubot, Stack
from tests.stack.synapse import Synapse
from tests.stack.user import MatrixUser

BASE = (ROOT / "base-config.yaml").read_text(encoding="utf-8")
NOT_IN_FORCE = "The settings cannot be used, so Homeroom goes on with the last good settings:"
MEND = "Mend them in maubot's web UI:\n\n● `rooms.initial_chats`"


@pytest.fixture
async def servers(
    tmp_path: Path, synapse: Synapse, make_maubot: MakeMaubot
) -> AsyncIterator[Stack]:
    """A maubot in which there is nothing yet, and a bot account that it does not know."""
    suffix = f"-{secrets.token_hex(4)}"
    maubot = await make_maubot(tmp_path / "maubot")
    stack = Stack(tmp_path, plugin=None, synapse=synapse, maubot=maubot, suffix=suffix)
    try:
        await stack.start_servers()
        yield stack
    finally:
        await stack.close()


async def install(ui: MaubotUI, stack: Stack, plugin: Path) -> None:
    await ui.log_in()
    await ui.upload_plugin(plugin)
    await ui.fill_in_client(stack.bot, homeserver=stack.synapse.url)
    await ui.create_client()
    assert await ui.page.locator("#Autojoin").get_attribute("data-active") == "false"
    await ui.fill_in_instance(stack.instance, plugin_id=PLUGIN_ID)
    await ui.create_instance()


async def move_in_new(stack: Stack, name: str, *, chats: list[str]) -> Home:
    user = await stack.user(name)
    direct = await invite_bot(stack, user)
    return await move_in(stack, user, direct=direct, chats=chats)


async def logged(ui: MaubotUI, text: str, *, level: str) -> str:
    """Find a line by its level and a part of its text in the log that the UI shows."""
    lines = await ui.open_log()
    line: Locator = lines.and_(ui.page.locator(f".{level}")).filter(has_text=text).last
    found = await line.locator(".text").inner_text()
    await ui.close_log()
    return found


async def is_answered(stack: Stack, home: Home, guest: MatrixUser, text: str) -> bool:
    """Whether a guest is, in somebody's chat; the owner, who speaks after them, always is."""
    await guest.send_text(home.chat, text)
    await home.user.send_text(home.chat, f"after {text}")
    await home.user.wait_for_message(
        home.chat,
        sender=stack.bot.user_id,
        body=lambda body: is_echo(f"after {text}", body),
    )
    said = home.user.messages(home.chat, sender=stack.bot.user_id)
    return any(is_echo(text, message.body) for message in said)


async def test_an_administrator_needs_nothing_but_the_web_ui(
    servers: Stack, plugin: Path, browser: Browser
) -> None:
    stack, ui = servers, await MaubotUI.open(browser, servers.maubot)
    await install(ui, stack, plugin)
    assert await ui.settings() == BASE
    home = await move_in_new(stack, "alice", chats=["General"])
    alice, guest = home.user, await stack.user("guest")
    key = await say_and_hear(stack, alice, home.chat, "Hello")
    await alice.invite(home.chat, guest.user_id)
    await guest.join(home.chat)
    assert not await is_answered(stack, home, guest, "one")

    # What is saved counts at once.
    await ui.replace("admins: []", f'admins: ["{alice.user_id}"]')
    await ui.replace("answer: owner", "answer: members")
    await ui.replace("space_name: Homeroom", "space_name: Nest")
    await ui.replace("initial_chats: [General]", "initial_chats: [Plans, Ideas]")
    assert await ui.save() == 200
    await logged(ui, "Saved, and in force", level="info")
    assert await is_answered(stack, home, guest, "two")
    other = await move_in_new(stack, "bob", chats=["Plans", "Ideas"])
    state = await other.user.state(other.space)
    assert state["m.room.name", ""]["content"]["name"] == "Nest"
    assert await alice.space_children(home.space) == [home.chat]

    # What needs a restart is named, until it was given one.
    await ui.replace("start_timeout: 10", "start_timeout: 9")
    assert await ui.save() == 200
    waiting = "restart the instance to apply: reconcile.start_timeout"
    assert await logged(ui, waiting, level="info") == f"Saved; {waiting}"
    report = await ask(stack, alice, home.chat, "!reconcile")
    assert report.body.endswith(
        "waiting for a restart of the instance**: `reconcile.start_timeout`"
    )
    for _ in range(2):
        await ui.page.locator("#Running").click()
        assert await ui.save() == 200
    report = await ask(stack, alice, home.chat, "!reconcile")
    assert "waiting" not in report.body
    assert await say_and_hear(stack, alice, home.chat, "And now?") == key

    # A value that cannot be used is named, and changes nothing.
    good = await ui.settings()
    problem = ": found a list of 0, expected a list of 1 to 20 texts of 1 to 100 characters"
    await ui.replace("initial_chats: [Plans, Ideas]", "initial_chats: []")
    await ui.replace("answer: members", "answer: owner")
    assert await ui.save() == 200
    error = await logged(ui, "rooms.initial_chats", level="error")
    assert error == f"{NOT_IN_FORCE}\n- rooms.initial_chats{problem}"
    assert await is_answered(stack, home, guest, "three")
    report = await ask(stack, alice, home.chat, "!reconcile")
    assert report.body.endswith(f"the last good ones are in force. {MEND}{problem}")

    # So is a text that is no YAML; it stays where it can be mended.
    await ui.write_settings("admins: [\n")
    assert await ui.save() == 200
    error = await logged(ui, "what is not YAML", level="error")
    assert error.startswith(f"{NOT_IN_FORCE}\n- the whole text: found what is not YAML (line ")
    assert await is_answered(stack, home, guest, "four")
    await ui.open_instance(stack.instance)
    assert await ui.settings() == "admins: [\n"
    await ui.write_settings(good.replace("answer: members", "answer: owner"))
    assert await ui.save() == 200
    await logged(ui, "Saved, and in force", level="info")
    assert not await is_answered(stack, home, guest, "five")
    assert "# Whose messages in a chat are answered" in await ui.settings()
    ui.tab.require_quiet()
