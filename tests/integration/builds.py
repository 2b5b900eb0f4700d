"""Builds of this tree with something changed in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.stack.package import ROOT, build


def changed_build(
    directory: Path, *, changes: Mapping[str, Callable[[str], str]], version: str
) -> Path:
    """Build the plugin with changed files, named by their paths; each has to change."""
    tree = directory / f"tree-{version}"
    shutil.copytree(ROOT / "plugin", tree / "plugin")
    for name in ("LICENSE", "maubot.yaml", "base-config.yaml"):
        shutil.copy(ROOT / name, tree)
    for name, change in changes.items():
        before = (tree / name).read_text("utf-8")
        after = change(before)
        assert after != before, name
        (tree / name).write_text(after, "utf-8")
    return build(tree, version=version, has_proof=False)  # the maubot of the test loads it
