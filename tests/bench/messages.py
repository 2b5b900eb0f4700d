"""`./build.sh bench messages`: what Homeroom costs a message, beside a plugin that only echoes.

    bare      a plugin of a few lines that answers each message with its text
    plugin    Homeroom, whose platform is `echo`, with its settings as they come

Both are instances of one maubot, each with a bot account of its own, in as many rooms with the
same people: from sending a message until the person's own client shows the whole answer. First
one message at a time, then one in every room at once, round by round, and each side begins as
often as the other. Everything is real; the people, and what they cost, are the same on both sides.

`--before` adds Homeroom as it was at a git revision, in a maubot of its own:

    before    an earlier Homeroom, with its settings as they came

Synapse's files lie in memory, if there is such a file system: on SQLite it flushes every
transaction to the disk, which is all there would be to measure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tests.bench.gauge import cpu_seconds, until_idle
from tests.bench.homes import unpack
from tests.bench.place import add_place, directories, measured_with
from tests.integration import homes
from tests.stack.console import StepFailedError, run, step
from tests.stack.http import Json
from tests.stack.package import ROOT, archive, build
from tests.stack.stack import DEFAULT_CONFIG, Stack
from tests.stack.synapse import Account, Synapse
from tests.stack.user import MatrixUser

RESULTS: Final = ROOT / ".bench" / "messages.json"
LATENCY: Final = 1.08
"""What Homeroom may take, at most, of what the bare plugin takes."""
THROUGHPUT: Final = 0.9
"""What it must do, at least, of what the bare plugin does."""
SIDES: Final = ("bare", "before", "plugin")

_BARE_ID: Final = "dev.homeroom.bare"
_META: Final = b"""\
maubot: 0.6.0
id: dev.homeroom.bare
version: 1.0.0
license: AGPL-3.0-or-later
modules: [homeroom_bare]
main_class: Echo
"""
_CODE: Final = b"""\
from maubot import Plugin
from maubot.handlers import event
from mautrix.types import EventType, MessageType


class Echo(Plugin):
    @event.on(EventType.ROOM_MESSAGE)
    async def answer(self, evt):
        if evt.sender != self.client.mxid and evt.content.msgtype == MessageType.TEXT:
            await evt.respond(evt.content.body)
"""
_CHATS_PER_OWNER: Final = 10
_PATIENCE: Final = 120.0
_MORE_TO_COME: Final = "dev.homeroom.more_to_come"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    rooms: int
    rounds: int
    alone: int
    """Messages per round and side, one at a time."""
    each: int
    """Messages per round and side in each room, all rooms at once."""
    config: str
    """JSON: settings of Homeroom's that are not as they come."""
    before: str
    """A git revision; empty: there is nothing to compare with."""
    synapse: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    side: str
    at_once: int
    seconds: float
    latencies: Sequence[float]
    cpu: dict[str, float]
    """CPU seconds by process."""


class Person(MatrixUser):
    """A person whose client notes when it shows an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[str, asyncio.Future[float]] = {}

    async def ask(self, room_id: str, text: str) -> float:
        """Say something nobody said before; return how long the answer took, in seconds."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting[text] = answer
        started = time.perf_counter()
        await self.send_text(room_id, text)
        shown: float = await asyncio.wait_for(answer, _PATIENCE)
        return shown - started

    async def _read(self, answer: Json) -> None:
        for data in answer.get("rooms", {}).get("join", {}).values():
            for event in data["timeline"]["events"]:
                content = event["content"].get("m.new_content", event["content"])
                if event["sender"] == self.user_id or content.get(_MORE_TO_COME):
                    continue
                text = content.get("body", "").partition("\n")[0]
                if waiting := self._waiting.pop(text, None):
                    waiting.set_result(time.perf_counter())


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    person: Person
    room_id: str


