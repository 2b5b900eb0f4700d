"""A bot that today's clients trust, with matrix-js-sdk as the person and strict isolation.

What is looked at is what that client could read, with which shield, and what came over the wire.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from homeroom.replies import encryption as words
from tests.integration.homes import Home, invite_bot, move_in, say_and_hear, start, welcomed
from tests.stack.agent_server import AgentServer, Say
from tests.stack.http import Json, JsonApi
from tests.stack.stack import MakeStack, Stack
from tests.stack.strict_user import StrictUser, is_installed
from tests.stack.waiting import eventually

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")
    if not is_installed():
        pytest.skip("the strict client is not installed", allow_module_level=True)

pytestmark = pytest.mark.timeout(300)
"""They go through several lives of maubot each."""

TOKEN = "a-token-of-the-status-page"
NO_SHIELD = {("NONE", None)}


def config(agent: AgentServer, **more: Any) -> dict[str, Any]:
    return {
        "access": {"allow": ["*"]},
        "rooms": {"initial_chats": ["General"], "encrypted": True},
        "status": {"token": TOKEN},
        "platform": agent.openai(),
        **more,
    }


async def status(stack: Stack) -> Json:
    """What the status page shows to machines."""
    address = f"{stack.maubot.url}/_matrix/maubot/plugin/{stack.instance}"
    return await JsonApi(base_url=address, token=TOKEN).request("GET", "/status.json")


async def trust_is(stack: Stack, word: str) -> None:
    async def found() -> bool:
        return bool((await status(stack))["encryption"]["trust"] == word)

    await eventually(f"{word} on the status page", found, timeout=30)


async def at_home(stack: Stack, name: str = "alice") -> tuple[StrictUser, Home]:
    person = await stack.strict_user(name)
    direct = await person.start_dm(stack.bot.user_id)
    await person.wait_for_member(direct, stack.bot.user_id)
    home = await move_in(stack, person, direct=direct)
    await person.wait_until_it_encrypts(home.chat)
    return person, home


async def office(stack: Stack, agent: AgentServer) -> Any:
    """An administrator in a room that is not encrypted."""
    ada = await stack.user("ada")
    await stack.maubot.update_instance(stack.instance, config=config(agent, admins=[ada.user_id]))
    room = await invite_bot(stack, ada)
    await welcomed(stack, ada, room)
    return ada, room


async def report(stack: Stack, ada: Any, room: str) -> str:
    """What `!reconcile` answers, the whole of it."""
    asked = await ada.send_text(room, "!reconcile")
    answer = await ada.wait_for_message(
        room, sender=stack.bot.user_id, after=asked, body="Reconciled", timeout=30
    )
    return str(answer.body)


def assert_all_encrypted(stack: Stack, person: StrictUser, room_id: str) -> None:
    """Nothing that the bot said in the room came in the clear."""
    wires = {
        event["wire"]
        for event in person.timeline(room_id)
        if event["sender"] == stack.bot.user_id and "msgtype" in event["content"]
    }
    assert wires <= {"m.room.encrypted"}


async def test_an_unsigned_bot_says_what_to_press_and_a_signed_one_is_trusted(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    stack = await make_stack(plugin=plugin, config=config(agent), encryption=True)
    bot, device = stack.bot.user_id, stack.bot.device_id
    ada, room = await office(stack, agent)
    alice, home = await at_home(stack)
    unheard = await alice.send_text(home.chat, "Hello")
    await stack.maubot.wait_for_log("Encryption: my account has no cross-signing identity")
    await stack.maubot.wait_for_log(
        rf"Cannot read {re.escape(unheard)} .* withholds the key, becau"
    )
    assert "Generate recovery key" in await report(stack, ada, room)
    assert "Generate recovery key" in (await status(stack))["encryption"]["findings"][0]

    await stack.maubot.generate_recovery_key(bot)
    await alice.wait_until_it_trusts(bot, device)
    assert "Encryption" not in await report(stack, ada, room)
    await trust_is(stack, "signed")
    await alice.do("showAll")
    await alice.wait_for_message(home.chat, sender=bot, body=words.UNVERIFIED)
    await say_and_hear(stack, alice, home.chat, "Can you hear me?")

    pieces = [f"piece {number} " for number in range(30)]
    agent.script(Say(pieces=pieces, every=0.05))
    asked = await alice.send_text(home.chat, "Tell me more")
    whole = "".join(pieces).strip()
    await alice.wait_for_message(
        home.chat, sender=bot, after=asked, body=lambda body: body.strip() == whole
    )
    in_thread = {"rel_type": "m.thread", "event_id": asked}
    await alice.send_text(home.chat, "In a thread", **{"m.relates_to": in_thread})
    await alice.wait_for_message(home.chat, sender=bot, body="In a thread")
    to_it = {"m.in_reply_to": {"event_id": asked}}
    await alice.send_text(home.chat, "A reply", **{"m.relates_to": to_it})
    await alice.wait_for_message(home.chat, sender=bot, body="A reply")

    await stack.maubot.stop()
    said = [f"while it was down {number}" for number in range(5)]
    for text in said:
        await alice.send_text(home.chat, text)
    await start(stack)
    for text in said:
        await alice.wait_for_message(home.chat, sender=bot, body=text)
    assert alice.shields(home.chat, sender=bot) == NO_SHIELD
    assert_all_encrypted(stack, alice, home.chat)


async def test_a_new_token_in_the_middle_of_an_answer_puts_nothing_in_the_clear(
    make_bot: MakeStack, agent: AgentServer
) -> None:
    stack = await make_bot(config=config(agent), encryption=True)
    bot = stack.bot.user_id
    key = await stack.maubot.generate_recovery_key(bot)
    alice, home = await at_home(stack)
    await alice.wait_until_it_trusts(bot, stack.bot.device_id)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "The first half. "
        await go_on.wait()
        for number in range(20):
            yield f"more {number} "
            await asyncio.sleep(0.02)
        yield "The end."

    agent.script(Say(pieces=slowly()))
    asked = await alice.send_text(home.chat, "Tell me something long")
    await alice.wait_for_message(home.chat, sender=bot, after=asked, body="The first half.")
    account = await stack.synapse.log_in(stack.bot_name, password=stack.bot_name)
    assert account.device_id != stack.bot.device_id
    await stack.maubot.create_client(account, homeserver=stack.synapse.url)
    go_on.set()
    await stack.maubot.wait_for_log(f"replaced the client of {bot}")
    await stack.maubot.verify(bot, recovery_key=key)
    await alice.wait_until_it_trusts(bot, account.device_id)
    assert (await status(stack))["encryption"]["client_replaced"] is True
    await stack.maubot.restart_instance(stack.instance)
    await alice.do("showAll")  # what came before the signature is opened again
    await alice.wait_for_message(
        home.chat, sender=bot, after=asked, body=lambda body: body.endswith("The end."), timeout=60
    )
    await say_and_hear(stack, alice, home.chat, "And now?")
    assert (await status(stack))["encryption"]["client_replaced"] is False
    answers = [m.body for m in alice.messages(home.chat, sender=bot)]
    assert len([body for body in answers if "The first half." in body]) == 1
    assert_all_encrypted(stack, alice, home.chat)


async def test_every_loss_is_named_and_its_cure_works(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    settings = config(agent)
    stack = await make_stack(plugin=plugin, config=settings, encryption=True)
    bot = stack.bot.user_id
    await stack.maubot.generate_recovery_key(bot)
    alice, home = await at_home(stack)
    await alice.wait_until_it_trusts(bot, stack.bot.device_id)
    await say_and_hear(stack, alice, home.chat, "Before")
    await stack.maubot.restart_instance(stack.instance)
    await trust_is(stack, "signed")

    # Somebody resets the account's identity, with another client of the bot's.
    other = await stack.somebody_as_bot()
    recovery_key = await other.do("reset")
    mark = stack.maubot.mark()
    await stack.maubot.restart_instance(stack.instance)
    await stack.maubot.wait_for_log("another identity than the one that signed", since=mark)
    await trust_is(stack, "replaced")
    await stack.maubot.verify(bot, recovery_key=recovery_key)
    await alice.do("trust", user=bot)
    await alice.wait_until_it_trusts(bot, stack.bot.device_id)
    await stack.maubot.restart_instance(stack.instance)
    await trust_is(stack, "signed")
    await say_and_hear(stack, alice, home.chat, "With another identity")

    # maubot's database is lost, and the same device ID is entered again.
    await stack.maubot.stop()
    await stack.maubot.own_database.delete()
    await stack.maubot.start()
    await stack.install()
    await trust_is(stack, "lost")
    assert "log in again" in (await status(stack))["encryption"]["findings"][0]

    account = await stack.synapse.log_in(stack.bot_name, password=stack.bot_name)
    await stack.maubot.create_client(account, homeserver=stack.synapse.url)
    await stack.maubot.verify(bot, recovery_key=recovery_key)
    await stack.maubot.restart_instance(stack.instance)
    await alice.wait_until_it_trusts(bot, account.device_id)
    await trust_is(stack, "signed")
    # Whose keys were lost with the database; the agent wanted to read it.
    asked = await alice.send_text(home.chat, "Afterwards")
    for body in (words.EARLIER_UNREADABLE, "Afterwards"):
        await alice.wait_for_message(home.chat, sender=bot, after=asked, body=body)
    assert_all_encrypted(stack, alice, home.chat)
