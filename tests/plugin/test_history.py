"""The conversation that a platform is told is the room's own, whatever happened to the bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mautrix.types import RoomID

from homeroom import replies
from homeroom.delivery import history_memory
from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.domain.builders import later
from tests.fake import FakeHomeserver, Hang, Match, Respond, User
from tests.plugin.harness import Bot, running, until
from tests.stack.agent_server import AgentRequest, AgentServer, Fail, Hold, Say

NUMBERS = ("one", "two", "three")
READ = Match(method="GET", path="/messages$")


@pytest_asyncio.fixture
async def agent() -> AsyncIterator[AgentServer]:
    async with AgentServer() as server:
        server.reply = lambda request: Say(pieces=[f"re {request.text.splitlines()[-1]}"])
        yield server


def config(agent: AgentServer, more: str = "", **openai: int) -> str:
    settings = agent.openai(stream=False, **openai)["openai"]
    section = ", ".join(f"{key}: {str(value).lower()}" for key, value in settings.items())
    return f"platform: {{kind: openai, openai: {{{section}}}}}\n{more}"


def told(request: AgentRequest) -> list[str]:
    """What the platform was told, its own words in brackets."""
    return [
        f"[{message['content']}]" if message["role"] == "assistant" else message["content"]
        for message in request.messages
    ]


async def ask(bot: Bot, agent: AgentServer, user: User, room_id: str, text: str) -> list[str]:
    """Say something, wait for the answer; what the platform was told."""
    before = len(agent.requests)
    await bot.ask(user, room_id, text)
    (request,) = agent.requests[before:]
    return told(request)


def edit(user: User, room_id: RoomID, event_id: str, text: str) -> None:
    new = {"msgtype": "m.text", "body": text}
    relation = {"rel_type": "m.replace", "event_id": event_id}
    content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
    user.send(room_id, content)


def later_key(room_id: RoomID, number: int = 1) -> str:
    """The key of the conversation after so many `!chat clear`."""
    return derive_platform_chat_id(room_id, conversation=later(number))


def reads_of(hs: FakeHomeserver) -> int:
    """How often the bot has read a room's history."""
    return sum(map(READ, hs.requests))


async def lose_database(bot: Bot) -> None:
    await bot.stop()
    bot.wipe()
    await bot.start()
    await bot.settled()


