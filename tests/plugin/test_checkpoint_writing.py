"""When the checkpoint in the account data is written, and what if it cannot be."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from homeroom.domain.homes.checkpoint_shards import HEAD_TYPE
from homeroom.homes import remote_checkpoint
from homeroom.matrix.outgoing import Priority
from tests.fake import FakeHomeserver, Hang, Match, RateLimit, Respond
from tests.plugin.checkpoints import ACCOUNT_DATA, PUT, account_data, is_written, written
from tests.plugin.harness import running, until
from tests.plugin.starts import CONFIG, FORBIDDEN, asked_at_start, looked_at_everything, settled


async def test_what_one_person_does_is_written_as_one_shard_and_the_head(
    hs: FakeHomeserver, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.domain.homes.checkpoint_shards.ROWS_IN_SHARD", 1)
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        await bot.stop()
        await bot.start()
        await bot.settled()
        await until("it is written", lambda: is_written(bot))
        mark = len(hs.requests)
        anna.set_state(bot.chats_of(anna)[0], "m.room.name", {"name": "Renamed"})
        await until("it is written", lambda: HEAD_TYPE in written(hs.requests[mark:]))
        await bot.settled()
        await until("it is written", lambda: is_written(bot))
        assert len(written(hs.requests[mark:])) == 2
        await bot.kill()
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]


async def test_the_position_stays_young(
    hs: FakeHomeserver, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await until("it is written", lambda: is_written(bot))
        (chat_id, _) = bot.chats_of(anna)
        mark = len(hs.requests)
        await bot.ask(anna, chat_id, "Hello")
        await bot.settled()
        assert written(hs.requests[mark:]) == []
        monkeypatch.setattr(remote_checkpoint, "POSITION_EVERY", 0)
        await bot.ask(anna, chat_id, "Hello")
        await until("the position is written", lambda: written(hs.requests[mark:]))
        assert set(written(hs.requests[mark:])) == {HEAD_TYPE}


async def test_a_write_goes_behind_all_messages_but_does_not_wait_for_ever(
    hs: FakeHomeserver, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_checkpoint, "BEHIND_OTHERS", 3600.0)
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await until("it is written", lambda: is_written(bot))
        await bot.settled()  # nothing else is to be said that would be told to wait
        (chat_id, _) = bot.chats_of(anna)
        hs.fail(Match(path="/send/"), RateLimit(retry_after_ms=3_600_000), times=1)
        anna.send(chat_id, "Hello")
        homeserver = bot.app.remote_checkpoint.homeserver
        await until("it waits", lambda: homeserver.outgoing.waiting[Priority.REPAIR])
        anna.set_state(chat_id, "m.room.name", {"name": "Renamed"})
        await until("it is known", lambda: "Renamed" in str(bot.tables()))
        await until("it waits", lambda: homeserver.outgoing.waiting[Priority.REPAIR])
        assert not is_written(bot)
        await bot.kill()
        monkeypatch.setattr(remote_checkpoint, "BEHIND_OTHERS", 0.01)
        hs.fail(Match(path="/send/"), RateLimit(retry_after_ms=3_600_000), times=1)
        await bot.start()
        homeserver = bot.app.remote_checkpoint.homeserver
        anna.send(chat_id, "And now?")  # the first one may be answered by now
        await until("it is told to wait", lambda: homeserver.outgoing.is_limited)
        anna.set_state(chat_id, "m.room.name", {"name": "Again"})
        await until("it is known", lambda: "Again" in str(bot.tables()))
        await until("it is written", lambda: is_written(bot))


REFUSALS = {
    "403": FORBIDDEN,
    "404": Respond(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}),
    "404 of a proxy": Respond(404, text="<html>Not found</html>"),
    "413 of a proxy": Respond(413, text="<html>Too large</html>"),
    "429": RateLimit(retry_after_ms=3_600_000),
    "502": Respond(502, text="<html>Bad gateway</html>"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_without_account_data_everything_works_and_that_is_said_once(
    hs: FakeHomeserver,
    tmp_path: Path,
    unverified: None,
    soon: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Any,
) -> None:
    monkeypatch.setattr(remote_checkpoint, "RETRY_AFTER", (0.01,))
    fault = hs.fail(ACCOUNT_DATA, refusal, times=None)
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        before = bot.tables()
        await until("it was said", lambda: "could not be written" in caplog.text)
        mark = len(fault.hits)
        await until("it tried again", lambda: len(fault.hits) > mark + 20)
        said = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert ["could not be written" in r.msg for r in said] == [True]
        await bot.stop()
        bot.wipe(checkpoint=False)
        assert looked_at_everything(await asked_at_start(bot))
        await settled(bot)
        assert bot.tables() == before
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        fault.cancel()
        await until("it is written", lambda: account_data(bot))


async def test_a_shard_that_is_too_large_for_the_homeserver_is_said_once(
    hs: FakeHomeserver, tmp_path: Path, soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    hs.switches.largest_account_data = 100
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(hs.user("anna"))
        await until("it was said", lambda: "could not be written" in caplog.text)
        await bot.settled()
        assert caplog.text.count("could not be written") == 1


@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
async def test_killed_at_any_request_of_a_write_it_is_the_old_one_or_the_new_one(
    hs: FakeHomeserver,
    tmp_path: Path,
    unverified: None,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
) -> None:
    monkeypatch.setattr("homeroom.domain.homes.checkpoint_shards.ROWS_IN_SHARD", 3)
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        await bot.stop()
        parts = len(account_data(bot))
        assert parts > 1
        for number in range(parts):
            await bot.start()
            await settled(bot)
            for user in (anna, bert):
                name = {"name": f"Name {number}"}
                user.set_state(bot.chats_of(user)[0], "m.room.name", name)
            await until(
                "both are known", lambda n=number: str(bot.tables()).count(f"Name {n}") == 2
            )
            await settled(bot)
            fault = hs.fail(PUT, Hang(after=after), skip=number, times=None)
            assert bot.plugin
            assert bot.plugin.app
            await bot.plugin.app.inbox.save_position(now=True)
            write = bot.plugin.app.remote_checkpoint.write()
            writing = asyncio.ensure_future(bot._inside(write))  # type: ignore[arg-type]
            await until("it hangs or is through", lambda f=fault, w=writing: f.hits or w.done())
            await bot.kill()
            writing.cancel()
            fault.cancel()
            before = bot.tables()
            bot.wipe(checkpoint=False)
            assert not looked_at_everything(await asked_at_start(bot))
            await settled(bot)
            assert bot.tables() == before
            await bot.stop()
