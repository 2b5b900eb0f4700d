"""`./build.sh bench turns`: what the plugin adds to a turn, while many people talk at once.

    bare      the platform is asked by plain HTTP, with the bodies that the plugin sends
    plugin    the same questions are asked in chats: from sending the message until the person's
              own client shows the whole answer
    before    with `--before`: the same with Homeroom as it was at a git revision, which has a
              maubot of its own

All in turn, round by round, against one platform that takes as long over a question whoever
asks. A given number of turns is always under way. Everything is real but for the platform: one
Synapse and one maubot, and people whose clients sync. People and platform share one process, and
all of it this machine; what they cost is counted against the plugin.

Synapse on SQLite flushes every transaction to the disk, all in one thread: on a disk that flushes
slowly that is all there is to measure. So its files lie in memory, if there is such a file system
(`--synapse` says otherwise); those of maubot and the plugin lie on the disk as ever.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.gauge import cpu_seconds
from tests.bench.homes import unpack
from tests.bench.place import add_place, directories, measured_with
from tests.integration import homes
from tests.stack.agent_server import Action, AgentRequest, AgentServer, Say
from tests.stack.console import StepFailedError, run, step
from tests.stack.http import Json
from tests.stack.package import ROOT, build
from tests.stack.stack import DEFAULT_CONFIG, Stack
from tests.stack.synapse import Synapse
from tests.stack.user import MatrixUser

RESULTS = ROOT / ".bench" / "turns.json"
TOO_SLOW = 1.2
"""What the plugin's median may not be of the bare one."""

