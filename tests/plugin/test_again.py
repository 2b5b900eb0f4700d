"""A question is answered once more, in the same place: on request, or because it was edited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from mautrix.types import EventID

from homeroom import replies
from homeroom.delivery import earlier_questions
from homeroom.domain.content_keys import ANSWERS, ASKED
from homeroom.domain.conversation.answer import End, Item, Text
from homeroom.domain.conversation.turn import Turn
from homeroom.runtime.retry import RetryPolicy
from tests.fake import FakeHomeserver, Hang, Match, Recorded, Respond, User
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, own_sync, running, until
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Speech,
    chatting,
    die_at,
    move_in,
    quick_edits,
    shown,
    texts,
    when_shown,
)
from tests.plugin.test_stopping import STOPPED, last_answer, react


def edit(user: User, room_id: str, event_id: str, text: str) -> EventID:
    new = {"msgtype": "m.text", "body": text}
    relation = {"rel_type": "m.replace", "event_id": event_id}
    content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
    return user.send(room_id, content)


class Counting(Agent):
    """An agent that gives another answer to every key, and the same to the same one."""

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        self.turns.append(turn)
        number = list(dict.fromkeys(turn.key for turn in self.turns)).index(turn.key) + 1
        yield Text(f"{turn.text}: ")
        await asyncio.sleep(0.05)
        yield Text(f"answer {number}")
        yield End()

    @property
    def asked(self) -> list[tuple[str, EventID, EventID, EventID | None]]:
        return [(turn.text, turn.key, turn.event_id, turn.replaces) for turn in self.turns]


@pytest.mark.parametrize("way", ["!again", "! Again", "🔁", "🔁 on the question"])
async def test_the_newest_question_is_answered_again_in_the_same_message(
    hs: FakeHomeserver, tmp_path: Path, way: str
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, "Hello: answer 1")
        await bot.settled()
        if way.startswith("!"):
            by = anna.send(chat_id, way)
        else:
            on_answer = way == "🔁"
            by = react(anna, chat_id, last_answer(bot, chat_id) if on_answer else question, "🔁")
        await when_shown(bot, chat_id, "Hello: answer 2")
        await bot.settled()
        (message,) = shown(bot, chat_id)
        assert not message.is_unfinished
        assert agent.asked == [
            ("Hello", question, question, None),
            ("Hello", by, question, question),
        ]
        last = bot.said(chat_id)[-1]
        assert (last[ANSWERS], last[ASKED]) == (question, by)
        react(anna, chat_id, last_answer(bot, chat_id), "🔁")
        await when_shown(bot, chat_id, "Hello: answer 3")
        assert agent.turns[-1].replaces == by
        assert await bot.ask(anna, chat_id, "And?") != ""


async def test_an_edit_of_the_newest_question_is_answered_in_its_answers_place(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Helo")
        await when_shown(bot, chat_id, "Helo: answer 1")
        await bot.settled()
        first = edit(anna, chat_id, question, "Hallo")
        await when_shown(bot, chat_id, "Hallo: answer 2")
        await bot.settled()
        second = edit(anna, chat_id, question, "Hello")
        await when_shown(bot, chat_id, "Hello: answer 3")
        by = anna.send(chat_id, "!again")
        await when_shown(bot, chat_id, "Hello: answer 4")
        await bot.settled()
        assert agent.asked == [
            ("Helo", question, question, None),
            ("Hallo", first, question, question),
            ("Hello", second, question, first),
            ("Hello", by, question, second),
        ]


async def test_an_edit_stops_what_runs_and_the_edited_question_is_answered_there(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Helo")
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        changed = edit(anna, chat_id, question, "Hello")
        await until("the next turn", lambda: len(speech.turns) == 2)
        assert speech.closed == 1
        assert (speech.turns[1].key, speech.turns[1].text) == (changed, "Hello")
        speech.say("Other words", None)
        await when_shown(bot, chat_id, "Other words")
        await bot.settled()
        (message,) = shown(bot, chat_id)
        assert not message.is_unfinished
        assert len(speech.turns) == 2


async def test_an_edit_while_the_answer_is_given_once_more_stops_that(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Helo")
        speech.say("One.", None)
        await when_shown(bot, chat_id, "One.")
        await bot.settled()
        anna.send(chat_id, "!again")
        speech.say("Two")
        await when_shown(bot, chat_id, "Two")
        changed = edit(anna, chat_id, question, "Hello")
        await until("the next turn", lambda: len(speech.turns) == 3)
        speech.say("Three.", None)
        await when_shown(bot, chat_id, "Three.")
        await bot.settled()
        assert [turn.key for turn in speech.turns][2:] == [changed]


async def test_what_is_not_the_newest_is_not_answered_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        assert await bot.ask(anna, chat_id, "!again") == replies.NOTHING_TO_REPEAT
        question = anna.send(chat_id, "one")
        await bot.settled()
        answer = last_answer(bot, chat_id)
        anna.send(chat_id, "two")
        await bot.settled()
        heard = len(bot.words(chat_id))
        edit(anna, chat_id, question, "uno")
        await bot.settled()
        assert len(bot.words(chat_id)) == heard
        react(anna, chat_id, answer, "🔁")
        await until("a word", lambda: bot.words(chat_id)[heard:] == [replies.NOT_NEWEST])
        assert agent.texts == ["one", "two"]


async def test_a_question_that_was_deleted_makes_no_older_one_the_newest(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        anna.send(chat_id, "one")
        question = anna.send(chat_id, "two")
        await bot.settled()
        anna.redact(chat_id, question)
        assert await bot.ask(anna, chat_id, "!again") == replies.NOTHING_TO_REPEAT
        assert agent.texts == ["one", "two"]


async def test_an_edit_that_the_room_does_not_tell_of_holds_nobody_up(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier_questions, "THERE_SOON", RetryPolicy(pauses=(0.01,), within=0.05))
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, "Hello: answer 1")
        empty = {"chunk": [], "start": "t1"}
        hs.fail(Match(method="GET", path="/messages$"), Respond(200, empty), times=None)
        edit(anna, chat_id, question, "Hi")
        anna.send(chat_id, "How are you?")
        await when_shown(bot, chat_id, "Hello: answer 1", "How are you?: answer 2")
        assert agent.texts == ["Hello", "How are you?"]


async def test_an_edit_makes_no_command_of_a_question(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "one")
        await bot.settled()
        edit(anna, chat_id, question, "!chat archive")
        await bot.settled()
        assert [row["status"] for row in bot.tables()["chats"]] == ["active"]
        assert agent.texts == ["one"]


async def test_a_new_conversation_begins_without_a_question(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Counting())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "one")
        await bot.settled()
        await bot.ask(anna, chat_id, "!chat clear")
        await bot.settled()
        edit(anna, chat_id, question, "uno")
        assert await bot.ask(anna, chat_id, "!again") == replies.NOTHING_TO_REPEAT
        assert agent.texts == ["one"]


async def test_edits_are_not_answered_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    config = "chats: {answer_edits: false}"
    chat = chatting(hs, tmp_path, config=config, platform=(agent := Counting()))
    async with chat as (bot, anna, chat_id):
        question = anna.send(chat_id, "Helo")
        await bot.settled()
        edit(anna, chat_id, question, "Hello")
        await bot.settled()
        assert agent.texts == ["Helo"]


async def test_nobody_else_has_a_question_answered_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, ben = hs.user("anna"), hs.user("ben")
    config = "access: {allow: ['*'], answer: members}"
    async with running(hs, tmp_path, config=config, platform=(agent := Counting())) as bot:
        chat_id = await move_in(bot, anna)
        anna.invite(chat_id, ben)
        ben.join(chat_id)
        question = anna.send(chat_id, "Hello")
        await bot.settled()
        edit(ben, chat_id, question, "Something else")
        assert await bot.ask(ben, chat_id, "!again") == replies.NOT_YOURS
        ben.send(chat_id, "Mine")
        await bot.settled()
        anna.send(chat_id, "!again")
        await until("the owner's wish", lambda: agent.texts == ["Hello", "Mine", "Mine"])


async def test_a_longer_answer_goes_on_in_more_messages_and_a_shorter_one_takes_them_back(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    long = "word " * 5_000
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.send(chat_id, "Hello")
        speech.say("short", None)
        await when_shown(bot, chat_id, "short")
        await bot.settled()
        anna.send(chat_id, "!again")
        speech.say(long, None)
        await until("more messages", lambda: len(texts(bot, chat_id)) > 1)
        await bot.settled()
        assert " ".join(texts(bot, chat_id)).split() == long.split()
        anna.send(chat_id, "!again")
        speech.say("short again", None)
        await when_shown(bot, chat_id, "short again")


async def test_an_answer_that_does_not_come_again_is_left_as_it_is(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Hello")
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")
        await bot.settled()
        anna.send(chat_id, "!again")
        await until("the turn", lambda: len(speech.turns) == 2)
        anna.send(chat_id, "!stop")
        await when_shown(bot, chat_id, "The answer.", replies.STOPPED)
        await bot.settled()
        anna.send(chat_id, "!again")
        speech.say("Other words")
        await until("words", lambda: "Other words" in texts(bot, chat_id))
        react(anna, chat_id, question, "🛑")
        await until("the end", lambda: f"Other words\n\n{STOPPED}" in texts(bot, chat_id))


@pytest.mark.parametrize("way", ["!stop", "🛑"])
async def test_a_stop_counts_after_a_crash(hs: FakeHomeserver, tmp_path: Path, way: str) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = anna.send(chat_id, "Helo")
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")
        await bot.settled()
        edit(anna, chat_id, question, "Hello")
        speech.say("Other words")
        await when_shown(bot, chat_id, "Other words")
        await bot.kill()
        if way == "!stop":
            anna.send(chat_id, way)
        else:
            react(anna, chat_id, question, way)
        await bot.start()
        await when_shown(bot, chat_id, f"Other words\n\n{STOPPED}")
        await bot.settled()
        assert len(speech.turns) == 2
        assert not shown(bot, chat_id)[0].is_unfinished


def once_more(anna: User, chat_id: str, question: EventID, way: str) -> EventID:
    """Have a question answered once more; returns the event that does."""
    if way == "!again":
        return anna.send(chat_id, way)
    if way == "edit":
        return edit(anna, chat_id, question, "Hello")
    return react(anna, chat_id, question, way)


@pytest.mark.parametrize(
    ("way", "target", "begun"),
    [
        ("!again", "the question", True),
        ("!again", "the answer", True),
        ("!again", "the question", False),
        ("!again", "the answer", False),
        ("!again", "!stop", False),
        ("🔁", "the answer", False),
        ("edit", "the answer", True),
        ("edit", "the question", False),
    ],
)
async def test_what_is_to_be_answered_again_after_a_crash_can_be_stopped(
    hs: FakeHomeserver, tmp_path: Path, way: str, target: str, begun: bool
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        question = anna.send(chat_id, "Helo")
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")
        await bot.settled()
        answer = last_answer(bot, chat_id)
        if begun:
            once_more(anna, chat_id, question, way)
            speech.say("Other words")
            await when_shown(bot, chat_id, "Other words")
        await bot.kill()
        if not begun:
            once_more(anna, chat_id, question, way)
        if target == "!stop":
            anna.send(chat_id, target)
        else:
            react(anna, chat_id, answer if target == "the answer" else question, "🛑")
        await bot.start()
        await bot.settled()
        stopped = [f"Other words\n\n{STOPPED}"] if begun else ["The answer.", replies.STOPPED]
        assert texts(bot, chat_id) == stopped
        assert not any(message.is_unfinished for message in shown(bot, chat_id))
        assert len(speech.turns) == 1 + begun


async def killed_in_an_answer(bot: Bot, anna: User, speech: Speech) -> tuple[str, EventID]:
    """Ask something in a new chat, and kill the bot in the middle of its answer."""
    chat_id = await move_in(bot, anna)
    question = anna.send(chat_id, "Hello")
    speech.say("First words")
    await when_shown(bot, chat_id, "First words")
    await bot.kill()
    return chat_id, question


@pytest.mark.parametrize("way", ["!again", "🔁"])
async def test_a_stop_before_it_does_not_stop_what_is_answered_again_after_a_crash(
    hs: FakeHomeserver, tmp_path: Path, way: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id, question = await killed_in_an_answer(bot, anna, speech)
        react(anna, chat_id, question, "🛑")
        once_more(anna, chat_id, question, way)
        await bot.start()
        await until("the next turn", lambda: len(speech.turns) == 2)
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")


@pytest.mark.parametrize("stop", ["🛑", "!stop", "!stop all"])
async def test_a_stop_that_is_told_again_does_not_stop_what_was_asked_after_it(
    hs: FakeHomeserver, tmp_path: Path, stop: str
) -> None:
    """maubot's first answer is late, and the plugin has asked for all of it itself."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id, question = await killed_in_an_answer(bot, anna, speech)
        if stop == "🛑":
            react(anna, chat_id, question, stop)
        else:
            anna.send(chat_id, stop)
        once_more(anna, chat_id, question, "!again")
        late = hs.fail(Match(when=bot.is_long_poll), Hang(after=True))
        await bot.start()
        await until("the next turn", lambda: len(speech.turns) == 2)
        late.release()
        await until("what was late", bot.has_read_all)
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")
        await bot.settled()
        assert texts(bot, chat_id)[-1] == "The answer."


