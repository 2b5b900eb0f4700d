"""What a room is told from time to time only: a notice that could not be sent does not count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from homeroom.matrix.message_text import to_plain
from homeroom.replies import encryption as words
from tests.fake import FakeHomeserver, Match, Respond
from tests.fake.user import User
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until
from tests.plugin.speech import move_in
from tests.plugin.test_handmade_rooms import make_by_hand

REFUSED = Respond(403, {"errcode": "M_FORBIDDEN", "error": "Not now"})
PICTURE: dict[str, Any] = {"msgtype": "m.image", "url": "mxc://fake.test/a", "body": "a.png"}
SEALED: dict[str, Any] = {
    "algorithm": "m.megolm.v1.aes-sha2",
    "ciphertext": "AwgA",
    "session_id": "unknown",
}
Say = Callable[[], str]
"""Does what calls for a notice, and returns the room in which it is expected."""


async def a_file(bot: Bot, anna: User) -> tuple[Say, str]:
    chat_id = await move_in(bot, anna)

    def say() -> str:
        anna.send(chat_id, PICTURE)
        return chat_id

    return say, replies.ONLY_TEXT


async def an_encrypted_message(bot: Bot, anna: User) -> tuple[Say, str]:
    chat_id = await move_in(bot, anna)

    def say() -> str:
        anna.send(chat_id, SEALED, type="m.room.encrypted")
        return chat_id

    return say, words.NO_ENCRYPTION


async def a_room_made_by_hand(bot: Bot, anna: User) -> tuple[Say, str]:
    space_id = await bot.onboard(anna)
    made: list[str] = []

    def say() -> str:
        if made:
            anna.send(made[0], "Why?")
        else:
            made.append(make_by_hand(bot, anna, space_id, power=0))
        return made[0]

    return say, replies.NEEDS_POWER


async def a_room_that_is_no_chat(bot: Bot, anna: User) -> tuple[Say, str]:
    space_id = await bot.onboard(anna)
    mine = (space_id, *bot.chats_of(anna))
    (room_id,) = (room_id for room_id in bot.hs.rooms if room_id not in mine)
    home = bot.app.routes.home(anna.user_id)
    assert home is not None

    def say() -> str:
        anna.send(room_id, "Hello?")
        return room_id

    return say, await to_plain(replies.pointer(home, via="fake.test"))


@pytest.mark.parametrize(
    "occasion", [a_file, an_encrypted_message, a_room_made_by_hand, a_room_that_is_no_chat]
)
async def test_a_notice_that_could_not_be_sent_is_sent_with_the_next_message(
    hs: FakeHomeserver,
    tmp_path: Path,
    occasion: Callable[[Bot, User], Awaitable[tuple[Say, str]]],
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=Agent()) as bot:
        say, notice = await occasion(bot, anna)
        refused = hs.fail(Match(method="PUT", path="/send/m.room.message"), REFUSED)
        room_id = say()
        await refused.reached()
        await bot.settled()
        assert notice not in bot.words(room_id)
        say()
        await until("the notice", lambda: notice in bot.words(room_id))
        say()
        await bot.settled()
        assert bot.words(room_id).count(notice) == 1


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_that_a_message_is_one_too_many_is_said_with_the_next_one_if_it_could_not_be(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, agent = hs.user("anna"), Agent()
    agent._answer = agent.when_let_go
    config = "limits: {waiting_messages: 3}"
    async with running(hs, tmp_path, platform=agent, config=config) as bot:
        chat_id = await move_in(bot, anna)
        refused = hs.fail(Match(method="PUT", path="/send/m.room.message"), REFUSED)
        for number in range(8):
            anna.send(chat_id, str(number))
        await refused.reached()
        await until(
            "nobody is being told", lambda: "homeroom: turning a message away" not in tasks()
        )
        anna.send(chat_id, "8")
        assert await bot.hear(chat_id, 1) == [replies.TOO_MANY_WAITING]
        agent.let_go.set()
