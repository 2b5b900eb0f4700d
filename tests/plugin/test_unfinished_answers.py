"""An answer that a restart, a kill or an outage cuts off is gone on with, or ended with a word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from pathlib import Path

import pytest
from mautrix.types import EventID

from homeroom import replies
from homeroom.domain.content_keys import ANSWERS
from homeroom.domain.conversation.answer_parts import Question
from homeroom.domain.conversation.turn import Turn
from tests.fake import Alter, FakeHomeserver, Hang, Match, Respond, Truncate
from tests.fake.events import Json
from tests.plugin.conftest import Present
from tests.plugin.harness import LOG, running, until
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Shown,
    Speech,
    chatting,
    hear_first,
    move_in,
    quick_edits,
    shown,
    texts,
    when_shown,
)

HOUR_MS = 60 * 60 * 1000
MANY = 110
"""More events than a response holds."""


async def test_killed_in_the_middle_the_same_message_is_made_whole(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "one ", "two ")
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await bot.settled()
        await hear_first(bot, anna, speech, "one ", "two ")
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        anna.send(chat_id, "Hello")
        speech.say(long_text("x"))
        await until("two messages", lambda: len(texts(bot, chat_id)) == 2)
        await bot.kill()
        speech.say_again("short", None)
        await bot.start()
        messages = await when_shown(bot, chat_id, "short")
        await bot.settled()
        assert not messages[-1].is_unfinished


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
async def test_an_answer_given_again_is_whole_though_a_late_homeserver_does_not_tell_of_the_first(
    hs: FakeHomeserver, tmp_path: Path, is_long: bool
) -> None:
    """Its messages have the same transaction IDs, so the homeserver keeps the texts of the first.

    Where all of it is one message, that is no harm.
    """
    anna = hs.user("anna")
    first = "short" if not is_long else long_text("a")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        await bot.settled()
        sending = hs.fail(Match(method="PUT", path="/send/"), Hang(after=True), skip=int(is_long))
        anna.send(chat_id, "Hello")
        speech.say(first, None)
        await sending.reached()
        await until("it is there", lambda: "\n\n".join(texts(bot, chat_id)) == first)
        await bot.kill()
        told = hs.fail(Match(path="/sync$"), Alter(without_answers), times=None)
        speech.say_again(again := long_text("b"), None)
        await bot.start()
        await until("it is asked again", lambda: len(speech.turns) == 2)
        await bot.settled()
        told.cancel()
        assert "\n\n".join(texts(bot, chat_id)) == again
        assert len({turn.event_id for turn in speech.turns}) == 1


def long_text(letter: str) -> str:
    """Of two messages."""
    return "\n\n".join(f"{n:05}" + letter * 700 for n in range(28))


def without_answers(response: Json) -> Json:
    for room in response.get("rooms", {}).get("join", {}).values():
        timeline = room["timeline"]
        timeline["events"] = [e for e in timeline["events"] if ANSWERS not in e["content"]]
    return response


async def test_a_stop_says_that_it_goes_on_and_the_next_start_does(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "one")
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


async def test_what_waits_behind_a_gap_is_gone_on_with(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = await hear_first(bot, anna, speech, "one ")
        await bot.kill()
        for number in range(MANY):
            relation = {"rel_type": "m.annotation", "event_id": question, "key": f"{number}"}
            anna.send(chat_id, {"m.relates_to": relation}, type="m.reaction")
        gap = hs.fail(Match(method="GET", path="/messages$"), Hang())
        speech.say_again()
        await bot.start()
        await gap.reached()
        await asyncio.sleep(0.2)  # enough for an end, of which there must be none
        assert shown(bot, chat_id) == [Shown("one", True)]
        gap.release()
        speech.say("one two", None)
        await when_shown(bot, chat_id, "one two")


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
        question = await hear_first(bot, anna, speech, "one")
        await (bot.kill if how == "kill" else bot.stop)()
        if why == "too old":
            clock.advance(2 * HOUR_MS)
        if why == "redacted":
            anna.redact(chat_id, question)
        if why == "no catching up":
            bot.config = "catch_up: {max_age: 0}"
        await bot.start()
        said = replies.WITHDRAWN if why == "redacted" else replies.INTERRUPTED
        (message,) = await when_shown(bot, chat_id, f"one\n\n*{said}*")
        await bot.settled()
        assert not message.is_unfinished
        assert len(speech.turns) == 1
        assert not bot.query("SELECT * FROM open_answers")


async def test_a_homeserver_that_is_away_for_a_while_loses_nothing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "one")
        away = hs.fail(Match(method="PUT", path="/send/"), Respond(502, text="no"), times=None)
        speech.say(" two", None)
        await until("it is tried again", lambda: len(away.hits) > 3)
        away.cancel()
        await when_shown(bot, chat_id, "one two")
        await bot.settled()
        assert not shown(bot, chat_id)[0].is_unfinished
        assert len(speech.turns) == 1
