"""Every message is answered once, in its room's order, whatever way it came in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mautrix.client.state_store import MemorySyncStore

from homeroom import replies, typing_notice
from homeroom.adapters.platforms import PlatformError, Trouble, Turn
from tests.fake import Alter, DropAfter, FakeHomeserver, Hang, Match, RateLimit, Respond, User
from tests.fake.events import Json
from tests.plugin.conftest import Present
from tests.plugin.harness import Bot, last_event, own_sync, running, until

Answer = Callable[[Turn], Awaitable[str]]
HOUR_MS = 60 * 60 * 1000
POSITION = "SELECT value, bot FROM sync_state WHERE key = 'position'"


class Agent:
    """A platform that answers as a test likes, and remembers what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.turns: list[Turn] = []
        self.at_work = 0
        self.most_at_work = 0
        self.let_go = asyncio.Event()
        self._answer = answer

    async def answer(self, turn: Turn) -> AsyncGenerator[str, None]:
        self.turns.append(turn)
        self.at_work += 1
        self.most_at_work = max(self.at_work, self.most_at_work)
        try:
            yield await self._answer(turn) if self._answer else f"re: {turn.text}"
        finally:
            self.at_work -= 1

    async def close(self) -> None:
        pass

    async def when_let_go(self, turn: Turn) -> str:
        await self.let_go.wait()
        return f"re: {turn.text}"

    @property
    def texts(self) -> list[str]:
        return [turn.text for turn in self.turns]


async def test_the_platform_gets_the_whole_turn(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        event_id = anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 1) == ["re: Hello"]
        assert [vars_of(turn) for turn in agent.turns] == [
            {
                "platform_chat_id": bot.key(chat_id),
                "chat_id": "C1",
                "user_id": anna.user_id,
                "room_id": chat_id,
                "event_id": event_id,
                "text": "Hello",
                "name": "General",
            }
        ]
        assert [content["msgtype"] for content in bot.said(chat_id)] == ["m.text"]


def vars_of(turn: Turn) -> dict[str, str]:
    return {name: getattr(turn, name) for name in turn.__dataclass_fields__}


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
        await until("it is in line", lambda: bot.plugin.streamer.in_line == 1)
        anna.redact(two, mistake)
        await until("it is done", lambda: not bot.plugin.inbox.has(mistake))
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
        mistake = anna.send(one, "!chat new Secret")
        await until("it is in line", lambda: bot.plugin.inbox.has(mistake))
        anna.redact(one, mistake)
        await until("it is heard", lambda: mistake in bot.plugin.inbox._redacted)
        agent.let_go.set()
        assert await bot.hear(one, 1) == ["re: Hello"]
        await bot.settled()
        assert bot.chats_of(anna) == [one, two]
        assert len(bot.words(one)) == 1


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
        assert "Could not look again" not in caplog.text, "the other one is still under way"
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


# Who is answered, and what is a message


async def test_only_the_owner_is_answered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        bert.send(chat_id, "Let me in")
        bert.send(chat_id, "!chat list")
        assert await bot.ask(anna, chat_id, "Hello") == "re: Hello"
        assert agent.texts == ["Hello"]


