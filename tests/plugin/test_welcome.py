"""The first words in a chat: there once, whatever happens, and no part of the conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.config.settings import DEFAULTS
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Hang, Match, Respond
from tests.plugin.harness import Bot, running, until
from tests.plugin.test_onboarding import is_complete

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


async def test_late_news_of_a_chat_do_not_greet_it_once_more(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """`/sync` tells of the new chat when that is complete, and does not say so yet."""
    anna = hs.user("anna")
    making = Match(path="createRoom", when=lambda made: made.body.get("name") != "Homeroom")
    async with running(hs, tmp_path, config="texts: {welcome: ''}") as bot:
        await bot.settled()
        creation = hs.fail(making, Hang())
        direct = anna.create_room(invite=[bot.me])
        await creation.reached()
        listening = Match(path="/sync", user=bot.me.user_id)
        late, latest = hs.fail(listening, Hang(after=True)), hs.fail(listening, Hang(after=True))
        anna.set_state(direct, "m.room.topic", {"topic": "One"})
        await late.reached()
        creation.release()
        await until("a chat", lambda: bool(bot.chats_of(anna)) and not bot.is_busy())
        assert is_complete(bot, anna)
        await bot.configure(GREETED)
        late.release()
        await latest.reached()
        await until("nothing left to do", lambda: not bot.is_busy())
        latest.release()
        await bot.settled()
        assert notices(bot, bot.chats_of(anna)[0]) == []


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
