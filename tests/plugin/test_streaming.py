"""An answer appears while the platform is at it, and is whole in the end, whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mautrix.types import EventID

from homeroom import bot as bot_module
from homeroom import replies
from homeroom.delivery import answer_stream as stream
from homeroom.domain.conversation.answer import End, Item, Text, Trouble
from homeroom.domain.conversation.answer_parts import Question
from homeroom.domain.conversation.content_keys import ANSWERS, MORE_TO_COME, NOTHING
from homeroom.domain.conversation.turn import Turn
from homeroom.matrix.messages import LIVE
from homeroom.platforms import PlatformError
from tests.fake import FakeHomeserver, Hang, Late, Match, RateLimit, Respond, Truncate, User
from tests.fake.events import Json
from tests.plugin.conftest import Present
from tests.plugin.harness import LOG, Bot, running, until

MAX_EVENT = 65_536
HOUR_MS = 60 * 60 * 1000


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
        assert content["m.mentions"] == {}
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


# As it comes


async def test_an_answer_grows_in_one_message(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("Once ", "upon")
        (message,) = await when_shown(bot, chat_id, "Once upon")
        assert message.is_unfinished
        speech.say(" a time")
        (message,) = await when_shown(bot, chat_id, "Once upon a time")
        assert message.is_unfinished
        speech.say(".", None)
        await when_shown(bot, chat_id, "Once upon a time.")
        await bot.settled()
        assert not shown(bot, chat_id)[0].is_unfinished
        assert not bot.query("SELECT * FROM open_answers")
        assert len(speech.turns) == speech.closed == 1


@pytest.mark.parametrize("pieces", [["All at once"], ["All ", "at ", "once"]])
async def test_an_answer_that_is_there_at_once_is_one_plain_message(
    hs: FakeHomeserver, tmp_path: Path, pieces: list[str]
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        speech.say(*pieces, None)
        anna.send(chat_id, "Hello")
        assert await when_shown(bot, chat_id, "All at once") == [Shown("All at once", False)]
        await bot.settled()
        (content,) = bot.said(chat_id)
        assert MORE_TO_COME not in content
        assert content["formatted_body"] == "<p>All at once</p>\n"


async def test_edits_are_few_however_many_pieces_there_are(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOWEST", 15)
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        for number in range(300):
            speech.say(f"{number} ")
            await asyncio.sleep(0.001)
        speech.say(None)
        whole = " ".join(map(str, range(300)))
        (message,) = await when_shown(bot, chat_id, whole)
        assert 1 <= message.edits <= 12


async def test_a_homeserver_that_takes_its_time_gets_fewer_edits(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLOWEST", 15)
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        slow = hs.fail(Match(method="PUT", path="/send/"), Hang())
        anna.send(chat_id, "Hello")
        speech.say("one ")
        await slow.reached()
        await asyncio.sleep(0.3)  # so the next edit is not due for three seconds
        slow.release()
        await when_shown(bot, chat_id, "one")
        for word in ("two ", "three ", "four "):
            speech.say(word)
            await asyncio.sleep(0.05)
        speech.say(None)
        (message,) = await when_shown(bot, chat_id, "one two three four")
        assert message.edits == 1


async def test_an_edit_is_not_worth_waiting_for_but_the_last_one_is(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("one ")
        await when_shown(bot, chat_id, "one")
        limited = hs.fail(Match(method="PUT", path="/send/"), RateLimit(retry_after_ms=150))
        speech.say("two ")
        await limited.reached()
        speech.say("three ")
        await when_shown(bot, chat_id, "one two three")
        assert bot.words(chat_id) == ["one", "* one two three"]
        limited = hs.fail(Match(method="PUT", path="/send/"), RateLimit(retry_after_ms=60))
        speech.say("four", None)
        await when_shown(bot, chat_id, "one two three four")
        await bot.settled()
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_a_late_edit_does_not_undo_the_next_one(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("First ")
        await when_shown(bot, chat_id, "First")
        late = hs.fail(Match(method="PUT", path="/send/"), Late(status=502))
        speech.say("second ")
        await late.reached()
        speech.say("third.", None)
        await when_shown(bot, chat_id, "First second third.")
        await bot.settled()
        await late.done()
        assert texts(bot, chat_id) == ["First second third."]
        assert late.hits[0].path in [request.path for request in hs.requests if not request.fault]


async def test_a_growing_message_shows_that_it_grows(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("One")
        await when_shown(bot, chat_id, "One")
        speech.say(" two")
        await when_shown(bot, chat_id, "One two")
        speech.say(None)
        await until("the end", lambda: not shown(bot, chat_id)[-1].is_unfinished)
        contents = [said.get("m.new_content", said) for said in bot.said(chat_id)[-3:]]
        assert [(c["formatted_body"], LIVE in c) for c in contents] == [
            ("<p>One …</p>\n", True),
            ("<p>One two …</p>\n", True),
            ("<p>One two</p>\n", False),
        ]


async def test_a_thread_keeps_its_answer_and_the_edits(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        root = anna.send(chat_id, {"msgtype": "m.notice", "body": "root"})
        thread = {"rel_type": "m.thread", "event_id": root}
        anna.send(chat_id, {"msgtype": "m.text", "body": "Hello", "m.relates_to": thread})
        speech.say("one")
        await when_shown(bot, chat_id, "one")
        speech.say(" two", None)
        await when_shown(bot, chat_id, "one two")
        first, edit = bot.said(chat_id)
        assert first["m.relates_to"] == edit["m.new_content"]["m.relates_to"] == thread


CODE = "Look:\n\n```python\n" + "\n".join(f'print("<line {n}>")' for n in range(900)) + "\n```\n"
LONG = {
    "letters": "\n\n".join(f"{n:05}" + "x" * 700 for n in range(60)),
    "quotes": "\n\n".join(f"{n:05}" + '"<&>' * 200 for n in range(40)),
    "emoji": "\n\n".join(f"{n:05}" + "🙂" * 300 for n in range(30)),
    "right to left": "\n\n".join(f"{n:05}" + "שלום עולם " * 60 for n in range(30)),
    "one line": "y" * 50_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
async def test_a_long_answer_goes_on_in_another_message(
    hs: FakeHomeserver, tmp_path: Path, text: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        for start in range(0, len(text), 7000):
            speech.say(text[start : start + 7000])
            await asyncio.sleep(0.05)
        speech.say(None)
        await until(
            "it is whole",
            lambda: (said := shown(bot, chat_id)) and not said[-1].is_unfinished,
        )
        await bot.settled()
        messages = shown(bot, chat_id)
        assert "".join("".join(m.text for m in messages).split()) == "".join(text.split())
        assert [m.is_unfinished for m in messages] == [True] * (len(messages) - 1) + [False]
        assert len(messages) > 1


async def test_a_code_block_that_is_divided_is_closed_and_opened_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say(CODE, None)
        first, second = await until(
            "both", lambda: s if len(s := texts(bot, chat_id)) == 2 else []
        )
        assert first.endswith("\n```")
        assert second.startswith("```python\nprint(")
        for content in bot.said(chat_id):
            assert content["formatted_body"].count("<code") == 1
            assert "<line" not in content["formatted_body"]


# When it does not come to its end


@pytest.mark.parametrize("trouble", Trouble)
async def test_an_answer_that_breaks_off_says_so_below_what_there_is(
    hs: FakeHomeserver, tmp_path: Path, trouble: Trouble
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("```\nhalf a")
        await when_shown(bot, chat_id, "```\nhalf a")
        speech.say(PlatformError("secret", trouble=trouble, request_id="r-1"))
        ended = f"```\nhalf a\n```\n\n*{replies.TROUBLES[trouble]}*"
        await when_shown(bot, chat_id, ended)
        speech.say("fine", None)
        anna.send(chat_id, "Again")
        assert not (await when_shown(bot, chat_id, ended, "fine"))[0].is_unfinished


async def test_what_went_wrong_is_in_the_log_with_the_request(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        speech.say(PlatformError("HTTP 401", trouble=Trouble.MISCONFIGURED, request_id="r-1"))
        event_id = anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, replies.TROUBLES[Trouble.MISCONFIGURED])
        assert f"The platform did not answer {event_id}: HTTP 401 (request r-1)" in caplog.text


async def test_a_stream_that_does_not_end_is_ended(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    config = "limits: {turn_timeout: 1}"
    async with running(hs, tmp_path, platform=(speech := Speech()), config=config) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("and so on")
        (message,) = await when_shown(bot, chat_id, f"and so on\n\n*{replies.TOOK_TOO_LONG}*")
        assert not message.is_unfinished
        assert speech.closed == 1


@pytest.mark.parametrize("version", ["10", "11"])
async def test_a_message_that_is_deleted_is_answered_no_further(
    hs: FakeHomeserver, tmp_path: Path, version: str
) -> None:
    anna = hs.user("anna")
    config = f'rooms: {{version: "{version}"}}'
    async with running(hs, tmp_path, platform=(speech := Speech()), config=config) as bot:
        chat_id = await move_in(bot, anna)
        first, second = (anna.send(chat_id, text) for text in ("Tell me", "And then?"))
        speech.say("It was")
        await when_shown(bot, chat_id, "It was")
        anna.redact(chat_id, second)
        await bot_has_read(bot)
        anna.redact(chat_id, first)
        ended = f"It was\n\n*{replies.WITHDRAWN}*"
        assert not (await when_shown(bot, chat_id, ended))[0].is_unfinished
        speech.say("fine", None)
        anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, ended, "fine")
        assert [turn.text for turn in speech.turns] == ["Tell me", "Hello"]


async def bot_has_read(bot: Bot) -> None:
    await until("it has read all there is", bot._has_read_all)


# Restarts


async def test_killed_in_the_middle_the_same_message_is_made_whole(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("one ", "two ")
        await when_shown(bot, chat_id, "one two")
        await bot.kill()
        assert texts(bot, chat_id) == ["one two"]
        speech.say_again()
        await bot.start()
        await until("it is asked again", lambda: len(speech.turns) == 2)
        await asyncio.sleep(0.2)  # enough for an edit, of which there must be none
        assert shown(bot, chat_id) == [Shown("one two", True)]
        speech.say("one two three", None)
        (message,) = await when_shown(bot, chat_id, "one two three")
        await bot.settled()
        assert not message.is_unfinished
        assert len({turn.event_id for turn in speech.turns}) == 1
        await bot.restart()
        await bot.settled()
        assert len(speech.turns) == 2


@pytest.mark.parametrize("forgets", [False, True], ids=["", "the homeserver forgets"])
async def test_killed_while_the_first_words_are_sent_they_are_gone_on_with(
    hs: FakeHomeserver, tmp_path: Path, forgets: bool
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        sending = hs.fail(Match(method="PUT", path="/send/"), Hang(after=True))
        anna.send(chat_id, "Hello")
        speech.say("one")
        await sending.reached()
        await when_shown(bot, chat_id, "one")
        await bot.kill()
        if forgets:
            forget_transactions(hs)
        speech.say_again("one two", None)
        await bot.start()
        (message,) = await when_shown(bot, chat_id, "one two")
        assert not message.is_unfinished


async def test_a_message_that_may_be_there_is_looked_for_before_it_is_sent_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """The homeserver did it, did not say so, and has forgotten it since."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        (chat_id,) = await bot.onboard(anna) and bot.chats_of(anna)
        hs.fail(Match(method="PUT", path="/send/"), Truncate())
        looking = hs.fail(Match(method="GET", path="/messages"), Hang())
        anna.send(chat_id, "Hello")
        await looking.reached()
        forget_transactions(hs)
        looking.release()
        await bot.settled()
        assert bot.words(chat_id) == [bot.echo(chat_id, "Hello")]