_CHATS_PER_OWNER = 20
_PIECES = 40
_SPREAD = 0.5
"""The platform takes this much less or more of its time, at most; all alike in between."""
_PATIENCE = 120.0
_ANSWERS = "dev.homeroom.answers"
_MORE_TO_COME = "dev.homeroom.more_to_come"
_PARAGRAPH = (
    "The short answer is **yes**, with `one` exception that is worth knowing about.\n\n"
    "1. Look at what is there before anything is changed.\n"
    "2. Change it in one step, so that nobody sees half of it.\n\n"
    "Whoever needs it in more detail finds it in [the manual](https://example.org/manual). "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    chats: int
    parallel: int
    rounds: int
    turns: int
    """Per round and side."""
    seconds: float
    """How long the platform takes over an answer, on average."""
    stream: bool
    before: str
    """A git revision; empty: there is nothing to compare with."""
    seed: int
    synapse: Path
    """The directory under which Synapse keeps its files for a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question and its answer; all times in seconds."""

    question: str
    total: float
    to_platform: float
    """Until the platform has the question."""
    in_platform: float
    back: float
    """From the platform's last word until whoever asked has the whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    side: str
    seconds: float
    turns: Sequence[Turn]
    cpu: dict[str, float]
    """CPU seconds by process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    person: Person
    room_id: str
    chat_id: str
    name: str
    platform_chat_id: str


class Agent:
    """The platform: how long it takes follows from the question, whoever asks."""

    def __init__(self, options: Options, server: AgentServer) -> None:
        self._options = options
        self._server = server
        self._finished: dict[str, tuple[float, float]] = {}
        self.seconds = options.seconds
        server.reply = self._reply

    def times(self, key: str) -> tuple[float, float]:
        """When the platform had a question, and had answered it."""
        return self._finished.pop(key)

    def _reply(self, request: AgentRequest) -> Action:
        self._server.requests.clear()
        draw = random.Random(f"{self._options.seed} {request.text}")
        seconds = self.seconds * draw.uniform(1 - _SPREAD, 1 + _SPREAD)
        text = f"{request.text}\n\n{_PARAGRAPH * draw.randint(1, 4)}"
        return Say(
            pieces=self._pieces(request, text, seconds=seconds), whole=not self._options.stream
        )

    async def _pieces(
        self, request: AgentRequest, text: str, *, seconds: float
    ) -> AsyncIterator[str]:
        size = -(-len(text) // _PIECES)
        for number in range(_PIECES):
            until = request.at + seconds * (number + 1) / _PIECES
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            if number == _PIECES - 1:
                assert request.key is not None
                self._finished[request.key] = (request.at, time.monotonic())
            yield text[number * size : (number + 1) * size]


class Person(MatrixUser):
    """A person whose client notes when it shows a whole answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answers: dict[str, asyncio.Future[float]] = {}
        self._chats: set[str] = set()
        """Where this person has asked: what the bot says elsewhere, of a home, is no answer."""

    async def ask(self, room_id: str, text: str) -> tuple[str, float]:
        """Ask, wait for the whole answer; return the question's ID and when it was shown."""
        self._chats.add(room_id)
        event_id = await self.send_text(room_id, text)
        shown = await asyncio.wait_for(self._answer_to(event_id), _PATIENCE)
        del self._answers[event_id]
        return event_id, shown

    def _answer_to(self, event_id: str) -> asyncio.Future[float]:
        # The client may show an answer before the request that asked has ended.
        return self._answers.setdefault(event_id, asyncio.get_running_loop().create_future())

    async def _read(self, answer: Json) -> None:
        joined = answer.get("rooms", {}).get("join", {})
        for room_id in joined.keys() & self._chats:
            for event in joined[room_id]["timeline"]["events"]:
                content = event["content"].get("m.new_content", event["content"])
                if _ANSWERS not in content or content.get(_MORE_TO_COME):
                    continue
                waiting = self._answer_to(content[_ANSWERS])
                if content["msgtype"] != "m.text":
                    waiting.set_exception(RuntimeError(f"the bot said: {content['body']}"))
                elif not waiting.done():
                    waiting.set_result(time.monotonic())


class Bench:
    def __init__(
        self,
        options: Options,
        *,
        stacks: Mapping[str, Stack],
        server: AgentServer,
        agent: Agent,
        chats: Mapping[str, Sequence[Chat]],
        session: aiohttp.ClientSession,
    ) -> None:
        self._options = options
        self._stacks = stacks
        self._server = server
        self._agent = agent
        self._chats = chats
        self._session = session

    async def warm_up(self) -> None:
        """Ask once in every chat, of a platform that answers at once."""
        self._agent.seconds = 0
        for side, chats in self._chats.items():
            await self.round(side, [f"Warming up {number}" for number in range(len(chats))])
        self._agent.seconds = self._options.seconds

    async def round(self, side: str, questions: Sequence[str]) -> Round:
        """Ask all questions, so many at once, each in the chat that has been idle longest."""
        waiting, idle = deque(questions), deque(self._chats[side])
        ask = self._ask_bare if side == "bare" else self._ask_in_chat
        turns: list[Turn] = []

        async def work() -> None:
            while waiting:
                question, chat = waiting.popleft(), idle.popleft()
                turns.append(await ask(chat, question))
                idle.append(chat)

        stack = self._stacks[side]
        before, started = _cpu(stack), time.monotonic()
        await asyncio.gather(*(work() for _ in range(self._options.parallel)))
        seconds, after = time.monotonic() - started, _cpu(stack)
        cpu = {name: after[name] - before[name] for name in after}
        return Round(side=side, seconds=seconds, turns=turns, cpu=cpu)

    async def _ask_bare(self, chat: Chat, question: str) -> Turn:
        key = f"$bare-{random.getrandbits(200):x}"
        body = {
            "platform_chat_id": chat.platform_chat_id,
            "chat_id": chat.chat_id,
            "user_id": chat.person.user_id,
            "room_id": chat.room_id,
            "event_id": key,
            "text": question,
            "name": chat.name,
        }
        headers = {
            "Authorization": f"Bearer {self._server.token}",
            "Accept": "text/event-stream, application/json",
            "Idempotency-Key": key,
        }
        started = time.monotonic()
        async with self._session.post(
            f"{self._server.url}/webhook", json=body, headers=headers
        ) as response:
            response.raise_for_status()
            await response.read()
        return self._turn(key, question, started=started, ended=time.monotonic())

    async def _ask_in_chat(self, chat: Chat, question: str) -> Turn:
        started = time.monotonic()
        event_id, ended = await chat.person.ask(chat.room_id, question)
        return self._turn(event_id, question, started=started, ended=ended)

    def _turn(self, key: str, question: str, *, started: float, ended: float) -> Turn:
        asked, answered = self._agent.times(key)
        return Turn(
            question=question,
            total=ended - started,
            to_platform=asked - started,
            in_platform=answered - asked,
            back=ended - answered,
        )


def _cpu(stack: Stack) -> dict[str, float]:
    return {
        "Synapse": cpu_seconds(stack.synapse.pid),
        "maubot": cpu_seconds(stack.maubot.pid),
        "people and platform": time.process_time(),
    }


async def move_in(
    stack: Stack, people: AsyncExitStack, *, name: str, names: Sequence[str]
) -> list[Chat]:
    """Have a new person move into the home that they get, with chats of these names."""
    account = await stack.synapse.account(name, password=name)
    person = await people.enter_async_context(Person(account, homeserver=stack.synapse.url))
    direct = await homes.invite_bot(stack, person)
    home = await homes.move_in(stack, person, direct=direct, chats=names)
    rows = (await homes.tables(stack)).chats
    return [
        Chat(
            person=person,
            room_id=room_id,
            chat_id=rows[room_id]["chat_id"],
            name=name,
            platform_chat_id=rows[room_id]["platform_chat_id"],
        )
        for name, room_id in home.chats.items()
    ]


async def bench(options: Options) -> int:
    """Measure, print, write down; return the exit status."""
    load_before = os.getloadavg()[0]
    per_owner = min(options.chats, _CHATS_PER_OWNER)
    names = [f"Chat {number}" for number in range(1, per_owner + 1)]
    rounds: list[Round] = []
    try:
        async with AsyncExitStack() as exits:
            directory, of_synapse = exits.enter_context(directories(of_synapse=options.synapse))
            server = await exits.enter_async_context(AgentServer())
            agent = Agent(options, server)
            config = {
                **DEFAULT_CONFIG,
                "rooms": {"initial_chats": names},
                "limits": {"parallel_turns": options.parallel},
                "homeserver": {"concurrency": 100},
                "platform": server.webhook(),
            }
            synapse = Synapse(of_synapse)
            stack = Stack(directory, plugin=build(), config=config, synapse=synapse)
            with step("Synapse, maubot and the plugin start"):
                await exits.enter_async_context(synapse)
                await exits.enter_async_context(stack)
            stacks = {"plugin": stack}
            if options.before:
                with step(f"Homeroom of {options.before} starts"):
                    known = {key: value for key, value in config.items() if key != "texts"}
                    plugin = build(unpack(options.before, directory / "tree"))
                    stacks["before"] = await exits.enter_async_context(
                        Stack(
                            directory / "before",
                            plugin=plugin,
                            config=known,
                            suffix="-before",
                            synapse=synapse,
                        )
                    )
            chats: dict[str, list[Chat]] = {side: [] for side in stacks}
            with step(f"{options.chats // per_owner} people move in") as current:
                for number in range(options.chats // per_owner):
                    for side, each in stacks.items():
                        name = f"{side}{number}"
                        chats[side] += await move_in(each, exits, name=name, names=names)
                current.result = f"{len(chats['plugin'])} chats"
            for each_chats in chats.values():
                random.Random(options.seed).shuffle(each_chats)
            session = await exits.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
            )
            measuring = Bench(
                options,
                stacks={"bare": stack, **stacks},
                server=server,
                agent=agent,
                chats={"bare": chats["plugin"], **chats},
                session=session,
            )
            with step("Warming up, once in every chat"):
                await measuring.warm_up()
            for number in range(1, options.rounds + 1):
                questions = [f"Question {number}.{n}" for n in range(1, options.turns + 1)]
                for side in ("bare", *sorted(stacks, reverse=bool(number % 2))):
                    with step(f"Round {number} of {options.rounds}, {side}") as current:
                        rounds.append(await measuring.round(side, questions))
                        median = statistics.median(turn.total for turn in rounds[-1].turns)
                        current.result = f"median {median:.2f} s"
    except StepFailedError:
        return 2
    measured_with = _measured_with(options, load_before=load_before)
    summary = summarise(rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "options": {**asdict(options), "synapse": str(options.synapse)},
                "measured_with": measured_with,
                "summary": summary,
                "rounds": [asdict(each) for each in rounds],
            },
            indent=1,
        )
    )
    print("\n" + "\n".join([*report(summary), "", *measured_with, "", f"Every turn: {RESULTS}"]))
    ratio = summary["ratio"]["median"]
    if ratio >= TOO_SLOW:
        print(f"\nToo slow: the median is {ratio:.3f} of the bare one, expected < {TOO_SLOW}")
        return 1
    return 0


