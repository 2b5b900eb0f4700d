"""A lost database: restored from the bot's account data, and the same as if all were scanned."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fake import FakeHomeserver, User
from tests.plugin.checkpoints import ACCOUNT_DATA, PUT, Data, account_data, live, put, scanned
from tests.plugin.conftest import Present as Clock
from tests.plugin.harness import Bot, running, until
from tests.plugin.starts import (
    CONFIG,
    FORBIDDEN,
    asked_at_start,
    looked_at_everything,
    settled,
    throw_the_bot_out,
)

# Restored


async def test_a_lost_database_costs_one_read_and_one_sync(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        before = bot.tables()
        await bot.stop()
        bot.wipe(checkpoint=False)
        requests = await asked_at_start(bot)
        assert bot.tables() == before
        assert sorted(request.route for request in requests)[:4] == [
            "joined_rooms",
            "sync",
            "user/{user_id}/account_data/{type}",
            "user/{user_id}/account_data/{type}",
        ]
        assert not looked_at_everything(requests)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        assert len(bot.words(chat_id)) == 1
        await settled(bot)
        assert live(bot.tables()) == await scanned(bot)


async def test_the_next_start_changes_nothing_and_sends_no_write(
    hs: FakeHomeserver, tmp_path: Path, soon: None
) -> None:
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(hs.user("anna"))
        await bot.stop()
        bot.wipe(checkpoint=False)
        await bot.start()
        await bot.settled()
        before = bot.tables()
        await bot.stop()
        mark = len(hs.requests)
        await bot.start()
        await until("it looked", lambda: [r for r in hs.requests[mark:] if ACCOUNT_DATA(r)])
        await bot.settled()
        assert [r for r in hs.requests[mark:] if r.changes_rooms or PUT(r)] == []
        assert bot.tables() == before


async def test_what_was_said_before_the_loss_is_answered_once_and_only_then(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """The position may be older than the loss: what is answered is asked of the rooms."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, other_id) = bot.chats_of(anna)
        await bot.stop()
        old = account_data(bot)
        await bot.start()
        await bot.ask(anna, chat_id, "Before")
        await bot.ask(anna, other_id, "!chat rename Other")
        await settled(bot)
        await bot.kill()
        anna.send(chat_id, "Meanwhile")
        asked_in = bert.create_room(invite=[bot.me])
        for kind, content in old.items():
            put(bot, kind, content)
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        await bot.hear(asked_in, 1)
        await settled(bot)
        assert bot.words(chat_id) == [
            bot.echo(chat_id, "Before"),
            bot.echo(chat_id, "Meanwhile"),
        ]
        assert len(bot.words(other_id)) == 1
        assert "Other" in [row["name"] for row in bot.tables()["chats"]]
        assert bot.space_of(bert)
        assert live(bot.tables()) == await scanned(bot)


