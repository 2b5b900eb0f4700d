"""A hand on the brake: an answer ends where it is, at once, and the next message is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from mautrix.types import EventID

from homeroom import replies
from homeroom.matrix import homeserver
from tests.fake import FakeHomeserver, Hang, Match, Recorded
from tests.fake.user import User
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, own_sync, running, until
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Speech,
    chatting,
    die_at,
    hear_first,
    move_in,
    quick_edits,
    shown,
    texts,
    when_shown,
)

STOPPED = f"*{replies.STOPPED}*"


def react(user: User, room_id: str, event_id: str, key: str) -> EventID:
    relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
    return user.send(room_id, {"m.relates_to": relation}, type="m.reaction")


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
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = await hear_first(bot, anna, speech, "First words")
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


async def test_an_answer_is_stopped_that_the_room_shows_before_the_homeserver_says_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        anna.send(chat_id, "Hello")
        sending = hs.fail(Match(path="/send/m.room.message/"), Hang(after=True), times=1)
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        react(anna, chat_id, last_answer(bot, chat_id), "🛑")
        await until("it is stopped", lambda: speech.closed == 1)
        sending.release()
        await when_shown(bot, chat_id, f"First words\n\n{STOPPED}")


async def test_what_has_not_said_anything_yet_is_stopped_with_a_word(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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
    async with chatting(hs, tmp_path) as (bot, anna, chat_id):
        assert await bot.ask(anna, chat_id, "!stop") == replies.NOTHING_TO_STOP


async def test_somebody_else_cannot_stop_an_answer(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, ben = hs.user("anna"), hs.user("ben")
    config = "access: {allow: ['*'], answer: members}"
    async with running(hs, tmp_path, config=config, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.invite(chat_id, ben)
        ben.join(chat_id)
        question = await hear_first(bot, anna, speech, "First words")
        react(ben, chat_id, question, "🛑")
        ben.send(chat_id, "!stop")
        await until("a word", lambda: replies.NOTHING_TO_STOP in texts(bot, chat_id))
        assert speech.closed == 0
        speech.say(" and last ones.", None)
        await until("the end", lambda: "First words and last ones." in texts(bot, chat_id))


async def test_a_stop_counts_after_a_crash(hs: FakeHomeserver, tmp_path: Path) -> None:
    """It was said while the bot was dead: the question is ended, and not asked again."""
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        question = await hear_first(bot, anna, speech, "First words")
        await bot.kill()
        react(anna, chat_id, question, "🛑")
        await bot.start()
        await when_shown(bot, chat_id, f"First words\n\n{STOPPED}")
        await bot.settled()
        assert len(speech.turns) == 1


@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
@pytest.mark.parametrize("words", ["", "First words"], ids=["silent", "growing"])
async def test_killed_at_any_request_of_a_stop_the_answer_ends_once(
    hs: FakeHomeserver, tmp_path: Path, words: str, is_lost: bool
) -> None:
    """Before and after each; nobody is asked again."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        for place in range(10):
            question = anna.send(chat_id, "Hello")
            if words:
                speech.say(words)
                await until("words", lambda: texts(bot, chat_id)[-1:] == [words])
            await until("the turn", lambda n=place: len(speech.turns) == n + 1)
            fault = hs.fail(
                Match(when=lambda request: request.user == bot.me.user_id and not own(request)),
                Hang(after=bool(place % 2)),
                skip=place // 2,
            )
            react(anna, chat_id, question, "🛑")
            is_over = await die_at(bot, fault, is_lost=is_lost)
            ended = f"{words}\n\n{STOPPED}" if words else replies.STOPPED
            assert texts(bot, chat_id) == [ended] * (place + 1)
            assert not any(message.is_unfinished for message in shown(bot, chat_id))
            assert len(speech.turns) == place + 1
            if is_over:
                break
        assert is_over


def own(request: Recorded) -> bool:
    """A sync of maubot's, which is told of the stop."""
    return request.route == "sync" and not own_sync(request)


