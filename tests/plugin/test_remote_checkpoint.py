"""A lost database: restored from the bot's account data, and the same as if all were scanned."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from homeroom.domain.homes.checkpoint import Digest, Origin, make_checkpoint
from homeroom.domain.homes.checkpoint_shards import (
    HEAD_TYPE,
    Present,
    joined,
    read_head,
    read_shard,
    shard_type,
    writes,
)
from homeroom.homes import remote_checkpoint
from homeroom.matrix.outgoing import Priority
from homeroom.startup import maintenance
from homeroom.storage import UPGRADES
from tests.domain.homes.test_checkpoint_shards import resealed
from tests.fake import FakeHomeserver, Hang, Match, RateLimit, Recorded, Respond, User
from tests.plugin.conftest import Present as Clock
from tests.plugin.harness import Bot, Row, own_sync, running, until
from tests.plugin.miniature import META
from tests.plugin.test_resume import (
    CONFIG,
    FORBIDDEN,
    asked_at_start,
    looked_at_everything,
    settled,
    throw_the_bot_out,
)

Data = dict[str, Any]
ACCOUNT_DATA = Match(path="account_data/dev.homeroom.checkpoint")
PUT = Match(method="PUT", path="account_data/dev.homeroom.checkpoint")


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right must be right before anything is verified."""
    monkeypatch.setattr(maintenance, "VERIFY_AFTER", (3600.0,))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed is written at once."""
    monkeypatch.setattr(remote_checkpoint, "WRITE_EVERY", 0.01)


def account_data(bot: Bot) -> Data:
    """The checkpoint, type to content."""
    stored = bot.hs.world.accounts[bot.me.user_id].account_data
    return {
        kind: content
        for kind, (content, _) in stored.items()
        if kind.startswith(HEAD_TYPE) and content
    }


def put(bot: Bot, kind: str, content: Any) -> None:
    bot.hs.world.set_account_data(bot.me.user_id, kind, content)


def written(requests: list[Recorded]) -> list[str]:
    return [request.path.rpartition("/")[2] for request in requests if PUT(request)]


def is_written(bot: Bot) -> bool:
    """Whether the account data has what the database has."""
    head = read_head(account_data(bot).get(HEAD_TYPE))
    (stored,) = bot.query("SELECT value FROM sync_state WHERE key = 'proof'")
    return head is not None and stored["value"].startswith(head.checkpoint)


def live(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows that a scan without any memory can make."""
    return {
        name: [row for row in rows if row["status"] != "left"] for name, rows in tables.items()
    }


async def scanned(bot: Bot) -> dict[str, list[Row]]:
    """What a whole scan says, with no memory at all."""
    await bot.stop()
    bot.wipe()
    assert looked_at_everything(await asked_at_start(bot))
    await settled(bot)
    return live(bot.tables())


# Restored


