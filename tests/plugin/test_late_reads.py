"""Reads that are late: a worker answers that has not heard of what was just written.

Whatever it says: one home each, each chat once, rows that say what is so, and no wrong word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.runtime.clock import now
from tests.fake import FakeHomeserver, Hang, Match
from tests.plugin.harness import Bot, running, until
from tests.plugin.test_commands import ARCHIVED
from tests.plugin.test_onboarding import TWO_CHATS, is_complete
from tests.plugin.test_reset import DONE, at


@pytest.fixture(params=[{}, {"every": 2}], ids=["one late worker", "one of two"])
async def lag(request: pytest.FixtureRequest) -> dict[str, int]:
    """How the homeserver is late, from when a test says so; it never catches up by itself."""
    return dict(request.param)


@pytest.fixture
async def bot(hs: FakeHomeserver, tmp_path: Path) -> AsyncIterator[Bot]:
    async with running(hs, tmp_path) as running_bot:
        yield running_bot


def names(bot: Bot) -> list[str]:
    return [row["name"] for row in bot.tables()["chats"]]


def statuses(bot: Bot) -> list[str]:
    tables = bot.tables()
    return [row["status"] for row in (*tables["homes"], *tables["chats"])]


async def test_onboarding_makes_one_home(
    hs: FakeHomeserver, tmp_path: Path, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=TWO_CHATS) as bot:
        await bot.settled()
        late = hs.lag(**lag)
        await bot.onboard(anna)
        assert is_complete(bot, anna, names=("Work", "Play"))
        assert late.stale
        assert statuses(bot) == ["active", "active", "active"]


async def test_two_invites_at_once_make_one_home(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.settled()
    hs.lag(**lag)
    for room_id in [anna.create_room(invite=[bot.me]) for _ in range(2)]:
        await bot.hear(room_id, 1)
    await bot.settled()
    assert is_complete(bot, anna)


async def test_a_new_chat_is_there_at_once(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    hs.lag(**lag)
    said = await bot.ask(anna, chat_id, "!chat new Work")
    assert "Work" in said
    await bot.settled()
    assert is_complete(bot, anna, names=("General", "Work"))
    new = bot.chats_of(anna)[1]
    anna.join(new)
    assert await bot.ask(anna, new, "Hello") == bot.echo(new, "Hello")


async def test_a_chat_has_its_new_name(hs: FakeHomeserver, bot: Bot, lag: dict[str, int]) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    hs.lag(**lag)
    await bot.ask(anna, chat_id, "!chat rename Work")
    await bot.settled()
    assert names(bot) == ["Work"]
    anna.set_state(chat_id, "m.room.name", {"name": "Play"})
    await bot.settled()
    assert names(bot) == ["Play"]
    await bot.ask(anna, chat_id, "!chat rename Rest")
    await bot.settled()
    assert names(bot) == ["Rest"]


async def test_a_name_that_is_told_before_its_request_is_answered_may_change_again(
    hs: FakeHomeserver, bot: Bot
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    writing = Match(method="PUT", path="/state/m.room.name", user=bot.me.user_id)
    answering = hs.fail(writing, Hang(after=True))
    told = bot.app.account.homeserver.told

    def is_told() -> bool:
        event = told.event(chat_id, ("m.room.name", ""), now=now())
        return event is not None and event["content"]["name"] == "Work"

    anna.send(chat_id, "!chat rename Work")
    await until("news of the new name", is_told)
    answering.release()
    await bot.hear(chat_id, 1)
    await bot.settled()
    anna.set_state(chat_id, "m.room.name", {"name": "Play"})
    await bot.settled()
    assert names(bot) == ["Play"]


async def test_a_name_that_is_given_twice_may_change_again(hs: FakeHomeserver, bot: Bot) -> None:
    """The homeserver makes no event of the second time, so nobody will ever be told of one."""
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    await bot.ask(anna, chat_id, "!chat rename Work")
    await bot.restart()
    await bot.ask(anna, chat_id, "!chat rename Work")
    anna.set_state(chat_id, "m.room.name", {"name": "Play"})
    await bot.settled()
    assert names(bot) == ["Play"]


async def test_an_archived_chat_does_not_answer(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    hs.lag(**lag)
    assert ARCHIVED in await bot.ask(anna, chat_id, "!chat archive")
    assert await bot.ask(anna, chat_id, "Hello") == replies.ARCHIVED
    await bot.ask(anna, chat_id, "!chat unarchive")
    assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_chat_stays_archived_though_somebody_did_something_at_the_same_time(
    hs: FakeHomeserver, bot: Bot, is_restarted: bool
) -> None:
    """For that somebody it was not archived yet, and that is the state that `/sync` tells."""
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    assert ARCHIVED in await bot.ask(anna, chat_id, "!chat archive")
    hs.branch(chat_id, beside=(MARKER_TYPE, bot.me.user_id))
    anna.set_state(chat_id, "m.room.name", {"name": "Play"})
    await bot.settled()
    if is_restarted:
        await bot.restart()
        await bot.settled()
    assert (names(bot), statuses(bot)) == (["Play"], ["active", "archived"])
    assert await bot.ask(anna, chat_id, "Hello") == replies.ARCHIVED


async def test_a_cleared_chat_answers_under_its_new_conversation(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    before = bot.key(chat_id)
    hs.lag(**lag)
    await bot.ask(anna, chat_id, "!chat clear")
    assert before not in await bot.ask(anna, chat_id, "Hello")
    assert bot.key(chat_id) != before


async def test_an_upgraded_chat_goes_on(hs: FakeHomeserver, bot: Bot, lag: dict[str, int]) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    key = bot.key(chat_id)
    hs.lag(**lag)
    new = bot.me.upgrade(chat_id, "12")
    await bot.settled()
    assert hs.room(new).members[anna.user_id] == "invite"
    anna.join(new)
    assert await bot.ask(anna, new, "Hello") == f"Hello\n\n({key})"
    assert bot.key(new) == key


async def test_after_a_start_without_its_database_everything_is_found_in_time(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    """What the first scan was not told is told by later lists, and by `/sync`."""
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    late = hs.lag(**lag)
    await bot.ask(anna, chat_id, "!chat new Work")
    await bot.settled()
    before = bot.tables()
    await bot.stop()
    bot.wipe()
    await bot.start()
    late.catch_up(hs.world.stream)
    await bot.settled()
    assert bot.tables() == before


async def test_a_restart_soon_after_a_room_was_made_knows_it(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    hs.lag(**lag)
    await bot.ask(anna, chat_id, "!chat new Work")
    await bot.settled()
    before = bot.tables()
    await bot.kill()
    bot.invalidate_checkpoint()
    await bot.start()
    await bot.settled()
    assert bot.tables() == before


async def test_a_room_that_was_left_stays_left(
    hs: FakeHomeserver, bot: Bot, lag: dict[str, int]
) -> None:
    anna = hs.user("anna")
    await bot.onboard(anna)
    (chat_id,) = bot.chats_of(anna)
    hs.lag(**lag)
    bot.me.leave(chat_id)
    await bot.settled()
    assert statuses(bot) == ["active", "left"]
    anna.set_state(bot.space_of(anna), "m.room.name", {"name": "Home"})
    await bot.settled()
    assert statuses(bot) == ["active", "left"]


async def test_a_reset_tells_what_became_of_each_room(
    hs: FakeHomeserver, tmp_path: Path, lag: dict[str, int]
) -> None:
    """And the owner has one new home afterwards."""
    async with at(hs, tmp_path) as place:
        old = place.home
        hs.lag(**lag)
        report = await place.run(await place.confirm())
        assert DONE in report
        assert "failed 0, skipped 0" in report
        if not lag:
            assert "The homeserver still lists 3 of the rooms that were left." in report
        assert old.isdisjoint(place.rooms)
        await place.bot.settled()
        assert set(statuses(place.bot)) == {"left"}
        room_id = place.ada.create_room(invite=[place.bot.me])
        await place.bot.hear(room_id, 1)
        await place.bot.settled()
        assert place.home.isdisjoint(old)
        assert len(place.chats) == 2
