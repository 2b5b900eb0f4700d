"""How the agent is doing, on the page, for machines, and when an administrator asks."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeroom import replies
from homeroom.domain.conversation.answer import End, Item, Text, Trouble
from homeroom.domain.conversation.turn import Turn
from homeroom.platforms import PlatformError, health
from tests.fake import FakeHomeserver
from tests.plugin.harness import running
from tests.plugin.web import served

TOKEN = "a-token-of-the-tests-only"
CONFIG = f'status: {{token: "{TOKEN}"}}\nadmins: ["@admin:fake.test"]'


class Moody:
    """A platform that answers, or fails in a way of one's choice."""

    def __init__(self) -> None:
        self.error: PlatformError | None = None
        self.uncertain = ""

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        if self.error is not None:
            raise self.error
        yield Text(f"re: {turn.text}")
        yield End(tokens_in=3, tokens_out=4)

    async def check(self) -> str:
        if self.error is not None:
            raise self.error
        return self.uncertain

    async def close(self) -> None:
        pass


async def test_an_agent_that_fails_is_a_state_of_the_page_and_of_nothing_else(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = hs.user("anna")
    agent = Moody()
    async with running(hs, tmp_path, config=CONFIG, platform=agent) as bot, served(bot) as web:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat, "One") == "re: One"
        words = "HTTP status 401: what the key was"
        agent.error = PlatformError(words, trouble=Trouble.MISCONFIGURED)
        await bot.ask(anna, chat, "Two")
        await bot.settled()
        status = json.loads((await web.get("status.json", token=TOKEN)).text)["agent"]
        assert (status["answered"], status["failed"]["misconfigured"]) == (1, 1)
        assert (status["error"], status["is_failing"]) == ("HTTP status 401", False)
        assert status["tokens"] == {"input": 3, "output": 4}
        assert "The agent fails for everybody" not in (await web.get(token=TOKEN)).text
        monkeypatch.setattr(health, "FAILING_AFTER", 0)
        page = (await web.get(token=TOKEN)).text
        assert "The agent fails for everybody" in page
        assert "what the key was" not in page
        assert (await web.get("healthz")).text == "ok\n"
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(
                (await web.get("metrics", token=TOKEN)).text
            )
            for sample in family.samples
        }
        assert samples["homeroom_agent_turns_total", "answered"] == 1
        assert samples["homeroom_agent_turns_total", "misconfigured"] == 1
        assert samples["homeroom_agent_answer_seconds_bucket", "+Inf"] == 1
        assert samples["homeroom_agent_failing_since_timestamp_seconds",] > 0
        agent.error = None
        await bot.ask(anna, chat, "Three")
        await bot.settled()
        assert "The agent fails for everybody" not in (await web.get(token=TOKEN)).text


async def test_an_administrator_asks_the_agent(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, admin = hs.user("anna"), hs.user("admin")
    agent = Moody()
    async with running(hs, tmp_path, config=CONFIG, platform=agent) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        office = admin.create_room(invite=[bot.me])
        await bot.hear(office, 1)
        said = await bot.ask(admin, office, "!agent test")
        assert said == replies.agent_is_there("echo", uncertain="")
        agent.uncertain = "It has no list of models."
        assert await bot.ask(admin, office, "!agent test") == (
            "Something answers for the agent (`echo`). It has no list of models. A message in a"
            " chat shows it."
        )
        agent.error = PlatformError("HTTP status 401", trouble=Trouble.MISCONFIGURED)
        assert "HTTP status 401" in await bot.ask(admin, office, "!agent test")
        assert await bot.ask(anna, chat, "!agent test") == replies.ADMINS_ONLY


async def test_saved_settings_of_an_agent_are_tried_at_once(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(hs, tmp_path, config=CONFIG) as bot:
        wrong = 'platform: {kind: webhook, webhook: {url: "http://127.0.0.1:9/"}}'
        await bot.configure(f"{CONFIG}\n{wrong}")
        await bot.settled()
        (error,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert error.startswith("The agent of the saved settings would not answer: ")
