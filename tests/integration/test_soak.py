"""What is left behind by restarts: nothing.

Issue 4, "Must be seen", 8: an hour of life with its restarts, in little time. Between restarts
people talk, rename and archive. Most restarts are of the instance or of the client, inside one
process of maubot, because only there something can be left behind in memory; then maubot itself
is stopped and killed. HOMEROOM_TEST_RESTARTS=500 is a longer form.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeroom.homes.reconciler import KEEP_PAST
from tests.integration.homes import Home, ask, marked, onboard, say_and_hear, tables
from tests.stack.maubot import Maubot
from tests.stack.memory import resident_megabytes
from tests.stack.probe import PROBE_ID, Counts, build_probe, look_inside
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.waiting import eventually

RESTARTS = int(os.environ.get("HOMEROOM_TEST_RESTARTS") or 20)
"""Of the instance and of the client, in one process; a tenth as many of maubot follow."""
WARM = 10
"""Restarts before the first measurement: imports, caches and pools are there by then."""
CLIENT_EVERY = 5
"""One restart in so many is one of the client."""
MEGABYTES = 0.4
"""What a restart may cost at most; a plugin that stays in memory with its rooms costs more."""
FORGOTTEN = 500
"""Rows from last week that are put into the tables, to be pruned."""
WEEK = 7 * 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    memory: float
    """Megabytes."""
    inside: Counts

    @property
    def tasks(self) -> int:
        return self.inside.tasks.get("homeroom:", 0)

    @property
    def objects(self) -> int:
        return sum(self.inside.objects.values())


@pytest.fixture
async def stack(make_stack: MakeStack, plugin: Path, tmp_path: Path) -> Stack:
    stack = await make_stack(plugin=plugin, config=DEFAULT_CONFIG)
    await stack.maubot.upload_plugin(build_probe(tmp_path))
    await stack.maubot.create_instance("probe", plugin_id=PROBE_ID, primary_user=stack.bot.user_id)
    return stack


async def measure(stack: Stack) -> Measured:
    inside = await look_inside(stack.maubot, "probe")
    return Measured(memory=resident_megabytes(stack.maubot.pid), inside=inside)


async def measure_at_rest(stack: Stack, *, tasks: int) -> Measured:
    """Measure when one plugin is left, with no more tasks than these.

    Some end a moment after the last answer, and hold on to what they belong to until then.
    """

    async def look() -> Measured | None:
        measured = await measure(stack)
        is_alone = measured.inside.objects["homeroom.bot.Homeroom"] == 1
        return measured if is_alone and measured.tasks <= tasks else None

    return await eventually(f"one plugin with at most {tasks} tasks", look)


async def live(stack: Stack, homes: Sequence[Home], *, number: int) -> None:
    """What happens between two restarts."""
    for home in homes:
        await say_and_hear(stack, home.user, home.chat, f"message {number}")
    home = homes[number % len(homes)]
    await ask(stack, home.user, home.chat, f"!chat rename Lounge {number}")
    if number % 7 == 0:
        await ask(stack, home.user, home.chat, "!chat archive")
        await ask(stack, home.user, home.chat, "!chat unarchive")


async def restart(stack: Stack, *, number: int) -> str:
    """Restart something inside maubot's process, return what."""
    if number % CLIENT_EVERY:
        await stack.maubot.restart_instance(stack.instance)
        return "instance"
    await stack.maubot.set_client_started(stack.bot.user_id, started=False)
    await stack.maubot.set_client_started(stack.bot.user_id, started=True)
    return "client"


async def end(maubot: Maubot, *, number: int) -> str:
    """End maubot's process and start it again, return how."""
    if number % 2:
        await maubot.restart()
        return "maubot stopped"
    maubot.kill()
    await maubot.start()
    return "maubot killed"


async def rows(stack: Stack) -> dict[str, int]:
    """Count the rows of all of the plugin's tables."""
    names = {name for name in await stack.database.tables() if not name.startswith("sqlite_")}
    counts = {}
    for name in sorted(names):
        (row,) = await stack.database.fetch(f"SELECT COUNT(*) AS count FROM {name}")
        counts[name] = row["count"]
    return counts


async def age_the_tables(stack: Stack) -> None:
    """Put in what was noted more than a week ago."""
    then = int(time.time() * 1000) - WEEK - 60_000
    for number in range(FORGOTTEN):
        await stack.database.execute(
            "INSERT INTO handled_events (event_id, room_id, handled_at) VALUES ($1, $2, $3)",
            f"$old{number}",
            "!old:test",
            then,
        )
        await stack.database.execute(
            "INSERT INTO notices (room_id, kind, sent_at) VALUES ($1, $2, $3)",
            f"!old{number}:test",
            "pointer",
            then,
        )


@pytest.mark.timeout(120 + 5 * RESTARTS)
async def test_restarts_leave_nothing_behind(stack: Stack) -> None:
    homes = await asyncio.gather(*(onboard(stack, name) for name in ("alice", "bob", "carol")))
    began, done = time.monotonic(), Counter[str]()
    await age_the_tables(stack)
    for number in range(1, RESTARTS + 1):
        done[await restart(stack, number=number)] += 1
        await live(stack, homes, number=number)
        if number == WARM:
            before, rows_before = await measure(stack), await rows(stack)
    after = await measure_at_rest(stack, tasks=before.tasks)
    rows_after = await rows(stack)
    for number in range(max(2, RESTARTS // 10)):
        done[await end(stack.maubot, number=number)] += 1
        await live(stack, homes, number=RESTARTS + 1 + number)
    rows_at_last = await rows(stack)
    print(
        f"{done.total()} restarts in {time.monotonic() - began:.0f} s"
        f" ({', '.join(f'{kind} {count}' for kind, count in sorted(done.items()))}):"
        f" memory {before.memory:.1f} MB after {WARM}, {after.memory:.1f} MB after {RESTARTS};"
        f" tasks {before.tasks} and {after.tasks}, handlers {before.inside.handlers} and"
        f" {after.inside.handlers}, objects {before.objects} and {after.objects};"
        f" rows {rows_before}, {rows_after} and at last {rows_at_last}"
    )
    assert after.inside.handlers == before.inside.handlers
    assert after.memory - before.memory < MEGABYTES * (RESTARTS - WARM)
    messages = rows_at_last.pop("handled_events") - rows_before.pop("handled_events")
    assert messages <= done.total() * (len(homes) + 3)
    assert rows_at_last.pop("reconciles") <= KEEP_PAST
    assert {name: rows_before[name] for name in rows_at_last} == rows_at_last
    # The last reconciles are remembered, too, until there are so many.
    assert after.objects - before.objects <= KEEP_PAST
    old = await stack.database.fetch(
        "SELECT COUNT(*) AS count FROM handled_events WHERE room_id = '!old:test'"
    )
    assert [row["count"] for row in old] == [0]
    for home in homes:
        await marked(stack, home.chat)
    assert len((await tables(stack)).chats) == len(homes)
    # SIGTERM interrupts whatever is running, which may be mautrix's sync loop.
    interrupted = "Syncing stopped with unexpected KeyboardInterrupt\nTraceback"
    assert "Traceback" not in stack.maubot.log_text().replace(interrupted, "")
