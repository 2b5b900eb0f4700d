"""The shape of the package: three rings, and imports that go down only.

    bot         builds nothing, decides nothing: maubot's entry point
    does        startup, status_page, delivery, commands, homes, replies
    outside     platforms, matrix, storage, config, runtime
    decides     domain

A module imports from rings below its own, never upwards and never sideways; inside of every
folder no two parts import each other. `domain/` is pure, which ruff checks: here is checked that
it does. Every check proves itself on a deliberate violation.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.stack.package import ROOT

PACKAGE = ROOT / "plugin" / "homeroom"
RINGS = (
    {"bot"},
    {"wiring"},
    {"app"},
    {"startup", "status_page"},
    {"delivery"},
    {"commands"},
    {"homes"},
    {"replies"},
    {"platforms"},
    {"matrix"},
    {"storage"},
    {"config"},
    {"domain", "runtime"},
)
"""The parts of the package, from the top down."""
MAX_LINES = 500
TOO_LONG: set[str] = set()
"""To be divided."""
MAX_AT_ROOT = 4
SAY_NOTHING = {"adapters", "verbs", "doors", "helpers", "utils", "common"}
"""Names that do not say what is in there."""

Module = tuple[str, ...]
Imports = Mapping[Module, frozenset[Module]]
"""Module -> the modules of the package that it imports, each by its path in the package."""


def imports_in(package: Path) -> Imports:
    files = {_module(path, package): path for path in package.rglob("*.py")}
    return {
        module: frozenset(
            imported if imported in files else (*imported, "__init__")
            for imported in _imported(path, module, files)
        )
        for module, path in files.items()
    }


def _module(path: Path, package: Path) -> Module:
    return path.relative_to(package).with_suffix("").parts


def _imported(path: Path, module: Module, files: Mapping[Module, Path]) -> Iterator[Module]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*module[: len(module) - node.level], *(node.module or "").split("."))
            base = tuple(filter(None, base))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("homeroom"):
            base = tuple((node.module or "").split("."))[1:]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
            yield from (name[1:] for name in names if name[0] == "homeroom")
            continue
        else:
            continue
        for alias in node.names:
            inner = (*base, alias.name)
            is_module = inner in files or (*inner, "__init__") in files
            yield inner if is_module else base


def upward(imports: Imports) -> list[str]:
    """Every import that does not go to a ring below."""
    ring = {part: depth for depth, parts in enumerate(RINGS) for part in parts}
    return [
        f"{'/'.join(module)} -> {'/'.join(imported)}"
        for module, found in sorted(imports.items())
        for imported in sorted(found)
        if module != ("__init__",)  # maubot finds the plugin's class through it
        and module[0] != imported[0]
        and ring[module[0]] >= ring[imported[0]]
    ]


def circles(imports: Imports) -> list[str]:
    """Every folder in which parts import each other, and which."""
    folders: dict[Module, dict[str, set[str]]] = {}
    for module, found in imports.items():
        for imported in found:
            for depth in range(min(len(module), len(imported))):
                if module[depth] != imported[depth]:
                    parts = folders.setdefault(module[:depth], {})
                    parts.setdefault(module[depth], set()).add(imported[depth])
                    break
    return [
        f"{'/'.join(folder) or '.'}: {circle}"
        for folder, parts in sorted(folders.items())
        if (circle := _circle(parts))
    ]


def _circle(parts: Mapping[str, set[str]]) -> str | None:
    try:
        TopologicalSorter(parts).prepare()
    except CycleError as e:
        return " -> ".join(e.args[1])
    return None


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package, with the settings of the checks, to break rules in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        PACKAGE, tmp_path / "plugin" / "homeroom", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path / "plugin" / "homeroom"


def test_every_part_of_the_package_is_in_a_ring() -> None:
    parts = {module[0] for module in imports_in(PACKAGE)} - {"__init__"}
    assert parts <= set().union(*RINGS)


def test_imports_go_down_only() -> None:
    assert upward(imports_in(PACKAGE)) == []


@pytest.mark.parametrize(
    ("module", "line", "is_wrong"),
    [
        ("matrix/probe.py", "from ..delivery.inbox import Inbox", True),
        ("matrix/probe.py", "from .. import replies", True),
        ("matrix/probe.py", "import homeroom.replies", True),
        ("domain/homes/probe.py", "from ...runtime import clock", True),
        ("startup/probe.py", "from homeroom.status_page import page", True),
        ("status_page/probe.py", "def f():\n    from .. import bot", True),
        ("delivery/probe.py", "from ..domain.never import assert_never", False),
        ("delivery/probe.py", "from .. import replies", False),
    ],
)
def test_an_import_upwards_or_sideways_is_found(
    copy: Path, module: str, line: str, is_wrong: bool
) -> None:
    (copy / module).write_text(f"{line}\n", encoding="utf-8")
    found = upward(imports_in(copy))
    assert [place.split(" -> ")[0] for place in found] == [module[:-3]] * is_wrong


def test_no_two_parts_of_a_folder_import_each_other() -> None:
    assert circles(imports_in(PACKAGE)) == []


def test_parts_that_import_each_other_are_found(copy: Path) -> None:
    (copy / "domain" / "homes" / "probe.py").write_text("from ..sync import position\n")
    (copy / "domain" / "sync" / "position.py").write_text("from ..homes import probe\n")
    assert [circle.split(":")[0] for circle in circles(imports_in(copy))] == ["domain"]


@pytest.mark.parametrize(
    ("module", "line", "is_pure"),
    [
        ("domain/probe.py", "import asyncio", False),
        ("domain/homes/probe.py", "import logging", False),
        ("domain/sync/probe.py", "from time import monotonic", False),
        ("domain/conversation/probe.py", "from mautrix.client import Client", False),
        ("domain/conversation/probe.py", "from mautrix.types import UserID", True),
        ("delivery/probe.py", "import asyncio", True),
        ("probe.py", "import asyncio", True),
    ],
)
def test_ruff_lets_domain_import_nothing_that_waits_or_asks(
    copy: Path, module: str, line: str, is_pure: bool
) -> None:
    (copy / module).write_text(f"{line}\n", encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251"]
    found = subprocess.run(
        [*ruff, "--output-format", "concise", "."],
        cwd=copy.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    places = [text for text in found.stdout.splitlines() if "TID251" in text]
    assert [place.split(":")[0] for place in places] == [f"plugin/homeroom/{module}"] * (
        not is_pure
    ), found.stdout + found.stderr


def test_few_modules_are_at_the_root() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_AT_ROOT


def test_every_name_says_what_is_in_there() -> None:
    names = {part for module in imports_in(PACKAGE) for part in module}
    assert names & SAY_NOTHING == set()


def test_nothing_swallows_a_cancellation() -> None:
    """`runtime/timeouts.py` says why."""
    used = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if "asyncio.wait_for(" in path.read_text(encoding="utf-8")
    }
    assert used == set()


def test_no_module_is_too_long_to_be_read_in_one_sitting() -> None:
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name for name, lines in lengths.items() if lines > MAX_LINES} == TOO_LONG
