"""A token that dies: everything waits, everybody is told so, and is answered once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.homes import onboard, said_by_bot
from tests.stack.agent_server import AgentServer, Say
from tests.stack.http import ApiError, JsonApi
from tests.stack.proxy import Answer
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.waiting import eventually

TOKEN = "a-token-of-the-status-page"


async def healthz_says(bot: Stack, word: str) -> None:
    """Wait until `/healthz` says so, with the status that belongs to it."""
    address = f"{bot.maubot.url}/_matrix/maubot/plugin/{bot.instance}"

    async def look() -> bool:
        try:
            said = (200, await JsonApi(base_url=address).request("GET", "/healthz"))
        except ApiError as error:
            said = (error.status, error.body)
        return said == (200 if word == "ok" else 503, f"{word}\n")

    await eventually(f"{word} of /healthz", look, timeout=60)


async def assert_runs(bot: Stack) -> None:
    instance = await bot.maubot.get_instance(bot.instance)
    assert (instance["enabled"], instance["started"]) == (True, True)


@pytest.mark.parametrize("soft_logout", [False, True])
async def test_what_is_said_while_the_token_does_not_work_is_answered_once(
    make_bot: MakeStack, agent: AgentServer, soft_logout: bool
) -> None:
    config: dict[str, Any] = {
        **DEFAULT_CONFIG,
        "status": {"token": TOKEN},
        "reconcile": {"start_timeout": 1},
        "platform": agent.openai(),
    }
    bot = await make_bot(proxy=True, config=config)
    home = await onboard(bot, "alice")
    gone = Answer(
        401,
        {"errcode": "M_UNKNOWN_TOKEN", "error": "Token is not active", "soft_logout": soft_logout},
    )
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "The first half. "
        await go_on.wait()
        yield "The end."

    # In the middle of an answer.
    agent.script(Say(pieces=slowly()))
    asked = await home.user.send_text(home.chat, "Tell me something long")
    await home.user.wait_for_message(home.chat, after=asked, body="The first half.")
    mark = bot.maubot.mark()
    rule = bot.proxy.rule(gone, path="/_matrix/client/")
    go_on.set()
    await home.user.send_text(home.chat, "And this")
    await healthz_says(bot, "signed-out")
    await bot.maubot.wait_for_log("Not signed in \\(M_UNKNOWN_TOKEN\\)", since=mark)
    await assert_runs(bot)
    agent.reply = lambda request: Say(pieces=[f"Yes: {request.text}"])
    bot.proxy.remove(rule)
    await healthz_says(bot, "ok")
    await home.user.wait_for_message(home.chat, body="Yes: And this", timeout=90)

    # While the instance starts.
    await bot.maubot.update_instance(bot.instance, started=False)
    rule = bot.proxy.rule(gone, path="/_matrix/client/")
    await bot.maubot.update_instance(bot.instance, started=True)
    await home.user.send_text(home.chat, "And that")
    await healthz_says(bot, "signed-out")
    await assert_runs(bot)
    bot.proxy.remove(rule)
    await healthz_says(bot, "ok")
    await home.user.wait_for_message(home.chat, body="Yes: And that", timeout=90)
    await home.user.send_text(home.chat, "Last")
    await home.user.wait_for_message(home.chat, body="Yes: Last")

    answers = said_by_bot(bot, home.user, home.chat)[-4:]
    whole = answers[0]
    assert whole in ("The first half. The end.", "Yes: Tell me something long")
    assert answers[1:] == ["Yes: And this", "Yes: And that", "Yes: Last"]
    # Once for each time that lasted for longer than between two looks.
    assert bot.maubot.log_text(since=mark).count("Not signed in (M_UNKNOWN_TOKEN)") in (1, 2)
