"""Each room's messages in their order, so many rooms at once; what is redacted in line is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.conversation.turn import Turn
from homeroom.domain.homes.model import ChatID
from tests.fake import Alter, FakeHomeserver, Hang, Match, User
from tests.fake.events import Json
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, own_sync, running, until


async def test_the_platform_gets_the_whole_turn(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        event_id = anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 1) == ["re: Hello"]
        expected = Turn(
            key=event_id,
            event_id=event_id,
            platform_chat_id=bot.key(chat_id),
            chat_id=ChatID("C1"),
            room_id=chat_id,
            name="General",
            user_id=anna.user_id,
            user_name=anna.user_id,
            text="Hello",
        )
        assert agent.turns == [expected]
        assert [content["msgtype"] for content in bot.said(chat_id)] == ["m.text"]


async def test_answers_come_in_the_order_of_the_messages(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")

    async def first_is_slowest(turn: Turn) -> str:
        await asyncio.sleep(0.02 / (1 + int(turn.text)))
        return turn.text

    async with running(hs, tmp_path, platform=Agent(first_is_slowest)) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for number in range(10):
            anna.send(chat_id, str(number))
        assert await bot.hear(chat_id, 10) == [str(number) for number in range(10)]


async def test_rooms_do_not_wait_for_each_other(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        chats = bot.chats_of(anna) + bot.chats_of(bert)
        anna.send(chats[0], "Hello")
        bert.send(chats[1], "Hello")
        await until("both are worked on", lambda: agent.at_work == 2)
        agent.let_go.set()
        await bot.hear(chats[0], 1)
        await bot.hear(chats[1], 1)


async def test_no_more_rooms_at_once_than_the_settings_allow(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    people = [hs.user(f"user{number}") for number in range(4)]
    agent = Agent()
    async with running(hs, tmp_path, platform=agent, config="limits: {parallel_turns: 2}") as bot:
        for person in people:
            await bot.onboard(person)
        agent._answer = agent.when_let_go
        for person in people:
            person.send(bot.chats_of(person)[0], "Hello")
        await until("two are worked on", lambda: agent.at_work == 2)
        agent.let_go.set()
        for person in people:
            await bot.hear(bot.chats_of(person)[0], 1)
        assert agent.most_at_work == 2


ONE_TURN = "limits: {parallel_turns: 1}\nrooms: {initial_chats: [One, Two]}"


@asynccontextmanager
async def no_turn_left(
    hs: FakeHomeserver, tmp_path: Path, anna: User, agent: Agent
) -> AsyncIterator[Bot]:
    """The platform is at work on "Hello" in the first of two chats, until it is let go."""
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent, config=ONE_TURN) as bot:
        await bot.onboard(anna)
        anna.send(bot.chats_of(anna)[0], "Hello")
        await until("it is worked on", lambda: agent.at_work == 1)
        yield bot


async def test_somebody_else_waits_for_at_most_one_turn_of_a_person_with_many_chats(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    steps: list[asyncio.Event] = []

    async def step_by_step(turn: Turn) -> str:
        steps.append(asyncio.Event())
        await steps[-1].wait()
        return f"re: {turn.text}"

    agent = Agent(step_by_step)
    chats = "rooms: {initial_chats: [One, Two, Three, Four, Five, Six]}"
    config = f"limits: {{parallel_turns: 1}}\n{chats}"
    async with running(hs, tmp_path, platform=agent, config=config) as bot:
        for person in (anna, bert):
            await bot.onboard(person)
        for number, chat_id in enumerate(bot.chats_of(anna)):
            anna.send(chat_id, f"anna {number}")
        assert bot.plugin
        assert bot.plugin.app
        streamer = bot.plugin.app.streamer
        await until("anna's are in line", lambda: len(steps) == 1 and streamer.in_line == 5)
        bert.send(bot.chats_of(bert)[0], "bert")
        await until("bert's is, too", lambda: streamer.in_line == 6)
        for number in range(7):
            await until("the next turn", lambda number=number: len(steps) == number + 1)
            steps[number].set()
        assert await bot.hear(bot.chats_of(bert)[0], 1) == ["re: bert"]
        assert [text.split()[0] for text in agent.texts] == ["anna", "bert", *["anna"] * 5]


async def test_more_turns_are_given_as_soon_as_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, agent = hs.user("anna"), Agent()
    async with no_turn_left(hs, tmp_path, anna, agent) as bot:
        anna.send(bot.chats_of(anna)[1], "Hello")
        assert bot.plugin
        assert bot.plugin.app
        streamer = bot.plugin.app.streamer
        await until("it is in line", lambda: streamer.in_line == 1)
        await bot.configure(ONE_TURN.replace("turns: 1", "turns: 2"))
        await until("both are worked on", lambda: agent.at_work == 2)
        agent.let_go.set()


async def test_a_command_needs_no_turn(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, agent = hs.user("anna"), Agent()
    async with no_turn_left(hs, tmp_path, anna, agent) as bot:
        one, two = bot.chats_of(anna)
        anna.send(two, "!chat rename Three")
        (answer,) = await bot.hear(two, 1)
        assert "Three" in answer
        agent.let_go.set()
        assert await bot.hear(one, 1) == ["re: Hello"]


async def test_a_turn_is_over_when_the_platform_has_said_everything(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=Agent(), config=ONE_TURN) as bot:
        await bot.onboard(anna)
        one, two = bot.chats_of(anna)
        sending = hs.fail(Match(method="PUT", path=f"{one}/send/"), Hang())
        anna.send(one, "Hello")
        await sending.reached()
        anna.send(two, "Hello")
        assert await bot.hear(two, 1) == ["re: Hello"]
        sending.release()
        assert await bot.hear(one, 1) == ["re: Hello"]


async def test_a_message_that_is_redacted_in_line_is_not_given_to_the_platform(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, agent = hs.user("anna"), Agent()
    async with no_turn_left(hs, tmp_path, anna, agent) as bot:
        _, two = bot.chats_of(anna)
        mistake = anna.send(two, "A mistake")
        await until("it is in line", lambda: bot.app.streamer.in_line == 1)
        anna.redact(two, mistake)
        await until("it is done", lambda: not bot.app.inbox.has(mistake))
        agent.let_go.set()
        anna.send(two, "Better")
        assert await bot.hear(two, 1) == ["re: Better"]
        assert agent.texts == ["Hello", "Better"]


async def test_a_command_that_is_redacted_in_line_is_not_carried_out(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, agent = hs.user("anna"), Agent()
    async with no_turn_left(hs, tmp_path, anna, agent) as bot:
        one, two = bot.chats_of(anna)
        making = hs.fail(Match(path="createRoom"), Hang())
        anna.send(one, "!chat new Third")
        await making.reached()
        mistake = anna.send(one, "!chat new Secret")
        await until("it is in line", lambda: bot.app.inbox.has(mistake))
        anna.redact(one, mistake)
        await until("it is heard", lambda: mistake in bot.app.inbox._revisions.redactions)
        making.release()
        agent.let_go.set()
        await bot.settled()
        rows = bot.query("SELECT name FROM chats WHERE room_id NOT IN (?, ?)", one, two)
        assert rows == [{"name": "Third"}]


@pytest.mark.parametrize("how", ["with its redaction", "once more, after it"])
async def test_what_comes_as_it_was_before_its_redaction_is_not_carried_out(
    hs: FakeHomeserver, tmp_path: Path, how: str
) -> None:
    """Synapse gives out its answer to a `/sync` for two minutes, to whoever asks the same."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        mistake = anna.send(chat_id, "!chat new Secret")
        as_it_was: Json = {
            "type": "m.room.message",
            "event_id": mistake,
            "sender": anna.user_id,
            "origin_server_ts": hs.world.events[mistake].origin_server_ts,
            "content": dict(hs.world.events[mistake].content),
        }
        anna.redact(chat_id, mistake)

        def unredacted(answer: Json) -> Json:
            if chat := answer.get("rooms", {}).get("join", {}).get(chat_id):
                events = chat["timeline"]["events"]
                others = [event for event in events if event["event_id"] != mistake]
                chat["timeline"]["events"] = [as_it_was, *others]
            return answer

        if how == "with its redaction":
            hs.fail(Match(when=own_sync), Alter(unredacted), times=None)
        await bot.start()
        hs.fail(Match(when=bot.is_long_poll), Alter(unredacted), times=None)
        for text in ("Hello", "Hello again"):  # the poll of the first is under way already
            assert await bot.ask(anna, chat_id, text) == bot.echo(chat_id, text)
        assert bot.chats_of(anna) == [chat_id]


async def test_answers_do_not_wait_for_other_requests(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="homeserver: {concurrency: 1}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        looking = hs.fail(Match(method="GET", path="joined_rooms"), Hang())
        anna.set_state(chat_id, "m.room.name", {"name": "Another"})
        await looking.reached()
        anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]
        assert "Could not scan" not in caplog.text, "the other one is still under way"
        looking.release()


async def test_more_than_may_wait_are_turned_away_with_one_notice(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(
        hs, tmp_path, platform=agent, config="limits: {waiting_messages: 3}"
    ) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for number in range(8):
            anna.send(chat_id, str(number))
        assert await bot.hear(chat_id, 1) == [replies.TOO_MANY_WAITING]
        agent.let_go.set()
        await bot.settled()
        assert bot.words(chat_id) == [replies.TOO_MANY_WAITING, "re: 0", "re: 1", "re: 2"]
        assert await bot.ask(anna, chat_id, "again") == "re: again"
