"""The platforms against a real server on loopback that does everything wrong that one can."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
import traceback
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from mautrix.types import EventID, RoomID, UserID

from homeroom.config import OpenAISettings, PlatformSettings, Settings, WebhookSettings
from homeroom.domain.conversation.answer import Trouble
from homeroom.domain.conversation.turn import Turn, Utterance
from homeroom.domain.homes.model import ChatID, PlatformChatID
from homeroom.platforms import (
    Platform,
    PlatformError,
)
from homeroom.platforms import (
    http_client as client,
)
from homeroom.platforms.configured import ChosenPlatform
from homeroom.platforms.http_client import FAILING_FOR, Limits
from homeroom.platforms.openai import OpenAIPlatform
from homeroom.platforms.webhook import WebhookPlatform
from tests.fake.clients import LOG, Naps
from tests.plugin.harness import until
from tests.stack.agent_server import (
    TOKEN,
    Action,
    AgentServer,
    Drop,
    Fail,
    Hold,
    Raw,
    Say,
)
from tests.stack.ports import free_port

TURN = Turn(
    platform_chat_id=PlatformChatID("key-1"),
    chat_id=ChatID("C1"),
    user_id=UserID("@anna:fake.test"),
    room_id=RoomID("!room:fake.test"),
    key=EventID("$event:fake.test"),
    event_id=EventID("$event:fake.test"),
    user_name="Anna",
    text="Hello",
    name="General",
)
LIMITS = Limits(answer_length=1000, turn_timeout=60)
KINDS = ("webhook", "openai")
HTML = Fail(status=200, body="<html>Log in to the hotel</html>")


class Said:
    """A history."""

    def __init__(self, *said: Utterance) -> None:
        self.said = said

    async def before(self, turn: Turn) -> Sequence[Utterance]:
        return self.said


@pytest.fixture
async def agent() -> AsyncIterator[AgentServer]:
    async with AgentServer() as server:
        server.reply = lambda _: Say(pieces=["Hel", "lo"])
        yield server


@pytest.fixture
async def connect(agent: AgentServer, naps: Naps) -> AsyncIterator[Callable[..., Platform]]:
    """Make a platform that asks the agent server, or another address."""
    made: list[Platform] = []

    def make(
        kind: str, *, url: str = "", limits: Limits = LIMITS, said: Said | None = None, **more: Any
    ) -> Platform:
        if kind == "webhook":
            to = WebhookSettings(url=url or f"{agent.url}/webhook", token=more.get("token", TOKEN))
            made.append(WebhookPlatform(to, limits=lambda: limits, log=LOG, sleep=naps))
        else:
            defaults = OpenAISettings(
                base_url=url or f"{agent.url}/v1", api_key=TOKEN, model="scripted"
            )
            made.append(
                OpenAIPlatform(
                    replace(defaults, **more),
                    history=said or Said(),
                    limits=lambda: limits,
                    log=LOG,
                    sleep=naps,
                )
            )
        return made[-1]

    yield make
    for platform in made:
        await platform.close()


async def ask(platform: Platform, turn: Turn = TURN) -> tuple[list[str], PlatformError | None]:
    """The pieces of an answer, and how it ended."""
    pieces: list[str] = []
    try:
        async with aclosing(platform.answer(turn)) as answer:
            async for piece in answer:
                pieces.append(piece)  # noqa: PERF401 (what came before an error counts)
    except PlatformError as error:
        return pieces, error
    return pieces, None


def troubled(error: PlatformError | None) -> Trouble:
    assert error is not None
    return error.trouble


def event(data: Any) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def piece(kind: str, text: str) -> bytes:
    if kind == "webhook":
        return event({"text": text})
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


def end(kind: str) -> bytes:
    return b"event: end\ndata: {}\n\n" if kind == "webhook" else b"data: [DONE]\n\n"


# What is asked


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


# What is answered


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
        assert await first == "a"
        release.set()
        assert [piece async for piece in answer] == ["b"]
    assert len(agent.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_who_stops_listening_hangs_up(
    agent: AgentServer, connect: Callable[..., Platform], kind: str
) -> None:
    agent.script(Say(pieces=["a"], end="hang"))
    async with aclosing(connect(kind).answer(TURN)) as answer:
        assert await anext(answer) == "a"
    await asyncio.wait_for(agent.requests[0].done.wait(), 10)
    assert agent.requests[0].cut


# What is tried again

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
    [(Fail(status=503), Trouble.BUSY), (Drop(), Trouble.UNREACHABLE), (HTML, Trouble.UNREACHABLE)],
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


# What is too large

JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}
GZIP = {"Content-Encoding": "gzip"}
MEGABYTE = 1024 * 1024


def bomb() -> bytes:
    """Some ten kilobytes that are fifty megabytes."""
    squeeze = zlib.compressobj(9, wbits=31)
    return b"".join([*(squeeze.compress(b"x" * MEGABYTE) for _ in range(50)), squeeze.flush()])


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
    ],
    ids=["50 MB", "50 MB event", "comments", "more comments", "gzip bomb", "gzip bomb stream"],
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


# What is never told


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


# Which one it is


async def test_new_settings_count_from_the_next_turn_on(agent: AgentServer) -> None:
    settings = [Settings()]
    chosen = ChosenPlatform(settings=lambda: settings[-1], history=Said(), log=LOG)
    assert await ask(chosen) == (["Hello\n\n(key-1)"], None)

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
        assert await anext(old) == "a"
        settings.append(Settings(platform=PlatformSettings(kind="openai", openai=openai)))
        assert await ask(chosen) == (["Hel", "lo"], None)
        (retired,) = chosen._retired
        release.set()
        assert [piece async for piece in old] == ["b"]
    assert [request.protocol for request in agent.requests] == ["webhook", "openai"]
    assert isinstance(retired.platform, WebhookPlatform)
    session = retired.platform._client._session
    assert session is not None
    assert session.closed
    await chosen.close()
    assert await until("nothing is open", lambda: not chosen._retired)
