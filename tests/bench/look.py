"""`./build.sh bench look`: how long a start takes, beside all that it could be compared with.

    bare requests   every way to ask for what a reconcile needs, downloaded and parsed (`ways.py`);
                    the fastest complete one is the floor of the run
    others          matrix-nio's full-state sync, and what matrix-hookshot asks at its start
    Homeroom        its start on an empty database without and with a checkpoint in the account
                    data, on an intact one, with 1 % of the rooms changed while it was down, with
                    1 % of its rows lost (`start.py`)

in homeservers with 100, 1,000 and 10,000 rooms. All of these Synapses run at once, and each has
its turn round by round: every side once a round, in an order that is drawn; whatever the machine
does meanwhile, it does to all. Each measurement is a process of its own, begun when that Synapse
has nothing left to do. Homeroom starts from a copy of what an earlier life left, and what it did
is looked at: the rows must be there, and new names of rooms in them.

The Synapses are copies of the worlds in `.bench/worlds`, which stay as they are. Synapse on SQLite
flushes every transaction to the disk: so the copies lie in memory, if there is such a file system
(`--synapse` says otherwise); those of maubot and the plugin lie on the disk as ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp

from homeroom.domain.homes.checkpoint_shards import HEAD_TYPE
from tests.bench.figures import judge
from tests.bench.gauge import until_idle
from tests.bench.growth import plot
from tests.bench.lives import Life, Lives
from tests.bench.look_figures import figures, require_alike
from tests.bench.look_options import (
    CROWD,
    CROWD_HOMES,
    IN_PART,
    SLOW,
    Measured,
    Options,
    Side,
    read_options,
)
from tests.bench.place import directories, measured_with
from tests.bench.report import report
from tests.bench.world import Api, Crowd, World, populate, rename
from tests.stack.console import StepFailedError, run, step
from tests.stack.package import ROOT
from tests.stack.postgres import Postgres
from tests.stack.synapse import Account, Synapse


@dataclass(kw_only=True)
class Scene:
    """A homeserver that runs, and what Homeroom's last life on it left, on every database."""

    world: World
    synapse: Synapse
    bot: Account
    api: Api
    left: dict[str, Life] = field(default_factory=dict)
    chats: int = 0
    """How many rows there must be after every start."""
    changed: int = 0
    head: Any = None
    """Of the checkpoint that the last life left; a start without one has it taken away."""

    def arguments(self) -> list[str]:
        return [
            *("--url", self.synapse.url),
            *("--user-id", self.bot.user_id),
            *("--token", self.bot.access_token),
        ]

    async def read_head(self) -> None:
        """Remember the checkpoint of the life that has just ended."""
        self.head = await self.api("GET", self._head, token=self.bot.access_token)
        if not self.head:
            raise AssertionError("Homeroom left no checkpoint")

    async def show_head(self, *, shown: bool) -> None:
        """Have a checkpoint, or none."""
        head = self.head if shown else {}
        await self.api("PUT", self._head, head, token=self.bot.access_token)

    @property
    def _head(self) -> str:
        user = quote(self.bot.user_id, safe="")
        return f"/_matrix/client/v3/user/{user}/account_data/{HEAD_TYPE}"

    async def be_ready(self, *, cold: bool) -> None:
        """Wait until Synapse has done what was asked of it; for a cold one, restart it."""
        if cold:
            await self.synapse.restart()
        await until_idle(self.synapse.pid)


