"""What `./build.sh bench look` is told, and what it measures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.figures import SCENARIOS
from tests.bench.place import add_place
from tests.bench.ways import WAYS
from tests.bench.world import Crowd
from tests.stack.package import ROOT

RESULTS: Final = ROOT / ".bench" / "look.json"
PICTURE: Final = ROOT / ".bench" / "growth.svg"
CROWD: Final = Crowd(public=5, members=2000, small=300)
CROWD_HOMES: Final = 250
SLOW: Final = 40.0
"""Seconds: what takes longer has fewer repeats."""
IN_PART: Final = 100
"""One of so many rooms is changed, or row lost."""

DATABASES: Final = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    homes: Sequence[int]
    crowd: bool
    repeats: int
    repeats_of_slow: int
    ways: Sequence[str]
    scenarios: Sequence[str]
    databases: Sequence[str]
    cold: bool
    linger: float
    explain: float | None
    seed: int
    synapse: Path
    results: Path
    picture: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What has its turn once a round: a way, or a start of Homeroom's on one database."""

    way: str | None = None
    database: str = ""
    scenario: str = ""

    def __str__(self) -> str:
        return self.way or f"{self.scenario}, {self.database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One turn of one side; `seen` is what its process printed."""

    world: str
    round: int
    side: Side
    seen: dict[str, Any]


def read_options() -> Options | tuple[Path, Path]:
    """The options of a run; or results of an earlier one to show again, and where to draw."""
    parser = argparse.ArgumentParser(
        prog="./build.sh bench look", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--homes", type=int, nargs="+", default=[25, 250, 2500], help="four rooms each")
    add("--crowd", action="store_true", help=f"{CROWD_HOMES} homes and {CROWD}, as well")
    add("--repeats", type=int, default=5, help="how often each side has its turn")
    add("--repeats-of-slow", type=int, default=1, help=f"of what takes more than {SLOW:g} s")
    add("--ways", nargs="*", choices=WAYS, default=list(WAYS), help="bare requests to measure")
    add(
        "--scenarios",
        nargs="*",
        choices=SCENARIOS,
        default=[name for name in SCENARIOS if name != "lost"],
        help="starts to measure",
    )
    add("--database", choices=[*DATABASES, "both"], default="sqlite", help="of maubot and plugin")
    add("--cold", action="store_true", help="restart Synapse before each measurement")
    add("--linger", type=float, default=0, help="seconds to look for stalls after intact starts")
    add("--explain", type=float, help="milliseconds: note where the loop was in longer stalls")
    add("--seed", type=int, default=1, help="of the order within each round")
    add_place(parser)
    add("--results", type=Path, default=RESULTS, help="where to write every measurement")
    add("--picture", type=Path, default=PICTURE, help="where to draw the growth")
    add("--show", action="store_true", help="measure nothing, show what --results has")
    found = vars(parser.parse_args())
    if found.pop("show"):
        return found["results"], found["picture"]
    database = found.pop("database")
    databases = list(DATABASES) if database == "both" else [database]
    if not found["scenarios"]:
        databases = []
    if found["repeats"] < 1 or found["repeats_of_slow"] < 1 or min(found["homes"]) < 1:
        parser.error("expected --repeats, --repeats-of-slow and --homes of at least 1")
    return Options(databases=databases, **found)
