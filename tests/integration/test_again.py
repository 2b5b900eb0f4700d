"""A question asked once more, or edited, on real servers; also where all of it is encrypted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeroom import replies
from tests.integration.homes import Home, ask, move_in, onboard
from tests.integration.test_streaming import shown
from tests.stack.agent_server import AgentServer, Hold, Say
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser

pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
def agent(agent: AgentServer) -> AgentServer:
    agent.reply = lambda request: Say(pieces=[f"{request.text}: ", f"{len(agent.requests)}"])
    return agent


async def shows(stack: Stack, home: Home, text: str) -> None:
    """Wait until all that the bot has said in the chat is this one whole message."""

    def look() -> bool:
        return [(m.text, m.is_unfinished) for m in shown(stack, home)] == [(text, False)]

    await home.user.wait_for(f"nothing but {text!r}", look)


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
async def chatting(
    request: pytest.FixtureRequest, make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> tuple[Stack, Home]:
    """A bot, and Alice in her home, where everything is encrypted or nothing."""
    is_encrypted: bool = request.param
    if is_encrypted and not os.environ.get("CI"):
        pytest.importorskip("olm", reason="python-olm is not installed")
    rooms = {"initial_chats": ["General"], "encrypted": is_encrypted}
    config = {**DEFAULT_CONFIG, "rooms": rooms, "platform": agent.webhook()}
    stack = await make_stack(plugin=plugin, config=config, encryption=is_encrypted)
    if not is_encrypted:
        return stack, await onboard(stack, "alice")
    alice = await stack.encrypted_user("alice")
    return stack, await move_in(stack, alice, direct=await alice.start_dm(stack.bot.user_id))


async def react(home: Home, event_id: str, key: str) -> None:
    """In the clear, as clients do, also where everything else is encrypted."""
    relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    content = {"m.relates_to": relation}
    await MatrixUser.send(home.user, home.chat, content, event_type="m.reaction")


async def test_an_answer_is_replaced_in_place(
    chatting: tuple[Stack, Home], agent: AgentServer
) -> None:
    stack, home = chatting
    alice = home.user
    question = await alice.send_text(home.chat, "Helo")
    await shows(stack, home, "Helo: 1")
    edit = await alice.edit(home.chat, question, "Hello")
    await shows(stack, home, "Hello: 2")
    command = await alice.send_text(home.chat, "!again")
    await shows(stack, home, "Hello: 3")
    await react(home, question, "🔁")
    await shows(stack, home, "Hello: 4")

    await stack.maubot.stop()
    later = await alice.edit(home.chat, question, "Hello there")
    await stack.maubot.start()
    await shows(stack, home, "Hello there: 5")
    keys = [request.key for request in agent.requests]
    assert (keys[0], keys[1], keys[2], keys[4]) == (question, edit, command, later)


async def test_commands_and_stops_do_not_wait_for_an_answer(
    chatting: tuple[Stack, Home], agent: AgentServer
) -> None:
    stack, home = chatting
    alice = home.user
    quick, hold = agent.reply, Hold(then=Say(pieces=["Done"]))
    agent.reply = lambda _: hold
    await alice.send_text(home.chat, "Wait")
    await agent.wait_for(1)
    again = await alice.send_text(home.chat, "!again")
    assert "C1" in (await ask(stack, alice, home.chat, "!chat list")).body
    await react(home, again, "🛑")
    slip = await alice.send_text(home.chat, "And thn?")
    edit = await alice.edit(home.chat, slip, "And then?")
    assert (
        "C1" in (await ask(stack, alice, home.chat, "!chat info")).body
    )  # the others came before
    agent.reply = quick
    hold.released.set()
    await alice.wait_for_message(home.chat, sender=stack.bot.user_id, body="Done")
    await alice.wait_for_message(home.chat, sender=stack.bot.user_id, body="And then?: 2")
    assert agent.requests[1].key == edit

    agent.reply = lambda _: Hold(then=Say(pieces=["Never"]))
    for number, is_killed in enumerate((False, True), start=1):
        question = await alice.send_text(home.chat, f"Tell me everything {number}")
        await agent.wait_for(2 + number)
        if is_killed:
            stack.maubot.kill()
        await alice.send_text(home.chat, "!stop")
        if is_killed:
            await stack.maubot.start()
        await alice.wait_for_message(
            home.chat, sender=stack.bot.user_id, body=replies.STOPPED, after=question
        )
    asked = {(request.text, request.key) for request in agent.requests}
    texts = ["And then?", "Tell me everything 1", "Tell me everything 2", "Wait"]
    assert sorted(text for text, _ in asked) == texts