class Bench:
    def __init__(self, *, stacks: Mapping[str, Stack], rooms: dict[str, list[Room]]) -> None:
        self._stacks = stacks
        """By side; their homeserver is the same."""
        self._rooms = rooms
        self._said = 0

    async def alone(self, side: str, messages: int) -> Round:
        """One message at a time, each in another room."""
        rooms = self._rooms[side]
        return await self._round(
            side, [[rooms[number % len(rooms)] for number in range(messages)]]
        )

    async def at_once(self, side: str, messages: int) -> Round:
        """So many messages in every room, one after another, all rooms at once."""
        return await self._round(side, [[room] * messages for room in self._rooms[side]])

    async def _round(self, side: str, conversations: Sequence[Sequence[Room]]) -> Round:
        stack = self._stacks[side]
        await until_idle(stack.synapse.pid)
        await until_idle(stack.maubot.pid)
        latencies: list[float] = []

        async def converse(rooms: Sequence[Room]) -> None:
            for room in rooms:
                self._said += 1
                latencies.append(await room.person.ask(room.room_id, f"Message {self._said}"))

        before, started = _cpu(stack), time.perf_counter()
        await asyncio.gather(*map(converse, conversations))
        seconds, after = time.perf_counter() - started, _cpu(stack)
        return Round(
            side=side,
            at_once=len(conversations),
            seconds=seconds,
            latencies=latencies,
            cpu={name: after[name] - before[name] for name in after},
        )


def _cpu(stack: Stack) -> dict[str, float]:
    return {
        "Synapse": cpu_seconds(stack.synapse.pid),
        "maubot": cpu_seconds(stack.maubot.pid),
        "people": time.process_time(),
    }


async def install_bare(stack: Stack) -> Account:
    """Upload the plugin of a few lines, make an instance of it, return its bot's account."""
    account = await stack.synapse.account("bare", password="bare")
    path = stack.directory / "bare.mbp"
    path.write_bytes(archive({"maubot.yaml": _META, "homeroom_bare.py": _CODE}))
    await stack.maubot.upload_plugin(path)
    await stack.maubot.create_client(
        account, homeserver=stack.synapse.url, autojoin=True, device_id=""
    )
    await stack.maubot.create_instance("bare", plugin_id=_BARE_ID, primary_user=account.user_id)
    return account


async def move_in(stack: Stack, person: Person, names: Sequence[str]) -> list[Room]:
    """Have a person get a home from Homeroom; return its chats."""
    direct = await homes.invite_bot(stack, person)
    home = await homes.move_in(stack, person, direct=direct, chats=names)
    return [Room(person=person, room_id=room_id) for room_id in home.chats.values()]


async def invite_bare(person: Person, bot: Account, names: Sequence[str]) -> list[Room]:
    """Have a person make as many rooms with the other bot."""
    rooms = []
    for name in names:
        room_id = await person.create_room(preset="private_chat", name=name, invite=[bot.user_id])
        await person.wait_for_member(room_id, bot.user_id)
        rooms.append(Room(person=person, room_id=room_id))
    return rooms


def earlier(
    revision: str, directory: Path, config: Mapping[str, Any], *, synapse: Synapse
) -> Stack:
    """Homeroom of a revision in a maubot of its own; it does not know every setting of today."""
    known = {key: value for key, value in config.items() if key != "texts"}
    plugin = build(unpack(revision, directory / "tree"))
    return Stack(directory, plugin=plugin, config=known, suffix="-before", synapse=synapse)


