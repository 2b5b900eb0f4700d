"""How much memory a process has, as Linux counts it."""

from __future__ import annotations

from pathlib import Path


def resident_megabytes(pid: int | None) -> float:
    """Return what a process holds in memory that is no file's.

    What it has from the process that it was forked from (`forking`) counts from the beginning,
    and not when it is first written to.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines())
    (kilobytes,) = (int(words[1]) for words in lines if words[0] == "Anonymous:")
    return kilobytes / 1024
