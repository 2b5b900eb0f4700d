"""What is not asked again: refusals, and what breaks in the middle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from homeroom.domain.conversation.answer import Trouble
from homeroom.platforms import (
    Platform,
)
from tests.fake.clients import Naps
from tests.platforms.asking import (
    KINDS,
    ask,
    piece,
    troubled,
)
from tests.stack.agent_server import (
    Action,
    AgentServer,
    Fail,
    Raw,
    Say,
)

# What is final


def openai_error(status: int, code: Any = None, *, message: str = "", param: Any = None) -> Fail:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Fail(status=status, body={"error": error})


FINAL: dict[str, tuple[Action, Trouble]] = {
    "a wrong key": (Fail(status=401), Trouble.MISCONFIGURED),
    "a key without the right": (Fail(status=403), Trouble.MISCONFIGURED),
    "nothing paid": (Fail(status=402), Trouble.MISCONFIGURED),
    "a wrong address": (Fail(status=404, body="<html>Not here</html>"), Trouble.MISCONFIGURED),
    "a wrong method": (Fail(status=405), Trouble.MISCONFIGURED),
    "a redirect": (
        Fail(status=307, body="", headers={"Location": "/elsewhere"}),
        Trouble.MISCONFIGURED,
    ),
    "no quota": (openai_error(429, "insufficient_quota"), Trouble.MISCONFIGURED),
    "no such model": (openai_error(404, "model_not_found"), Trouble.MISCONFIGURED),
    "an invalid model": (
        openai_error(400, "400", message="Invalid model name passed in model=x"),
        Trouble.MISCONFIGURED,
    ),
    "a parameter": (
        openai_error(400, "unsupported_parameter", param="max_tokens"),
        Trouble.MISCONFIGURED,
    ),
    "a wrong key, to LiteLLM": (
        Fail(status=400, body={"error": {"type": "no_db_connection", "code": "400"}}),
        Trouble.MISCONFIGURED,
    ),
    "too much context": (
        openai_error(400, "context_length_exceeded", param="messages"),
        Trouble.REFUSED,
    ),
    "too much context, elsewhere": (
        openai_error(400, 400, message="This model's maximum context length is 4096 tokens"),
        Trouble.REFUSED,
    ),
    "a filter": (openai_error(400, "content_filter", param="prompt"), Trouble.REFUSED),
    "too large": (Fail(status=413, body=""), Trouble.REFUSED),
    "not understood": (
        Fail(status=422, body={"detail": [{"loc": ["body"], "msg": "Field required"}]}),
        Trouble.REFUSED,
    ),
    "another code of the pages": (Fail(status=418, body={"error": "teapot"}), Trouble.REFUSED),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("action", "trouble"), FINAL.values(), ids=FINAL.keys())
async def test_a_refusal_is_final(
    agent: AgentServer,
    connect: Callable[..., Platform],
    naps: Naps,
    kind: str,
    action: Action,
    trouble: Trouble,
) -> None:
    agent.reply = lambda _: action
    pieces, error = await ask(connect(kind))
    assert (pieces, troubled(error)) == ([], trouble)
    assert f"HTTP status {getattr(action, 'status', 0)}" in str(error)
    assert (naps.seconds, len(agent.requests)) == ([], 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("body", [{}, {"text": None}, {"text": 5}, {"choices": []}], ids=str)
async def test_an_answer_of_another_kind_is_final(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, body: Any
) -> None:
    agent.script(Fail(status=200, body=body))
    pieces, error = await ask(connect(kind))
    assert (pieces, troubled(error)) == ([], Trouble.MISCONFIGURED)
    assert len(agent.requests) == 1


async def test_an_error_names_the_platforms_words_and_its_id(
    agent: AgentServer, connect: Callable[..., Platform]
) -> None:
    fault = openai_error(400, "context_length_exceeded", message="Too\nlong. " + "x" * 1000)
    agent.script(Fail(status=400, body=fault.body, headers={"X-Request-ID": "req_7"}))
    _, error = await ask(connect("openai"))
    assert error is not None
    assert error.request_id == "req_7"
    words = "HTTP status 400 (context_length_exceeded): Too long. xxx"
    assert str(error).startswith(words)
    assert str(error).endswith("x (request req_7)")
    assert len(str(error)) < 300


# In the middle


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "action",
    [
        Say(pieces=["a"], end="cut"),
        Raw(chunks=[b"data: {oops\n\n"]),
        Raw(chunks=[b'data: "a"\n\n']),
        Raw(chunks=[b"data: a"]),
        Raw(chunks=[b""]),
    ],
    ids=["cut", "malformed", "no object", "half an event", "no end"],
)
async def test_what_breaks_in_the_middle_is_not_tried_again(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, action: Any
) -> None:
    if isinstance(action, Raw):
        action = replace(action, chunks=[piece(kind, "a"), *action.chunks])
    agent.reply = lambda _: action
    pieces, error = await ask(connect(kind))
    assert (pieces, troubled(error)) == (["a"], Trouble.CUT_OFF)
    assert len(agent.requests) == 1
