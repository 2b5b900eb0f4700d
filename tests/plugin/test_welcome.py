"""The first words in a chat: there once, whatever happens, and no part of the conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.config.settings import DEFAULTS
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Match, Respond
from tests.plugin.harness import Bot, running

GREETED = "texts: {welcome: 'Hello **you**'}"
HELLO = "Hello **you**"
LATER = replies.greeting("x", chat_id="C2")


def notices(bot: Bot, room_id: str) -> list[str]:
    return [said["body"] for said in bot.said(room_id) if said["msgtype"] == "m.notice"]


async def test_the_first_chat_is_greeted_and_later_ones_get_a_line(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=GREETED) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        assert notices(bot, first) == [HELLO]
        await bot.ask(anna, first, "!chat new")
        assert notices(bot, bot.chats_of(anna)[1]) == [LATER]


async def test_without_a_text_nobody_is_greeted(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="texts: {welcome: ''}") as bot:
        await bot.onboard(anna)
        assert notices(bot, bot.chats_of(anna)[0]) == []


@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
async def test_a_greeting_is_there_once_after_a_crash(
    hs: FakeHomeserver, tmp_path: Path, is_lost: bool
) -> None:
    """The bot dies between the greeting and the marker that tells of it."""
    anna = hs.user("anna")
    stamp = Match(method="PUT", path=MARKER_TYPE)
    failing = hs.fail(stamp, Respond(500, text="no"), times=1000)
    async with running(hs, tmp_path, config=GREETED) as bot:
        await bot.onboard(anna)
        (first,) = bot.chats_of(anna)
        assert notices(bot, first) == [HELLO]
        await bot.kill()
    failing.cancel()
    if is_lost:
        (tmp_path / "homeroom.db").unlink()
    for _ in range(2):
        async with running(hs, tmp_path, config=GREETED) as bot:
            await bot.settled()
            assert "platform_chat_id" in hs.room(first).state[MARKER_TYPE, bot.me.user_id]
            assert notices(bot, first) == [HELLO]


@pytest.mark.parametrize("avatar", ["", "mxc://fake.test/house"])
async def test_rooms_have_the_bots_picture_or_another_one_and_the_space_a_topic(
    hs: FakeHomeserver, tmp_path: Path, avatar: str
) -> None:
    anna = hs.user("anna")
    hs.world.set_profile(hs.user("bot").user_id, "avatar_url", "mxc://fake.test/bot")
    config = f'rooms: {{avatar: "{avatar}"}}'
    async with running(hs, tmp_path, config=config) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for room_id in (space_id, chat_id):
            picture = {"url": avatar or "mxc://fake.test/bot"}
            assert hs.room(room_id).state["m.room.avatar", ""] == picture
        assert hs.room(space_id).state["m.room.topic", ""]["topic"] == replies.SPACE_TOPIC
        assert ("m.room.topic", "") not in hs.room(chat_id).state


def test_the_default_is_a_text() -> None:
    assert "!help" in DEFAULTS.welcome
