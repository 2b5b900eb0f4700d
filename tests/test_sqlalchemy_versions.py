"""The same tests with every other SQLAlchemy that `./build.sh` installed next to our own.

One process can import only one. The store, which has every statement, is tested with all of them,
on SQLite; with the oldest, which maubot's official image has, on PostgreSQL, too (and the whole in
tests/integration/test_restart.py). How much there is of something is not for each version to say:
that takes long. Which value means what when it is read is no matter of SQLAlchemy's: with the
oldest it is seen once more, with those between the oldest and our own it is not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = sorted(Path(sys.prefix).glob("sqlalchemy-*[0-9]"))
HOW_MUCH = ("test_any_sequence_of_changes_is_a_dict", "test_ten_thousand_rows", "test_pruning")
WITHOUT = ("test_without_sqlalchemy",)
WHICH_VALUE = (
    *("test_a_chat_comes_back", "test_a_home_comes_back", "test_reading_a_"),
    "test_sqlite_may_hold_anything",
)


def is_oldest(directory: Path) -> bool:
    return directory.name.startswith("sqlalchemy-1.3.")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("directory", INSTALLED, ids=lambda directory: directory.name)
def test_another_sqlalchemy(directory: Path, request: pytest.FixtureRequest) -> None:
    python_path = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))
    left_out = [*HOW_MUCH, *WITHOUT, *(() if is_oldest(directory) else WHICH_VALUE)]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests/storage", "-p", "no:cacheprovider"),
            *("-k", f"not ({' or '.join(left_out)})"),
            *("-m", request.config.option.markexpr if is_oldest(directory) else "not postgres"),
            # What 1.3.24 does at its import, on Python 3.12 and later.
            *("-W", "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    version = directory.name.removeprefix("sqlalchemy-")
    assert f"SQLAlchemy {version} from {directory}\n" in run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) > 50


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only CI must have them all")
def test_ci_has_other_versions_to_test_with() -> None:
    versions = {path.name.removeprefix("sqlalchemy-") for path in INSTALLED}
    assert any(version.startswith("1.3.") for version in versions), f"./build.sh test: {versions}"
