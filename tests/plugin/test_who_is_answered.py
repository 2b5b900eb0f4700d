"""Who is answered, and what is a message."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.conversation.brake import ANSWERS_IN_A_ROW
from tests.fake import FakeHomeserver
from tests.fake.events import Json
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, last_event, running, until


async def test_only_the_owner_is_answered(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        bert.send(chat_id, "Let me in")
        bert.send(chat_id, "!chat list")
        anna.send(chat_id, "Hello")
        await until("the owner's answer", lambda: "re: Hello" in bot.words(chat_id))
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


async def test_a_bot_that_answers_every_answer_is_left_alone_until_somebody_else_speaks(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, robot = hs.user("anna"), hs.user("robot")
    config = "access: {answer: members}"
    async with running(hs, tmp_path, platform=(agent := Agent()), config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, robot)
        robot.join(chat_id)
        for number in range(ANSWERS_IN_A_ROW):
            assert await bot.ask(robot, chat_id, f"robot {number}") == f"re: robot {number}"
        assert await bot.ask(robot, chat_id, "one more") == replies.BRAKE
        robot.send(chat_id, "and more")
        assert await bot.ask(anna, chat_id, "Stop it") == "re: Stop it"
        assert await bot.ask(robot, chat_id, "robot again") == "re: robot again"
        assert len(agent.turns) == ANSWERS_IN_A_ROW + 2


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
