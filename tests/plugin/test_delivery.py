"""Every message is answered once, whatever the platform does and whatever way it came in."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.conversation.answer import Trouble
from homeroom.domain.conversation.turn import Turn
from homeroom.matrix import typing_notice
from homeroom.platforms import PlatformError
from tests.fake import Alter, DropAfter, FakeHomeserver, Hang, Match, RateLimit, Respond
from tests.fake.events import Json
from tests.plugin.agent import Agent
from tests.plugin.harness import POSITION, running, until

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
