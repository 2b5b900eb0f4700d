"""The same tests with every other SQLAlchemy that `./build.sh` installed next to our own.

maubot's official image has 1.3.24, and one process can import only one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTALLED = sorted(Path(sys.prefix).glob("sqlalchemy-*[0-9]"))


@pytest.mark.parametrize("directory", INSTALLED, ids=lambda path: path.name)
def test_the_store_with_another_sqlalchemy(
    directory: Path, request: pytest.FixtureRequest
) -> None:
    python_path = os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests/adapters/store", "-p", "no:cacheprovider"),
            *("--ignore", str(Path(__file__).relative_to(ROOT))),
            *("-m", request.config.option.markexpr),
            # What 1.3.24 does at its import, on Python 3.12 and later.
            *("-W", "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    version = directory.name.removeprefix("sqlalchemy-")
    assert f"SQLAlchemy {version} from {directory}\n" in run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) > 100


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only CI must have them all")
def test_ci_has_other_versions_to_test_with() -> None:
    versions = {path.name.removeprefix("sqlalchemy-") for path in INSTALLED}
    assert any(version.startswith("1.3.") for version in versions), f"./build.sh test: {versions}"
