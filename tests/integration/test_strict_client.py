"""A bot that today's clients trust, with matrix-js-sdk as the person and strict isolation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.integration.homes import Home, move_in, say_and_hear
from tests.stack.stack import MakeStack, Stack
from tests.stack.strict_user import StrictUser, is_installed

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")
    if not is_installed():
        pytest.skip("the strict client is not installed", allow_module_level=True)

ENCRYPTED: dict[str, Any] = {
    "access": {"allow": ["*"]},
    "rooms": {"initial_chats": ["General"], "encrypted": True},
}
NO_SHIELD = {("NONE", None)}


@pytest.fixture
async def stack(make_stack: MakeStack, plugin: Path) -> Stack:
    """A bot that encrypts."""
    return await make_stack(plugin=plugin, config=ENCRYPTED, encryption=True)


async def at_home(stack: Stack, name: str = "alice") -> tuple[StrictUser, Home]:
    person = await stack.strict_user(name)
    direct = await person.start_dm(stack.bot.user_id)
    await person.wait_for_member(direct, stack.bot.user_id)
    home = await move_in(stack, person, direct=direct)
    await person.wait_until_it_encrypts(home.chat)
    return person, home


async def test_a_signed_bot_is_trusted_and_an_unsigned_one_is_deaf_and_mute(stack: Stack) -> None:
    alice, home = await at_home(stack)
    bot = stack.bot.user_id
    await alice.send_text(home.chat, "Hello")
    await stack.maubot.wait_for_log("withholds the key")
    print(alice.timeline(home.chat))
    await stack.maubot.generate_recovery_key(bot)
    await alice.wait_until_it_trusts(bot, stack.bot.device_id)
    await say_and_hear(stack, alice, home.chat, "Can you hear me?")
    print(alice.timeline(home.chat))
    print(stack.maubot.log_text())
