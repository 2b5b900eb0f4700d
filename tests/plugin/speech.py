"""An agent that says what a test puts into it, and its answers as a client shows them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mautrix.types import EventID

from homeroom import bot as bot_module
from homeroom.delivery import answer_stream as stream
from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME, NOTHING
from homeroom.domain.conversation.answer import End, Item, Text
from homeroom.domain.conversation.turn import Turn
from tests.fake import FakeHomeserver, Fault, User
from tests.plugin.harness import Bot, running, until

MAX_EVENT = 65_536


@pytest.fixture(autouse=True)
def quick_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATHER", "EDIT_AFTER", "SLOWEST"):
        monkeypatch.setattr(stream, name, 0.02)
    monkeypatch.setattr(bot_module, "DRAIN_FOR", 0.05)


class Speech:
    """A platform that says what a test puts into it, piece by piece."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.closed = 0
        self._pieces: asyncio.Queue[str | BaseException | None] = asyncio.Queue()

    def say(self, *pieces: str | BaseException | None) -> None:
        """Say these; None is the end."""
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def say_again(self, *pieces: str | BaseException | None) -> None:
        """Forget what was not said yet, and say these."""
        self._pieces = asyncio.Queue()
        self.say(*pieces)

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        self.turns.append(turn)
        try:
            while (piece := await self._pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield Text(piece)
            yield End()
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


@dataclass(slots=True)
class Shown:
    """A message of the bot's as a client shows it."""

    text: str
    is_unfinished: bool
    edits: int = 0


def shown(bot: Bot, room_id: str) -> list[Shown]:
    """What a client shows of the bot's messages; each must name what it answers."""
    messages: dict[str, Shown] = {}
    for event in bot.hs.timeline(room_id):
        if event.type != "m.room.message" or event.sender != bot.me.user_id:
            continue
        content, relation = event.content, event.content.get("m.relates_to", {})
        if not content or content[ANSWERS] == NOTHING:
            continue  # taken back, or a greeting
        is_answer = content["msgtype"] == "m.text"
        assert content.get("m.mentions", {} if is_answer else None) == {}
        assert len(json.dumps(content, ensure_ascii=False).encode()) < MAX_EVENT - 700
        unfinished = content.get(MORE_TO_COME) is True
        if relation.get("rel_type") != "m.replace":
            messages[event.event_id] = Shown(content["body"], unfinished)
            continue
        new, message = content["m.new_content"], messages[relation["event_id"]]
        assert content["body"] == f"* {new['body']}"
        assert [new[ANSWERS], new.get(MORE_TO_COME) is True] == [content[ANSWERS], unfinished]
        message.text, message.is_unfinished = new["body"], unfinished
        message.edits += 1
    return list(messages.values())


def texts(bot: Bot, room_id: str) -> list[str]:
    return [message.text for message in shown(bot, room_id)]


async def when_shown(bot: Bot, room_id: str, *wanted: str) -> list[Shown]:
    """Wait until a client shows just this of what the bot said."""

    def look() -> list[Shown]:
        messages = shown(bot, room_id)
        return messages if tuple(message.text for message in messages) == wanted else []

    return await until(f"{wanted} in {room_id}", look)


async def move_in(bot: Bot, user: User) -> str:
    await bot.onboard(user)
    (chat_id,) = bot.chats_of(user)
    return chat_id


@asynccontextmanager
async def chatting(
    hs: FakeHomeserver, path: Path, *, config: str = "", platform: Any = None
) -> AsyncIterator[tuple[Bot, User, str]]:
    """Run a bot until the end of the block; Anna is in her chat."""
    anna = hs.user("anna")
    async with running(hs, path, config=config, platform=platform) as bot:
        yield bot, anna, await move_in(bot, anna)


async def die_at(bot: Bot, fault: Fault, *, is_lost: bool) -> bool:
    """Kill a bot where it reaches a fault, or at rest, and start it again.

    Returns whether it was at rest: it made fewer requests. `is_lost`: without its database.
    """
    reached = asyncio.ensure_future(fault.reached())
    settled = asyncio.ensure_future(bot.settled())
    await asyncio.wait({reached, settled}, return_when=asyncio.FIRST_COMPLETED)
    is_over = not reached.done()
    for waiting in (reached, settled):
        waiting.cancel()
    await asyncio.gather(reached, settled, return_exceptions=True)
    await bot.kill()
    fault.cancel()
    if is_lost:
        bot.wipe()
    await bot.start()
    await bot.settled()
    return is_over


async def hear_first(bot: Bot, user: User, speech: Speech, *pieces: str) -> EventID:
    """Ask something in the user's chat, and wait until the first words of the answer are shown.

    Returns the question.
    """
    (chat_id,) = bot.chats_of(user)
    question = user.send(chat_id, "Hello")
    speech.say(*pieces)
    await when_shown(bot, chat_id, "".join(pieces).strip())
    return question
