"""How much memory a process has, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def resident_megabytes(pid: int | None) -> float:
    """Return what a process holds in memory that no other process shares."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines())
    return sum(int(words[1]) for words in lines if words[0].startswith("Private_")) / 1024