async def test_commands_do_not_wait_behind_an_answer(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
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


@pytest.mark.parametrize(
    "command",
    ["!chat archive C2", "! Chat  CLEAR c2", "/chat delete C2 yes", "!chat clear C2 (thread)"],
)
@pytest.mark.parametrize("where", ["another chat", "the first room"])
async def test_a_command_about_another_chat_stops_what_runs_there_and_nothing_else(
    hs: FakeHomeserver, tmp_path: Path, command: str, where: str
) -> None:
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        here = await move_in(bot, anna)
        direct = next(r for r in hs.joined("anna") if r not in (here, bot.space_of(anna)))
        await bot.ask(anna, here, "!chat new")
        there = bot.chats_of(anna)[1]
        anna.join(there)
        for room_id, text in ((here, "one"), (there, "two"), (there, "three")):
            anna.send(room_id, text)
        await until("the turns", lambda: sorted(agent.texts) == ["one", "two"])
        await until("the third", lambda: bot.app.inbox.not_done == 3)
        text, _, thread = command.partition(" (")
        content = {"msgtype": "m.text", "body": text}
        if thread:
            relation = {"rel_type": "m.thread", "event_id": hs.timeline(here)[-1].event_id}
            content["m.relates_to"] = relation  # type: ignore[assignment]
        anna.send(here if where == "another chat" else direct, content)
        await until("the stop", lambda: agent.at_work == 1)
        agent.let_go.set()
        await until("the answer", lambda: "re: one" in bot.words(here))
        await bot.settled()
        assert sorted(agent.texts) == ["one", "two"]


@pytest.mark.parametrize(
    "command", ["!chat delete", "!chat delete C1", "!chat archive C9", "!chat unarchive"]
)
async def test_a_command_that_ends_nothing_stops_nothing(
    hs: FakeHomeserver, tmp_path: Path, command: str
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        await hear_first(bot, anna, speech, "First words")
        anna.send(chat_id, command)
        inbox = bot.app.inbox  # a command that keeps its place waits, others are answered at once
        await until("the command", lambda: inbox.not_done == 2 or len(bot.words(chat_id)) > 1)
        speech.say(" and last ones.", None)
        await until("the end", lambda: "First words and last ones." in texts(bot, chat_id))
        await bot.settled()
        assert len(bot.words(chat_id)) > 1


async def test_a_command_that_its_sender_may_not_give_stops_nothing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, ben = hs.user("anna"), hs.user("ben")
    config = "access: {allow: ['*'], answer: members}"
    async with running(hs, tmp_path, config=config, platform=(speech := Speech())) as bot:
        chat_id = await move_in(bot, anna)
        anna.invite(chat_id, ben)
        ben.join(chat_id)
        ben.send(chat_id, "Hello")
        speech.say("First words")
        await when_shown(bot, chat_id, "First words")
        ben.send(chat_id, "!chat clear")
        await until("a word", lambda: replies.OWNERS_ONLY in texts(bot, chat_id))
        assert speech.closed == 0
        speech.say(None)


@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "out of a gap"])
async def test_what_was_asked_later_than_a_command_from_elsewhere_is_answered(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """All of it happened while the bot was away, and comes in room by room.

    What was asked before the command is not, even if it is read after that was carried out.
    """
    monkeypatch.setattr(homeserver, "EVENTS_OF_EACH_ROOM", (5, 3, 1))
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        here = await move_in(bot, anna)
        await bot.ask(anna, here, "!chat new")
        there = bot.chats_of(anna)[1]
        anna.join(there)
        await bot.settled()
        await bot.stop()
        reading = hs.fail(Match(path=f"{there}/messages"), Hang(), times=None)
        anna.send(there, "before")
        for _ in range(10 if is_late else 0):
            anna.send(there, {}, type="dev.homeroom.noise")
        anna.send(here, "!chat clear C2")
        anna.send(there, "after")
        await bot.start()
        await until("the word", lambda: replies.CLEARED in bot.words(there))
        reading.release()
        await until("the answer", lambda: "re: after" in bot.words(there))
        await bot.settled()
        assert agent.texts == ["after"]
        assert bool(reading.hits) is is_late


async def test_a_stop_of_the_time_it_was_dead_stops_what_was_being_answered(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what was done before, though all of it comes again; and what waited is answered."""
    monkeypatch.setattr("homeroom.delivery.inbox.SAVE_EVERY", 1000)  # all of it comes again
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        for text in ("one", "two"):
            anna.send(chat_id, text)
            await until("the turn", lambda t=text: speech.turns and speech.turns[-1].text == t)
            if text == "one":
                assert await bot.ask(anna, chat_id, "!stop") == replies.STOPPED
        anna.send(chat_id, "three")
        await bot.kill()
        anna.send(chat_id, "!stop")
        await bot.start()
        await until("the stop", lambda: texts(bot, chat_id) == [replies.STOPPED] * 2)
        await until("the next turn", lambda: speech.turns[-1].text == "three")
        assert [turn.text for turn in speech.turns] == ["one", "two", "three"]
        speech.say("Here", None)
        await until("the answer", lambda: texts(bot, chat_id)[-1] == "Here")
        await bot.settled()
        assert texts(bot, chat_id) == [replies.STOPPED] * 2 + ["Here"]
