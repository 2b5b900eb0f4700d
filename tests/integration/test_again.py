"""A question asked once more, or edited, on real servers; also where all of it is encrypted."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.homes import Home, move_in, onboard
from tests.integration.test_streaming import shown
from tests.stack.agent_server import AgentServer, Say
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser

pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def agent() -> AsyncIterator[AgentServer]:
    async with AgentServer() as server:
        server.reply = lambda request: Say(pieces=[f"{request.text}: ", f"{len(server.requests)}"])
        yield server


async def shows(stack: Stack, home: Home, text: str) -> None:
    """Wait until all that the bot has said in the chat is this one whole message."""

    def look() -> bool:
        return [(m.text, m.is_unfinished) for m in shown(stack, home)] == [(text, False)]

    await home.user.wait_for(f"nothing but {text!r}", look)


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])
async def test_an_answer_is_replaced_in_place(
    make_stack: MakeStack, plugin: Path, agent: AgentServer, is_encrypted: bool
) -> None:
    if is_encrypted and not os.environ.get("CI"):
        pytest.importorskip("olm", reason="python-olm is not installed")
    rooms = {"initial_chats": ["General"], "encrypted": is_encrypted}
    config = {**DEFAULT_CONFIG, "rooms": rooms, "platform": agent.webhook()}
    stack = await make_stack(plugin=plugin, config=config, encryption=is_encrypted)
    if is_encrypted:
        alice = await stack.encrypted_user("alice")
        home = await move_in(stack, alice, direct=await alice.start_dm(stack.bot.user_id))
    else:
        home = await onboard(stack, "alice")
        alice = home.user

    question = await alice.send_text(home.chat, "Helo")
    await shows(stack, home, "Helo: 1")
    edit = await alice.edit(home.chat, question, "Hello")
    await shows(stack, home, "Hello: 2")
    command = await alice.send_text(home.chat, "!again")
    await shows(stack, home, "Hello: 3")
    relation = {"rel_type": "m.annotation", "event_id": question, "key": "🔁"}
    # In the clear, as clients send it, also where everything else is encrypted.
    await MatrixUser.send(alice, home.chat, {"m.relates_to": relation}, event_type="m.reaction")
    await shows(stack, home, "Hello: 4")

    await stack.maubot.stop()
    later = await alice.edit(home.chat, question, "Hello there")
    await stack.maubot.start()
    await shows(stack, home, "Hello there: 5")
    keys = [request.key for request in agent.requests]
    assert (keys[0], keys[1], keys[2], keys[4]) == (question, edit, command, later)
