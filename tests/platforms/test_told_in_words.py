"""What an administrator is told when a request got no whole answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientConnectorError

from homeroom.platforms import Platform
from homeroom.runtime.http import in_words
from tests.platforms.asking import JSON, KINDS, LIMITS, ask
from tests.stack.agent_server import Action, AgentServer, Drop, Raw, Say
from tests.stack.ports import free_port


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Drop(), "the connection was closed before an answer came"),
        (Say(pieces=[], end="cut"), "the connection was cut in the middle of the answer"),
        (Say(pieces=["a"], end="cut"), "the connection was cut in the middle of the answer"),
        (
            Raw(chunks=[b"no gzip"], headers={"Content-Encoding": "gzip", **JSON}),
            "the answer cannot be decompressed",
        ),
    ],
    ids=["dropped", "cut before a word", "cut after one", "broken gzip"],
)
async def test_a_connection_that_breaks_is_told_in_words(
    agent: AgentServer, connect: Callable[..., Platform], kind: str, action: Action, words: str
) -> None:
    agent.reply = lambda _: action
    _, error = await ask(connect(kind, limits=replace(LIMITS, turn_timeout=0)))
    assert str(error) == words


async def test_a_connection_that_cannot_be_made_is_told_in_words(
    agent: AgentServer, connect: Callable[..., Platform]
) -> None:
    async def say_something_else(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async def told(url: str) -> str:
        limits = replace(LIMITS, turn_timeout=0)
        _, error = await ask(connect("webhook", url=url, limits=limits))
        return str(error)

    nowhere = free_port()
    words = f"cannot connect to 127.0.0.1:{nowhere} (nothing listens there)"
    assert await told(f"http://127.0.0.1:{nowhere}/") == words
    place = agent.url.removeprefix("http://")
    said = await told(f"https://{place}/webhook")
    assert said.startswith(f"cannot connect to {place} (it does not speak HTTPS): ")
    async with await asyncio.start_server(say_something_else, "127.0.0.1", 0) as server:
        (port,) = {each.getsockname()[1] for each in server.sockets}
        assert (await told(f"http://127.0.0.1:{port}/")).startswith("what came is not HTTP: ")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "(its name is not known)"),
        (TimeoutError(110, "Connection timed out"), "(nothing answers there)"),
        (
            ssl.SSLCertVerificationError(1, "self-signed certificate"),
            "(its certificate is not valid): self-signed certificate",
        ),
        (OSError(113, "No route to host"), "(no way there): [Errno 113] No route to host"),
    ],
    ids=["DNS", "no answer", "certificate", "no route"],
)
def test_why_there_is_no_connection_is_told_in_words(cause: OSError, words: str) -> None:
    key: Any = SimpleNamespace(host="agent.test", port=443, ssl=True)
    assert (
        in_words(ClientConnectorError(key, cause)) == f"cannot connect to agent.test:443 {words}"
    )
