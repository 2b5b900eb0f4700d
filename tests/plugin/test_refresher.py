"""Rescans after events, and when they are done."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.delivery import inbox
from homeroom.homes import reconciler, refresher
from homeroom.runtime.retry import RetryPolicy
from homeroom.startup import maintenance
from tests.fake import FakeHomeserver, Recorded
from tests.plugin import harness
from tests.plugin.harness import POSITION, Bot, running, until


async def test_a_bug_in_one_rescan_does_not_hold_the_position_for_ever(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)

        def stumble(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        before = bot.query(POSITION)
        with monkeypatch.context() as bug:
            bug.setattr(reconciler, "make_plan", stumble)
            anna.set_state(chat_id, "m.room.name", {"name": "Work"})
            await until("the bug", lambda: "ZeroDivisionError" in caplog.text)
            await bot.settled()
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        await bot.settled()
        assert bot.query(POSITION) != before
        proof = bot.query("SELECT value FROM sync_state WHERE key = 'proof'")
        assert proof == [{"value": ""}], "the next start scans everything"
        caplog.clear()  # this bug was meant
        await bot.restart()
        await bot.settled()
        assert [row["name"] for row in bot.tables()["chats"]] == ["Work"]
    assert not [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]


async def test_who_changes_something_all_the_time_waits_for_it_alone(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many scans an hour for each person; what is left is scanned later, or at the start."""
    waiting = {*harness.SLEEPERS, "homeroom: rescanning"}
    monkeypatch.setattr(harness, "SLEEPERS", waiting)
    monkeypatch.setattr(refresher, "SCANS_AN_HOUR", 10)
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        (annas,), (berts,) = bot.chats_of(anna), bot.chats_of(bert)
        before = len(looks(bot))
        for number in range(40):
            anna.set_state(annas, "m.room.name", {"name": f"Work {number}"})
            await bot.settled()
        bert.set_state(berts, "m.room.name", {"name": "Play"})
        await until("a scan for Bert", lambda: names(bot)[berts] == "Play")
        assert len(looks(bot)) - before <= refresher.SCANS_AN_HOUR // 2 + 1
        assert names(bot)[annas] != "Work 39"
        assert await bot.ask(anna, annas, "Hello") == bot.echo(annas, "Hello")
        await bot.restart()
        await bot.settled()
        assert names(bot) == {annas: "Work 39", berts: "Play"}


async def test_a_long_chain_of_upgrades_is_followed_in_parts(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "REREAD_AFTER", (3600,))
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        key = bot.key(chat_id)
        me, join, chain = bot.me.user_id, {"membership": "join"}, [chat_id]
        for _ in range(60):
            content = {"predecessor": {"room_id": chain[-1]}}
            chain.append(anna.create_room(creation_content=content))
            hs.force_state(chain[-1], "m.room.member", join, sender=me, state_key=me)
        for old, new in itertools.pairwise(chain[1:]):
            anna.set_state(old, "m.room.tombstone", {"body": "Moved", "replacement_room": new})
        await bot.settled()
        before = len(hs.requests)
        moved = {"body": "Moved", "replacement_room": chain[1]}
        hs.force_state(chat_id, "m.room.tombstone", moved, sender=me)
        await bot.settled()
        reads = [request for request in hs.requests[before:] if request.method == "GET"]
        assert len(reads) < 4 * reconciler.UPGRADES_AT_MOST
        await bot.restart()
        await bot.settled()
        assert await bot.ask(anna, chain[-1], "Hello") == f"Hello\n\n({key})"


async def test_who_writes_and_can_have_no_home_is_not_scanned_for_without_end(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is one too many waits in its own room, and loses nothing."""
    monkeypatch.setattr(inbox, "ANSWER_AGAIN", RetryPolicy(pauses=(3600,)))
    monkeypatch.setattr(refresher, "SCANS_AN_HOUR", 10)
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config="limits: {homes: 1}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        asked = bert.create_room(invite=[bot.me])
        await bot.hear(asked, 1)
        await bot.settled()
        before = len(looks(bot))
        for number in range(15):
            bert.send(asked, f"And now? {number}")
        await until("the rest waits", lambda: bot.app.inbox.not_done == 10)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        assert bot.words(asked) == [replies.too_many_homes()]
        assert len(looks(bot)) - before <= 10


def looks(bot: Bot) -> list[Recorded]:
    return [request for request in bot.hs.requests if request.path.endswith("/joined_rooms")]


def names(bot: Bot) -> dict[str, str]:
    return {row["room_id"]: row["name"] for row in bot.tables()["chats"]}
