"""What other bots answer twice, or never: seen on real servers, with the requests counted.

The rows of issue 14 that need no module of their own. `test_traffic.py` has the restored backups,
the wrong clocks and the new tokens, `test_workers.py` the late and the killed `createRoom`.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.homes import (
    Home,
    ask,
    configure,
    forget_checkpoint,
    invite_bot,
    move_in,
    onboard,
    restart,
    said_by_bot,
    start,
    tables,
)
from tests.integration.test_streaming import begun, finished
from tests.stack.agent_server import AgentServer, Say, repeat
from tests.stack.proxy import Delay, ProxiedRequest
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.waiting import eventually

SLOW_SYNC = 2.0
"""Seconds that a new maubot's first requests to `/sync` take."""
LATE = 25.0
"""Seconds by which an edit is late."""
SUPERSEDED = "Another Homeroom has started with this account"


@pytest.fixture
def agent(agent: AgentServer) -> AgentServer:
    agent.reply = repeat
    return agent


Chatting = Callable[..., Awaitable[tuple[Stack, Home]]]


@pytest.fixture
def chatting(make_stack: MakeStack, plugin: Path, agent: AgentServer) -> Chatting:
    """Make a bot for which the agent answers, and Anna's home; takes keys of the settings."""

    async def make(**settings: object) -> tuple[Stack, Home]:
        config = {**DEFAULT_CONFIG, "platform": agent.webhook(), **settings}
        stack = await make_stack(plugin=plugin, proxy=True, config=config)
        return stack, await onboard(stack, "anna")

    return make


async def hear(stack: Stack, home: Home, text: str) -> None:
    """Say something in a home's first chat, and wait for the answer."""
    await home.user.send_text(home.chat, text)
    await heard(stack, home, text)


async def heard(stack: Stack, home: Home, text: str) -> None:
    await home.user.wait_for_message(home.chat, sender=stack.bot.user_id, body=f"re: {text}")


def asked_once(agent: AgentServer, *texts: str) -> None:
    """Raise unless the agent was asked just this, in this order, each under a key of its own."""
    assert [request.text for request in agent.requests] == list(texts)
    assert len({request.key for request in agent.requests}) == len(texts)


async def test_maubots_whole_folder_is_lost_and_the_first_sync_is_slow(
    chatting: Chatting, agent: AgentServer
) -> None:
    """Neither maubot nor the plugin knows a position; once not even the account data does."""
    stack, anna = await chatting()
    texts = ["one", "two"]
    for text in texts:
        await hear(stack, anna, text)
    await ask(stack, anna.user, anna.chat, "!chat new Trips")
    await anna.user.join(await anna.user.wait_for_invite(name="Trips"))
    before, rooms = await tables(stack), await stack.bot_rooms()
    for number, forgotten in enumerate((False, True)):
        stack.maubot.kill()
        shutil.rmtree(stack.directory / "maubot")
        if forgotten:
            await forget_checkpoint(stack)
        texts.append(f"while it was away {number}")
        await anna.user.send_text(anna.chat, texts[-1])
        slow = stack.proxy.rule(Delay(SLOW_SYNC), path="/sync$", times=2)
        await stack.maubot.start()
        await stack.install()
        await heard(stack, anna, texts[-1])
        texts.append(f"afterwards {number}")
        await hear(stack, anna, texts[-1])
        assert slow.hits
        asked_once(agent, *texts)
        assert await stack.bot_rooms() == rooms
        assert await tables(stack) == before
    said = said_by_bot(stack, anna.user, anna.chat)
    print(
        f"{len(texts)} messages, 2 lost folders, {len(rooms)} rooms: {len(said)} words of the bot"
    )
    assert [text for text in said if text.startswith("re: ")] == [f"re: {text}" for text in texts]


async def test_an_edit_of_a_growing_answer_is_late(chatting: Chatting, agent: AgentServer) -> None:
    """The homeserver sees it when Homeroom has long given up waiting for an answer to it."""
    stack, anna = await chatting()
    go_on, grown = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "First"
        await go_on.wait()
        yield " second"
        await grown.wait()
        yield " third and the end."

    def is_edit(request: ProxiedRequest) -> bool:
        return isinstance(request.body, dict) and "m.new_content" in request.body

    agent.reply = lambda _: Say(pieces=pieces())
    late = stack.proxy.rule(Delay(LATE), method="PUT", where=is_edit, times=1)
    question = await anna.user.send_text(anna.chat, "Count")
    await begun(stack, anna, question)
    go_on.set()
    await asyncio.wait_for(late.hit.wait(), 30)
    grown.set()
    await finished(stack, anna, question, timeout=90)

    async def has_come() -> bool:
        return late.hits[0].forwarded

    await eventually("the late edit", has_come, timeout=2 * LATE)
    agent.reply = repeat
    await hear(stack, anna, "thanks")  # whatever it has changed is seen by then
    (message,) = await finished(stack, anna, question, timeout=30)
    print(f"An edit of a growing answer came {LATE:.0f} s late: {message.text!r}")
    assert message.text == "First second third and the end."
    asked_once(agent, "Count", "thanks")


async def test_what_was_said_while_it_was_down_is_passed_over_for_good(
    chatting: Chatting, agent: AgentServer
) -> None:
    """`catch_up.max_age: 0`, after a stop and after a kill."""
    stack, anna = await chatting(catch_up={"max_age": 0})
    texts = ["before"]
    await hear(stack, anna, "before")
    for how in ("stopped", "killed"):
        if how == "stopped":
            await stack.maubot.stop()
        else:
            stack.maubot.kill()
        for number in range(3):
            await anna.user.send_text(anna.chat, f"while it was {how} {number}")
        await start(stack)
        texts.append(f"after it was {how}")
        await hear(stack, anna, texts[-1])
    await configure(stack, {"platform": agent.webhook(), "catch_up": {"max_age": 3600}})
    await restart(stack)
    texts.append("now what is older would be answered")
    await hear(stack, anna, texts[-1])
    print(f"max_age 0: 6 messages passed over, {len(texts)} answered")
    asked_once(agent, *texts)


async def test_two_maubots_use_one_account(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    """The newest answers; the other one says why it does not, until it is restarted."""
    config = {**DEFAULT_CONFIG, "platform": agent.webhook()}
    options = {"plugin": plugin, "config": config, "suffix": f"-{secrets.token_hex(4)}"}
    first = await make_stack(**options)
    anna = await onboard(first, "anna")
    await hear(first, anna, "to the first")
    rooms = await first.bot_rooms()

    second = await make_stack(**options)
    await first.maubot.wait_for_log(SUPERSEDED)
    await hear(second, anna, "to the second")
    await ask(second, anna.user, anna.chat, "!chat new Trips")
    trips = await anna.user.wait_for_invite(name="Trips")
    bert = await second.user("bert")
    bert_home = await move_in(second, bert, direct=await invite_bot(second, bert))
    await hear(second, bert_home, "from bert")

    mark = second.maubot.mark()
    await restart(first)
    await second.maubot.wait_for_log(SUPERSEDED, since=mark)
    await hear(first, anna, "to the first again")
    made = await first.bot_rooms() - rooms
    print(f"Two maubots: {len(agent.requests)} questions, {len(made)} rooms made")
    assert made == {trips, bert_home.direct, *bert_home.rooms}
    asked_once(agent, "to the first", "to the second", "from bert", "to the first again")
    for stack in (first, second):
        assert stack.maubot.log_text().count(SUPERSEDED) == 1
