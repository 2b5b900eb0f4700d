"""`./build.sh release`: the file to publish, and the proof that it may be.

    python -m tests.stack.release [TAG]

Refuses a tree with changes, a version without its own part of the changelog, and a tag that names
another version. Prints the path and the SHA-256; writes the sum and what is new beside the file.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from .package import ROOT, PackageError, build, collect, read_meta


def release(root: Path = ROOT, *, tag: str | None = None) -> tuple[Path, str]:
    """Build the `.mbp` of a release; returns its path and its SHA-256."""
    version = str(read_meta(collect(root)).version)
    command = ["git", "status", "--porcelain"]
    status = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    if status:
        raise PackageError(f"the tree has changes:\n{status.rstrip()}")
    if tag is not None and tag.removeprefix("v") != version:
        raise PackageError(f"the tag is {tag}, and maubot.yaml says {version}")
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(
        r"^## \[(.+?)\] - \d{4}-\d\d-\d\d$", changelog, maxsplit=2, flags=re.MULTILINE
    )
    found, news = parts[1:3] if len(parts) > 1 else ("none", "")
    if found != version:
        raise PackageError(f"the newest version in CHANGELOG.md is {found}, not {version}")
    path = build(root)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    path.with_name(f"{path.stem}.md").write_text(f"{news.strip()}\n")
    return path, digest


if __name__ == "__main__":
    try:
        file, sha256 = release(tag=sys.argv[1] if len(sys.argv) > 1 else None)
    except PackageError as error:
        sys.exit(f"error: {error}")
    print(f"{sha256}  {os.path.relpath(file)}")