def forget_transactions(hs: FakeHomeserver) -> None:
    """As after a day, or with another device of the bot."""
    hs.transactions.forget()


@pytest.mark.parametrize("lost", ["transactions", "transactions and database"])
async def test_the_message_is_found_again_when_the_homeserver_has_forgotten_it(
    hs: FakeHomeserver, tmp_path: Path, lost: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        await bot.settled()
        anna.send(chat_id, "Hello")
        speech.say("one ", "two ")
        await when_shown(bot, chat_id, "one two")
        noted = "SELECT * FROM open_answers WHERE answer_id IS NOT NULL"
        await until("it is noted", lambda: bot.query(noted))
        await bot.kill()
        forget_transactions(hs)
        if "database" in lost:
            bot.wipe()
        speech.say_again("one two three", None)
        await bot.start()
        await when_shown(bot, chat_id, "one two three")


async def test_an_answer_that_turns_out_shorter_leaves_nothing_over(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say(LONG["letters"][:20_000])
        await until("two messages", lambda: len(texts(bot, chat_id)) == 2)
        await bot.kill()
        speech.say_again("short", None)
        await bot.start()
        messages = await when_shown(bot, chat_id, "short")
        await bot.settled()
        assert not messages[-1].is_unfinished


async def test_a_stop_says_that_it_goes_on_and_the_next_start_does(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("one")
        await when_shown(bot, chat_id, "one")
        await bot.stop()
        assert shown(bot, chat_id) == [Shown(f"one\n\n*{replies.PAUSED}*", True, edits=1)]
        speech.say_again("one two", None)
        await bot.start()
        (message,) = await when_shown(bot, chat_id, "one two")
        assert not message.is_unfinished


class Signal(logging.Handler):
    """Comes, as SIGTERM does, right when something is at work: when it logs a certain message."""

    def __init__(self, when: str) -> None:
        super().__init__(level=logging.DEBUG)
        self._when = when

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith(self._when):
            raise KeyboardInterrupt


async def test_an_answer_that_a_signal_ends_says_that_it_goes_on(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    anna = hs.user("anna")
    caplog.set_level(logging.DEBUG, logger=LOG.name)
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        assert bot.plugin is not None
        (chat,) = bot.app.routes.records.chats.values()
        turn = Turn(
            platform_chat_id=chat.platform_chat_id,
            chat_id=chat.chat_id,
            user_id=chat.matrix_user_id,
            room_id=chat.room_id,
            key=EventID("$hello"),
            event_id=EventID("$hello"),
            user_name="Anna",
            text="Hello",
            name=None,
        )
        question = Question(room_id=turn.room_id, event_id=turn.event_id)
        # Not in a task of the plugin's: there it would end the event loop, and with it this test.
        answering = asyncio.ensure_future(_interrupted(bot.app.streamer.answer(question, turn)))
        speech.say("one")
        await when_shown(bot, chat_id, "one")
        monkeypatch.setattr(LOG, "handlers", [*LOG.handlers, Signal("An edit was left out")])
        hs.fail(Match(method="PUT", path="/send/"), Respond(502, text="no"))
        speech.say(" two")
        assert await answering
        # The edit that may have arrived comes first, once more.
        assert shown(bot, chat_id) == [Shown(f"one two\n\n*{replies.PAUSED}*", True, edits=2)]


async def _interrupted(work: Awaitable[None]) -> bool:
    try:
        await work
    except KeyboardInterrupt:
        return True
    return False


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("why", ["too old", "redacted", "no catching up"])
async def test_what_is_not_gone_on_with_is_ended(
    hs: FakeHomeserver, tmp_path: Path, why: str, how: str
) -> None:
    anna = hs.user("anna")
    if why == "too old":
        hs.world.clock = clock = Present(behind_ms=2 * HOUR_MS)
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        question = anna.send(chat_id, "Hello")
        speech.say("one")
        await when_shown(bot, chat_id, "one")
        await (bot.kill if how == "kill" else bot.stop)()
        if why == "too old":
            clock.advance(2 * HOUR_MS)
        if why == "redacted":
            anna.redact(chat_id, question)
        if why == "no catching up":
            bot.config = "catch_up: {max_age: 0}"
        await bot.start()
        (message,) = await when_shown(bot, chat_id, f"one\n\n*{replies.INTERRUPTED}*")
        await bot.settled()
        assert not message.is_unfinished
        assert len(speech.turns) == 1
        assert not bot.query("SELECT * FROM open_answers")


async def test_a_homeserver_that_is_away_for_a_while_loses_nothing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("one")
        await when_shown(bot, chat_id, "one")
        away = hs.fail(Match(method="PUT", path="/send/"), Respond(502, text="no"), times=None)
        speech.say(" two", None)
        await until("it is tried again", lambda: len(away.hits) > 3)
        away.cancel()
        await when_shown(bot, chat_id, "one two")
        await bot.settled()
        assert not shown(bot, chat_id)[0].is_unfinished
        assert len(speech.turns) == 1


# What is said


WORDLESS: dict[str, tuple[str, Json]] = {
    "a picture": ("m.room.message", {"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"}),
    "a file": ("m.room.message", {"msgtype": "m.file", "body": "a.pdf", "url": "mxc://x/y"}),
    "a voice": ("m.room.message", {"msgtype": "m.audio", "body": "v.ogg", "url": "mxc://x/y"}),
    "a film": ("m.room.message", {"msgtype": "m.video", "body": "v.mp4", "url": "mxc://x/y"}),
    "a place": ("m.room.message", {"msgtype": "m.location", "body": "here", "geo_uri": "geo:1,2"}),
    "a sticker": ("m.sticker", {"body": "cat", "url": "mxc://x/y", "info": {}}),
    "a poll": ("m.poll.start", {"m.poll": {"question": {"m.text": "?"}}}),
}


@pytest.mark.parametrize(("kind", "content"), WORDLESS.values(), ids=WORDLESS.keys())
async def test_what_is_not_text_gets_one_notice_a_minute(
    hs: FakeHomeserver, tmp_path: Path, kind: str, content: Json
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        for _ in range(3):
            anna.send(chat_id, content, type=kind)
        speech.say("fine", None)
        anna.send(chat_id, {"msgtype": "m.emote", "body": "waves"})
        await when_shown(bot, chat_id, replies.ONLY_TEXT, "fine")
        assert [turn.text for turn in speech.turns] == ["/me waves"]


HOSTILE: dict[str, tuple[str, str]] = {
    "script": ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
    "image": ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>\n"),
    "reply": ("a <mx-reply>b</mx-reply>", "<p>a &lt;mx-reply&gt;b&lt;/mx-reply&gt;</p>\n"),
    "alt": (
        '![<a x="y" onerror=alert(1) z="q">](https://e.org/i.png)',
        (
            '<p><a href="https://e.org/i.png">&lt;a x=&quot;y&quot; onerror=alert(1)'
            " z=&quot;q&quot;&gt;</a></p>\n"
        ),
    ),
    "tracker": (
        "![](https://e.org/i.png)",
        '<p><a href="https://e.org/i.png">https://e.org/i.png</a></p>\n',
    ),
    "scheme": ("[x](javascript:alert(1)) [y](data:x) [z](/z)", "<p>x y z</p>\n"),
    "title": ('[x](https://e.org "a\\" onx=1")', '<p><a href="https://e.org">x</a></p>\n'),
    "fence": (
        '```"><b>\nx\n```',
        '<pre><code class="language-&quot;&gt;&lt;b&gt;">x\n</code></pre>\n',
    ),
    "table": (
        "All:\n| a | b |\n|---|:-:|\n| `1|2` | **<3>** |\n| only one |",
        (
            "<p>All:</p>\n<table>\n<thead>\n<tr><th>a</th><th>b</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td><code>1|2</code></td><td><strong>&lt;3&gt;</strong></td></tr>\n"
            "<tr><td>only one</td><td></td></tr>\n</tbody>\n</table>\n"
        ),
    ),
    "bars in cells": (
        "| a | b |\n|---|---|\n| x\\|y | `p\\|q` |",
        (
            "<table>\n<thead>\n<tr><th>a</th><th>b</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>x|y</td><td><code>p|q</code></td></tr>\n</tbody>\n</table>\n"
        ),
    ),
    "table in a list": (
        "- All:\n  | a |\n  |---|\n  | 1 |\n- next",
        (
            "<ul>\n<li>All:\n<table>\n<thead>\n<tr><th>a</th></tr>\n</thead>\n<tbody>\n"
            "<tr><td>1</td></tr>\n</tbody>\n</table>\n</li>\n<li>next</li>\n</ul>\n"
        ),
    ),
    "bars elsewhere": ("a\\|b `c\\|d`", "<p>a|b <code>c\\|d</code></p>\n"),
    "deleted": (
        "~~old~~ ~~two **words**~~ a ~~ b ~~ c ~~d\n# ~~e~~",
        (
            "<p><del>old</del> <del>two <strong>words</strong></del> a ~~ b ~~ c ~~d</p>\n"
            "<h1><del>e</del></h1>\n"
        ),
    ),
    "tasks": (
        "- [ ] milk\n- [x] **bread**\n- [y] no\n\n[x] no",
        (
            "<ul>\n<li>☐ milk</li>\n<li>☑ <strong>bread</strong></li>\n<li>[y] no</li>\n</ul>\n"
            "<p>[x] no</p>\n"
        ),
    ),
    "footnotes": (
        "Said.[^1] `[^1]` [^ no]\n\n[^1]: Source\n\n[^a-b]: Two words",
        (
            "<p>Said.<sup>1</sup> <code>[^1]</code> [^ no]</p>\n<p><sup>1</sup>: Source</p>\n"
            "<p><sup>a-b</sup>: Two words</p>\n"
        ),
    ),
    "an entity that is nothing": ("a &#1;\nb &#1;", "<p>a &amp;#1;\nb &amp;#1;</p>\n"),
    "no table": ("a | b\nc | d", "<p>a | b\nc | d</p>\n"),
    "right to left": ("שלום **עולם** 🙂", "<p>שלום <strong>עולם</strong> 🙂</p>\n"),
}


@pytest.mark.parametrize(("markdown", "html"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_an_answer_is_formatted_and_does_no_harm(
    hs: FakeHomeserver, tmp_path: Path, markdown: str, html: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        speech.say(markdown, None)
        anna.send(chat_id, "@room anna")
        await when_shown(bot, chat_id, markdown)
        content: dict[str, Any] = bot.said(chat_id)[0]
        assert content["formatted_body"] == html
        assert content["m.mentions"] == {}