def summarise(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return what the report says; seconds, turns per second, and ratios of plugin to bare."""
    sides: dict[str, dict[str, float]] = {}
    for side in dict.fromkeys(each.side for each in rounds):
        of_side = [each for each in rounds if each.side == side]
        turns = [turn for each in of_side for turn in each.turns]
        totals = [turn.total for turn in turns]
        sides[side] = {
            "median": statistics.median(totals),
            "p95": _p95(totals),
            "turns_per_second": len(turns) / sum(each.seconds for each in of_side),
            "to_platform": statistics.median(turn.to_platform for turn in turns),
            "in_platform": statistics.median(turn.in_platform for turn in turns),
            "back": statistics.median(turn.back for turn in turns),
            **{
                f"cpu_{name}": sum(each.cpu[name] for each in of_side) / len(turns)
                for name in of_side[0].cpu
            },
        }
    ratios = {
        name: {
            key: sides["plugin"][key] / sides[other][key]
            for key in ("median", "p95", "turns_per_second")
        }
        for other, name in (("bare", "ratio"), ("before", "to before"))
        if other in sides
    }
    by_question = {
        side: {t.question: t.total for each in rounds if each.side == side for t in each.turns}
        for side in sides
    }
    added = [by_question["plugin"][q] - total for q, total in by_question["bare"].items()]
    return {
        **sides,
        **ratios,
        "added": {"median": statistics.median(added), "p95": _p95(added)},
    }


def report(summary: dict[str, dict[str, float]]) -> list[str]:
    bare, plugin, ratio, added = (summary[k] for k in ("bare", "plugin", "ratio", "added"))
    before = summary.get("before")

    def row(label: str, key: str, unit: str) -> str:
        numbers = [f"{side[key]:.2f}{unit}" for side in (bare, plugin)]
        row = f"{label:20}{numbers[0]:>10}{numbers[1]:>10}{ratio[key]:>10.3f}"
        if before:
            row += f"{before[key]:>9.2f}{unit or ' '}{summary['to before'][key]:>10.3f}"
        return row

    def both(label: str, key: str) -> str:
        return f"  {label + ':':40}{_ms(plugin[key]):>9}, bare {_ms(bare[key])}"

    cpu = [key for key in plugin if key.startswith("cpu_")]
    costs = ", ".join(f"{key.removeprefix('cpu_')} {_ms(plugin[key])}" for key in cpu)
    return [
        f"{'':20}{'bare':>10}{'plugin':>10}{'ratio':>10}"
        + (f"{'before':>11}{'to before':>10}" if before else ""),
        row("median", "median", " s"),
        row("p95", "p95", " s"),
        row("turns per second", "turns_per_second", ""),
        "",
        f"Added to the same question: median {_ms(added['median'])}, p95 {_ms(added['p95'])}",
        both("until the platform has the question", "to_platform"),
        both("from its last word until it is shown", "back"),
        f"CPU time per turn in chats: {costs}",
    ]


def _measured_with(options: Options, *, load_before: float) -> list[str]:
    shortest, longest = (options.seconds * (1 + sign * _SPREAD) for sign in (-1, 1))
    manner = f"in {_PIECES} pieces meanwhile" if options.stream else "whole at the end"
    return [
        f"Under way at any time: {options.parallel} turns, in {options.chats} chats",
        f"Rounds: {options.rounds} each way, in turn, of {options.turns} turns",
        f"Platform: a webhook, {shortest:g} to {longest:g} s (seed {options.seed}), {manner}",
        *measured_with(
            "matrix-synapse", "maubot", of_synapse=options.synapse, load_before=load_before
        ),
    ]


def _p95(numbers: Sequence[float]) -> float:
    return statistics.quantiles(numbers, n=20)[-1]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def read_options() -> Options:
    parser = argparse.ArgumentParser(
        prog="./build.sh bench turns", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--chats", type=int, default=200, help=f"up to or a multiple of {_CHATS_PER_OWNER}")
    add("--parallel", type=int, default=50, help="turns under way at any time")
    add("--rounds", type=int, default=3, help="how often each side has its turn")
    add("--turns", type=int, default=300, help="per round and side")
    add("--seconds", type=float, default=5.0, help="the platform takes for an answer, on average")
    add("--stream", action="store_true", help="the platform answers in pieces")
    add("--before", default="", help="a git revision to compare with, 9b7915f is 0.2.1's last")
    add("--seed", type=int, default=1, help="of the time that each question takes")
    add_place(parser)
    found = Options(**vars(parser.parse_args()))
    if found.chats > _CHATS_PER_OWNER and found.chats % _CHATS_PER_OWNER:
        parser.error(f"--chats {found.chats}: expected a multiple of {_CHATS_PER_OWNER}")
    if not 1 <= found.parallel <= found.chats or found.turns < 2 or found.rounds < 1:
        parser.error("expected 1 <= --parallel <= --chats, --turns >= 2 and --rounds >= 1")
    return found


if __name__ == "__main__":
    sys.exit(run(bench(read_options())))