async def test_a_lost_database_costs_one_read_and_one_sync(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        before = bot.tables()
        await bot.stop()
        bot.wipe(checkpoint=False)
        requests = await asked_at_start(bot)
        assert bot.tables() == before
        assert sorted(request.route for request in requests)[:4] == [
            "joined_rooms",
            "sync",
            "user/{user_id}/account_data/{type}",
            "user/{user_id}/account_data/{type}",
        ]
        assert not looked_at_everything(requests)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        assert len(bot.words(chat_id)) == 1
        await settled(bot)
        assert live(bot.tables()) == await scanned(bot)


async def test_the_next_start_changes_nothing_and_sends_no_write(
    hs: FakeHomeserver, tmp_path: Path, soon: None
) -> None:
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(hs.user("anna"))
        await bot.stop()
        bot.wipe(checkpoint=False)
        await bot.start()
        await bot.settled()
        before = bot.tables()
        await bot.stop()
        mark = len(hs.requests)
        await bot.start()
        await until("it looked", lambda: [r for r in hs.requests[mark:] if ACCOUNT_DATA(r)])
        await bot.settled()
        assert [r for r in hs.requests[mark:] if r.changes_rooms or PUT(r)] == []
        assert bot.tables() == before


async def test_what_was_said_before_the_loss_is_answered_once_and_only_then(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """The position may be older than the loss: what is answered is asked of the rooms."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, other_id) = bot.chats_of(anna)
        await bot.stop()
        old = account_data(bot)
        await bot.start()
        await bot.ask(anna, chat_id, "Before")
        await bot.ask(anna, other_id, "!chat rename Other")
        await settled(bot)
        await bot.kill()
        anna.send(chat_id, "Meanwhile")
        asked_in = bert.create_room(invite=[bot.me])
        for kind, content in old.items():
            put(bot, kind, content)
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        await bot.hear(asked_in, 1)
        await settled(bot)
        assert bot.words(chat_id) == [
            bot.echo(chat_id, "Before"),
            bot.echo(chat_id, "Meanwhile"),
        ]
        assert len(bot.words(other_id)) == 1
        assert "Other" in [row["name"] for row in bot.tables()["chats"]]
        assert bot.space_of(bert)
        assert live(bot.tables()) == await scanned(bot)


async def test_restored_and_killed_at_once_it_still_knows_what_was_answered(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        (chat_id, _) = bot.chats_of(anna)
        await bot.stop()
        old = account_data(bot)
        await bot.start()
        await bot.ask(anna, chat_id, "Before")
        await bot.kill()
        for kind, content in old.items():
            put(bot, kind, content)
        bot.wipe(checkpoint=False)
        await bot.start()
        await bot.kill()
        await bot.start()
        await settled(bot)
        assert bot.words(chat_id) == [bot.echo(chat_id, "Before")]


async def test_rows_that_the_database_still_has_are_not_overruled(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """They may be later than the checkpoint: their rooms are scanned, the others are not."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        before = bot.tables()
        await bot.stop()
        bot.alter("DELETE FROM chats WHERE matrix_user_id = ?", anna.user_id)
        bot.alter("UPDATE chats SET platform_chat_id = 'x' WHERE chat_id = 'C1'")
        requests = await asked_at_start(bot)
        assert not looked_at_everything(requests)
        assert bot.tables() == before


# Doubts: everything is scanned


SHARD = shard_type(0, slot=0)
"""The first that is written."""


def damage(alter: Callable[[Any], Any], *, kind: str = SHARD) -> Callable[[Bot], None]:
    def damage_it(bot: Bot) -> None:
        put(bot, kind, alter(account_data(bot)[kind]) or {})

    return damage_it


def of_another_origin(**origin: Any) -> Callable[[Bot], None]:
    """A checkpoint that is right in itself."""

    def put_another(bot: Bot) -> None:
        data = account_data(bot)
        head = read_head(data[HEAD_TYPE])
        assert head is not None
        rows = joined([read_shard(data[SHARD], head=head, number=0)])
        text = make_checkpoint(replace(origin_of(bot), **origin), Digest.of(rows))
        _, todo = writes(
            rows,
            checkpoint=text,
            position=head.position,
            saved_at=head.saved_at,
            present=Present(),
        )
        for kind, content in todo:
            put(bot, kind, content)

    return put_another


def origin_of(bot: Bot) -> Origin:
    return Origin(
        bot=bot.me.user_id,
        homeserver=bot.hs.url,
        version=str(META.version),
        schema=len(UPGRADES.upgrades),
        adopt_unmarked=True,
    )


def older(bot: Bot) -> None:
    damage(resealed(lambda head: {**head, "saved_at": 1}), kind=HEAD_TYPE)(bot)


def a_position_that_is_refused(bot: Bot) -> None:
    bot.hs.fail(
        Match(when=lambda request: own_sync(request) and "since" in request.query),
        Respond(400, {"errcode": "M_INVALID_PARAM", "error": "Unknown position"}),
    )


def a_position_that_is_answered_with_everything(bot: Bot) -> None:
    bot.hs.switches.future_since = "initial"
    future = resealed(lambda head: {**head, "position": f"{head['position'][:1]}999999"})
    damage(future, kind=HEAD_TYPE)(bot)


DOUBTS: dict[str, tuple[Callable[[Bot], None], str]] = {
    "a shard is missing": (damage(lambda _: {}), "shard 0 is missing"),
    "a shard was altered": (
        damage(lambda content: {**content, "data": content["data"] + " "}),
        "shard 0 was altered",
    ),
    "a shard of another generation": (
        damage(resealed(lambda data: {**data, "generation": 2})),
        "shard 0 is of another generation",
    ),
    "a shard of 10 MB": (
        damage(lambda content: {**content, "data": "x" * 10_000_000}),
        "shard 0 has more than",
    ),
    "a shard that is not JSON": (damage(lambda _: "x"), "shard 0 is not an object"),
    "a head that was altered": (
        damage(lambda content: {**content, "checksum": "0"}, kind=HEAD_TYPE),
        "the head was altered",
    ),
    "a head of a later version": (
        damage(lambda content: {**content, "version": 2}, kind=HEAD_TYPE),
        "the head is of version 2",
    ),
    "another bot's": (of_another_origin(bot="@other:fake.test"), "of another build, account"),
    "another build's": (of_another_origin(version="0.0.1"), "of another build, account"),
    "old": (older, "too old"),
    "refused": (a_position_that_is_refused, "Unknown position"),
    "unknown": (a_position_that_is_answered_with_everything, "does not know the position"),
}


@pytest.mark.parametrize(("doubt", "reason"), DOUBTS.values(), ids=DOUBTS)
async def test_at_the_least_doubt_everything_is_scanned(
    hs: FakeHomeserver,
    tmp_path: Path,
    unverified: None,
    caplog: pytest.LogCaptureFixture,
    doubt: Callable[[Bot], None],
    reason: str,
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        before = bot.tables()
        await bot.stop()
        bot.wipe(checkpoint=False)
        doubt(bot)
        caplog.clear()
        assert looked_at_everything(await asked_at_start(bot))
        (said,) = [r.getMessage() for r in caplog.records if "scanning all rooms" in r.msg]
        assert reason in said
        assert bot.tables() == before
        await bot.stop()
        # And it is whole again.
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        assert bot.tables() == before


async def test_a_checkpoint_from_the_homeservers_future_is_none(
    hs: FakeHomeserver, tmp_path: Path, unverified: None, caplog: pytest.LogCaptureFixture
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        before = bot.tables()
        backup = hs.backup()
        await bot.onboard(bert)
        await bot.stop()
        data = account_data(bot)
        hs.restore(backup)
        for kind, content in data.items():
            put(bot, kind, content)
        bot.wipe(checkpoint=False)
        caplog.clear()
        assert looked_at_everything(await asked_at_start(bot))
        assert "rooms that I am not in; scanning all rooms" in caplog.text
        assert live(bot.tables()) == before


async def test_a_database_that_proves_its_rows_is_not_overruled(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """Not even if it is from a backup and the checkpoint is newer."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        await bot.stop()
        kept = bot.database_path.read_bytes()
        await bot.start()
        (chat_id, _) = bot.chats_of(anna)
        await bot.ask(anna, chat_id, "!chat rename Later")
        await bot.stop()
        bot.wipe(checkpoint=False)
        bot.database_path.write_bytes(kept)
        requests = await asked_at_start(bot)
        assert not [request for request in requests if ACCOUNT_DATA(request)]
        assert "Later" in [row["name"] for row in bot.tables()["chats"]]


# Writing


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


async def test_a_room_that_the_bot_was_thrown_out_of_keeps_its_row(
    hs: FakeHomeserver, tmp_path: Path, unverified: None
) -> None:
    """A scan without memory could not know of it any more."""
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=CONFIG) as bot:
        await bot.onboard(anna)
        throw_the_bot_out(bot, anna)
        await settled(bot)
        before = bot.tables()
        assert "left" in [row["status"] for row in before["chats"]]
        await bot.stop()
        bot.wipe(checkpoint=False)
        assert not looked_at_everything(await asked_at_start(bot))
        assert bot.tables() == before


# The law


PEOPLE = ("anna", "bert")
UNASKED = ("write", "rename", "unlink", "throw out")
"""What nobody asks the bot for."""
STEPS = ("write", "rename", "new chat", "clear", "archive", "unlink", "throw out", "invite")


async def _do(bot: Bot, user: User, step: str, *, is_up: bool) -> None:
    """Something happens to somebody's home, whether the bot sees it or not."""
    chats = bot.chats_of(user)
    if not chats:
        return
    match step:
        case "write":
            user.send(chats[0], f"Hello {len(bot.hs.requests)}")
        case "rename":
            user.set_state(chats[-1], "m.room.name", {"name": f"Name {len(bot.hs.requests)}"})
        case "unlink":
            user.set_state(bot.space_of(user), "m.space.child", {}, state_key=chats[-1])
        case "throw out" if len(chats) > 1:
            bot.me.leave(chats[-1])
        case "new chat" | "clear" | "archive" if is_up:
            user.send(chats[0], f"!chat {step.removesuffix(' chat')}")
    if is_up:
        await bot.settled()


@pytest.mark.parametrize("seed", range(5))
async def test_the_verification_of_a_restored_start_finds_no_drift(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Whatever people do before it and meanwhile (drift is an error in the log: `no_bugs`)."""
    choose = random.Random(seed)
    people = [hs.user(name) for name in PEOPLE]
    async with running(hs, tmp_path, config=CONFIG) as bot:
        for user in people:
            await bot.onboard(user)
        await bot.ask(people[0], bot.chats_of(people[0])[0], "Hello")

        async def do_something() -> None:
            await _do(bot, choose.choice(people), choose.choice(UNASKED), is_up=False)

        for _ in range(4):
            await do_something()
        await bot.settled()
        await bot.stop()
        for _ in range(2):
            await do_something()
        bot.wipe(checkpoint=False)
        mark = len(caplog.text)
        await bot.start()
        while "Verified" not in caplog.text[mark:]:
            await do_something()
            await asyncio.sleep(0.01)
        await bot.settled()
        assert "Restored" in caplog.text[mark:]
        assert live(bot.tables()) == await scanned(bot)


LAW = settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


@LAW
@given(data=st.data())
async def test_whatever_happened_restored_rows_are_what_a_scan_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every history, every prefix and loss of writes, every age of the position."""

    def draw(what: str, strategy: st.SearchStrategy[Any]) -> Any:
        return data.draw(strategy, label=what)

    steps = st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(STEPS)), max_size=4)
    async with FakeHomeserver() as hs:
        hs.world.clock = Clock()
        people = {name: hs.user(name) for name in PEOPLE}
        async with running(hs, tmp_path_factory.mktemp("law"), config=CONFIG) as bot:
            for user in people.values():
                await bot.onboard(user)
            kept: list[Data] = []
            for _ in range(draw("lives", st.integers(1, 2))):
                for name, step in draw("seen", steps):
                    await _do(bot, people[name], step, is_up=True)
                lost = draw("writes that are lost", st.integers(0, 3))
                fault = hs.fail(PUT, FORBIDDEN, skip=lost, times=None)
                await (bot.stop() if draw("stopped", st.booleans()) else bot.kill())
                fault.cancel()
                kept.append(account_data(bot))
                for name, step in draw("unseen", steps):
                    await _do(bot, people[name], step, is_up=False)
                if draw("an older checkpoint", st.booleans()):
                    for kind, content in draw("which", st.sampled_from(kept)).items():
                        put(bot, kind, content)
                if draw("the database is lost", st.booleans()):
                    bot.wipe(checkpoint=False)
                await bot.start()
                await bot.settled()
            for user in people.values():
                for chat_id in bot.chats_of(user):
                    said = [c["body"] for c in bot.said(chat_id) if c["msgtype"] == "m.text"]
                    assert len(said) == len(set(said))
            restored = live(bot.tables())
            assert {len(bot.spaces_of(user)) for user in people.values()} == {1}
            assert restored == await scanned(bot)
