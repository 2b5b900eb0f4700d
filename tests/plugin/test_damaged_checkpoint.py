"""A checkpoint in the account data that may not be true: everything is scanned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
from homeroom.storage import UPGRADES
from tests.domain.homes.test_checkpoint_shards import resealed
from tests.fake import FakeHomeserver, Match, Respond
from tests.plugin.checkpoints import ACCOUNT_DATA, account_data, live, put
from tests.plugin.harness import Bot, own_sync, running
from tests.plugin.miniature import META
from tests.plugin.starts import CONFIG, asked_at_start, looked_at_everything

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