async def test_members_are_answered_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    config = "access: {answer: members}"
    async with running(hs, tmp_path, platform=(agent := Agent()), config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        assert await bot.ask(bert, chat_id, "Hello") == "re: Hello"
        assert [turn.user_id for turn in agent.turns] == [bert.user_id]


NOT_MESSAGES: dict[str, Json] = {
    "a notice": {"msgtype": "m.notice", "body": "Beep"},
    "no text": {"msgtype": "m.text"},
    "a number": {"msgtype": "m.text", "body": 7},
    "an edit": {
        "msgtype": "m.text",
        "body": "* Hi",
        "m.new_content": {"msgtype": "m.text", "body": "Hi"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$x"},
    },
    "strange relations": {"msgtype": ["m.text"], "body": {}, "m.relates_to": "x"},
}


@pytest.mark.parametrize("content", NOT_MESSAGES.values(), ids=NOT_MESSAGES.keys())
async def test_what_is_not_a_text_is_passed_over(
    hs: FakeHomeserver, tmp_path: Path, content: Json
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        send_anything(bot, chat_id, anna.user_id, content)
        anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 1) == ["re: Hello"]
        assert agent.texts == ["Hello"]


def send_anything(bot: Bot, room_id: str, sender: str, content: Json) -> None:
    """A message that no homeserver of our own would take, but that another may send on."""
    world = bot.hs.world
    room = world.rooms[room_id]
    world._commit(room, world._draft(room, None, sender, "m.room.message", content, None))


async def test_a_reply_is_read_without_what_it_quotes(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "Hello")
        anna.send(
            chat_id,
            {
                "msgtype": "m.text",
                "body": "> <@bot:fake.test> Hello\n> more\n\nWhat do you mean?",
                "m.relates_to": {"m.in_reply_to": {"event_id": last_event(hs, chat_id)}},
            },
        )
        words = await bot.hear(chat_id, 2)
        assert words[1] == bot.echo(chat_id, "What do you mean?")


async def test_a_thread_is_answered_in_the_thread(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        root = anna.send(chat_id, "Hello")
        await bot.hear(chat_id, 1)
        relation = {"rel_type": "m.thread", "event_id": root}
        for text in ("In here", "!chat help"):
            anna.send(chat_id, {"msgtype": "m.text", "body": text, "m.relates_to": relation})
        await bot.hear(chat_id, 3)
        plain, *threaded = bot.said(chat_id)
        assert "m.relates_to" not in plain
        assert [content["m.relates_to"]["event_id"] for content in threaded] == [root, root]
        assert {content["m.relates_to"]["rel_type"] for content in threaded} == {"m.thread"}


# What the platform does


async def test_a_long_answer_comes_in_parts_and_whole(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    text = "\n\n".join(f"{n:04}" + "ä" * 2000 for n in range(40))

    async def at_length(turn: Turn) -> str:
        return text

    async with running(hs, tmp_path, platform=Agent(at_length)) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.send(chat_id, "Tell me everything")
        await bot.hear(chat_id, 6)
        await bot.settled()
        assert "".join(bot.words(chat_id)).replace("\n", "") == text.replace("\n", "")


@pytest.mark.parametrize("answer", ["", "  \n "])
async def test_an_empty_answer_is_said_to_be_one(
    hs: FakeHomeserver, tmp_path: Path, answer: str
) -> None:
    anna = hs.user("anna")

    async def silent(turn: Turn) -> str:
        return answer

    async with running(hs, tmp_path, platform=Agent(silent)) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "Shh") == replies.EMPTY
        assert [content["msgtype"] for content in bot.said(chat_id)] == ["m.notice"]


async def test_a_platform_that_fails_is_a_notice(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")

    async def fail(turn: Turn) -> str:
        if turn.text == "Fail":
            raise PlatformError("secret details", trouble=Trouble.UNREACHABLE)
        return "fine"

    async with running(hs, tmp_path, platform=Agent(fail)) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for text in ("Fail", "Hello"):
            anna.send(chat_id, text)
        said = replies.TROUBLES[Trouble.UNREACHABLE]
        assert await bot.hear(chat_id, 2) == [said, "fine"]
        assert [c["msgtype"] for c in bot.said(chat_id)] == ["m.notice", "m.text"]


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyError, RecursionError])
async def test_a_bug_of_the_platform_stops_nothing(
    hs: FakeHomeserver,
    tmp_path: Path,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    anna = hs.user("anna")

    async def fail(turn: Turn) -> str:
        if turn.text == "Fail":
            raise error("a bug")
        return "fine"

    async with running(hs, tmp_path, platform=Agent(fail)) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for text in ("Fail", "Hello"):
            anna.send(chat_id, text)
        assert await bot.hear(chat_id, 2) == [replies.NO_ANSWER, "fine"]
    (bug,) = [record for record in caplog.records if record.exc_info]
    assert bug.exc_info
    assert bug.exc_info[0] is error
    caplog.clear()


async def test_a_platform_that_takes_too_long_is_given_up(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    agent = Agent()

    async def slow(turn: Turn) -> str:
        if turn.text == "Take your time":
            await agent.let_go.wait()
        return "fine"

    agent._answer = slow
    config = "limits: {turn_timeout: 1}"
    async with running(hs, tmp_path, platform=agent, config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for text in ("Take your time", "Hello"):
            anna.send(chat_id, text)
        assert await bot.hear(chat_id, 2) == [replies.TOOK_TOO_LONG, "fine"]


async def test_the_room_shows_typing_while_the_platform_works(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing_notice, "TYPING_AFTER", 0.01)
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.send(chat_id, "Think!")
        await until("it types", lambda: hs.typing(chat_id) == {bot.me.user_id})
        agent.let_go.set()
        await bot.hear(chat_id, 1)
        await until("it types no more", lambda: not hs.typing(chat_id))


async def test_an_answer_that_waits_for_the_homeserver_is_not_typed_any_more(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing_notice, "TYPING_AFTER", 0.05)
    anna = hs.user("anna")
    agent = Agent()

    async def answer(turn: Turn) -> str:
        return await agent.when_let_go(turn) if turn.text == "Think!" else f"re: {turn.text}"

    agent._answer = answer
    async with running(
        hs, tmp_path, platform=agent, config="rooms: {initial_chats: [One, Two]}"
    ) as bot:
        await bot.onboard(anna)
        one, two = bot.chats_of(anna)
        sending = hs.fail(Match(method="PUT", path=f"{one}/send/"), Hang())
        anna.send(one, "Hello")
        await sending.reached()
        anna.send(two, "Think!")
        await until("the other one types", lambda: hs.typing(two) == {bot.me.user_id})
        assert not hs.typing(one)
        sending.release()
        assert await bot.hear(one, 1) == ["re: Hello"]


async def test_typing_that_fails_holds_nothing_up(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing_notice, "TYPING_AFTER", 0.0)
    anna = hs.user("anna")
    agent = Agent()
    agent._answer = agent.when_let_go
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        typing = hs.fail("typing", Respond(500, text="no"), times=None)
        anna.send(chat_id, "Think!")
        await typing.reached()
        agent.let_go.set()
        assert await bot.hear(chat_id, 1) == ["re: Think!"]


# Once, and no more


async def test_the_same_response_twice_is_answered_once(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        seen: list[Json] = []

        def again(answer: Json) -> Json:
            """Every response tells everything that the ones before it told."""
            seen.append(answer.get("rooms", {}).get("join", {}).get(chat_id, {}))
            events = [e for room in seen for e in room.get("timeline", {}).get("events", [])]
            joined = {chat_id: {"timeline": {"events": events}}}
            return {**answer, "rooms": {"join": joined}}

        hs.fail(Match(when=bot.is_long_poll), Alter(again), times=None)
        for number in range(5):
            assert await bot.ask(anna, chat_id, str(number)) == f"re: {number}"
        await bot.settled()
        assert agent.texts == [str(number) for number in range(5)]


async def test_an_answer_whose_sending_is_unknown_is_shown_once(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        hs.fail(Match(method="PUT", path="/send/"), DropAfter(), times=3)
        answer = bot.echo(chat_id, "Hello")
        assert await bot.ask(anna, chat_id, "Hello") == answer
        assert await bot.ask(anna, chat_id, "!chat list") != answer
        await bot.settled()
        assert bot.words(chat_id)[0] == answer
        assert len(bot.words(chat_id)) == 2


@pytest.mark.parametrize(
    "action",
    [Respond(500, text="no"), RateLimit(retry_after_ms=10_000_000)],
    ids=["500", "429"],
)
async def test_an_answer_that_cannot_be_sent_is_sent_later(
    hs: FakeHomeserver, tmp_path: Path, action: Respond | RateLimit
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        sending = hs.fail(Match(method="PUT", path="/send/"), action, times=None)
        for text in ("One", "Two"):
            anna.send(chat_id, text)
        await sending.reached()
        sending.cancel()
        assert await bot.hear(chat_id, 2) == [bot.echo(chat_id, text) for text in ("One", "Two")]


async def test_an_answer_that_is_refused_stops_nothing(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        refusal = Respond(403, {"errcode": "M_FORBIDDEN", "error": "You may not talk"})
        hs.fail(Match(method="PUT", path="/send/"), refusal)
        for text in ("One", "Two"):
            anna.send(chat_id, text)
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Two")]


async def test_killed_in_the_middle_of_an_answer_it_is_given_once(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for after in (False, True):
            sending = hs.fail(Match(method="PUT", path="/send/"), Hang(after=after))
            anna.send(chat_id, f"Hello {after}")
            request = await sending.reached()
            if after:
                await until("it is sent", lambda request=request: request.status is not None)
            await bot.kill()
            await bot.start()
            await bot.settled()
        assert bot.words(chat_id) == [bot.echo(chat_id, f"Hello {n}") for n in (False, True)]


async def test_killed_with_one_room_ahead_of_another_nothing_is_lost(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """What is kept is a position before which nothing is open."""
    anna, bert = hs.user("anna"), hs.user("bert")
    agent = Agent()
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        (slow,), (fast,) = bot.chats_of(anna), bot.chats_of(bert)

        async def by_room(turn: Turn) -> str:
            return await agent.when_let_go(turn) if turn.room_id == slow else "at once"

        agent._answer = by_room
        anna.send(slow, "Hello")
        await until("it is worked on", lambda: agent.at_work == 1)
        for _ in range(3):
            assert await bot.ask(bert, fast, "Hello") == "at once"
        await until("it is written down", lambda: bot.query(POSITION))
        await bot.kill()
        agent.let_go.set()
        await bot.start()
        assert await bot.hear(slow, 1) == ["re: Hello"]
        await bot.settled()
        assert bot.words(fast) == ["at once"] * 3


# While the bot was down


@pytest.mark.parametrize("lost", [False, True], ids=["with its database", "without"])
@pytest.mark.parametrize("count", [1, 7, 30, 120])
async def test_messages_of_the_time_it_was_down_are_answered_in_order(
    hs: FakeHomeserver, tmp_path: Path, count: int, lost: bool
) -> None:
    anna = hs.user("anna")
    config = "limits: {waiting_messages: 5}"  # those of the downtime are not counted
    async with running(hs, tmp_path, platform=(agent := Agent()), config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "before")
        await bot.stop()
        if lost:
            bot.wipe()
        texts = [f"message {number}" for number in range(count)]
        for text in texts:
            anna.send(chat_id, text)
        await bot.start()
        await bot.settled()
        assert agent.texts == ["before", *texts]
        assert bot.words(chat_id) == [f"re: {text}" for text in ["before", *texts]]


async def test_the_first_message_after_a_restart_is_answered(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """maubot throws the first response away; on a quiet account that is a long poll."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.restart()
        await bot.settled()
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_what_came_too_long_ago_is_not_answered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    hs.world.clock = Present(behind_ms=2 * HOUR_MS)
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        anna.send(chat_id, "two hours ago")
        hs.world.clock = Present()
        anna.send(chat_id, "just now")
        await bot.start()
        await bot.settled()
        assert agent.texts == ["just now"]


@pytest.mark.parametrize("moment", ["early", "late"])
async def test_nothing_is_caught_up_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path, moment: str
) -> None:
    """The response that maubot throws away may come before the doors open, or after."""
    anna = hs.user("anna")
    agent = Agent()
    async with running(hs, tmp_path, platform=agent, config="catch_up: {max_age: 0}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "before")
        await bot.stop()
        anna.send(chat_id, "while it was down")
        first = Match(when=bot.is_long_poll) if moment == "late" else Match(path="joined_rooms")
        held_up = hs.fail(first, Hang())
        starting = asyncio.ensure_future(bot.start())
        await held_up.reached()
        if moment == "late":
            await starting
        held_up.release()
        await starting
        assert await bot.ask(anna, chat_id, "after") == "re: after"
        assert agent.texts == ["before", "after"]


async def test_where_it_stopped_reading_is_remembered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "Hello")
        await bot.settled()
        await bot.stop()
        (row,) = bot.query(POSITION)
        assert row["bot"] == bot.me.user_id
        catching_up = hs.fail(
            Match(when=lambda r: own_sync(r) and r.query.get("since") == row["value"]),
            Hang(),
        )
        starting = asyncio.ensure_future(bot.start())
        await catching_up.reached()
        catching_up.release()
        await starting


async def test_a_position_that_is_still_to_come_is_left(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """As after the homeserver was set back to a backup."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        await bot.stop()
        assert bot.alter("UPDATE sync_state SET value = 's999999_1' WHERE key = 'position'") == 1
        await bot.start()
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("token", ["nonsense", ""])
async def test_a_position_that_means_nothing_loses_nothing(
    hs: FakeHomeserver, tmp_path: Path, token: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        await bot.stop()
        assert bot.alter("UPDATE sync_state SET value = ? WHERE key = 'position'", token) == 1
        bot._sync_store = MemorySyncStore()  # maubot's own place is lost, too
        anna.send(chat_id, "meanwhile")
        await bot.start()
        anna.send(chat_id, "Hello")
        assert await bot.hear(chat_id, 2) == [
            bot.echo(chat_id, said) for said in ("meanwhile", "Hello")
        ]


async def test_a_position_of_another_account_is_not_used(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        await bot.settled()
        await bot.stop()
        assert (
            bot.alter(
                "UPDATE sync_state SET bot = '@other:fake.test', value = 's1_0'"
                " WHERE key = 'position'"
            )
            == 1
        )
        await bot.start()
        assert not [
            r for r in hs.requests if r.query.get("since") == "s1_0" and r.query["timeout"] == "0"
        ]
