"""`./build.sh bench welcome`: what a greeting and read receipts cost a new person.

    without   no greeting, no read receipts
    with      both, as they come

One homeserver with its default rate limits. New people in turn, each with a bot of their own (what
it may send is not used up by others), invite it, accept its invites, ask their first question at
once, and wait for the answer of an agent that takes one and a half seconds, so that it is marked
as read meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.bench.place import add_place, directories, measured_with
from tests.integration.builds import changed_build
from tests.stack.agent_server import AgentServer, Say
from tests.stack.console import run, step
from tests.stack.maubot import Maubot
from tests.stack.package import ROOT, build
from tests.stack.stack import DEFAULT_CONFIG, Stack
from tests.stack.synapse import Synapse

RESULTS: Final = ROOT / ".bench" / "welcome.json"
RATIO: Final = 1.1
"""What the first answer may take, at most, of what it takes without."""
THINKS: Final = 1.5
"""Seconds that the agent takes: longer than what is not marked as read."""
WELCOME: Final = "Hello! I am your agent: just write, and I answer."
SIDES: Final = ("without", "with")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One new person; in seconds."""

    side: str
    first_answer: float
    """From the invite to the bot until its first answer is there."""
    answer: float
    """From the question on."""
    is_greeted: bool
    receipts: int


async def arrive(side: str, stack: Stack) -> Arrival:
    """Have a new person move in and ask a question."""
    user = await stack.user("person")
    mark = await stack.synapse.mark()
    started = time.perf_counter()
    await user.start_dm(stack.bot.user_id)
    await user.join(await user.wait_for_invite(space=True))
    chat = await user.wait_for_invite(space=False)
    await user.join(chat)
    asked = time.perf_counter()
    question = await user.send_text(chat, "Is anybody there?")
    await user.wait_for_message(
        chat, sender=stack.bot.user_id, body="Yes.", after=question, timeout=120
    )
    ended = time.perf_counter()
    await asyncio.sleep(1)  # for the greeting, if it comes after the answer
    requests = await stack.synapse.requests(since=mark)
    return Arrival(
        side=side,
        first_answer=ended - started,
        answer=ended - asked,
        is_greeted=any(WELCOME in message.body for message in user.messages(chat)),
        receipts=sum(
            "/receipt/" in entry.path and entry.user_id == stack.bot.user_id for entry in requests
        ),
    )


async def think() -> AsyncIterator[str]:
    await asyncio.sleep(THINKS)
    yield "Yes."


async def bench(options: argparse.Namespace) -> int:
    """Measure, print, write down; 1 if the greeting and the receipts cost too much."""
    load = os.getloadavg()[0]
    arrivals: list[Arrival] = []
    async with AsyncExitStack() as exits:
        directory, of_synapse = exits.enter_context(directories(of_synapse=options.synapse))
        synapse = Synapse(of_synapse, rate_limits="default")
        agent = await exits.enter_async_context(AgentServer())
        agent.reply = lambda _: Say(pieces=think())
        silent = changed_build(
            directory,
            changes={
                "plugin/homeroom/matrix/read_receipts.py": lambda text: text.replace(
                    "READ_AFTER: Final = 1.0", "READ_AFTER: Final = 1e9"
                )
            },
            version="0.0.1",
        )
        plugins = dict(zip(SIDES, (silent, build()), strict=True))
        maubots = {side: Maubot(directory / f"maubot-{side}") for side in SIDES}
        with step("Synapse and two maubots start"):
            await synapse.start()
            exits.push_async_callback(synapse.stop)
            for side, maubot in maubots.items():
                await maubot.start()
                exits.push_async_callback(maubot.stop)
                await maubot.upload_plugin(plugins[side])
        with step(f"{options.people} people on each side"):
            for number in range(options.people):
                for side in SIDES[:: -1 if number % 2 else 1]:
                    stack = Stack(
                        directory / f"{side}{number}",
                        plugin=None,
                        instance=f"homeroom{number}",
                        config=config_of(side, agent),
                        suffix=f"-{side}{number}",
                        synapse=synapse,
                        maubot=maubots[side],
                    )
                    await exits.enter_async_context(stack)
                    arrivals.append(await arrive(side, stack))
    is_fine = report(arrivals)
    print("\n".join(measured_with("maubot", of_synapse=options.synapse, load_before=load)[1:]))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(each) for each in arrivals], indent=1))
    print(f"Every measurement: {RESULTS}")
    return 0 if is_fine else 1


def config_of(side: str, agent: AgentServer) -> dict[str, Any]:
    welcome = WELCOME if side == "with" else ""
    return {**DEFAULT_CONFIG, "texts": {"welcome": welcome}, "platform": agent.webhook()}


def report(arrivals: Sequence[Arrival]) -> bool:
    """Print a line for each side, without the first people, who warm everything up."""
    head = f"{'first answer':>14}{'min to max':>18}{'of it, asking':>15}"
    print(f"\n  {'':10}{head}   greeted, read, n")
    medians = {}
    for side in SIDES:
        found = [each for each in arrivals if each.side == side][1:]
        seconds = sorted(each.first_answer for each in found)
        medians[side] = statistics.median(seconds)
        asking = statistics.median(each.answer for each in found)
        greeted, read = (
            sum(each.is_greeted for each in found),
            sum(each.receipts > 0 for each in found),
        )
        print(
            f"  {side:10}{medians[side]:>12.2f} s{seconds[0]:>9.2f} to {seconds[-1]:.2f}"
            f"{asking:>13.2f} s   {greeted}, {read}, {len(found)}"
        )
    ratio = medians["with"] / medians["without"]
    print(f"  {ratio:.3f} times the time (at most {RATIO})\n")
    return ratio <= RATIO


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./build.sh bench welcome", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--people", type=int, default=11, help="on each side; two or more")
    add_place(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(bench(read_options())))
