"""No key and no token is ever told."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from homeroom.domain.conversation.answer import Trouble
from homeroom.platforms import (
    Platform,
)
from tests.fake.clients import LOG
from tests.platforms.asking import (
    KINDS,
    LIMITS,
    ask,
    event,
    troubled,
)
from tests.stack.agent_server import (
    TOKEN,
    Action,
    AgentServer,
    Drop,
    Fail,
    Raw,
)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_secret_is_ever_told(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    query = "?sig=hidden-in-the-address" if kind == "webhook" else ""
    url = f"{agent.url}/webhook{query}" if kind == "webhook" else ""
    echoed = f"You sent Authorization: Bearer {TOKEN} to {url or agent.url} sk-abc123 {query}"
    faults: list[Action] = [
        *(Fail(status=status, body=echoed) for status in (401, 403, 400, 404, 422)),
        *(Fail(status=status, body={"error": {"message": echoed}}) for status in (401, 400, 500)),
        Fail(status=400, body={"error": {"message": "no", "code": echoed, "type": TOKEN}}),
        Fail(status=400, body={"detail": [{"msg": echoed, "input": echoed}]}),
        Fail(status=400, headers={"X-Request-Id": "a b"}),
        Raw(chunks=[event({"error": {"message": echoed, "code": 400}})]),
        Raw(chunks=[b"x"], headers={"X-Echo": echoed * 1000}),
        Drop(),
    ]
    platform = connect(kind, url=url, limits=replace(LIMITS, turn_timeout=0))
    for fault in faults:
        agent.script(fault)
        _, error = await ask(platform)
        assert error is not None, fault
        LOG.warning("It failed: %s", error, exc_info=error)
        told = "".join(traceback.format_exception(error)) + repr(error)
        for secret in (TOKEN, "hidden-in-the-address", "sk-abc123"):
            assert secret not in told, fault
    for secret in (TOKEN, "hidden-in-the-address", "sk-abc123"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        Fail(status=401, body={"error": {"message": f"Incorrect API key: {TOKEN[:9]}***"}}),
        Fail(status=403, body=f"No right for {TOKEN[:9]}***"),
        Fail(status=400, body={"error": {"message": TOKEN[:9], "code": "invalid_api_key"}}),
    ],
    ids=["401", "403", "400"],
)
async def test_no_part_of_a_key_is_told(
    agent: AgentServer, connect: Callable[..., Platform], fault: Fail
) -> None:
    agent.script(fault)
    _, error = await ask(connect("openai"))
    assert troubled(error) is Trouble.MISCONFIGURED
    assert TOKEN[:9] not in str(error)
