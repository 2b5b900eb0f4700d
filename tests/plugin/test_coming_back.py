"""Owners who left their home get back by any way in which they would try."""

from __future__ import annotations

from pathlib import Path

from homeroom import replies
from tests.fake import FakeHomeserver
from tests.plugin.harness import Bot, running, until


def invited_back(bot: Bot, space_id: str) -> str:
    url = f"https://matrix.to/#/%21{space_id[1:]}?via=fake.test"
    return (
        f"Welcome back! I have invited you again to your home and to your chats: open it ({url})."
    )


async def test_a_word_in_the_first_room_brings_back_who_left(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        (direct,) = set(hs.joined("anna")) - {space_id, chat_id}
        anna.leave(space_id)
        anna.leave(chat_id)
        await bot.settled()
        assert set(hs.invited("anna")) == set()
        said = await bot.ask(anna, direct, "How do I get back?")
        assert said == invited_back(bot, space_id)
        assert set(hs.invited("anna")) == {space_id, chat_id}
        writes = len(hs.writes)
        anna.send(direct, "Hello?")
        await bot.settled()
        assert len(hs.writes) == writes + 1  # her own: an invite is pending


async def test_an_invite_of_the_bot_brings_back_who_declined(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        room_id = anna.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)
        await bot.settled()
        space_id, (chat_id,) = bot.space_of(anna), bot.chats_of(anna)
        for invited in (space_id, chat_id):
            anna.leave(invited)
        await bot.settled()
        again = anna.create_room(invite=[bot.me])
        assert await bot.hear(again, 1) == [invited_back(bot, space_id)]
        assert set(hs.invited("anna")) == {space_id, chat_id}


async def test_who_came_back_may_leave_and_come_back_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """At once, as often as they like; who does not accept waits for the next invite."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        for _ in range(3):
            anna.leave(space_id)
            await bot.settled()
            again = anna.create_room(invite=[bot.me])
            assert await bot.hear(again, 1) == [invited_back(bot, space_id)]
            anna.join(space_id)
            await bot.settled()
        anna.leave(space_id)
        await bot.settled()
        for invites in ({space_id}, set[str]()):
            anna.create_room(invite=[bot.me])
            await bot.settled()
            assert set(hs.invited("anna")) == invites
            for invited in invites:
                anna.leave(invited)
            await bot.settled()


async def test_a_word_in_a_chat_brings_back_to_the_space(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.leave(space_id)
        await bot.settled()
        anna.send(chat_id, "Hello")
        await until("an invite", lambda: set(hs.invited("anna")) == {space_id})
        await bot.settled()
        assert set(bot.words(chat_id)) == {bot.echo(chat_id, "Hello"), invited_back(bot, space_id)}


async def test_who_was_removed_by_somebody_else_stays_out(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (direct,) = set(hs.joined("anna")) - {space_id, *bot.chats_of(anna)}
        bot.me.kick(space_id, anna)
        await bot.settled()
        assert await bot.ask(anna, direct, "Let me in") == replies.KEPT_OUT
        assert set(hs.invited("anna")) == set()


async def test_a_restart_invites_nobody(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        anna.leave(space_id)
        await bot.settled()
        await bot.restart()
        await bot.settled()
        assert set(hs.invited("anna")) == set()
