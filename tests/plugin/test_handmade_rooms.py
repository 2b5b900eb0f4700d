"""A room that its owner adds to the Space by hand, and invites the bot to, becomes a chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver
from tests.fake.user import User
from tests.plugin.harness import Bot, running, until

POWER = 50


def make_by_hand(
    bot: Bot, owner: User, space_id: str, *, power: int = POWER, maker: User | None = None
) -> str:
    maker = maker or owner
    levels = {"users": {maker.user_id: 100, bot.me.user_id: power}}
    room_id = maker.create_room(
        name="Mine", power_level_content_override=levels, room_version="11"
    )
    if maker is not owner:
        maker.invite(room_id, owner)
        owner.join(room_id)
    owner.set_state(space_id, "m.space.child", {"via": ["fake.test"]}, state_key=room_id)
    owner.invite(room_id, bot.me)
    return room_id


def marker_of(bot: Bot, room_id: str) -> object:
    return bot.hs.room(room_id).state.get((MARKER_TYPE, bot.me.user_id))


@pytest.mark.parametrize("loss", ["nothing", "rows"])
async def test_a_room_made_by_hand_is_a_chat_like_any_other(
    hs: FakeHomeserver, tmp_path: Path, loss: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        room_id = make_by_hand(bot, anna, space_id)
        await until("the chat", lambda: len(bot.chats_of(anna)) == 2)
        await bot.settled()
        assert await bot.ask(anna, room_id, "Hello") == bot.echo(room_id, "Hello")
        before = bot.tables()["chats"]
        marker = {
            "version": 1,
            "room_type": "chat",
            "user_id": anna.user_id,
            "chat_id": "C2",
            "platform_chat_id": bot.key(room_id),
        }
        assert marker_of(bot, room_id) == marker
        await bot.settled()
        await bot.stop()
        if loss == "rows":
            bot.wipe()
        await bot.start()
        await bot.settled()
        assert bot.tables()["chats"] == before
        assert marker_of(bot, room_id) == marker
        assert "Mine" in await bot.ask(anna, room_id, "!chat list")
        await bot.ask(anna, room_id, "!chat new")
        assert len(bot.chats_of(anna)) == 3


async def test_it_says_what_is_missing_and_goes_on_from_there(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        room_id = make_by_hand(bot, anna, space_id, power=0)
        assert await bot.hear(room_id, 1) == [replies.NEEDS_POWER]
        anna.send(room_id, "Why?")
        await bot.settled()
        assert bot.words(room_id) == [replies.NEEDS_POWER]
        levels = hs.room(room_id).state["m.room.power_levels", ""]
        users = {**levels["users"], bot.me.user_id: POWER}
        anna.set_state(room_id, "m.room.power_levels", {**levels, "users": users})
        assert await bot.ask(anna, room_id, "And now?") == bot.echo(room_id, "And now?")
        assert bot.chats_of(anna)[1:] == [room_id]


@pytest.mark.parametrize("what", ["of somebody else", "a foreign Space", "no Space", "forged"])
async def test_other_rooms_stay_what_they_are(
    hs: FakeHomeserver, tmp_path: Path, what: str
) -> None:
    anna, mallory = hs.user("anna"), hs.user("mallory")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        before = bot.tables()
        if what == "of somebody else":
            room_id = make_by_hand(bot, anna, space_id, maker=mallory)
        elif what == "a foreign Space":
            room_id = make_by_hand(bot, anna, anna.create_space(), power=100)
        else:
            room_id = mallory.create_room(room_version="11")
            forged = {"version": 1, "room_type": "chat", "user_id": anna.user_id}
            mallory.set_state(room_id, MARKER_TYPE, forged, state_key=mallory.user_id)
            if what == "forged":
                link = {"via": ["fake.test"], "dev.homeroom.chat_id": "C1"}
                anna.set_state(space_id, "m.space.child", link, state_key=room_id)
            mallory.invite(room_id, bot.me)
        await until("the bot", lambda: bot.me.user_id in hs.room(room_id).joined)
        await bot.settled()
        assert marker_of(bot, room_id) is None
        chats = [row for row in bot.tables()["chats"] if row["matrix_user_id"] == anna.user_id]
        assert chats == before["chats"]
        assert room_id not in bot.chats_of(mallory)
        if what == "of somebody else":
            assert bot.words(room_id) == [replies.NOT_YOUR_ROOM]


@pytest.mark.parametrize("number", range(14))
async def test_a_crash_at_any_request_makes_one_chat(
    hs: FakeHomeserver, tmp_path: Path, number: int
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        sent = len(hs.requests)
        room_id = make_by_hand(bot, anna, space_id)

        def requests() -> int:
            return sum(not bot.is_long_poll(request) for request in hs.requests[sent:])

        await until("the request", lambda: requests() > number or not bot.is_busy())
        await bot.kill()
        await bot.start()
        await until("the chat", lambda: len(bot.chats_of(anna)) == 2)
        await bot.settled()
        assert await bot.ask(anna, room_id, "Hello") == bot.echo(room_id, "Hello")
        marker = hs.room(room_id).state[MARKER_TYPE, bot.me.user_id]
        assert (marker["chat_id"], marker["platform_chat_id"]) == ("C2", bot.key(room_id))
        assert bot.chats_of(anna)[1:] == [room_id]
