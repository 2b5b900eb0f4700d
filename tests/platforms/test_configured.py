"""The platform of the settings, while they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from mautrix.types import UserID

from homeroom.config import OpenAISettings, PlatformSettings, Settings, WebhookSettings
from homeroom.domain.conversation.answer import End, Text
from homeroom.platforms.configured import ChosenPlatform
from homeroom.platforms.webhook import WebhookPlatform
from tests.fake.clients import LOG
from tests.platforms.asking import (
    TURN,
    Said,
    ask,
)
from tests.plugin.harness import until
from tests.stack.agent_server import (
    TOKEN,
    AgentServer,
    Say,
)


async def test_new_settings_count_from_the_next_turn_on(agent: AgentServer) -> None:
    settings = [Settings(admins=frozenset({UserID("@ada:fake.test")}))]
    chosen = ChosenPlatform(
        settings=lambda: settings[-1], history=Said(), no_agent="There is no agent.", log=LOG
    )
    assert await ask(chosen) == (["Hello"], None)
    to_ada = replace(TURN, user_id=UserID("@ada:fake.test"))
    assert await ask(chosen, to_ada) == (["Hello", "\n\nThere is no agent."], None)

    webhook = WebhookSettings(url=f"{agent.url}/webhook", token=TOKEN)
    openai = OpenAISettings(base_url=f"{agent.url}/v1", api_key=TOKEN, model="m")
    release = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "a"
        await release.wait()
        yield "b"

    settings.append(Settings(platform=PlatformSettings(kind="webhook", webhook=webhook)))
    agent.script(Say(pieces=slowly()))
    async with aclosing(chosen.answer(TURN)) as old:
        assert await anext(old) == Text("a")
        settings.append(Settings(platform=PlatformSettings(kind="openai", openai=openai)))
        assert await ask(chosen) == (["Hel", "lo"], None)
        (retired,) = chosen._retired
        release.set()
        assert [item async for item in old] == [Text("b"), End()]
    assert [request.protocol for request in agent.requests] == ["webhook", "openai"]
    assert isinstance(retired.platform, WebhookPlatform)
    session = retired.platform._client._session
    assert session is not None
    assert session.closed
    await chosen.close()
    assert await until("nothing is open", lambda: not chosen._retired)
