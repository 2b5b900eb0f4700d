"""The homeserver is restored from an older backup while the bot runs: noticed, and got over.

Positions that maubot's sync holds are of the future then; what a homeserver makes of them differs
(`Switches.future_since`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mautrix.types import SyncToken

from homeroom.delivery import history_watch
from homeroom.status_page import Condition
from tests.fake import FakeHomeserver
from tests.fake.switches import FutureSince
from tests.plugin.harness import Bot, running, until

GONE = "was restored from an older backup"
FUTURE: tuple[FutureSince, ...] = ("now", "initial", "refused")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_watch, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(history_watch, "KNOWN_AFTER", 0)


def answered(bot: Bot, room_id: str, *texts: str) -> bool:
    return set(bot.words(room_id)) >= {bot.echo(room_id, text) for text in texts}


async def clear_cache(bot: Bot) -> None:
    """What the button of that name does in maubot's web UI."""
    client = bot.client
    assert client

    async def clear() -> None:
        client.stop()
        await client.sync_store.put_next_batch(SyncToken(""))
        client.start(bot._filter_id)

    await bot._inside(clear())


@pytest.mark.parametrize("future", FUTURE)
@pytest.mark.parametrize("is_down", [False, True], ids=["while it runs", "while it is down"])
async def test_what_is_said_after_the_homeserver_has_gone_back_is_answered_once(
    hs: FakeHomeserver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    future: FutureSince,
    is_down: bool,
) -> None:
    anna = hs.user("anna")
    hs.switches.future_since = future
    async with running(hs, tmp_path, config='admins: ["@admin:fake.test"]') as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "Before") == bot.echo(chat_id, "Before")
        await bot.settled()
        backup = hs.backup()
        for number in range(3):
            assert await bot.ask(anna, chat_id, f"Lost {number}")
        if is_down:
            await bot.stop()
        hs.restore(backup)
        assert len(bot.words(chat_id)) == 1
        anna.send(chat_id, "At once")
        if is_down:
            await bot.start()
        await until("it is noticed", lambda: GONE in caplog.text)
        if future == "refused":
            await until("it is shown", lambda: not bot.app.feed.keeps_position)
            snapshot = await bot.app.snapshot(version="1", with_rows=False)
            assert snapshot.condition in (Condition.SILENT, Condition.CATCHING_UP)
        assert "@admin:fake.test: please press" in caplog.text
        for text in ("Then", "And then"):
            anna.send(chat_id, text)
        said = ("Before", "At once", "Then", "And then")
        await until("all is answered", lambda: answered(bot, chat_id, *said))
        assert len(bot.words(chat_id)) == len(said)
        await clear_cache(bot)  # as the log says
        await until("it is over", lambda: "tells again what is said" in caplog.text)
        assert await bot.ask(anna, chat_id, "After") == bot.echo(chat_id, "After")
        assert len(bot.words(chat_id)) == len(said) + 1
        snapshot = await bot.app.snapshot(version="1", with_rows=False)
        assert snapshot.condition is Condition.OK
        assert caplog.text.count(GONE) == 1


async def test_a_chat_that_the_backup_does_not_have_is_left(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However lately the bot was told that it is in it."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        backup = hs.backup()
        anna.send(chat_id, "!chat new Another")
        await bot.settled()
        assert len(bot.chats_of(anna)) == 2
        hs.restore(backup)
        await until("it is noticed", lambda: GONE in caplog.text)

        def active() -> list[str]:
            rows = bot.query("SELECT * FROM chats WHERE status = 'active'")
            return [row["room_id"] for row in rows]

        await until("the row says so", lambda: active() == [chat_id])


async def test_until_it_is_over_a_message_costs_one_look_at_its_chat(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much was said in it before."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for number in range(250):
            hs.world.send(anna.user_id, chat_id, "dev.homeroom.noise", {"number": number})
        await bot.settled()
        backup = hs.backup()
        await bot.ask(anna, chat_id, "Lost")
        hs.restore(backup)
        await until("it is noticed", lambda: not bot.app.feed.keeps_position)
        monkeypatch.setattr(history_watch, "LOOK_EVERY", 1000)
        await bot.ask(anna, chat_id, "Then")
        await bot.settled()
        bot.app.feed.keeps_position = False  # still, whatever the last look has found
        before = len(hs.requests)
        await bot.ask(anna, chat_id, "And then")
        await bot.settled()
        assert [r.route for r in hs.requests[before:]].count("rooms/{room_id}/messages") == 1


async def test_nothing_is_read_while_all_is_well(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        assert await bot.ask(anna, chat_id, "Hello")
        await bot.settled()
        looks = [r for r in hs.requests if r.route == "rooms/{room_id}/event/{event_id}"]
        before = len(hs.requests)
        await until("it has looked", lambda: len(hs.requests) > before + 5)
        asked = {r.route for r in hs.requests[before:] if not bot.is_long_poll(r)}
        assert asked == {"rooms/{room_id}/event/{event_id}"}, looks
        assert GONE not in caplog.text
