"""What is too large: it is not read, and nothing waits for it."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from homeroom.domain.conversation.answer import Trouble
from homeroom.platforms import (
    Platform,
)
from homeroom.platforms import (
    http_answer as client,
)
from tests.holds import watched
from tests.platforms.asking import (
    GZIP,
    JSON,
    KINDS,
    LIMITS,
    SSE,
    ask,
    end,
    troubled,
)
from tests.stack.agent_server import (
    AgentServer,
    Raw,
    Say,
)

MEGABYTE = 1024 * 1024


def bomb(letter: bytes = b"x") -> bytes:
    """Some ten kilobytes that are fifty megabytes."""
    squeeze = zlib.compressobj(9, wbits=31)
    return b"".join([*(squeeze.compress(letter * MEGABYTE) for _ in range(50)), squeeze.flush()])


def for_ever(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "action",
    [
        Raw(chunks=[b'{"text": "', *[b"x" * MEGABYTE] * 50, b'"}'], headers=JSON),
        Raw(chunks=[b'data: {"text": "', *[b"x" * MEGABYTE] * 50, b'"}\n\n'], headers=SSE),
        Raw(chunks=for_ever(b": are you still there?\n" * 1000), headers=SSE),
        Raw(chunks=for_ever(b": still there?\n\n" * 10_000), headers=SSE),
        Raw(chunks=[bomb()], headers={**JSON, **GZIP}),
        Raw(chunks=[bomb()], headers={**SSE, **GZIP}),
        Raw(chunks=[bomb(b"\n")], headers={**SSE, **GZIP}),
    ],
    ids=[
        "50 MB",
        "50 MB event",
        "comments",
        "more comments",
        "gzip bomb",
        "gzip bomb stream",
        "gzip bomb of line ends",
    ],
)
async def test_what_is_too_large_is_not_read(
    agent: AgentServer,
    connect: Callable[..., Platform],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    action: Raw,
) -> None:
    monkeypatch.setattr(client, "MAX_STREAM", 4 * MEGABYTE)
    agent.reply = lambda _: action
    pieces, error = await ask(connect(kind))
    assert (pieces, troubled(error)) == ([], Trouble.TOO_LARGE)
    assert len(agent.requests) == 1
    await asyncio.wait_for(agent.requests[0].done.wait(), 10)


SAID_BY_NOBODY = {
    "line ends": b"\n",
    "comments": b":\n",
    "names": b"event: x\n\n",
    "empty pieces of webhooks": b'data: {"text": ""}\n\n',
    "empty pieces of models": b'data: {"choices": []}\n\n',
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", SAID_BY_NOBODY.values(), ids=SAID_BY_NOBODY.keys())
async def test_what_is_all_there_at_once_holds_nobody_up(
    agent: AgentServer,
    connect: Callable[..., Platform],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    line: bytes,
) -> None:
    """Each step of the loop is short, also where nothing has to be waited for."""
    monkeypatch.setattr(client, "MAX_RATIO", 10_000)
    body = gzip.compress(line * (MEGABYTE // len(line)))
    agent.reply = lambda _: Raw(chunks=[body], headers={**SSE, **GZIP})
    platform = connect(kind, limits=replace(LIMITS, turn_timeout=0))
    async with watched() as holds:
        await ask(platform)
    assert holds.longest < 0.05, holds


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_can_be_ended_in_the_middle_of_it(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    body = gzip.compress(b": x\n\n" * 200_000)
    agent.reply = lambda _: Raw(chunks=[body], headers={**SSE, **GZIP})
    platform = connect(kind)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ask(platform), 0.1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_without_an_end_is_ended(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    agent.reply = lambda _: Say(pieces=iter(lambda: "seven!\n", None))
    pieces, error = await ask(connect(kind))
    assert troubled(error) is Trouble.TOO_LARGE
    assert "".join(pieces) == ("seven!\n" * 200)[:1000]
    await asyncio.wait_for(agent.requests[0].done.wait(), 10)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_long_answer_in_one_piece_is_cut(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    agent.script(Say(pieces=["x" * 1001], whole=True), Say(pieces=["\N{OK HAND SIGN}" * 1000]))
    pieces, error = await ask(connect(kind))
    assert ("".join(pieces), troubled(error)) == ("x" * 1000, Trouble.TOO_LARGE)
    pieces, error = await ask(connect(kind))
    assert ("".join(pieces), error) == ("\N{OK HAND SIGN}" * 1000, None)


@pytest.mark.parametrize("headers", [{"X-A": "x" * 100_000}, {f"X-{n}": "x" for n in range(5000)}])
async def test_headers_that_never_end_are_not_read(
    agent: AgentServer, connect: Callable[..., Platform], headers: dict[str, str]
) -> None:
    agent.reply = lambda _: Raw(chunks=[end("webhook")], headers={**SSE, **headers})
    limits = replace(LIMITS, turn_timeout=0)
    pieces, error = await ask(connect("webhook", limits=limits))
    assert (pieces, troubled(error)) == ([], Trouble.UNREACHABLE)
    assert len(str(error)) < 500


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_may_be_a_bomb(
    agent: AgentServer, connect: Callable[..., Platform], status: int
) -> None:
    agent.reply = lambda _: Raw(chunks=[bomb()], headers={**JSON, **GZIP}, status=status)
    _, error = await ask(connect("webhook", limits=replace(LIMITS, turn_timeout=0)))
    assert str(error).startswith(f"HTTP status {status}")
    assert len(str(error)) < 500
