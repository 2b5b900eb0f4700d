"""What is asked again, and how long that is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from homeroom.config import WebhookSettings
from homeroom.domain.conversation.answer import Trouble
from homeroom.platforms import (
    Platform,
)
from homeroom.platforms.http_client import FAILING_FOR
from homeroom.platforms.webhook import WebhookPlatform
from tests.fake.clients import LOG, Naps
from tests.platforms.asking import (
    HTML,
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
    Say,
)
from tests.stack.ports import free_port

PASSING: dict[str, Action] = {
    "429": Fail(status=429),
    "500": Fail(status=500),
    "502 from a proxy": Fail(status=502, body="<html>Bad gateway</html>"),
    "503 without a word": Fail(status=503, body=""),
    "529": Fail(status=529),
    "408": Fail(status=408),
    "409": Fail(status=409),
    "dropped": Drop(),
    "cut off before the first piece": Say(pieces=[], end="cut"),
    "a web page": HTML,
    "no object": Fail(status=200, body=[]),
    "depths": Fail(status=200, body="[" * 50_000),
    "no event": Raw(chunks=[b"data: {oops\n\n"]),
    "an empty stream": Raw(chunks=[]),
    "broken gzip": Raw(
        chunks=[b"not gzip"],
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ),
    "less than was promised": Raw(
        chunks=[b"data: x"],
        headers={"Content-Type": "text/event-stream", "Content-Length": "99"},
        end="cut",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", PASSING.values(), ids=PASSING.keys())
async def test_what_may_pass_is_tried_again_under_the_same_key(
    agent: AgentServer,
    connect: Callable[..., Platform],
    naps: Naps,
    kind: str,
    action: Action,
) -> None:
    agent.script(action, action)
    assert await ask(connect(kind)) == (["Hel", "lo"], None)
    assert [request.key for request in agent.requests] == ["$event:fake.test"] * 3
    assert agent.requests[0].body == agent.requests[2].body
    assert [0.5 <= naps.seconds[0] <= 1, 1 <= naps.seconds[1] <= 2] == [True, True]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_in_the_stream_is_like_one_before_it(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    def fault(code: int) -> Raw:
        name = b"event: error\n" if kind == "webhook" else b""
        return Raw(chunks=[name + event({"error": {"message": "Oh", "code": code}})])

    agent.script(fault(503), fault(400))
    pieces, error = await ask(connect(kind))
    assert (pieces, troubled(error)) == ([], Trouble.REFUSED)
    assert str(error) == "an error in the stream: Oh"
    assert len(agent.requests) == 2


WAITS: list[tuple[str, float | None]] = [
    ("7", 7),
    ("0", 0.05),
    ("1.5", 1.5),
    ("-1", None),
    ("NaN", None),
    ("soon", None),
    ("9" * 30, None),
    ("Fri, 31 Dec 9999 23:59:59", None),
]


@pytest.mark.parametrize(("header", "seconds"), WAITS, ids=[wait[0] for wait in WAITS])
async def test_a_rate_limit_is_waited_out(
    agent: AgentServer,
    connect: Callable[..., Platform],
    naps: Naps,
    header: str,
    seconds: float | None,
) -> None:
    agent.script(Fail(status=429, headers={"Retry-After": header}))
    pieces, error = await ask(connect("openai"))
    if header.startswith("Fri"):
        assert troubled(error) is Trouble.BUSY
        return
    assert (pieces, error) == (["Hel", "lo"], None)
    (slept,) = naps.seconds
    assert slept == seconds if seconds else 0.5 <= slept <= 1


async def test_a_rate_limit_may_be_a_date(
    agent: AgentServer, connect: Callable[..., Platform], naps: Naps
) -> None:
    date = formatdate(time.time() + 20, usegmt=True)
    agent.script(Fail(status=503, headers={"Retry-After": date}))
    assert (await ask(connect("webhook")))[1] is None
    assert 5 < naps.seconds[0] < 21


async def test_a_rate_limit_beyond_the_turn_is_told_at_once(
    agent: AgentServer, connect: Callable[..., Platform], naps: Naps
) -> None:
    agent.script(Fail(status=429, headers={"Retry-After": "61"}))
    _, error = await ask(connect("openai"))
    assert troubled(error) is Trouble.BUSY
    assert (naps.seconds, len(agent.requests)) == ([], 1)


class Hours:
    """Sleeps that only happen on paper, on a clock that believes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: clock() + self.slept)

    async def __call__(self, seconds: float) -> None:
        self.slept += seconds


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (Fail(status=503), Trouble.BUSY),
        (Fail(status=500), Trouble.FAILING),
        (Drop(), Trouble.UNREACHABLE),
        (HTML, Trouble.UNREACHABLE),
    ],
    ids=str,
)
async def test_what_does_not_pass_is_given_up(
    agent: AgentServer, monkeypatch: pytest.MonkeyPatch, fault: Action, trouble: Trouble
) -> None:
    hours = Hours(monkeypatch)
    agent.reply = lambda _: fault
    settings = WebhookSettings(url=f"{agent.url}/webhook", token=TOKEN)
    platform = WebhookPlatform(settings, limits=lambda: LIMITS, log=LOG, sleep=hours)
    pieces, error = await ask(platform)
    await platform.close()
    assert (pieces, troubled(error)) == ([], trouble)
    assert FAILING_FOR / 2 < hours.slept <= FAILING_FOR
    assert 4 <= len(agent.requests) <= 10


async def test_nobody_there_is_unreachable(connect: Callable[..., Platform]) -> None:
    limits = replace(LIMITS, turn_timeout=0)
    url = f"http://127.0.0.1:{free_port()}/x"
    pieces, error = await ask(connect("webhook", url=url, limits=limits))
    assert (pieces, troubled(error)) == ([], Trouble.UNREACHABLE)
    assert "127.0.0.1" in str(error)


async def test_an_address_that_is_none_is_named_so(connect: Callable[..., Platform]) -> None:
    pieces, error = await ask(connect("webhook", url="http://[::1/x?secret"))
    assert (pieces, troubled(error)) == ([], Trouble.MISCONFIGURED)
    assert "secret" not in str(error)
