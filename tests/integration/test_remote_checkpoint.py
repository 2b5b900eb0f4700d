"""A lost database is restored from the bot's account data, whatever became of its writing.

On a real Synapse and a real maubot; every doubt, and random histories, are tested on the fake
homeserver (`tests/plugin/test_remote_checkpoint.py`).
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.integration.homes import (
    Home,
    make_admin,
    onboard,
    reconciled,
    row_of,
    said_by_bot,
    say_and_hear,
    start,
    tables,
)
from tests.integration.kill_points import ALL_KILLS
from tests.stack.http import ApiError
from tests.stack.postgres import Postgres
from tests.stack.proxy import ProxiedRequest
from tests.stack.stack import MakeStack, Stack
from tests.stack.waiting import eventually

CHECKPOINT = "account_data/dev.homeroom.checkpoint"
RESTORED = "Restored 4 rows from the checkpoint"
SCANNED = "scanning all rooms"


async def furnished(
    make_stack: MakeStack, plugin: Path, cluster: Postgres | None
) -> tuple[Stack, Home, Home]:
    """Two homes, and a checkpoint of them."""
    database = {} if cluster is None else {"plugin_postgres": await cluster.create_database()}
    stack = await make_stack(
        plugin=plugin, proxy=True, config={"access": {"allow": ["*"]}}, **database
    )
    anna, bert = await asyncio.gather(*(onboard(stack, name) for name in ("anna", "bert")))
    # What is answered makes the position later than all of this: where every room is new since
    # it, everything is scanned.
    await say_and_hear(stack, anna.user, anna.chat, "Hello")
    await proved(stack)
    await stack.maubot.stop()
    while not await has_checkpoint(stack):  # on a machine so busy that a stop has no time for it
        await start(stack)
        await proved(stack)
        await stack.maubot.stop()
    return stack, anna, bert


async def has_checkpoint(stack: Stack) -> bool:
    """Whether there is a head in the account data."""
    path = f"/_matrix/client/v3/user/{quote(stack.bot.user_id)}/{CHECKPOINT}"
    try:
        return bool(await stack.bot_api.request("GET", path))
    except ApiError as error:
        if error.errcode != "M_NOT_FOUND":
            raise
        return False


async def proved(stack: Stack) -> None:
    """Wait until the rows are proved: nothing is left to be looked at, or to be repaired."""

    async def is_proved() -> bool:
        rows = await stack.database.fetch("SELECT value FROM sync_state WHERE key = 'proof'")
        return any(row["value"] for row in rows)

    await eventually("the rows are proved", is_proved)


async def renamed(stack: Stack, home: Home, name: str) -> None:
    """Rename a chat, and wait until that is stored."""
    await home.user.set_state(home.chat, "m.room.name", {"name": name})

    async def is_stored() -> bool:
        return (await row_of(stack, home.chat))["name"] == name

    await eventually(f"{name} is stored", is_stored)
    await proved(stack)


def is_part(request: ProxiedRequest) -> bool:
    """Whether this writes a part of the checkpoint."""
    return request.method == "PUT" and CHECKPOINT in request.path


@pytest.mark.timeout(300)
async def test_killed_at_any_request_of_a_write(
    make_stack: MakeStack, plugin: Path, cluster: Postgres | None
) -> None:
    """It is the old one or the new one, and the rows are what they were."""
    stack, anna, _ = await furnished(make_stack, plugin, cluster)
    for let_through in range(3) if ALL_KILLS else (2,) if cluster is None else (1,):
        stack.proxy.sever_after(let_through + 1, when="before", where=is_part)
        await start(stack)
        await renamed(stack, anna, f"Name {let_through}")
        pid = stack.maubot.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)

        async def is_over() -> bool:
            return stack.proxy.severed.is_set() or not stack.maubot.running

        await eventually("the write is cut off, or over", is_over, timeout=60)
        stack.maubot.kill()
        stack.proxy.heal()
        before = await tables(stack)
        await stack.database.delete()
        mark = stack.maubot.mark()
        await start(stack)
        log = stack.maubot.log_text(since=mark)
        assert RESTORED in log
        assert SCANNED not in log
        assert await tables(stack) == before
        await proved(stack)
        await stack.maubot.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
async def test_after_a_restored_start_a_whole_scan_finds_nothing_else(
    make_stack: MakeStack, plugin: Path, cluster: Postgres | None
) -> None:
    """Nor is anything answered twice, however old the position is."""
    stack, anna, bert = await furnished(make_stack, plugin, cluster)
    await start(stack)
    await say_and_hear(stack, anna.user, anna.chat, "Before")
    await renamed(stack, bert, "Renamed")
    stack.maubot.kill()
    await stack.database.delete()
    await bert.user.set_state(bert.chat, "m.room.name", {"name": "Unseen"})
    mark = stack.maubot.mark()
    await start(stack)
    assert RESTORED in stack.maubot.log_text(since=mark)
    assert (await row_of(stack, bert.chat))["name"] == "Unseen"
    await say_and_hear(stack, anna.user, anna.chat, "After")
    said = said_by_bot(stack, anna.user, anna.chat)
    assert [body.split("\n")[0] for body in said[1:]] == ["Hello", "Before", "After"]
    admin, office = await make_admin(stack)
    mark = stack.maubot.mark()
    await admin.send_text(office, "!reconcile")
    summary = await reconciled(stack, since=mark)
    assert (summary.adopted, summary.updated, summary.left, summary.unreadable) == (0, 0, 0, 0)
    assert "Please report" not in stack.maubot.log_text()