@pytest.mark.parametrize(
    ("way", "deleted", "lost"),
    [
        ("!again", "what asked once more", "nothing"),
        ("!again", "the question", "the database"),
        ("🔁", "what asked once more", "the database"),
        ("🔁", "the question", "nothing"),
        ("edit", "what asked once more", "the database"),
    ],
)
async def test_an_answer_given_again_ends_where_what_asked_for_it_is_deleted_meanwhile(
    hs: FakeHomeserver, tmp_path: Path, way: str, deleted: str, lost: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        question = anna.send(chat_id, "Helo")
        speech.say("The answer.", None)
        await when_shown(bot, chat_id, "The answer.")
        await bot.settled()
        by = once_more(anna, chat_id, question, way)
        speech.say("Other words")
        await when_shown(bot, chat_id, "Other words")
        await bot.kill()
        anna.redact(chat_id, question if deleted == "the question" else by)
        if lost == "the database":
            bot.wipe()
        await bot.start()
        await until("the end", lambda: not shown(bot, chat_id)[0].is_unfinished)
        await bot.settled()
        assert texts(bot, chat_id)[0] == f"Other words\n\n*{replies.WITHDRAWN}*"
        assert len(speech.turns) == 2


# Exactly once


def is_own(request: Recorded) -> bool:
    return request.user.startswith("@bot") and (request.route != "sync" or own_sync(request))


@pytest.mark.parametrize("lost", ["nothing", "the database"])
@pytest.mark.parametrize("way", ["again", "edit"])
async def test_one_answer_whatever_dies_where(
    hs: FakeHomeserver, tmp_path: Path, way: str, lost: str
) -> None:
    """Killed before, and after, each of the requests that it takes."""
    anna = hs.user("anna")
    bot = Bot(hs, tmp_path)
    agent = bot.platform = Counting()
    await bot.start()
    try:
        chat_id = await move_in(bot, anna)
        for place in range(20):
            is_over = await one_life(bot, agent, anna, chat_id, way=way, lost=lost, place=place)
            if is_over:
                break
        assert is_over
        assert place > 3
    finally:
        await bot.kill()


async def one_life(
    bot: Bot, agent: Counting, anna: User, chat_id: str, *, way: str, lost: str, place: int
) -> bool:
    """Ask, and once more; killed at one of its requests. Returns whether there were so many."""
    hs, before = bot.hs, len(agent.turns)
    question = anna.send(chat_id, f"question {place}")
    await bot.settled()
    action = Hang(after=bool(place % 2))
    fault = hs.fail(Match(when=is_own), action, skip=place // 2)
    if way == "again":
        by = react(anna, chat_id, last_answer(bot, chat_id), "🔁")
        text = f"question {place}"
    else:
        text = f"question {place}!"
        by = edit(anna, chat_id, question, text)
    is_over = await die_at(bot, fault, is_lost=lost == "the database")
    asked = [(turn.text, turn.key) for turn in agent.turns[before:]]
    assert list(dict.fromkeys(asked)) == [(f"question {place}", question), (text, by)]
    about = [s for s in shown(bot, chat_id) if s.text.startswith(f"question {place}")]
    (message,) = about
    assert message.text.startswith(f"{text}: answer ")
    assert not message.is_unfinished
    return is_over
