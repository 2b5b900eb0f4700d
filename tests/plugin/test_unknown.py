"""Unknown is not absent: whatever read fails in whatever way, nothing is retired or made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeroom import replies
from homeroom.matrix import retry_budgets
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake import (
    Alter,
    DropBefore,
    FakeHomeserver,
    Hang,
    Match,
    RateLimit,
    Respond,
    Truncate,
)
from tests.fake.faults import Action
from tests.plugin.harness import own_sync, running, until

AT_ONCE = "reconcile: {start_timeout: 0}"


READS = {
    "joined rooms": Match(path="joined_rooms$"),
    "versions": Match(path="versions$", user="@bot:fake.test"),
    "sliding sync": Match(path="simplified_msc3575/sync$"),
    "members": Match(when=lambda r: "room_subscriptions" in (r.body or {})),
    "catching up": Match(when=lambda r: own_sync(r) and "since" in r.query),
}
FAILURES: dict[str, Action] = {
    "500": Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "502 from a proxy": Respond(502, text="<html>Bad gateway</html>"),
    "404 from a proxy": Respond(404, text="<html>Not here</html>"),
    "403": Respond(403, {"errcode": "M_FORBIDDEN", "error": "Not now"}),
    "404": Respond(404, {"errcode": "M_NOT_FOUND", "error": "Not found"}),
    "429": RateLimit(retry_after_ms=100_000_000),
    "dropped": DropBefore(),
    "cut off": Truncate(),
    "hanging": Hang(),
    "a web page": Respond(200, text="<html>Log in to the hotel</html>"),
    "nothing": Respond(200, text=""),
    "null": Respond(200, text="null"),
    "a list": Respond(200, text="[]"),
    "an empty object": Respond(200, text="{}"),
    "depths": Respond(200, text="[" * 100_000),
    "other types": Alter(
        lambda answer: [7] * len(answer) if isinstance(answer, list) else dict.fromkeys(answer, 7)
    ),
}


@pytest.fixture(autouse=True)
def short_attempts(short_waits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del short_waits
    for name in ("READING", "READING_ROOMS", "SCANNING"):
        budget = RetryBudget(call=0.2, failing=0.2, attempt=0.5)
        monkeypatch.setattr(retry_budgets, name, budget)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_read_that_fails_at_the_start_costs_time_and_nothing_else(
    hs: FakeHomeserver, tmp_path: Path, read: Match, failure: Action
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=AT_ONCE) as bot:
        await bot.settled()
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before, rooms = bot.tables(), set(hs.rooms)
        await bot.stop()
        fault = hs.fail(read, failure, times=None)
        await bot.start()
        anna.send(chat_id, "Hello")
        await fault.reached()
        assert bot.tables() == before
        fault.cancel()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]
        await bot.settled()
        assert bot.words(chat_id) == [bot.echo(chat_id, "Hello")]
        assert bot.tables() == before
        assert set(hs.rooms) == rooms


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_room_that_cannot_be_read_keeps_its_row_and_goes_on_working(
    tmp_path: Path, without_sliding_sync: FakeHomeserver, failure: Action
) -> None:
    hs = without_sliding_sync
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        for room_id in (chat_id, space_id):
            await bot.stop()
            path = f"rooms/{room_id}/state$"
            fault = hs.fail(Match(method="GET", path=path), failure, times=None)
            bot.invalidate_checkpoint()
            await bot.start()
            assert fault.hits
            assert bot.tables() == before
            text = f"Hello in {room_id}"
            assert await bot.ask(anna, chat_id, text) == bot.echo(chat_id, text)
            fault.cancel()
            await bot.settled()
            assert bot.tables() == before


async def test_a_room_that_cannot_be_read_is_read_again_until_it_can_be(
    tmp_path: Path, without_sliding_sync: FakeHomeserver
) -> None:
    """A lost database and an unreadable home: no other home, and the old one when it is back."""
    hs = without_sliding_sync
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        space_id = await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        answer = bot.echo(chat_id, "Hello?")
        before, rooms = bot.tables(), set(hs.rooms)
        await bot.stop()
        bot.wipe()
        paths = f"rooms/({space_id}|{chat_id})/state$"
        fault = hs.fail(Match(method="GET", path=paths), FAILURES["500"], times=None)
        await bot.start()
        anna.send(chat_id, "Hello?")
        asked = anna.create_room(invite=[bot.me])
        assert await bot.hear(asked, 1) == [replies.OUTAGE]
        assert bot.tables() == {"homes": [], "chats": []}
        assert set(hs.rooms) == {*rooms, asked}
        fault.cancel()
        assert await bot.hear(chat_id, 1) == [answer]
        await bot.settled()
        assert bot.words(chat_id) == [answer]
        assert bot.tables() == before
        assert set(hs.rooms) == {*rooms, asked}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_look_that_fails_in_the_middle_of_an_invite_makes_no_room(
    hs: FakeHomeserver, tmp_path: Path, failure: Action
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        before, rooms = bot.tables(), set(hs.rooms)
        fault = hs.fail(READS["joined rooms"], failure, times=None)
        asked = anna.create_room(invite=[bot.me])
        (words,) = await bot.hear(asked, 1)
        assert words == replies.OUTAGE or words.startswith("The homeserver refused that: M_")
        assert bot.tables() == before
        assert set(hs.rooms) == {*rooms, asked}
        fault.cancel()
        await bot.ask(anna, asked, "Once more")
        await bot.settled()
        assert bot.tables() == before


async def test_a_fast_way_that_leaves_rooms_out_is_not_believed(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        before = bot.tables()
        hs.fail(READS["sliding sync"], Alter(lambda answer: {**answer, "rooms": {}}), times=None)
        await bot.restart()
        assert bot.tables() == before


async def test_maubots_own_sync_may_fail_too(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        before = bot.tables()
        await bot.stop()
        hs.fail(Match(when=bot.is_long_poll), Hang(), times=None)
        await bot.start()
        assert bot.tables() == before
        await bot.kill()
        hs.faults.clear()
        await bot.start()


async def test_a_server_that_is_down_is_waited_for(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=AT_ONCE) as bot:
        await bot.settled()
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        before = bot.tables()
        await bot.stop()
        await hs.stop()
        await bot.start()
        anna.send(chat_id, "Hello")
        await hs.start()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, "Hello")]
        assert bot.tables() == before


@pytest.fixture
def without_sliding_sync(monkeypatch: pytest.MonkeyPatch, hs: FakeHomeserver) -> FakeHomeserver:
    monkeypatch.setitem(hs.service.unstable_features, "org.matrix.simplified_msc3575", False)
    return hs


async def test_a_room_that_no_way_of_reading_tells_of_keeps_nobody_from_a_home(
    tmp_path: Path, without_sliding_sync: FakeHomeserver, caplog: pytest.LogCaptureFixture
) -> None:
    """That it has neither a create event nor the bot's marker is an answer; a refusal is none."""
    hs = without_sliding_sync
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        ghost = bert.create_room(invite=[bot.me])
        bot.me.join(ghost)
        reads = Match(method="GET", path=f"rooms/{ghost}/(state|members)")
        refused = Respond(403, {"errcode": "M_FORBIDDEN", "error": "Not now"})
        fault = hs.fail(reads, refused, times=None)
        invited_in = anna.create_room(invite=[bot.me])
        await until("it is said", lambda: f"whether {ghost} is Homeroom's" in caplog.text)
        assert bot.spaces_of(anna) == []
        fault.cancel()
        hs.fail(reads, Respond(404, {"errcode": "M_NOT_FOUND", "error": "None"}), times=None)
        await until("a home", lambda: "This is your home" in "".join(bot.words(invited_in)))
        assert len(bot.spaces_of(anna)) == 1
        hs.faults.clear()
