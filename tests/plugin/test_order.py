"""First the look, then the doors: until a reconcile has gone through nothing is answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from mautrix.client import InternalEventType

from tests.fake import FakeHomeserver, Hang, Match, Respond, User
from tests.plugin.harness import Bot, running, until

AT_ONCE = "reconcile: {start_timeout: 0}"
LOOKS = {
    "the joined rooms": Match(path="joined_rooms$"),
    "the rooms": Match(path="simplified_msc3575/sync$"),
}


async def held_up(bot: Bot, anna: User, look: Match) -> None:
    """Lose the database, start, and let a message and an invite come while it still looks."""
    await bot.stop()
    bot.wipe()
    fault = bot.hs.fail(look, Hang())
    await bot.start()
    await fault.reached()
    anna.send(bot.chats_of(anna)[0], "Hello")
    bot.hs.user("bert").create_room(invite=[bot.me])


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
async def test_nothing_is_done_while_it_looks(
    hs: FakeHomeserver, tmp_path: Path, look: Match
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=AT_ONCE) as bot:
        await bot.settled()
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        answer = bot.echo(chat_id, "Hello")
        tables = bot.tables()
        writes = len(hs.writes)
        await held_up(bot, anna, look)
        assert bot.client
        news = bot.client.event_handlers.get(InternalEventType.SYNC_SUCCESSFUL, {})
        # The keys that came with it, and the response itself, kept until it is read.
        names = {handler.__self__.__class__.__name__ for handler in news}
        assert names <= {"Encryption", "EarlyResponses", "InstanceWatch"}
        await until("maubot has read it all", bot.has_read_all)
        assert hs.writes[writes:] == []
        assert bot.tables() == {"homes": [], "chats": []}

        hs.faults.rules[0].release()
        assert await bot.hear(chat_id, 1) == [answer]
        await bot.settled()
        assert bot.words(chat_id) == [answer]
        assert [row for row in bot.tables()["chats"] if row["room_id"] == chat_id] == tables[
            "chats"
        ]
        assert len(bot.spaces_of(anna)) == len(bot.spaces_of(bert)) == 1


async def test_the_start_does_not_wait_longer_than_the_settings_say(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fault = hs.fail(Match(path="joined_rooms$"), Hang())
    async with running(hs, tmp_path, config="reconcile: {start_timeout: 1}") as bot:
        assert "nothing is answered until then" in caplog.text
        fault.release()
        await bot.settled()


async def test_a_start_that_is_stopped_opens_nothing(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=AT_ONCE) as bot:
        await bot.settled()
        await bot.stop()
        fault = hs.fail(Match(path="joined_rooms$"), Hang())
        await bot.start()
        await fault.reached()
        plugin, client = bot.plugin, bot.client
        assert plugin
        assert client
        await bot._inside(plugin.internal_stop())
        assert client.event_handlers.get(InternalEventType.SYNC_SUCCESSFUL, {}) == {}
        fault.release()
        asked = anna.create_room(invite=[bot.me])
        await until("maubot has read it", bot.has_read_all)
        assert bot.words(asked) == []
        assert hs.joined("bot") == set()
        await bot.kill()
        await bot.start()


async def test_an_error_of_the_database_is_waited_out(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        bot.alter("ALTER TABLE chats RENAME TO elsewhere")
        bot.config = AT_ONCE
        await bot.start()
        await until("it fails", lambda: "no such table" in caplog.text)
        # In a thread: whoever is in the middle of a transaction has to end it.
        await asyncio.to_thread(bot.alter, "ALTER TABLE elsewhere RENAME TO chats")
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


async def test_a_stop_waits_for_the_answer_in_hand(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        answer = bot.echo(chat_id, "Hello")
        sending = hs.fail(Match(method="PUT", path="/send/"), Hang())
        anna.send(chat_id, "Hello")
        await sending.reached()
        sending.release()
        await bot.stop()
        assert bot.words(chat_id) == [answer]
        await bot.start()
        await bot.settled()
        assert bot.words(chat_id) == [answer]


async def test_the_log_tells_of_every_failed_look(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hs.fail(Match(path="joined_rooms$"), Respond(500, text="no"), times=2)
    async with running(hs, tmp_path) as bot:
        await bot.settled()
        assert len([m for m in caplog.messages if m.startswith("Could not reconcile: ")]) == 2
        assert len([m for m in caplog.messages if m.startswith("Reconciled 0 rooms in ")]) == 1


async def test_a_database_that_fails_after_the_look_is_asked_again(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the answers left off is to be known before the doors open."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=AT_ONCE) as bot:
        await bot.settled()
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.stop()
        anna.send(chat_id, "Hello")
        bot.alter("ALTER TABLE sync_state RENAME TO broken")  # resuming fails, too
        await bot.start()
        failed = "Could not read what was left open: "
        await until("a failure", lambda: [m for m in caplog.messages if m.startswith(failed)])
        assert bot.words(chat_id) == []
        bot.alter("ALTER TABLE broken RENAME TO sync_state")
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]
