"""Whatever people and agents write: it is answered, nobody waits for it, nothing grows.

HOMEROOM_FUZZ_INPUTS says how many inputs there are, HOMEROOM_TEST_SEED which are the first.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import secrets
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from homeroom.config import WebhookSettings
from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME
from homeroom.domain.conversation.turn import Turn
from homeroom.platforms.http_answer import Limits
from homeroom.platforms.webhook import WebhookPlatform
from tests.fake import FakeHomeserver
from tests.fake.clients import LOG
from tests.holds import watched
from tests.platforms.asking import GZIP, JSON, SSE, ask
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until
from tests.stack.agent_server import TOKEN, AgentServer, Raw

INPUTS = int(os.environ.get("HOMEROOM_FUZZ_INPUTS", "40"))
MAX_HOLD = 0.05
MAX_BODY = 30_000
"""Characters of a question; with its JSON it is an event that homeservers take."""
MAX_BYTES = 60_000
AT_ONCE = 10

PIECES = [
    *("`", "``", "```", "~~~", "~~", "*", "**", "_", "[", "]", "](", "![", "<", ">", "&", "|"),
    *("\n", "\n\n", "\n    ", "\n> ", "\n- ", "\n1. ", "\n# ", "\n---\n", "\n|-|-|\n", "\n[^1]: "),
    *("\\", "\\|", "&#1;", "&amp;", "&quot;", "<!--", "<?", "<a b='", "</p>", "<https://a.b>"),
    *(" ", "  ", "\t", "\r", "a", "word ", "x" * 50, "[a](https://b.c)", "[x] ", "=\n", "\n\n\n"),
    *("🙂", "\u202e", "\u0301", "שלום", "\u2028", "\ufeff", "\x01", "\x7f", '"', "'", "$", "1) "),
]
NAMED = [
    "`" * 8_600 + "\n" + "x" * 8_600,
    "~" * 8_600 + "\n" + "x" * 8_600,
    " " * 9_000 + "```\n" + "x" * 9_000,
    "a &#1;\nb",
    "# " + " " * 16_000 + "x",
    "    x" + "\n" * 16_000 + "    y",
    "1. " * 90 + "\n" * 150 + "x",
    "[a](" * 4_000,
    "*a **a " * 2_400,
]
"""What was once too much."""


def markdown(dice: random.Random) -> str:
    """Some pieces, each many times or in turn, up to a size."""
    size = dice.choice([10, 300, 3_000, 17_000, MAX_BODY])
    parts: list[str] = []
    length = 0
    while length < size:
        some = dice.choices(PIECES, k=dice.choice([1, 1, 2, 3, 6]))
        part = "".join(some) * dice.choice([1, 1, 2, 10, 300, 5_000])
        parts.append(part[: size - length])
        length += len(parts[-1])
    return that_fits("".join(parts))


def that_fits(text: str) -> str:
    """As much of it as an event can carry: homeservers count bytes of JSON."""
    while len(json.dumps(text).encode()) > MAX_BYTES:
        text = text[: len(text) // 2]
    return text


def body(dice: random.Random) -> Raw:
    """What a server might send as a webhook's answer."""

    def event() -> bytes:
        data: list[object] = [{"text": markdown(dice)}, {"text": ""}, {}, [], "x", {"text": [1]}]
        line = json.dumps(dice.choice(data)).encode()
        name = dice.choice([b"", b"event: end\n", b"event: status\n", b"event: x\n", b": x\n"])
        return name + dice.choice([b"data: ", b"data:", b"x: ", b""]) + line + b"\n\n"

    whole: bytes = dice.choice(
        [
            b"".join(event() for _ in range(dice.randrange(30))),
            dice.choice([b"\n", b"\r", b":\n", b'data: {"text": ""}\n\n', b"data\n\n", b"\0"])
            * dice.randrange(200_000),
            json.dumps({"text": markdown(dice)}).encode(),
            b"[" * dice.randrange(60_000),
            b'{"text": "' + dice.randbytes(dice.randrange(60_000)) + b'"}',
        ]
    )
    headers = dict(dice.choice([SSE, JSON]))
    squeeze: Callable[[bytes], bytes] | None = dice.choice([None, gzip.compress, zlib.compress])
    if squeeze is not None:
        whole, headers = squeeze(whole), {**headers, **GZIP}
    if dice.random() < 0.2:
        whole = whole[: dice.randrange(len(whole) + 1)]
    return Raw(chunks=[whole], headers=headers, status=dice.choice([200, 200, 200, 200, 500, 400]))


@pytest.fixture
def seeds() -> Iterator[int]:
    first = int(os.environ.get("HOMEROOM_TEST_SEED") or secrets.randbits(32))
    print(f"HOMEROOM_TEST_SEED={first}")
    return iter(range(first, first + INPUTS))


async def test_any_text_is_answered_and_holds_nobody_up(
    hs: FakeHomeserver, tmp_path: Path, seeds: Iterator[int]
) -> None:
    async def say(turn: Turn) -> str:
        return turn.text

    anna = hs.user("anna")
    config = "limits: {waiting_messages: 100}"
    async with running(hs, tmp_path, platform=Agent(say), config=config) as bot:
        await bot.onboard(anna)
        chat_id = bot.chats_of(anna)[0]
        texts = [*NAMED, *(markdown(random.Random(seed)) for seed in seeds)]
        for start in range(0, len(texts), AT_ONCE):
            some = [text for text in texts[start : start + AT_ONCE] if text.strip()]
            before = len(hs.timeline(chat_id))
            async with watched() as holds:
                asked = [anna.send(chat_id, {"msgtype": "m.text", "body": f"q {t}"}) for t in some]
                await until(
                    f"answers to number {start} and on",
                    lambda asked=asked, at=before: set(asked) <= answered(bot, chat_id, since=at),
                    timeout=100,
                )
            assert holds.longest < MAX_HOLD, (start, holds)


def answered(bot: Bot, room_id: str, *, since: int) -> set[str]:
    """What the bot has said the last word about, from this place of the timeline on."""
    said = [event.content for event in bot.hs.timeline(room_id)[since:]]
    return {
        content[ANSWERS]
        for content in said
        if ANSWERS in content and content.get(MORE_TO_COME) is not True
    }


async def test_any_answer_is_read_or_refused_and_holds_nobody_up(seeds: Iterator[int]) -> None:
    async with AgentServer() as agent:
        platform = WebhookPlatform(
            WebhookSettings(url=f"{agent.url}/webhook", token=TOKEN),
            limits=lambda: Limits(answer_length=100_000, turn_timeout=0),
            log=LOG,
        )
        while some := list(islice(seeds, AT_ONCE)):
            answers = [body(random.Random(seed)) for seed in some]
            async with watched() as holds:
                for said in answers:
                    agent.reply = lambda _, said=said: said
                    pieces, _ = await ask(platform)
                    assert len("".join(pieces)) <= 100_000
            assert holds.longest < MAX_HOLD, (some, holds)
        await platform.close()
