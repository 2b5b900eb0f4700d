"""A chat with a real OpenAI-compatible server: LiteLLM's proxy. Issue 6, "Must be seen", 1."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME
from tests.integration.homes import configure, onboard, said_by_bot
from tests.stack.litellm import KEY, PROGRAM, LiteLLM
from tests.stack.stack import MakeStack

SAYS = "The answer is 42. " + " ".join(f"Reason {number}." for number in range(50))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def litellm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiteLLM]:
    if not PROGRAM.is_file():
        if os.environ.get("CI"):
            raise FileNotFoundError(PROGRAM)
        pytest.skip("LiteLLM is not installed; `./build.sh test` does that")
    async with LiteLLM(tmp_path_factory.mktemp("litellm"), says=SAYS) as server:
        yield server


async def test_a_chat_with_a_model_behind_litellm(make_bot: MakeStack, litellm: LiteLLM) -> None:
    bot = await make_bot()
    home = await onboard(bot, "alice")
    alice, chat = home.user, home.chat

    async def ask(text: str) -> str:
        """What the bot says last about a message."""
        event_id = await alice.send_text(chat, text)

        def is_finished() -> bool:
            said = [e["content"] for e in alice.timeline(chat) if e["sender"] == bot.bot.user_id]
            about = [content for content in said if content.get(ANSWERS) == event_id]
            return bool(about) and MORE_TO_COME not in about[-1]

        await alice.wait_for(f"the end of the answer to {text!r}", is_finished)
        (answer,) = alice.messages(chat, sender=bot.bot.user_id, after=event_id)
        return answer.body

    for stream in (True, False):
        await configure(bot, {"platform": litellm.settings(stream=stream)})
        assert await ask(f"stream: {stream}") == SAYS

    mark = bot.maubot.mark()
    wrong = "sk-wrong-key-0123456789"
    for stream in (True, False):
        await configure(bot, {"platform": litellm.settings(stream=stream, api_key=wrong)})
        assert "administrator" in await ask("a wrong key")
        await configure(bot, {"platform": litellm.settings(stream=stream, model="no-such-model")})
        assert "administrator" in await ask("an unknown model")
    log = bot.maubot.log_text(since=mark)
    assert "Invalid model name passed in model=no-such-model" in log
    for secret in (KEY, wrong, "0123456789"):
        assert secret not in log
        assert not any(secret in said for said in said_by_bot(bot, alice, chat))

    await configure(bot, {"platform": litellm.settings()})
    assert await ask("and again") == SAYS
