"""A friend in a chat: told once who is answered, and answered where the owner shares the chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.delivery.friends import TOLD_TYPE
from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Match, Respond
from tests.fake.user import User
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until

MAY_SHARE = "access: {share: true}"
MONTH = 31 * 24 * 60 * 60 * 1000


async def with_friend(bot: Bot, anna: User, bert: User) -> str:
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    anna.invite(chat_id, bert)
    bert.join(chat_id)
    await bot.settled()
    return chat_id


def answer_of(bot: Bot, chat_id: str) -> object:
    return bot.hs.room(chat_id).state[MARKER_TYPE, bot.me.user_id].get("answer")


@pytest.mark.parametrize("may_share", [False, True])
async def test_a_friend_is_told_once_that_only_the_owner_is_answered(
    hs: FakeHomeserver, tmp_path: Path, may_share: bool
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    config = MAY_SHARE if may_share else ""
    async with running(hs, tmp_path, platform=(agent := Agent()), config=config) as bot:
        chat_id = await with_friend(bot, anna, bert)
        for text in ("Hello", "!help", "Is anybody there?"):
            bert.send(chat_id, text)
        await bot.settled()
        assert bot.words(chat_id) == [replies.only_the_owner(may_share=may_share)]
        assert ("!chat share" in bot.words(chat_id)[0]) is may_share
        assert (bot.said(chat_id)[0]["msgtype"], bot.said(chat_id)[0]["dev.homeroom.answers"]) == (
            "m.notice",
            "none",
        )
        writes = len(hs.writes)
        bert.send(chat_id, "Hello again")
        await bot.settled()
        assert len(hs.writes) == writes
        assert await bot.ask(anna, chat_id, "Hello") == "re: Hello"
        assert agent.texts == ["Hello"]


async def test_a_friend_is_told_no_second_time_by_another_life(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        chat_id = await with_friend(bot, anna, bert)
        bert.send(chat_id, "Hello")
        await bot.hear(chat_id, 1)
        for is_lost in (False, True):
            await bot.settled()
            await bot.stop()
            if is_lost:
                bot.wipe()
            await bot.start()
            bert.send(chat_id, "Hello?")
            await bot.settled()
            assert len(bot.words(chat_id)) == 1
        account = hs.world.accounts[bot.me.user_id]
        told, _ = account.room_account_data[chat_id][TOLD_TYPE]
        bot.hs.world.set_account_data(
            bot.me.user_id, TOLD_TYPE, {"at": told["at"] - MONTH}, room_id=chat_id
        )
        await bot.restart()
        bert.send(chat_id, "A month later")
        assert len(await bot.hear(chat_id, 2)) == 2


async def test_a_crash_before_it_is_noted_says_nothing_twice(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    failing = hs.fail(Match("PUT", TOLD_TYPE), Respond(500, text="no"), times=None)
    async with running(hs, tmp_path) as bot:
        chat_id = await with_friend(bot, anna, bert)
        bert.send(chat_id, "Hello")
        await bot.hear(chat_id, 1)
        await bot.kill()
        failing.cancel()
        await bot.start()
        bert.send(chat_id, "Hello?")
        await bot.settled()
        assert len(bot.words(chat_id)) == 1
        assert TOLD_TYPE in hs.world.accounts[bot.me.user_id].room_account_data[chat_id]


async def test_a_shared_chat_answers_everybody_and_stays_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, platform=(agent := Agent()), config=MAY_SHARE) as bot:
        chat_id = await with_friend(bot, anna, bert)
        assert await bot.ask(anna, chat_id, "! Chat SHARE") == (
            "“General” (C1) is shared: I answer everybody in it now. `!chat share off` ends that."
        )
        assert answer_of(bot, chat_id) == "members"
        assert await bot.ask(bert, chat_id, "Hello") == "re: Hello"
        assert [turn.is_shared for turn in agent.turns] == [True]
        await bot.ask(anna, chat_id, "!chat archive")
        await bot.ask(anna, chat_id, "!chat unarchive")
        await bot.ask(anna, chat_id, "!chat clear")
        assert answer_of(bot, chat_id) == "members"
        for loss in ("nothing", "rows", "rows and checkpoint", "trust"):
            await bot.settled()
            await bot.stop()
            if loss.startswith("rows"):
                bot.wipe(checkpoint=loss != "rows")
            if loss == "trust":
                bot.invalidate_checkpoint()
            await bot.start()
            await bot.settled()
            assert await bot.ask(bert, chat_id, loss) == f"re: {loss}"
        assert await bot.ask(anna, chat_id, "!chat share off") == (
            "In “General” (C1) I only answer you from now on."
        )
        assert answer_of(bot, chat_id) is None
        asked = len(agent.turns)
        await bot.restart()
        bert.send(chat_id, "Hello?")
        await bot.settled()
        assert len(agent.turns) == asked


@pytest.mark.parametrize("sliding_sync", [True, False])
async def test_what_friends_said_before_a_chat_was_shared_stays_unanswered(
    hs: FakeHomeserver, tmp_path: Path, sliding_sync: bool
) -> None:
    """Also where only the room is left to say when that was."""
    if not sliding_sync:
        hs.fail(Match(path="simplified_msc3575"), Respond(404, {"errcode": "M_UNRECOGNIZED"}))
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, platform=(agent := Agent()), config=MAY_SHARE) as bot:
        chat_id = await with_friend(bot, anna, bert)
        bert.send(chat_id, "Hello?")
        await bot.settled()
        anna.send(chat_id, "!chat share")
        await bot.settled()
        assert await bot.ask(bert, chat_id, "Hello!") == "re: Hello!"
        await bot.stop()
        bert.send(chat_id, "While you were away")
        bot.wipe()
        await bot.start()
        await bot.settled()
        assert agent.texts == ["Hello!", "While you were away"]


async def test_sharing_is_the_owners_and_the_administrators(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config="access: {answer: members}") as bot:
        chat_id = await with_friend(bot, anna, bert)
        assert await bot.ask(anna, chat_id, "!chat share") == replies.EVERYBODY
        await bot.configure("")
        assert await bot.ask(anna, chat_id, "!chat share") == replies.NO_SHARING
        assert "share" not in await bot.ask(anna, chat_id, "!help")
        await bot.configure("access: {share: true, answer: members}")
        assert await bot.ask(bert, chat_id, "!chat share") == replies.OWNERS_ONLY
        assert answer_of(bot, chat_id) is None
        assert "!chat share" in await bot.ask(anna, chat_id, "!help")
        await bot.ask(anna, chat_id, "!chat share")
        await bot.configure("")  # taken back by the administrator
        writes = len(hs.writes)
        bert.send(chat_id, "Hello?")
        await bot.settled()
        assert bot.words(chat_id)[-1] == replies.only_the_owner(may_share=False)
        assert len(hs.writes) == writes + 1
        await bot.configure(MAY_SHARE)
        assert await bot.ask(bert, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_a_chat_is_shared_from_elsewhere_and_through_an_upgrade(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=MAY_SHARE) as bot:
        chat_id = await with_friend(bot, anna, bert)
        direct = next(r for r in hs.joined("anna") if r not in (chat_id, bot.space_of(anna)))
        assert "shared" in await bot.ask(anna, direct, "!chat share c1")
        new = bot.me.upgrade(chat_id, "12")
        bot.me.invite(new, anna)
        bot.me.invite(new, bert)
        anna.join(new)
        bert.join(new)
        await bot.settled()
        assert answer_of(bot, new) == "members"
        assert await bot.ask(bert, new, "Hello") == bot.echo(new, "Hello")


async def test_only_what_counts_as_a_chats_talk_is_answered_with_a_notice(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Not in an archived chat, where nobody is answered; not to notices; not to the owner."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        chat_id = await with_friend(bot, anna, bert)
        bert.send(chat_id, {"msgtype": "m.notice", "body": "Beep"})
        await bot.ask(anna, chat_id, "!chat archive")
        bert.send(chat_id, "Hello")
        await bot.settled()
        assert len(bot.words(chat_id)) == 1
        await until("nothing is under way", lambda: not bot.app.inbox.not_done)
