"""Two Homerooms with one account: the newest works, the other goes idle and says why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from homeroom.domain.sync.instance import INSTANCE_TYPE
from homeroom.status_page import Condition
from tests.fake import FakeHomeserver, Hang, Match, Respond
from tests.plugin.harness import Bot, running, until
from tests.plugin.starts import CONFIG, FORBIDDEN

ACCOUNT_DATA = Match(path=f"account_data/{INSTANCE_TYPE}")


@asynccontextmanager
async def two(hs: FakeHomeserver, path: Path) -> AsyncIterator[tuple[Bot, Bot]]:
    """The first runs and has a home; the second, on another maubot, does not run yet."""
    for name in ("first", "second"):
        (path / name).mkdir()
    async with running(hs, path / "first", config=CONFIG) as first:
        await first.onboard(hs.user("anna"))
        second = Bot(hs, path / "second", config=CONFIG)
        try:
            yield first, second
            await second.stop()
        finally:
            await second.kill()


async def condition(bot: Bot) -> Condition:
    assert bot.plugin
    return (await bot.plugin._snapshot(with_rows=False)).condition


def is_idle(bot: Bot) -> bool:
    return bot.plugin is not None and bot.plugin.app is not None and bot.plugin.background._closed


async def test_the_newest_answers_and_the_other_says_why_it_does_not(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with two(hs, tmp_path) as (first, second):
        (chat_id, _) = first.chats_of(anna)
        await second.start()
        await until("the first is idle", lambda: is_idle(first))
        assert await condition(first) is Condition.SUPERSEDED
        assert await condition(second) is Condition.OK
        assert caplog.text.count("Another Homeroom has started with this account") == 1
        assert await second.ask(anna, chat_id, "Hello") == second.echo(chat_id, "Hello")
        await second.onboard(bert)
        await second.settled()
        assert len(first.words(chat_id)) == 1
        assert second.space_of(bert)


async def test_a_restart_takes_over_again(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with two(hs, tmp_path) as (first, second):
        (chat_id, _) = first.chats_of(anna)
        await second.start()
        await until("the first is idle", lambda: is_idle(first))
        await first.restart()
        await until("the second is idle", lambda: is_idle(second))
        assert await condition(first) is Condition.OK
        assert await first.ask(anna, chat_id, "Hello") == first.echo(chat_id, "Hello")


async def test_a_restart_of_the_only_one_supersedes_nobody(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        for killed in (True, False):
            await (bot.kill() if killed else bot.stop())
            await bot.start()
            await bot.settled()
            assert await condition(bot) is Condition.OK
    assert "Another Homeroom" not in caplog.text


async def test_one_that_is_superseded_while_it_starts_never_begins(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with two(hs, tmp_path) as (first, second):
        (chat_id, _) = first.chats_of(anna)
        await first.stop()
        fault = hs.fail(Match(path="joined_rooms|msc3575/sync$"), Hang(), times=None)
        first.invalidate_checkpoint()
        first.config = CONFIG + "\nreconcile: {start_timeout: 0}"
        await first.start()
        await fault.reached()
        assert first.plugin
        assert first.plugin.app
        watch = first.plugin.app.watch
        await until("it is announced", lambda: watch._own)
        fault.cancel()
        fault = hs.fail(
            Match(path="joined_rooms|msc3575/sync$"), Respond(500, text="no"), times=None
        )
        await second.start()
        await until("the first is idle", lambda: is_idle(first))
        fault.cancel()
        assert await second.ask(anna, chat_id, "Hello") == second.echo(chat_id, "Hello")
        await second.settled()
        assert len(first.words(chat_id)) == 1


async def test_without_account_data_everything_works(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hs.fail(ACCOUNT_DATA, FORBIDDEN, times=None)
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        assert caplog.text.count("would not be noticed") == 1
