"""A hand on the brake: an answer ends where it is, at once, and the next message is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from tests.fake import FakeHomeserver
from tests.fake.user import User
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until
from tests.plugin.test_streaming import (  # noqa: F401 (a fixture for all of these)
    Speech,
    move_in,
    quick_edits,
    texts,
    when_shown,
)

STOPPED = f"*{replies.STOPPED}*"


def react(user: User, room_id: str, event_id: str, key: str) -> None:
    relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    user.send(room_id, {"m.relates_to": relation}, type="m.reaction")


def last_answer(bot: Bot, room_id: str) -> str:
    return next(
        event.event_id
        for event in reversed(bot.hs.timeline(room_id))
        if (event.type, event.sender) == ("m.room.message", bot.me.user_id)
        and "m.relates_to" not in event.content
    )


@pytest.mark.parametrize("way", ["!stop", "!chat stop", "🛑", "⏹️", "❌", "🛑 on the answer"])
async def test_an_answer_is_stopped_where_it_is(
    hs: FakeHomeserver, tmp_path: Path, way: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        question = anna.send(chat_id, "Hello")
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        if way.startswith("!"):
            anna.send(chat_id, way)
        elif way.endswith("answer"):
            react(anna, chat_id, last_answer(bot, chat_id), "🛑")
        else:
            react(anna, chat_id, question, way)
        await when_shown(bot, chat_id, f"First words\n\n{STOPPED}")
        assert speech.closed == 1
        await bot.settled()
        anna.send(chat_id, "And now?")
        await until("the next turn", lambda: len(speech.turns) == 2)


async def test_what_has_not_said_anything_yet_is_stopped_with_a_word(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        await until("the turn", lambda: len(speech.turns) == 1)
        assert await bot.ask(anna, chat_id, "!stop") == replies.STOPPED
        assert speech.closed == 1


async def test_what_waits_goes_on_unless_all_is_stopped(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        chat_id = await move_in(bot, anna)
        for text in ("one", "two"):
            anna.send(chat_id, text)
        await until("the turn", lambda: agent.texts == ["one"])
        anna.send(chat_id, "!stop")
        await until("the next turn", lambda: agent.texts == ["one", "two"])
        anna.send(chat_id, "three")
        anna.send(chat_id, "!stop all")
        await bot.settled()
        agent.let_go.set()
        assert await bot.ask(anna, chat_id, "four") == "re: four"
        assert agent.texts == ["one", "two", "four"]


async def test_nothing_to_stop_is_said(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        chat_id = await move_in(bot, anna)
        assert await bot.ask(anna, chat_id, "!stop") == replies.NOTHING_TO_STOP


async def test_somebody_else_cannot_stop_an_answer(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, ben = hs.user("anna"), hs.user("ben")
    config = "access: {allow: ['*'], answer: members}"
    async with running(hs, tmp_path, config=config, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.invite(chat_id, ben)
        ben.join(chat_id)
        question = anna.send(chat_id, "Hello")
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        react(ben, chat_id, question, "🛑")
        ben.send(chat_id, "!stop")
        await until("a word", lambda: replies.NOTHING_TO_STOP in texts(bot, chat_id))
        assert speech.closed == 0
        speech.say(" and last ones.", None)
        await until("the end", lambda: "First words and last ones." in texts(bot, chat_id))


async def test_a_stop_counts_after_a_crash(hs: FakeHomeserver, tmp_path: Path) -> None:
    """It was said while the bot was dead: the question is ended, and not asked again."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        question = anna.send(chat_id, "Hello")
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        await bot.kill()
        react(anna, chat_id, question, "🛑")
        await bot.start()
        await when_shown(bot, chat_id, f"First words\n\n{STOPPED}")
        await bot.settled()
        assert len(speech.turns) == 1


async def test_commands_do_not_wait_behind_an_answer(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        await until("the turn", lambda: len(speech.turns) == 1)
        assert (await bot.ask(anna, chat_id, "!help")).startswith("**What you can do here**")
        assert speech.closed == 0


async def test_a_chat_that_is_cleared_stops_what_runs_and_drops_what_waits(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "one")
        anna.send(chat_id, "two")
        await until("the turn", lambda: agent.texts == ["one"])
        anna.send(chat_id, "!chat clear")
        await until("the word", lambda: replies.CLEARED in bot.words(chat_id))
        agent.let_go.set()
        assert await bot.ask(anna, chat_id, "three") == "re: three"
        assert agent.texts == ["one", "three"]
