"""`./build.sh bench homes`: a home and a new chat, beside those of an earlier version.

    before    Homeroom as it was at a git revision
    now       Homeroom of this tree

Each has a maubot and a bot of its own, on one homeserver without rate limits. New people invite
the bots in turn, and each makes one more chat: from the invite until the person is invited to the
Space and the first chat, and from `!chat new` until its answer. The bot's requests are counted
until it has nothing left to do; what waits for news (`/sync`) is not counted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.bench.gauge import cpu_seconds, until_idle
from tests.bench.place import add_place, directories, measured_with
from tests.integration import homes
from tests.stack.console import run, step
from tests.stack.package import ROOT, build
from tests.stack.stack import DEFAULT_CONFIG, Stack
from tests.stack.synapse import Synapse

RESULTS: Final = ROOT / ".bench" / "homes.json"
BEFORE: Final = "9b7915f"
"""The last revision of 0.2.1."""
T = TypeVar("T")
TASKS: Final = ("a home", "!chat new")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One person's task on one side."""

    side: str
    task: str
    seconds: float
    cpu: float
    """CPU seconds of maubot: a busy machine changes them little."""
    requests: Sequence[str]


def unpack(revision: str, directory: Path) -> Path:
    """Give the tree of a revision."""
    packed = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(directory)
    return directory


async def one_person(side: str, stack: Stack, number: int) -> list[Done]:
    """Have a new person get a home, and make a chat in it."""
    user = await stack.user(f"person{number}")

    async def measured(task: str, work: Awaitable[T]) -> tuple[Done, T]:
        await until_idle(stack.maubot.pid)
        mark, cpu = stack.proxy.mark(), cpu_seconds(stack.maubot.pid)
        started = time.perf_counter()
        result = await work
        seconds = time.perf_counter() - started
        await until_idle(stack.maubot.pid)
        asked = (f"{each.method} {each.path}" for each in stack.proxy.requests[mark:])
        done = Done(
            side=side,
            task=task,
            seconds=seconds,
            cpu=cpu_seconds(stack.maubot.pid) - cpu,
            requests=[request for request in asked if not request.endswith("/sync")],
        )
        return done, result

    async def invited() -> str:
        direct = await user.start_dm(stack.bot.user_id)
        await user.wait_for_invite(space=True)
        await user.wait_for_invite(name="General", space=False)
        return direct

    made, direct = await measured(TASKS[0], invited())
    home = await homes.move_in(stack, user, direct=direct)
    new, _ = await measured(TASKS[1], homes.ask(stack, user, home.chat, "!chat new Plans"))
    return [made, new]


async def bench(options: argparse.Namespace) -> int:
    """Measure, print, write down."""
    load = os.getloadavg()[0]
    done: list[Done] = []
    async with AsyncExitStack() as exits:
        directory, of_synapse = exits.enter_context(directories(of_synapse=options.synapse))
        synapse = Synapse(of_synapse)
        tree = unpack(options.before, directory / "tree")
        config = {key: DEFAULT_CONFIG[key] for key in ("access", "rooms")}
        plugins: dict[str, tuple[Path, dict[str, Any]]] = {
            "before": (build(tree), config),
            "now": (build(), dict(DEFAULT_CONFIG)),
        }
        stacks: dict[str, Stack] = {}
        with step("Synapse and two maubots start"):
            await exits.enter_async_context(synapse)
            for side, (plugin, settings) in plugins.items():
                stack = Stack(
                    directory / side,
                    plugin=plugin,
                    config=settings,
                    suffix=f"-{side}",
                    synapse=synapse,
                    proxy=True,
                )
                stacks[side] = await exits.enter_async_context(stack)
        with step(f"{options.people} people on each side"):
            for number in range(options.people):
                for side in sorted(stacks, reverse=bool(number % 2)):
                    done += await one_person(side, stacks[side], number)
    print_report(done)
    print("\n".join(measured_with("maubot", of_synapse=options.synapse, load_before=load)))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(each) for each in done], indent=1))
    print(f"Every measurement: {RESULTS}")
    return 0


def print_report(done: Sequence[Done]) -> None:
    """Print a line for each task and side; the first person warms everything up."""
    print(f"\n  {'':24}{'median':>9}{'min to max':>20}{'CPU':>9}{'requests':>10}   n")
    for task in TASKS:
        medians = {}
        for side in ("before", "now"):
            found = [each for each in done if (each.task, each.side) == (task, side)][1:]
            seconds = sorted(each.seconds for each in found)
            requests = statistics.median(len(each.requests) for each in found)
            cpu = statistics.median(each.cpu for each in found)
            medians[side] = statistics.median(seconds), cpu, requests
            spread = f"{seconds[0] * 1000:.0f} to {seconds[-1] * 1000:.0f} ms"
            print(
                f"  {task + ', ' + side:24}{medians[side][0] * 1000:>6.0f} ms{spread:>20}"
                f"{cpu * 1000:>6.0f} ms{requests:>10g}{len(found):>4}"
            )
        before, now = medians["before"], medians["now"]
        times, cpu, more = now[0] / before[0], now[1] / before[1], now[2] - before[2]
        print(f"  {task}: {times:.2f} times the time, {cpu:.2f} the CPU, {more:+g} requests")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./build.sh bench homes", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--people", type=int, default=21, help="on each side; two or more")
    parser.add_argument("--before", default=BEFORE, help="a git revision")
    add_place(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(bench(read_options())))
