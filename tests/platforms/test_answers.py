"""What a platform answers, and in which ways it may come."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from homeroom.domain.conversation.answer import End, Item, Status, Text, Trouble
from homeroom.platforms import (
    Platform,
)
from tests.platforms.asking import (
    JSON,
    KINDS,
    SSE,
    TURN,
    ask,
    ask_for_items,
    end,
    event,
    piece,
)
from tests.stack.agent_server import (
    Action,
    AgentServer,
    Hold,
    Raw,
    Say,
)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_may_answer_in_one_piece(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    agent.script(Say(pieces=["Hel", "lo"], whole=True))
    assert await ask(connect(kind)) == (["Hello"], None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", [Say(pieces=[]), Say(pieces=[""], whole=True)], ids=str)
async def test_nothing_may_be_answered(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, action: Action
) -> None:
    agent.script(action, Raw(chunks=[], status=204))
    assert await ask(connect(kind)) == ([], None)
    assert await ask(connect(kind)) == ([], None)


@pytest.mark.parametrize("kind", KINDS)
async def test_text_is_whatever_can_be_encoded(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    hand = [piece(kind, "a\ud83d"), piece(kind, "\udc4cb"), piece(kind, "\udc4c"), b": x\n\n"]
    cut = piece(kind, "ü?").replace(b"?", b"\xff")
    agent.script(Raw(chunks=[*hand, cut, piece(kind, "z\ud83d"), end(kind)]))
    pieces, error = await ask(connect(kind))
    assert error is None
    assert "".join(pieces) == "a\N{OK HAND SIGN}b\ufffdü\ufffdz\ufffd"
    "".join(pieces).encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_is_compressed_is_read(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, encoding: str
) -> None:
    squeeze = gzip.compress if encoding == "gzip" else zlib.compress
    stream = squeeze(piece(kind, "Hello") + end(kind))
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "Content-Encoding": encoding}
    agent.script(Raw(chunks=[stream[:9], stream[9:]], headers=headers))
    assert await ask(connect(kind)) == (["Hello"], None)
    assert agent.requests[0].headers["Accept-Encoding"] == "identity"


STREAMS: dict[str, tuple[list[Any], list[str], Trouble | None]] = {
    "no [DONE]": ([{"content": "a"}, "stop"], ["a"], None),
    "no reason": ([{"content": "a"}, b"[DONE]"], ["a"], None),
    "neither": ([{"content": "a"}], ["a"], Trouble.CUT_OFF),
    "usage and pings": (
        [b'{"type":"ping"}', {"content": "a"}, b'{"choices":[],"usage":{}}', b"[DONE]"],
        ["a"],
        None,
    ),
    "odd deltas": (
        [None, {}, {"content": None}, {"reasoning_content": "hm"}, {"content": "a"}, b"[DONE]"],
        ["a"],
        None,
    ),
    "a list of parts": (
        [{"content": [{"type": "text", "text": "a"}, {"type": "image"}]}, b"[DONE]"],
        ["a"],
        None,
    ),
    "a refusal": ([{"refusal": "No."}, "stop"], ["No."], None),
    "the model's limit": ([{"content": "a"}, "length"], ["a"], Trouble.TOO_LARGE),
    "nothing but the limit": (["length"], [], Trouble.TOO_LARGE),
    "a filter": ([{"content": "a"}, "content_filter"], ["a"], Trouble.REFUSED),
    "a tool": (["tool_calls"], [], None),
    "an error": (
        [{"content": "a"}, b'{"error":{"message":"overloaded","code":503}}'],
        ["a"],
        Trouble.CUT_OFF,
    ),
    "no JSON": ([{"content": "a"}, b"{oops"], ["a"], Trouble.CUT_OFF),
    "no object": ([{"content": "a"}, b"[1]"], ["a"], Trouble.CUT_OFF),
}


@pytest.mark.parametrize(("chunks", "said", "trouble"), STREAMS.values(), ids=STREAMS.keys())
async def test_models_stream_in_many_ways(
    agent: AgentServer,
    connect: Callable[..., Platform],
    chunks: list[Any],
    said: list[str],
    trouble: Trouble | None,
) -> None:
    def chunk(item: Any) -> bytes:
        if isinstance(item, bytes):
            return event(item)
        if isinstance(item, str):
            return event({"choices": [{"delta": {}, "finish_reason": item}]})
        return event({"choices": [{"delta": item, "finish_reason": None}]})

    agent.script(Raw(chunks=[chunk(item) for item in chunks]))
    pieces, error = await ask(connect("openai"))
    assert pieces == said
    assert (error and error.trouble) == trouble
    assert len(agent.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_slowness_is_no_failure(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    release = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "a"
        await release.wait()
        yield "b"

    held = Hold(then=Say(pieces=slowly()))
    agent.script(held)
    async with aclosing(connect(kind).answer(TURN)) as answer:
        first = asyncio.ensure_future(anext(answer))
        await agent.wait_for(1)
        held.released.set()
        assert await first == Text("a")
        release.set()
        assert [item async for item in answer] == [Text("b"), End()]
    assert len(agent.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_who_stops_listening_hangs_up(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    agent.script(Say(pieces=["a"], end="hang"))
    async with aclosing(connect(kind).answer(TURN)) as answer:
        assert await anext(answer) == Text("a")
    await asyncio.wait_for(agent.requests[0].done.wait(), 10)
    assert agent.requests[0].cut


def usage(*, tokens_in: object, tokens_out: object) -> dict[str, object]:
    return {"choices": [], "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}}


WHOLE = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
DELTA = {"choices": [{"delta": {"content": "Hi"}, "finish_reason": None}]}
ENDS: dict[str, tuple[str, Raw, list[Item]]] = {
    "a webhook in one piece": (
        "webhook",
        Raw(
            chunks=[b'{"text": "Hi", "state": "s", "usage": {"input": 3, "output": 4}}'],
            headers=JSON,
        ),
        [Text("Hi"), End(state="s", tokens_in=3, tokens_out=4)],
    ),
    "a webhook's stream": (
        "webhook",
        Raw(
            chunks=[
                b"event: status\n" + event({"text": "Searching\n the  web" + "." * 200}),
                piece("webhook", "Hi"),
                b"event: status\ndata: {}\n\n",
                b"event: unheard-of\ndata: x\n\n",
                b"event: end\n" + event({"state": "s" * 2000, "usage": {"input": "3"}}),
            ],
            headers=SSE,
        ),
        [
            Status("Searching the web" + "." * 103),
            Text("Hi"),
            Status(""),
            End(state="s" * 1000),
        ],
    ),
    "a model in one piece": (
        "openai",
        Raw(
            chunks=[json.dumps({**usage(tokens_in=3, tokens_out=4), **WHOLE}).encode()],
            headers=JSON,
        ),
        [Text("Hi"), End(tokens_in=3, tokens_out=4)],
    ),
    "a model's stream": (
        "openai",
        Raw(
            chunks=[event(DELTA), event(usage(tokens_in=3, tokens_out=True)), end("openai")],
            headers=SSE,
        ),
        [Text("Hi"), End(tokens_in=3)],
    ),
}


@pytest.mark.parametrize(("kind", "said", "items"), ENDS.values(), ids=ENDS.keys())
async def test_the_end_says_what_it_took(
    agent: AgentServer,
    connect: Callable[..., Platform],
    kind: str,
    said: Raw,
    items: list[Item],
) -> None:
    agent.script(said)
    assert await ask_for_items(connect(kind)) == (items, None)
