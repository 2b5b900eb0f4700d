"""Where a benchmark runs: where its files lie, and what is to be said of the machine."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.stack.console import StepFailedError

_PREFIX: Final = "homeroom-bench-"
_MEMORY: Final = Path("/dev/shm")


def add_place(parser: ArgumentParser) -> None:
    """Add `--synapse`, a `Path`: in memory as it comes, if there is such a file system."""
    in_memory = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    parser.add_argument(
        "--synapse", type=Path, default=in_memory, help="where Synapse's files are to lie"
    )


@contextmanager
def directories(*, of_synapse: Path) -> Iterator[tuple[Path, Path]]:
    """Two for the files of a run, the second one for Synapse's, in `of_synapse`.

    They are removed, unless a step failed: then the servers' logs are in them, and that is said.
    """
    made = (
        Path(tempfile.mkdtemp(prefix=_PREFIX)),
        Path(tempfile.mkdtemp(prefix=_PREFIX, dir=of_synapse)),
    )
    try:
        yield made
    except StepFailedError as failure:
        print(f"\n{failure.report()}\n\nThe servers' logs are in {made[0]} and {made[1]}")
        raise
    except BaseException:
        _remove(made)
        raise
    _remove(made)


def measured_with(*packages: str, of_synapse: Path, load_before: float) -> list[str]:
    """Say on what it was measured, just now. Synapse's settings are those of `tests.stack`."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = f"load {load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    return [
        f"Python {platform.python_version()}, {versions}; Synapse on SQLite, no rate limits",
        f"Synapse's files: in {of_synapse}; all others: in {tempfile.gettempdir()}",
        f"All of it on one machine: {os.cpu_count()} CPUs, {load}",
    ]


def _remove(made: tuple[Path, Path]) -> None:
    for directory in made:
        shutil.rmtree(directory, ignore_errors=True)
