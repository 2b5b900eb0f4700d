"""What the tests of the platforms ask, and how they read what comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from mautrix.types import EventID, RoomID, UserID

from homeroom.domain.conversation.answer import End, Item, Text, Trouble
from homeroom.domain.conversation.turn import Turn, Utterance
from homeroom.domain.homes.model import ChatID, PlatformChatID
from homeroom.platforms import (
    Platform,
    PlatformError,
)
from homeroom.platforms.http_client import Limits
from tests.stack.agent_server import (
    Fail,
)

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


JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}
GZIP = {"Content-Encoding": "gzip"}


class Said:
    """A history."""

    def __init__(self, *said: Utterance) -> None:
        self.said = said

    async def before(self, turn: Turn) -> Sequence[Utterance]:
        return self.said


async def ask(platform: Platform, turn: Turn = TURN) -> tuple[list[str], PlatformError | None]:
    """The pieces of text of an answer, and how it ended: with an `End`, or with an error."""
    items, error = await ask_for_items(platform, turn)
    if error is None:
        assert [item for item in items if isinstance(item, End)] == items[-1:]
    return [item.markdown for item in items if isinstance(item, Text)], error


async def ask_for_items(
    platform: Platform, turn: Turn = TURN
) -> tuple[list[Item], PlatformError | None]:
    """All of an answer, and the error that it ended with."""
    items: list[Item] = []
    try:
        async with aclosing(platform.answer(turn)) as answer:
            async for item in answer:
                items.append(item)  # noqa: PERF401 (what came before an error counts)
    except PlatformError as error:
        return items, error
    return items, None


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
