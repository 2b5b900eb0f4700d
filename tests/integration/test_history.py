"""The conversation that a platform is told comes from the room, also when the database is gone.

Issue 6, "Must be seen", 2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeroom import replies
from tests.integration.homes import (
    Home,
    ask,
    marked,
    move_in,
    onboard,
    say_and_hear,
    start,
    tables,
)
from tests.stack.agent_server import AgentRequest, AgentServer, Say
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack

LONG = "\n\n".join(
    f"Paragraph {number} of an answer of several messages." for number in range(400)
)


@pytest.fixture
def agent(agent: AgentServer) -> AgentServer:
    agent.reply = answer
    return agent


def answer(request: AgentRequest) -> Say:
    """In pieces, some time apart, so that the answer is edited while it grows."""
    if request.text.endswith("at length"):
        return Say(pieces=[LONG[begin : begin + 4000] for begin in range(0, len(LONG), 4000)])
    return Say(pieces=["re", " ", request.text, "."], every=0.2)


def told(request: AgentRequest) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request.messages]


async def talk(
    stack: Stack, home: Home, agent: AgentServer, text: str
) -> tuple[str, AgentRequest]:
    """Say something and wait until it is answered; the event, and what the platform was asked."""
    before = len(agent.requests)
    event_id = await home.user.send_text(home.chat, text)
    (request,) = (await agent.wait_for(before + 1))[before:]
    end = LONG[-40:] if text.endswith("at length") else f"re {request.text}."
    await home.user.wait_for_message(
        home.chat, sender=stack.bot.user_id, body=lambda body: body.endswith(end), after=event_id
    )
    return event_id, request


async def start_without_database(stack: Stack) -> None:
    await stack.maubot.stop()
    await stack.database.delete()
    await start(stack)


async def test_the_platform_is_told_the_same_after_a_restart_without_the_database(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    config = {**DEFAULT_CONFIG, "platform": agent.openai(system_prompt="Be brief.")}
    stack = await make_stack(plugin=plugin, config=config)
    home = await onboard(stack, "alice")
    alice, chat = home.user, home.chat

    await talk(stack, home, agent, "before the conversation")
    cleared = await ask(stack, alice, chat, "!chat clear")
    assert cleared.body == replies.CLEARED
    first, _ = await talk(stack, home, agent, "My name is Alce")
    secret, _ = await talk(stack, home, agent, "my password is 1234")
    await talk(stack, home, agent, "tell me at length")
    await ask(stack, alice, chat, "!chat list")
    await alice.edit(chat, first, "My name is Alice")
    await alice.edit(chat, first, "My name is *Alice*")
    await alice.redact(chat, secret)
    _, before = await talk(stack, home, agent, "who am I?")

    *said, long_answer, question = told(before)
    assert said == [
        ("system", "Be brief."),
        ("user", "My name is *Alice*"),
        ("assistant", "re My name is Alce."),
        ("user", "tell me at length"),
    ]
    assert long_answer == ("assistant", LONG)
    assert question == ("user", "who am I?")
    rows = await tables(stack)
    assert before.conversation == rows.keys()[chat] != agent.requests[0].conversation

    await start_without_database(stack)
    _, after = await talk(stack, home, agent, "and now?")
    assert told(after) == [
        *told(before),
        ("assistant", "re who am I?."),
        ("user", "and now?"),
    ]
    assert after.conversation == before.conversation
    assert await tables(stack) == rows
    await ask(stack, alice, chat, "!chat clear")
    _, anew = await talk(stack, home, agent, "hello")
    assert told(anew) == [("system", "Be brief."), ("user", "hello")]
    keys = {request.conversation for request in (agent.requests[0], before, anew)}
    assert len(keys) == 3


async def test_a_new_conversation_survives_the_loss_of_the_database(
    make_stack: MakeStack, plugin: Path
) -> None:
    stack = await make_stack(plugin=plugin)
    home = await onboard(stack, "bob")
    first = await say_and_hear(stack, home.user, home.chat, "Hello")
    keys = [first]
    for number in (1, 2):
        await ask(stack, home.user, home.chat, "!chat clear")
        keys.append(await say_and_hear(stack, home.user, home.chat, f"Hello {number}"))
    assert len(set(keys)) == 3
    before, marker = await tables(stack), await marked(stack, home.chat)
    assert (marker["conversation"], marker["platform_chat_id"]) == (2, keys[-1])
    await start_without_database(stack)
    assert await tables(stack) == before
    assert await say_and_hear(stack, home.user, home.chat, "Again") == keys[-1]


@pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_an_encrypted_room_is_read_back_too(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("olm", reason="python-olm is not installed")
    config = {
        **DEFAULT_CONFIG,
        "rooms": {"initial_chats": ["General"], "encrypted": True},
        "platform": agent.openai(),
    }
    stack = await make_stack(plugin=plugin, config=config, encryption=True)
    carol = await stack.encrypted_user("carol")
    direct = await carol.start_dm(stack.bot.user_id)
    home = await move_in(stack, carol, direct=direct)

    first, _ = await talk(stack, home, agent, "one")
    secret, _ = await talk(stack, home, agent, "two")
    await carol.edit(home.chat, first, "uno")
    await carol.redact(home.chat, secret)
    await ask(stack, carol, home.chat, "!chat list")
    _, before = await talk(stack, home, agent, "three")
    assert told(before) == [("user", "uno"), ("assistant", "re one."), ("user", "three")]
    await start_without_database(stack)
    _, after = await talk(stack, home, agent, "four")
    assert told(after) == [*told(before), ("assistant", "re three."), ("user", "four")]
    assert after.conversation == before.conversation
