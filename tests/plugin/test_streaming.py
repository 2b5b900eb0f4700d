"""An answer appears while the platform is at it, and is whole in the end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.delivery import answer_stream as stream
from homeroom.domain.content_keys import MORE_TO_COME
from homeroom.domain.conversation.answer import Trouble
from homeroom.matrix.messages import LIVE
from homeroom.platforms import PlatformError
from tests.fake import FakeHomeserver, Hang, Late, Match, RateLimit
from tests.plugin.harness import Bot, until
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Shown,
    Speech,
    chatting,
    hear_first,
    quick_edits,
    shown,
    texts,
    when_shown,
)


async def test_an_answer_grows_in_one_message(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "one ")
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "First ")
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "One")
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "```\nhalf a")
        speech.say(PlatformError("secret", trouble=trouble, request_id="r-1"))
        ended = f"```\nhalf a\n```\n\n*{replies.TROUBLES[trouble]}*"
        await when_shown(bot, chat_id, ended)
        speech.say("fine", None)
        anna.send(chat_id, "Again")
        assert not (await when_shown(bot, chat_id, ended, "fine"))[0].is_unfinished


async def test_what_went_wrong_is_in_the_log_with_the_request(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        speech.say(PlatformError("HTTP 401", trouble=Trouble.MISCONFIGURED, request_id="r-1"))
        event_id = anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, replies.TROUBLES[Trouble.MISCONFIGURED])
        assert f"The platform did not answer {event_id}: HTTP 401 (request r-1)" in caplog.text


async def test_a_stream_that_does_not_end_is_ended(hs: FakeHomeserver, tmp_path: Path) -> None:
    config = "limits: {turn_timeout: 1}"
    async with chatting(hs, tmp_path, platform=(speech := Speech()), config=config) as (
        bot,
        anna,
        chat_id,
    ):
        anna.send(chat_id, "Hello")
        speech.say("and so on")
        (message,) = await when_shown(bot, chat_id, f"and so on\n\n*{replies.TOOK_TOO_LONG}*")
        assert not message.is_unfinished
        assert speech.closed == 1


@pytest.mark.parametrize("version", ["10", "11"])
async def test_a_message_that_is_deleted_is_answered_no_further(
    hs: FakeHomeserver, tmp_path: Path, version: str
) -> None:
    config = f'rooms: {{version: "{version}"}}'
    async with chatting(hs, tmp_path, platform=(speech := Speech()), config=config) as (
        bot,
        anna,
        chat_id,
    ):
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
    await until("it has read all there is", bot.has_read_all)
