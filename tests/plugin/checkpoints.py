"""The checkpoint in the account data of a test's bot, and what a scan says instead."""

from __future__ import annotations

from typing import Any

from homeroom.domain.homes.checkpoint_shards import HEAD_TYPE, read_head
from tests.fake import Match, Recorded
from tests.plugin.harness import Bot, Row
from tests.plugin.starts import asked_at_start, looked_at_everything, settled

Data = dict[str, Any]
ACCOUNT_DATA = Match(path="account_data/dev.homeroom.checkpoint")
PUT = Match(method="PUT", path="account_data/dev.homeroom.checkpoint")


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
