"""How old a message is, is what the homeserver says, and what the bot has seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom.delivery import sync_feed
from homeroom.runtime import clock
from tests.fake import FakeHomeserver, Hang, Match
from tests.plugin.agent import Agent
from tests.plugin.conftest import Present
from tests.plugin.harness import own_sync, running, until

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS


@pytest.mark.parametrize("ahead", [HOUR_MS, DAY_MS, 8 * DAY_MS, -DAY_MS])
async def test_the_clock_of_this_machine_may_be_wrong(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ahead: int,
) -> None:
    anna, agent = hs.user("anna"), Agent()
    right = clock.now
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "before")
        await bot.settled()
        await bot.stop()
        monkeypatch.setattr(clock, "now", lambda: right() + ahead)
        anna.send(chat_id, "while down")
        await bot.start()
        await bot.hear(chat_id, 2)
        await bot.ask(anna, chat_id, "live")
        assert agent.texts == ["before", "while down", "live"]
        assert abs(bot.app.status.homeserver.clock.ahead - ahead) < 5000
        told = [message for message in caplog.messages if "clock of this machine" in message]
        assert len(told) == 1


async def test_a_forged_time_hides_nobody_elses_message(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """A guest of another server says something, two days ago by their clock."""
    anna, agent = hs.user("anna"), Agent()
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        texts = [f"anna {number}" for number in range(3)]
        for text in texts[:2]:
            anna.send(chat_id, text)
        for number in range(120):
            content = {"msgtype": "m.text", "body": f"eve {number}"}
            event = hs.world.send(anna.user_id, chat_id, "m.room.message", content)
            object.__setattr__(event, "sender", "@eve:evil.test")
            object.__setattr__(event, "origin_server_ts", event.origin_server_ts - 2 * DAY_MS)
        anna.send(chat_id, texts[2])
        bot.wipe()
        await bot.start()
        await bot.hear(chat_id, 3)
        assert agent.texts == texts


async def test_what_came_while_the_bot_was_away_stays_passed_over_however_it_comes_again(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The homeserver may repeat an old first response; then the second tells of that time."""
    anna, agent = hs.user("anna"), Agent()
    async with running(hs, tmp_path, platform=agent, config="catch_up: {max_age: 0}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        hs.service.remember_syncs = True
        await bot.ask(anna, chat_id, "before")
        await bot.settled()
        await bot.stop()
        anna.send(chat_id, "while down")
        await bot.start()
        await bot.settled()
        assert await bot.ask(anna, chat_id, "after") == "re: after"
        assert agent.texts == ["before", "after"]
        assert bot.app.feed.passed_over == 1
        assert any("older than catch_up.max_age" in message for message in caplog.messages)
        await bot.configure("catch_up: {max_age: 3600}")
        await bot.restart()
        await bot.settled()
        assert agent.texts == ["before", "after"]


async def test_while_maubots_sync_hangs_homeroom_asks_for_itself(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is accepted and never answered."""
    monkeypatch.setattr(sync_feed, "SILENT_AFTER", 0.3)
    monkeypatch.setattr(sync_feed, "PROBE_EVERY", 0.1)
    anna, agent = hs.user("anna"), Agent()
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        hanging = hs.fail(Match(when=bot.is_long_poll), Hang(), times=None)
        anna.send(chat_id, "one")  # what maubot waits for now is answered
        await hanging.reached()
        anna.send(chat_id, "two")
        assert await bot.hear(chat_id, 2) == ["re: one", "re: two"]
        before = len([r for r in hs.requests if own_sync(r)])
        await until("it asks again", lambda: len(list(filter(own_sync, hs.requests))) > before)
        hanging.cancel()
        await bot.settled()
        assert agent.texts == ["one", "two"]


async def test_a_clock_that_is_a_little_wrong_is_right_enough(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    hs.world.clock = Present(behind_ms=50_000)
    async with running(hs, tmp_path) as bot:
        await bot.settled()
        assert bot.app.status.homeserver.clock.ahead == 0
