"""When the rows of a checkpoint may not be true, a start looks at everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from homeroom.domain.homes.marker import MARKER_TYPE
from tests.fake import FakeHomeserver, Match, Respond
from tests.plugin.harness import Bot, own_sync, running, until
from tests.plugin.starts import (
    CONFIG,
    FORBIDDEN,
    LOOK,
    asked_at_start,
    looked_at_everything,
    redact_the_marker,
    rename,
    settled,
)


def edit_a_row(bot: Bot) -> None:
    bot.alter("UPDATE chats SET name = 'Edited'")


def delete_a_row(bot: Bot) -> None:
    bot.alter("DELETE FROM chats WHERE chat_id = 'C2'")


def add_a_row(bot: Bot) -> None:
    bot.alter(
        "INSERT INTO homes (matrix_user_id, space_id, status, created_at, updated_at)"
        " VALUES ('@x:fake.test', '!x', 'active', 1, 1)"
    )


def lose_the_position(bot: Bot) -> None:
    bot.alter("DELETE FROM sync_state WHERE key = 'position'")


def move_the_position(bot: Bot) -> None:
    bot.alter("UPDATE sync_state SET value = 's1_0' WHERE key = 'position'")


def be_away_for_long(bot: Bot) -> None:
    bot.alter("UPDATE sync_state SET saved_at = saved_at - 1000 * 60 * 60 * 25")


def come_from_the_future(bot: Bot) -> None:
    bot.alter("UPDATE sync_state SET saved_at = saved_at + 1000 * 60 * 60")


def have_been_somebody_else(bot: Bot) -> None:
    bot.alter("UPDATE sync_state SET bot = '@other:fake.test' WHERE key = 'position'")


def adopt_no_more(bot: Bot) -> None:
    bot.config = bot.config.replace("adopt_unmarked: true", "adopt_unmarked: false")


def refuse_the_position(bot: Bot) -> None:
    nothing = Respond(400, {"errcode": "M_UNKNOWN", "error": "Invalid stream token"})
    bot.hs.fail(Match(when=own_sync), nothing)


DOUBTS: list[Callable[[Bot], None]] = [
    edit_a_row,
    delete_a_row,
    add_a_row,
    lose_the_position,
    move_the_position,
    be_away_for_long,
    come_from_the_future,
    have_been_somebody_else,
    adopt_no_more,
    refuse_the_position,
]


@pytest.mark.parametrize("doubt", DOUBTS, ids=[d.__name__ for d in DOUBTS])
async def test_at_the_least_doubt_everything_is_looked_at(
    hs: FakeHomeserver, tmp_path: Path, doubt: Callable[[Bot], None]
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        before = bot.tables()["chats"]
        await bot.stop()
        doubt(bot)
        assert [request for request in await asked_at_start(bot) if LOOK(request)]
        assert bot.tables()["chats"] == before


async def test_another_build_looks_at_everything(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(hs.user("anna"))
        await bot.stop()
        monkeypatch.setattr("homeroom.domain.homes.checkpoint.RULES", 999)
        assert [request for request in await asked_at_start(bot) if LOOK(request)]


async def test_if_much_has_changed_everything_is_looked_at(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = hs.user("anna")
    monkeypatch.setattr("homeroom.startup.resume.MANY", 0)
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        rename(bot, anna)
        assert looked_at_everything(await asked_at_start(bot))
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]


async def test_a_room_that_cannot_be_looked_at_again_makes_it_look_at_everything(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        rename(bot, anna)
        fault = hs.fail(LOOK, Respond(500, text="no"))
        await bot.start()
        assert fault.hits
        await settled(bot)
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]


async def test_unreadable_rooms_prove_nothing(hs: FakeHomeserver, tmp_path: Path) -> None:
    """A room that could not be read is read again at the next start, whatever became of it."""
    anna = hs.user("anna")
    hs.service.unstable_features["org.matrix.simplified_msc3575"] = False
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        fault = hs.fail(f"rooms/{chat_id}/state$", FORBIDDEN, times=None)
        anna.set_state(chat_id, "m.room.name", {"name": "Renamed"})
        await until("it was asked for", lambda: fault.hits)
        for _ in range(3):
            await bot.ask(anna, chat_id, "Hello")
        await bot.kill()
        fault.cancel()
        assert [request for request in await asked_at_start(bot) if LOOK(request)]
        assert "Renamed" in [row["name"] for row in bot.tables()["chats"]]


async def test_what_the_homeserver_does_not_let_us_repair_is_no_doubt(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        redact_the_marker(bot, anna)
        fault = hs.fail(Match(method="PUT", path=MARKER_TYPE), FORBIDDEN, times=None)
        await bot.start()
        await settled(bot)
        assert fault.hits
        await bot.stop()
        assert not [request for request in await asked_at_start(bot) if LOOK(request)]
        fault.cancel()
