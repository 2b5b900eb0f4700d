"""What a platform is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mautrix.types import EventID

from homeroom.domain.conversation.answer import Trouble
from homeroom.domain.conversation.turn import Utterance
from homeroom.domain.homes.model import PlatformChatID
from homeroom.platforms import (
    Platform,
)
from tests.platforms.asking import (
    TURN,
    Said,
    ask,
    troubled,
)
from tests.stack.agent_server import (
    TOKEN,
    AgentServer,
)


async def test_a_webhook_is_told_everything(
    agent: AgentServer, connect: Callable[..., Platform]
) -> None:
    assert await ask(connect("webhook")) == (["Hel", "lo"], None)
    (request,) = agent.requests
    assert request.body == {
        "platform_chat_id": "key-1",
        "chat_id": "C1",
        "user_id": "@anna:fake.test",
        "room_id": "!room:fake.test",
        "event_id": "$event:fake.test",
        "text": "Hello",
        "name": "General",
    }
    assert request.key == "$event:fake.test"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept"] == "text/event-stream, application/json"


async def test_a_model_is_told_the_conversation(
    agent: AgentServer, connect: Callable[..., Platform]
) -> None:
    said = Said(
        Utterance("assistant", "left over"),
        Utterance("user", "one"),
        Utterance("user", "two"),
        Utterance("assistant", "three"),
    )
    assert await ask(connect("openai", said=said)) == (["Hel", "lo"], None)
    more = {"system_prompt": "Be kind.", "temperature": 0.5, "max_tokens": 9, "stream": False}
    assert await ask(connect("openai", conversation_field="session_id", **more)) == (
        ["Hello"],
        None,
    )
    first, second = agent.requests
    assert first.body == {
        "model": "scripted",
        "messages": [
            {"role": "user", "content": "one\n\ntwo"},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "Hello"},
        ],
        "stream": True,
        "user": "key-1",
    }
    assert second.body == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello"},
        ],
        "stream": False,
        "temperature": 0.5,
        "max_tokens": 9,
        "session_id": "key-1",
    }
    for request in agent.requests:
        assert request.key == "$event:fake.test"
        assert request.headers["X-Homeroom-Conversation"] == "key-1"
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"


async def test_ids_that_do_not_fit_are_made_to(
    agent: AgentServer, connect: Callable[..., Platform]
) -> None:
    odd = "k€y" * 30
    turn = replace(TURN, platform_chat_id=PlatformChatID(odd), key=EventID("$ü\r\nX: y"))
    assert await ask(connect("openai"), turn) == (["Hel", "lo"], None)
    (request,) = agent.requests
    assert "user" not in request.body
    assert request.headers["X-Homeroom-Conversation"] == "k%E2%82%ACy" * 30
    assert request.key == "$%C3%BC%0D%0AX:%20y"


async def test_no_token_is_no_header(connect: Callable[..., Platform], agent: AgentServer) -> None:
    _, error = await ask(connect("webhook", token=""))
    assert troubled(error) is Trouble.MISCONFIGURED
    assert "Authorization" not in agent.requests[0].headers