async def test_restored_and_killed_at_once_it_still_knows_what_was_answered(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.stop()
        old = account_data(bot)
        await bot.start()
        await bot.ask(anna, chat_id, "Before")
        await bot.kill()
        for kind, content in old.items():
            put(bot, kind, content)
        bot.wipe(checkpoint=False)
        await bot.start()
        await bot.kill()
        await bot.start()
        await settled(bot)
        assert bot.words(chat_id) == [bot.echo(chat_id, "Before")]


async def test_rows_that_the_database_still_has_are_not_overruled(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """They may be later than the checkpoint: their rooms are scanned, the others are not."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        before = bot.tables()
        await bot.stop()
        bot.alter("DELETE FROM chats WHERE matrix_user_id = ?", anna.user_id)
        bot.alter("UPDATE chats SET platform_chat_id = 'x' WHERE chat_id = 'C1'")
        requests = await asked_at_start(bot)
        assert not looked_at_everything(requests)
        assert bot.tables() == before


async def test_a_room_that_the_bot_was_thrown_out_of_keeps_its_row(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """A scan without memory could not know of it any more."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        throw_the_bot_out(bot, anna)
        await settled(bot)
        before = bot.tables()
        assert "left" in [row["status"] for row in before["chats"]]
        await bot.stop()
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        assert bot.tables() == before


# The law


PEOPLE = ("anna", "bert")
UNASKED = ("write", "rename", "unlink", "throw out")
"""What nobody asks the bot for."""
STEPS = ("write", "rename", "new chat", "clear", "archive", "unlink", "throw out", "invite")


async def _do(bot: Bot, user: User, step: str, *, is_up: bool) -> None:
    """Something happens to somebody's home, whether the bot sees it or not."""
    chats = bot.chats_of(user)
    if not chats:
        return
    match step:
        case "write":
            user.send(chats[0], f"Hello {len(bot.hs.requests)}")
        case "rename":
            user.set_state(chats[-1], "m.room.name", {"name": f"Name {len(bot.hs.requests)}"})
        case "unlink":
            user.set_state(bot.space_of(user), "m.space.child", {}, state_key=chats[-1])
        case "throw out" if len(chats) > 1:
            bot.me.leave(chats[-1])
        case "new chat" | "clear" | "archive" if is_up:
            user.send(chats[0], f"!chat {step.removesuffix(' chat')}")
    if is_up:
        await bot.settled()


@pytest.mark.parametrize("seed", range(5))
async def test_the_verification_of_a_restored_start_finds_no_drift(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Whatever people do before it and meanwhile (drift is an error in the log: `no_bugs`)."""
    choose = random.Random(seed)
    people = [hs.user(name) for name in PEOPLE]
    async with running(hs, tmp_path, config=CONFIG) as bot:
        for user in people:
            await bot.onboard(user)
        await bot.ask(people[0], bot.chats_of(people[0])[0], "Hello")

        async def do_something() -> None:
            await _do(bot, choose.choice(people), choose.choice(UNASKED), is_up=False)

        for _ in range(4):
            await do_something()
        await bot.settled()
        await bot.stop()
        for _ in range(2):
            await do_something()
        bot.wipe(checkpoint=False)
        mark = len(caplog.text)
        await bot.start()
        while "Verified" not in caplog.text[mark:]:
            await do_something()
            await asyncio.sleep(0.01)
        await bot.settled()
        assert "Restored" in caplog.text[mark:]
        assert live(bot.tables()) == await scanned(bot)


LAW = settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@LAW
@given(data=st.data())
async def test_whatever_happened_restored_rows_are_what_a_scan_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every history, every prefix and loss of writes, every age of the position."""

    def draw(what: str, strategy: st.SearchStrategy[Any]) -> Any:
        return data.draw(strategy, label=what)

    steps = st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(STEPS)), max_size=4)
    async with FakeHomeserver() as hs:
        hs.world.clock = Clock()
        people = {name: hs.user(name) for name in PEOPLE}
        async with running(hs, tmp_path_factory.mktemp("law"), config=CONFIG) as bot:
            for user in people.values():
                await bot.onboard(user)
            kept: list[Data] = []
            for _ in range(draw("lives", st.integers(1, 2))):
                for name, step in draw("seen", steps):
                    await _do(bot, people[name], step, is_up=True)
                lost = draw("writes that are lost", st.integers(0, 3))
                fault = hs.fail(PUT, FORBIDDEN, skip=lost, times=None)
                await (bot.stop() if draw("stopped", st.booleans()) else bot.kill())
                fault.cancel()
                kept.append(account_data(bot))
                for name, step in draw("unseen", steps):
                    await _do(bot, people[name], step, is_up=False)
                if draw("an older checkpoint", st.booleans()):
                    for kind, content in draw("which", st.sampled_from(kept)).items():
                        put(bot, kind, content)
                if draw("the database is lost", st.booleans()):
                    bot.wipe(checkpoint=False)
                await bot.start()
                await bot.settled()
            for user in people.values():
                for chat_id in bot.chats_of(user):
                    said = [c["body"] for c in bot.said(chat_id) if c["msgtype"] == "m.text"]
                    assert len(said) == len(set(said))
            restored = live(bot.tables())
            assert {len(bot.spaces_of(user)) for user in people.values()} == {1}
            assert restored == await scanned(bot)
