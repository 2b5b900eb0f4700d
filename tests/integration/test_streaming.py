"""Answers that come in pieces, from a real platform server into real rooms.

Issue 6, "Must be seen", 1 (the long stream on a homeserver with default rate limits) and 3 (one
key for one prompt, whatever is restarted when).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from homeroom import replies
from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME
from tests.integration.homes import Home, ask, onboard, reconciled, requests_of_bot
from tests.stack.agent_server import Action, AgentRequest, AgentServer, Say
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, MakeSynapse, Stack
from tests.stack.waiting import eventually

TOKENS = [f"{number} " if number % 20 else f"{number}\n\n" for number in range(1, 3001)]
WHOLE = "".join(TOKENS).strip()
EVERY = 0.006
"""Seconds between two tokens: some 20 s for 3,000 of them."""


@dataclass(slots=True)
class Shown:
    """A message of the bot's as a client shows it."""

    answers: str
    text: str
    is_unfinished: bool
    edits: int = 0


def shown(stack: Stack, home: Home) -> list[Shown]:
    """What a client shows of the bot's answers in a home's first chat."""
    messages: dict[str, Shown] = {}
    for event in home.user.timeline(home.chat):
        content: dict[str, Any] = event["content"]
        if event["sender"] != stack.bot.user_id or content.get("msgtype") != "m.text":
            continue
        unfinished = content.get(MORE_TO_COME) is True
        relation = content.get("m.relates_to", {})
        if relation.get("rel_type") == "m.replace":
            message = messages[relation["event_id"]]
            message.text, message.is_unfinished = content["m.new_content"]["body"], unfinished
            message.edits += 1
        else:
            messages[event["event_id"]] = Shown(content[ANSWERS], content["body"], unfinished)
    return list(messages.values())


async def finished(stack: Stack, home: Home, question: str, *, timeout: float) -> list[Shown]:
    """Wait for the end of the answer to one event; return its messages."""

    def look() -> list[Shown]:
        messages = [m for m in shown(stack, home) if m.answers == question]
        return messages if messages and not messages[-1].is_unfinished else []

    return await home.user.wait_for(f"the end of the answer to {question}", look, timeout=timeout)


async def begun(stack: Stack, home: Home, question: str) -> Shown:
    """Wait for the beginning of the answer to one event."""

    def look() -> list[Shown]:
        return [m for m in shown(stack, home) if m.answers == question and m.text]

    return (await home.user.wait_for(f"an answer to {question}", look))[-1]


async def noted(stack: Stack, question: str) -> None:
    """Wait until Homeroom has noted its first message, and is at work on the answer no more.

    A SIGTERM that finds it at work may end just that (`tests/plugin/test_unfinished_answers.py`).
    """

    async def is_noted() -> bool:
        rows = await stack.database.fetch("SELECT event_id, answer_id FROM open_answers")
        return any(row["event_id"] == question and row["answer_id"] for row in rows)

    await eventually("the answer is noted", is_noted)


async def test_a_long_stream_under_default_rate_limits(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Any, agent: AgentServer
) -> None:
    agent.reply = lambda _: Say(pieces=TOKENS, every=EVERY)
    stack = await make_stack(
        synapse=await make_synapse(rate_limits="default"),
        plugin=plugin,
        config={**DEFAULT_CONFIG, "platform": agent.openai()},
    )
    home = await onboard(stack, "alice")
    for _ in range(7):  # of the ten messages that a homeserver takes at once
        await ask(stack, home.user, home.chat, "!chat help")
    mark, log = await stack.synapse.mark(), stack.maubot.mark()
    question = await home.user.send_text(home.chat, "Count to 3000")
    messages = await finished(stack, home, question, timeout=75)

    sent = [r for r in await requests_of_bot(stack, since=mark) if "/send/" in r.path]
    limited = sum(request.status == 429 for request in sent)
    edits = sum(message.edits for message in messages)
    print(
        f"3000 tokens in {3000 * EVERY:.0f} s or more: {len(messages)} messages, {edits} edits,"
        f" {len(sent)} requests, {limited} of them answered 429"
    )
    assert " ".join(" ".join(m.text for m in messages).split()) == " ".join(WHOLE.split())
    assert 1 <= edits <= 12
    assert limited
    assert len(agent.requests) == 1
    assert not [
        line
        for line in stack.maubot.log_text(since=log).splitlines()
        if re.search(r"ERROR|WARNING|\b429\b", line)
    ]


async def test_a_prompt_goes_out_under_one_key_whatever_is_killed(
    stack_with_agent: Stack, agent: AgentServer
) -> None:
    """Kills, stops and lost databases in the middle of answers."""
    stack = stack_with_agent
    home = await onboard(stack, "alice")
    go_on = asyncio.Event()

    async def slowly(text: str) -> AsyncIterator[str]:
        """Half of the answer; the rest when the test lets it."""
        yield f"About {text}: "
        await go_on.wait()
        yield "that is all."

    def reply(request: AgentRequest) -> Action:
        return Say(pieces=slowly(request.text))

    agent.reply = reply
    questions: dict[str, str] = {}
    for how in ("killed", "stopped", "killed, no database"):
        go_on.clear()
        text = f"{how} {secrets.token_hex(4)}"
        questions[text] = await home.user.send_text(home.chat, text)
        assert (await begun(stack, home, questions[text])).text == f"About {text}:"
        if how == "stopped":
            await noted(stack, questions[text])
            await stack.maubot.stop()
            await home.user.wait_for(
                "word that it goes on",
                lambda text=text: [
                    m
                    for m in shown(stack, home)
                    if m.answers == questions[text] and replies.PAUSED in m.text
                ],
            )
        else:
            stack.maubot.kill()
        if "no database" in how:
            await stack.maubot.delete_plugin_database(stack.instance)
        asked = len(agent.requests)
        mark = stack.maubot.mark()
        await stack.maubot.start()
        await reconciled(stack, since=mark)
        await agent.wait_for(asked + 1)
        go_on.set()
        (said,) = await finished(stack, home, questions[text], timeout=20)
        assert said.text == f"About {text}: that is all."

    go_on.clear()
    questions["take back"] = await home.user.send_text(home.chat, "take back")
    await begun(stack, home, questions["take back"])
    stack.maubot.kill()
    await home.user.redact(home.chat, questions["take back"])
    await stack.maubot.start()
    (said,) = await finished(stack, home, questions["take back"], timeout=20)
    assert said.text == f"About take back:\n\n*{replies.WITHDRAWN}*"

    asked = len(agent.requests)
    await stack.maubot.restart()
    go_on.set()
    question = await home.user.send_text(home.chat, "goodbye")
    await finished(stack, home, question, timeout=20)
    assert [request.text for request in agent.requests[asked:]] == ["goodbye"]
    keys = {(request.text, request.key) for request in agent.requests}
    assert keys == {*questions.items(), ("goodbye", question)}
    assert len(agent.requests) == 2 * len(questions)


@pytest.fixture
async def stack_with_agent(make_stack: MakeStack, plugin: Any, agent: AgentServer) -> Stack:
    """A bot for which the agent server answers, through the webhook."""
    config = {**DEFAULT_CONFIG, "platform": agent.webhook()}
    return await make_stack(plugin=plugin, config=config)
