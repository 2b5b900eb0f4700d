"""Rescans after events, and when they are done."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from homeroom.homes import reconciler
from tests.fake import FakeHomeserver
from tests.plugin.harness import POSITION, running, until


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