class Bench:
    """Measures, round by round."""

    def __init__(self, options: Options, *, scenes: Sequence[Scene], lives: Lives) -> None:
        self._options = options
        self._scenes = scenes
        self._lives = lives
        self._draw = random.Random(options.seed)
        self.measured: list[Measured] = []

    async def prepare(self, scene: Scene) -> str:
        """Have Homeroom live on this homeserver once, on every database; a warm-up for both.

        Before, all state is read once: Synapse's caches are then as full as they get, and no side
        of the first round has to fill them.
        """
        if not self._options.cold:
            await self._look(scene, "state-10")
        for database in self._options.databases:
            life = await self._lives.new(database)
            await self._start(scene, life, "--stop", "--linger", "1")
            scene.left[database] = life
            scene.chats = await self._lives.count(life)
            await scene.read_head()
        if not scene.chats and self._options.databases:
            raise AssertionError("Homeroom found none of the homes")
        return f"{scene.chats} chats"

    async def round(self, number: int, scene: Scene) -> None:
        """Every side once, in some order; what changes the world comes last."""
        sides = list(self._sides(scene))
        self._draw.shuffle(sides)
        for side in sides:
            await self._turn(number, scene, side)
        if "changed" not in self._options.scenarios or not self._options.databases:
            return
        name = f"Renamed {uuid4()}"
        await self._rename(scene, name)
        for database in self._options.databases:
            side = Side(database=database, scenario="changed")
            await self._turn(number, scene, side, name=name)

    def _sides(self, scene: Scene) -> Iterator[Side]:
        for way in self._options.ways:
            side = Side(way=way)
            if not self._is_done(scene, side):
                yield side
        for database in self._options.databases:
            for scenario in self._options.scenarios:
                if scenario != "changed":
                    yield Side(database=database, scenario=scenario)

    def _is_done(self, scene: Scene, side: Side) -> bool:
        seconds = [
            each.seen["seconds"]
            for each in self.measured
            if each.side == side and each.world == scene.world.name
        ]
        return len(seconds) >= self._options.repeats_of_slow and max(seconds, default=0) > SLOW

    async def _turn(self, number: int, scene: Scene, side: Side, *, name: str = "") -> None:
        rooms, rounds = scene.world.all_rooms, self._options.repeats
        with step(f"Round {number} of {rounds}, {rooms:,} rooms, {side}") as current:
            if side.way is not None:
                seen = await self._look(scene, side.way)
            else:
                seen = await self._one_start(scene, side, name=name)
            current.result = f"{seen['seconds']:.3f} s"
        world = scene.world.name
        self.measured.append(Measured(world=world, round=number, side=side, seen=seen))

    async def _look(self, scene: Scene, way: str) -> dict[str, Any]:
        await scene.be_ready(cold=self._options.cold)
        return await _child("tests.bench.ways", way, *scene.arguments())

    async def _one_start(self, scene: Scene, side: Side, *, name: str) -> dict[str, Any]:
        left = scene.left[side.database]
        if side.scenario == "changed":
            seen = await self._start(scene, left, "--stop")
            renamed = await self._lives.count(left, name=name)
            if renamed != scene.changed:
                raise AssertionError(f"{renamed} of {scene.changed} new names are in the database")
            await scene.read_head()
            return seen
        await scene.show_head(shown=side.scenario not in ("empty", "lost"))
        if side.scenario in ("empty", "restored"):
            life = await self._lives.new(side.database)
        else:
            life = await self._lives.copy(left)
        try:
            if side.scenario == "lost":
                await self._lives.lose(life)
            elif side.scenario == "rows":
                await self._lives.lose_rows(life, max(1, scene.chats // IN_PART))
            linger = str(self._options.linger) if side.scenario == "intact" else "0"
            seen = await self._start(scene, life, "--linger", linger)
            is_restored = any(line.startswith("Restored") for line in seen["log"])
            if is_restored != (side.scenario in ("restored", "rows")):
                raise AssertionError(f"{side}: {'' if is_restored else 'not '}restored")
            chats = await self._lives.count(life)
            if chats != scene.chats:
                raise AssertionError(f"{chats} chats are in the database, not {scene.chats}")
            return seen
        finally:
            await self._lives.remove(life)

    async def _start(self, scene: Scene, life: Life, *arguments: str) -> dict[str, Any]:
        await scene.be_ready(cold=self._options.cold)
        if life.postgres is not None:
            arguments = (*arguments, "--postgres", life.postgres)
        if self._options.explain is not None:
            arguments = (*arguments, "--explain", str(self._options.explain))
        directory = ("--directory", str(life.directory))
        return await _child("tests.bench.start", *scene.arguments(), *directory, *arguments)

    async def _rename(self, scene: Scene, name: str) -> None:
        """Have owners rename one of a hundred rooms."""
        chats = [
            (owner, room_id)
            for owner, (_, *rooms) in scene.world.made().items()
            for room_id in rooms
        ]
        chosen = self._draw.sample(chats, max(1, scene.world.rooms // IN_PART))
        scene.changed = len(chosen)
        await rename(scene.api, chosen, name=name, server_name=scene.synapse.server_name)


async def _child(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module in a process of its own, return the JSON that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        text = errors.decode(errors="replace")[-3000:]
        raise RuntimeError(f"{module} ended with status {process.returncode}:\n{text}")
    found: dict[str, Any] = json.loads(output)
    return found


@asynccontextmanager
async def on_scene(world: World, directory: Path) -> AsyncIterator[Scene]:
    """Run a copy of a world."""
    copy = await asyncio.to_thread(world.copy_to, directory / world.name)
    async with copy.running() as (synapse, bot), aiohttp.ClientSession() as session:
        yield Scene(world=copy, synapse=synapse, bot=bot, api=Api(synapse.url, session))


async def bench(options: Options) -> int:
    """Measure, print, write down; return the exit status."""
    load = os.getloadavg()[0]
    try:
        async with AsyncExitStack() as exits:
            directory, of_synapse = exits.enter_context(directories(of_synapse=options.synapse))
            worlds = [await populate(homes=homes) for homes in options.homes]
            if options.crowd:
                worlds.append(await populate(homes=CROWD_HOMES, crowd=CROWD))
            postgres = None
            if "postgres" in options.databases:
                postgres = await exits.enter_async_context(Postgres())
            lives = Lives(directory, postgres=postgres)
            scenes = []
            for world in worlds:
                with step(f"Synapse with {world.all_rooms:,} rooms starts"):
                    scenes.append(await exits.enter_async_context(on_scene(world, of_synapse)))
            measuring = Bench(options, scenes=scenes, lives=lives)
            for scene in scenes:
                with step(
                    f"Homeroom's first life with {scene.world.all_rooms:,} rooms"
                ) as current:
                    current.result = await measuring.prepare(scene)
            for number in range(1, options.repeats + 1):
                for scene in scenes:
                    await measuring.round(number, scene)
                    require_alike(scene.world, measuring.measured)
                    found = _results(options, scenes, measuring.measured, load_before=load)
                    options.results.parent.mkdir(parents=True, exist_ok=True)
                    options.results.write_text(json.dumps(found, indent=1))
    except StepFailedError:
        return 2
    return show(options.results, picture=options.picture)


def _results(
    options: Options, scenes: Sequence[Scene], measured: Sequence[Measured], *, load_before: float
) -> dict[str, Any]:
    return {
        "options": asdict(options)
        | {name: str(getattr(options, name)) for name in ("synapse", "results", "picture")},
        "measured_with": _measured_with(options, load_before=load_before),
        "worlds": [
            {
                "homes": scene.world.homes,
                "crowd": asdict(scene.world.crowd),
                "changed": scene.changed,
            }
            for scene in scenes
        ],
        "measured": [asdict(each) for each in measured],
    }


def show(results: Path, *, picture: Path) -> int:
    """Print what a run has written down, draw its growth; return 0 if every bar is reached."""
    found = json.loads(results.read_text())
    measured = [Measured(**{**each, "side": Side(**each["side"])}) for each in found["measured"]]
    worlds = [
        figures(
            World(Path(), homes=each["homes"], crowd=Crowd(**each["crowd"])),
            measured,
            changed=each["changed"],
        )
        for each in found["worlds"]
    ]
    bars = judge(worlds)
    manner = "Synapse just restarted" if found["options"]["cold"] else "Synapse warm"
    print("\n" + "\n".join([*report(worlds, bars, manner=manner), "", *found["measured_with"]]))
    plain = [world for world in worlds if not world.is_crowd]
    if len(plain) > 1:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(plot(plain))
        print(f"Growth: {picture}")
    print(f"Every measurement: {results}")
    return 0 if all(bar.reached is not False for bar in bars) else 1


def _measured_with(options: Options, *, load_before: float) -> list[str]:
    slow = f"of what takes more than {SLOW:g} s {options.repeats_of_slow}"
    return [
        f"Rounds: {options.repeats}, {slow} (seed {options.seed})",
        *measured_with(
            "matrix-synapse",
            "maubot",
            "matrix-nio",
            of_synapse=options.synapse,
            load_before=load_before,
        ),
    ]


def main() -> int:
    options = read_options()
    if isinstance(options, Options):
        return run(bench(options))
    results, picture = options
    return show(results, picture=picture)


if __name__ == "__main__":
    sys.exit(main())