async def bench(options: Options) -> int:
    """Measure, print, write down; return the exit status."""
    load = os.getloadavg()[0]
    per_owner = min(options.rooms, _CHATS_PER_OWNER)
    names = [f"Chat {number}" for number in range(1, per_owner + 1)]
    rounds: list[Round] = []
    try:
        async with AsyncExitStack() as exits:
            directory, of_synapse = exits.enter_context(directories(of_synapse=options.synapse))
            config = {
                **DEFAULT_CONFIG,
                "rooms": {"initial_chats": names},
                **json.loads(options.config),
            }
            synapse = Synapse(of_synapse)
            stack = Stack(directory, plugin=build(), config=config, synapse=synapse)
            with step("Synapse, maubot and both plugins start"):
                await exits.enter_async_context(synapse)
                await exits.enter_async_context(stack)
                bare = await install_bare(stack)
            stacks = {"bare": stack, "plugin": stack}
            if options.before:
                with step(f"Homeroom of {options.before} starts"):
                    stacks["before"] = await exits.enter_async_context(
                        earlier(options.before, directory / "before", config, synapse=synapse)
                    )
            sides = [side for side in SIDES if side in stacks]
            rooms: dict[str, list[Room]] = {side: [] for side in sides}
            with step(f"{options.rooms // per_owner} people move in") as current:
                for number in range(options.rooms // per_owner):
                    account = await synapse.account(f"person{number}", password="person")
                    person = await exits.enter_async_context(
                        Person(account, homeserver=synapse.url)
                    )
                    rooms["plugin"] += await move_in(stack, person, names)
                    if "before" in stacks:
                        account = await synapse.account(f"elder{number}", password="person")
                        elder = await exits.enter_async_context(
                            Person(account, homeserver=synapse.url)
                        )
                        rooms["before"] += await move_in(stacks["before"], elder, names)
                    rooms["bare"] += await invite_bare(person, bare, names)
                current.result = f"{options.rooms} rooms with each bot"
            measuring = Bench(stacks=stacks, rooms=rooms)
            with step("Warming up"):
                for side in sides:
                    await measuring.at_once(side, 2)
            for number in range(1, options.rounds + 1):
                # Who begins has the quieter server, or the colder one.
                for side in sides if number % 2 else sides[::-1]:
                    what = f"Round {number} of {options.rounds}, {side}"
                    with step(f"{what}, one at a time") as current:
                        rounds.append(await measuring.alone(side, options.alone))
                        current.result = _ms(statistics.median(rounds[-1].latencies))
                for side in sides if number % 2 else sides[::-1]:
                    what = f"Round {number} of {options.rounds}, {side}"
                    with step(f"{what}, {options.rooms} at once") as current:
                        rounds.append(await measuring.at_once(side, options.each))
                        rate = len(rounds[-1].latencies) / rounds[-1].seconds
                        current.result = f"{rate:.1f} a second"
    except StepFailedError:
        return 2
    return _conclude(options, rounds, load_before=load)


def _conclude(options: Options, rounds: Sequence[Round], *, load_before: float) -> int:
    summary = summarise(rounds)
    measured_with = _measured_with(options, load_before=load_before)
    RESULTS.parent.mkdir(exist_ok=True)
    found = {
        "options": {**asdict(options), "synapse": str(options.synapse)},
        "measured_with": measured_with,
        "summary": summary,
        "rounds": [asdict(each) for each in rounds],
    }
    RESULTS.write_text(json.dumps(found, indent=1))
    bars = list(judge(summary))
    lines = [f"{'✓' if reached else '✗'} 4. {text}" for text, reached in bars]
    print("\n" + "\n".join([*report(summary), "", *lines, "", *measured_with]))
    print(f"Every message: {RESULTS}")
    return 0 if all(reached for _, reached in bars) else 1


def summarise(rounds: Sequence[Round]) -> dict[str, dict[str, dict[str, float]]]:
    """By how many were at once, and by side: seconds, messages a second, and the ratios."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for at_once in sorted({each.at_once for each in rounds}):
        sides = {}
        for side in (side for side in SIDES if any(each.side == side for each in rounds)):
            found = [each for each in rounds if (each.side, each.at_once) == (side, at_once)]
            latencies = [latency for each in found for latency in each.latencies]
            medians = [statistics.median(each.latencies) for each in found]
            sides[side] = {
                "median": statistics.median(latencies),
                "lowest": min(medians),
                "highest": max(medians),
                "p95": statistics.quantiles(latencies, n=20)[-1],
                "per_second": len(latencies) / sum(each.seconds for each in found),
                **{
                    f"cpu_{name}": sum(each.cpu[name] for each in found) / len(latencies)
                    for name in found[0].cpu
                },
            }
        ratios = {
            f"to {other}": {
                key: sides["plugin"][key] / sides[other][key]
                for key in ("median", "p95", "per_second")
            }
            for other in sides
            if other != "plugin"
        }
        summary[str(at_once)] = {**sides, **ratios}
    return summary


def judge(summary: dict[str, dict[str, dict[str, float]]]) -> Iterator[tuple[str, bool]]:
    """What must be seen, what was seen, and whether it is reached."""
    for at_once, found in summary.items():
        latency = found["to bare"]["median"]
        yield (
            f"{_rooms(at_once)}: at most {LATENCY:g} times the bare latency: {latency:.3f} times",
            latency <= LATENCY,
        )
        if at_once != "1":
            throughput = found["to bare"]["per_second"]
            what = f"at least {THROUGHPUT:g} times the bare throughput"
            yield f"{_rooms(at_once)}: {what}: {throughput:.3f} times", throughput >= THROUGHPUT
        if at_once != "1" and (before := found.get("to before")) is not None:
            latency, throughput = before["median"], before["per_second"]
            what = f"better than before: {latency:.3f} and {throughput:.3f} times"
            yield f"{_rooms(at_once)}: {what}", latency < 1 < throughput


def report(summary: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    for at_once, found in summary.items():
        sides = {side: found[side] for side in SIDES if side in found}
        ratios = {name: each for name, each in found.items() if name not in sides}
        heads = [*(f"{side:>24}" for side in sides), *(f"{name:>11}" for name in ratios)]
        yield f"{_rooms(at_once):28}{''.join(heads)}"
        for label, key in (("median", "median"), ("95 % are faster than", "p95")):
            yield _row(label, (_ms(side[key]) for side in sides.values()), ratios, key)
        ends = (f"{_ms(side['lowest'])} to {_ms(side['highest'])}" for side in sides.values())
        yield _row("medians of the rounds", ends)
        rates = (f"{side['per_second']:.1f}" for side in sides.values())
        yield _row("messages a second", rates, ratios, "per_second")
        for key in (key for key in found["plugin"] if key.startswith("cpu_")):
            label = f"CPU of {key.removeprefix('cpu_')}, each"
            yield _row(label, (_ms(side[key]) for side in sides.values()))


def _row(
    label: str,
    figures: Iterable[str],
    ratios: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    key: str = "",
) -> str:
    compared = "".join(f"{ratio[key]:>11.3f}" for ratio in ratios.values())
    return f"  {label:26}{''.join(f'{each:>24}' for each in figures)}{compared}"


def _measured_with(options: Options, *, load_before: float) -> list[str]:
    return [
        (
            f"Rounds: {options.rounds} each way, of {options.alone} messages one at a time and"
            f" {options.each} in each room; settings: {options.config}"
        ),
        *measured_with(
            "matrix-synapse", "maubot", of_synapse=options.synapse, load_before=load_before
        ),
    ]


def _rooms(at_once: str) -> str:
    return "one message at a time" if at_once == "1" else f"{at_once} rooms at once"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def read_options() -> Options:
    parser = argparse.ArgumentParser(
        prog="./build.sh bench messages", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--rooms", type=int, default=50, help=f"up to or a multiple of {_CHATS_PER_OWNER}")
    add("--rounds", type=int, default=6, help="how often each side has its turn")
    add("--alone", type=int, default=50, help="messages per round and side, one at a time")
    add("--each", type=int, default=6, help="messages per round and side in each room, at once")
    add("--config", default="{}", help="JSON: settings that are not as they come")
    add("--before", default="", help="a git revision to compare with, 9b7915f is 0.2.1's last")
    add_place(parser)
    found = Options(**vars(parser.parse_args()))
    if found.rooms < 2 or (found.rooms > _CHATS_PER_OWNER and found.rooms % _CHATS_PER_OWNER):
        parser.error(f"--rooms {found.rooms}: expected 2 or more, or of {_CHATS_PER_OWNER}")
    if found.rounds < 1 or found.alone < 2 or found.each < 1:
        parser.error("expected --rounds >= 1, --alone >= 2 and --each >= 1")
    return found


if __name__ == "__main__":
    sys.exit(run(bench(read_options())))