async def test_a_greeting_is_no_part_of_the_conversation(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    settings = config(agent, "texts: {welcome: 'Hello you'}")
    async with running(hs, tmp_path, config=settings) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert bot.words(chat_id) == ["Hello you"]
        assert await ask(bot, agent, anna, chat_id, "one") == ["one"]
        await lose_database(bot)
        assert await ask(bot, agent, anna, chat_id, "two") == ["one", "[re one]", "two"]


async def test_the_conversation_is_the_same_from_memory_and_from_the_room(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        anna.invite(chat, bert)
        bert.join(chat)
        assert await ask(bot, agent, anna, chat, "one") == ["one"]
        bert.send(chat, "I am not asked")
        await bot.settled()  # he is told so, once
        await bot.ask(anna, chat, "!chat list")
        agent.script(Fail(status=400))
        await ask(bot, agent, anna, chat, "two")
        reads = reads_of(hs)
        expected = ["one", "[re one]", "two\n\nthree"]
        assert await ask(bot, agent, anna, chat, "three") == expected
        assert reads_of(hs) == reads
        await lose_database(bot)
        reads = reads_of(hs)
        expected += ["[re three]", "four"]
        assert await ask(bot, agent, anna, chat, "four") == expected
        assert reads_of(hs) > reads


async def test_what_was_edited_or_redacted_since_counts(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        for text in ("one", "two", "three"):
            await ask(bot, agent, anna, chat, text)
        first, second, _ = (
            event.event_id for event in hs.timeline(chat) if event.content.get("body") in NUMBERS
        )
        edit(anna, chat, first, "uno")
        anna.redact(chat, second)
        await bot.settled()
        expected = ["uno", "[re one]", "three", "[re three]", "four"]
        assert await ask(bot, agent, anna, chat, "four") == expected
        await lose_database(bot)
        expected += ["[re four]", "five"]
        assert await ask(bot, agent, anna, chat, "five") == expected


async def test_what_waits_is_told_in_its_order(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        held = Hold(then=Say(pieces=["re one"]))
        agent.script(held)
        for text in ("one", "two", "three"):
            anna.send(chat, text)
        await agent.wait_for(1)
        held.released.set()
        await agent.wait_for(3)
        await bot.settled()
        assert [told(request) for request in agent.requests] == [
            ["one"],
            ["one", "[re one]", "two"],
            ["one", "[re one]", "two", "[re two]", "three"],
        ]


async def test_what_is_said_after_a_clear_is_of_the_next_conversation(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    """What was said before it, and waits or is under way, is answered no further."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        agent.script(Hold(then=Say(pieces=["re one"])))
        anna.send(chat, "one")
        await agent.wait_for(1)
        for text in ("two", "!chat clear", "three"):
            anna.send(chat, text)
        await agent.wait_for(2)
        await bot.settled()
        assert [told(request) for request in agent.requests] == [["one"], ["three"]]
        keys = [request.conversation for request in agent.requests]
        assert keys == [derive_platform_chat_id(chat), later_key(chat)]


async def test_a_room_that_cannot_be_read_waits(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        await ask(bot, agent, anna, chat, "one")
        await bot.restart()
        for fault in (Respond(500, text="no"), Respond(200, text="[]")):
            hs.fail(READ, fault, times=3)
        assert await ask(bot, agent, anna, chat, "two") == ["one", "[re one]", "two"]
        assert bot.words(chat) == ["re one", "re two"]


async def test_others_are_named_where_they_are_answered(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=config(agent, "access: {answer: members}")) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        anna.invite(chat, bert)
        bert.join(chat)
        await ask(bot, agent, bert, chat, "one")
        expected = [f"{bert.user_id}: one", "[re one]", "two"]
        assert await ask(bot, agent, anna, chat, "two") == expected
        await bot.configure(config(agent))
        assert await ask(bot, agent, anna, chat, "three") == ["two", "[re two]", "three"]


async def test_no_more_than_the_settings_allow(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent, history_messages=2)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        for text in ("one", "two"):
            await ask(bot, agent, anna, chat, text)
        assert await ask(bot, agent, anna, chat, "three") == ["two", "[re two]", "three"]
        await bot.configure(config(agent, history_characters=18))
        expected = ["two", "[re two]", "three", "[re three]", "four"]
        assert await ask(bot, agent, anna, chat, "four") == expected[2:]
        await bot.configure(config(agent, history_messages=0))
        reads = reads_of(hs)
        assert await ask(bot, agent, anna, chat, "five") == ["five"]
        assert reads_of(hs) == reads


async def test_a_long_room_is_read_no_further_than_needed(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    monkeypatch.setattr(history_memory, "LINES_AT_MOST", 320)
    async with running(hs, tmp_path, config=config(agent, history_messages=3)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        anna.invite(chat, bert)
        bert.join(chat)
        for text in ("zero", "one", "two"):
            await ask(bot, agent, anna, chat, text)
        await bot.stop()
        for number in range(250):
            bert.send(chat, f"noise {number}")
        await bot.start()
        await bot.settled()  # the gap in the timeline is read, too
        reads = reads_of(hs)
        expected = ["[re zero]", "one", "[re one]", "two", "[re two]", "three"][3:]
        assert (await ask(bot, agent, anna, chat, "three"))[-3:] == expected
        assert reads_of(hs) == reads + 3
        for number in range(80):
            bert.send(chat, f"more noise {number}")
        await bot.settled()
        assert (await ask(bot, agent, anna, chat, "four"))[-3:] == ["three", "[re three]", "four"]


async def test_clearing(hs: FakeHomeserver, tmp_path: Path, agent: AgentServer) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        await ask(bot, agent, anna, chat, "one")
        assert await bot.ask(anna, chat, "!chat clear") == replies.CLEARED
        assert await ask(bot, agent, anna, chat, "two") == ["two"]
        assert "is archived" in await bot.ask(anna, chat, "!chat archive")
        assert "is back." in await bot.ask(anna, chat, "!chat unarchive")
        assert await bot.ask(anna, chat, "!chat clear") == replies.CLEARED
        assert await ask(bot, agent, anna, chat, "three") == ["three"]
        (since,) = (
            event.event_id
            for event in hs.timeline(chat)[-6:]
            if event.content.get("body") == "!chat clear"
        )
        marker = hs.room(chat).state[MARKER_TYPE, bot.me.user_id]
        assert (marker["conversation"], marker["conversation_since"]) == (2, since)
        assert marker["platform_chat_id"] == later_key(chat, 2)
        before = bot.tables()
        await lose_database(bot)
        assert bot.tables() == before
        assert await ask(bot, agent, anna, chat, "four") == ["three", "[re three]", "four"]
        keys = [request.conversation for request in agent.requests]
        assert keys == [
            derive_platform_chat_id(chat),
            later_key(chat),
            later_key(chat, 2),
            later_key(chat, 2),
        ]


async def test_killed_while_it_clears_it_clears_once(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        for lose in (False, True):
            key = bot.key(chat)
            writing = hs.fail(Match(method="PUT", path=f"state/{MARKER_TYPE}"), Hang(after=True))
            anna.send(chat, "!chat clear")
            anna.send(chat, "one")
            request = await writing.reached()
            await until("the marker is written", lambda r=request: r.status is not None)
            await bot.kill()
            hs.faults.clear()
            if lose:
                bot.wipe()
            await bot.start()
            await bot.settled()
            marker = hs.room(chat).state[MARKER_TYPE, bot.me.user_id]
            assert marker["conversation"] == 1 + lose
            assert bot.key(chat) == marker["platform_chat_id"] != key
            assert told(agent.requests[-1]) == ["one"]
            assert agent.requests[-1].conversation == bot.key(chat)
        assert bot.words(chat) == [replies.CLEARED, "re one"] * 2


async def test_what_is_said_after_it_waits_until_it_is_cleared(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent)) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        failing = Match(method="PUT", path=f"state/{MARKER_TYPE}")
        hs.fail(failing, Respond(500, text="no"), times=5)
        anna.send(chat, "!chat clear")
        anna.send(chat, "one")
        assert await bot.hear(chat, 2) == [replies.CLEARED, "re one"]
        assert agent.requests[0].conversation == later_key(chat)
        hs.fail(failing, Respond(403, {"errcode": "M_FORBIDDEN", "error": "No"}))
        assert (await bot.ask(anna, chat, "!chat clear")).startswith("The homeserver refused")
        assert await ask(bot, agent, anna, chat, "two") == ["one", "[re one]", "two"]


async def test_the_conversation_goes_on_in_the_room_that_replaces_it(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent, 'rooms: {version: "11"}')) as bot:
        await bot.onboard(anna)
        (old,) = bot.chats_of(anna)
        await ask(bot, agent, anna, old, "zero")
        await bot.ask(anna, old, "!chat clear")
        await ask(bot, agent, anna, old, "one")
        new = bot.me.upgrade(old, "11")
        bot.me.invite(new, anna)
        anna.join(new)
        await bot.settled()
        assert await ask(bot, agent, anna, new, "two") == ["one", "[re one]", "two"]
        await lose_database(bot)
        expected = ["one", "[re one]", "two", "[re two]", "three"]
        assert await ask(bot, agent, anna, new, "three") == expected
        assert {request.conversation for request in agent.requests[1:]} == {later_key(old)}
        await bot.ask(anna, new, "!chat clear")
        assert await ask(bot, agent, anna, new, "four") == ["four"]
        assert agent.requests[-1].conversation == later_key(new, 2)


async def test_reading_the_room_is_not_the_agents_time(
    hs: FakeHomeserver, tmp_path: Path, agent: AgentServer
) -> None:
    """Though it takes longer than the agent may."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=config(agent, "limits: {turn_timeout: 1}")) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        slow = hs.fail(READ, Hang())
        anna.send(chat_id, "Hello")
        await slow.reached()
        await asyncio.sleep(1.2)
        slow.release()
        assert (await bot.hear(chat_id, 1))[-1] == "re Hello"
