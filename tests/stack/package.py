"""The `.mbp`: what goes in, the same bytes for the same tree, and the proof that maubot loads it.

    python -m tests.stack.package            build dist/homeroom-v<version>.mbp, print its path
    python tests/stack/package.py check FILE load a file with maubot's own loader

`mbc build` zips whatever lies in the module's folder, `__pycache__` included, asks when the
output exists, and only warns when a module is missing. Here only files go in that git tracks, and
no links; names are sorted, times and modes fixed; a missing module is an error. It is compressed,
because many a proxy refuses an upload of more than 1 MiB.

This file imports nothing of its package: `check` runs it as a script in isolated mode, so that
what is imported can only come from the `.mbp`.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from maubot.loader.meta import PluginMeta
from maubot.loader.zip import ZippedPluginLoader
from maubot.plugin_base import Plugin
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]

_TOP_LEVEL = ("LICENSE", "base-config.yaml", "maubot.yaml")
_SOURCE_ROOT = "plugin"
_OLDEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644


class PackageError(Exception):
    """The tree cannot become a plugin; the message says what to mend."""


def build(
    root: Path = ROOT,
    *,
    output: Path | None = None,
    version: str | None = None,
    has_proof: bool = True,
) -> Path:
    """Write the `.mbp` into a directory (`dist`) and return its path.

    A version given replaces that of maubot.yaml: maubot refuses a mended build under the version
    of a broken one until it restarts, so development builds need versions of their own. Without
    proof that maubot loads it, it is built in a tenth of the time.
    """
    files = collect(root)
    if version is not None:
        text = files["maubot.yaml"].decode()
        files["maubot.yaml"] = re.sub(r"(?m)^version:.*$", f"version: {version}", text).encode()
    meta = read_meta(files)
    require_complete(files, meta)
    directory = output or root / "dist"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{meta.id.rpartition('.')[2]}-v{meta.version}.mbp"
    # Under another name first: tests that run side by side may read it meanwhile.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(archive(files))
        if has_proof:
            check(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def collect(root: Path) -> dict[str, bytes]:
    """Read the plugin's files by the names that they will have in the archive."""
    missing = [name for name in _TOP_LEVEL if not (root / name).is_file()]
    if missing:
        raise PackageError(f"{' and '.join(missing)} not found in {root}")
    names = [*_TOP_LEVEL, *_source_files(root)]
    return {name.removeprefix(f"{_SOURCE_ROOT}/"): (root / name).read_bytes() for name in names}


def read_meta(files: Mapping[str, bytes]) -> PluginMeta:
    """Read maubot.yaml as maubot does."""
    meta: PluginMeta = PluginMeta.deserialize(YAML().load(files["maubot.yaml"].decode()))
    return meta


def require_complete(files: Mapping[str, bytes], meta: PluginMeta) -> None:
    """Raise PackageError where maubot.yaml names a module or file that is not there."""
    for module in meta.modules:
        path = module.replace(".", "/")
        if not {f"{path}.py", f"{path}/__init__.py"} & files.keys():
            raise PackageError(
                f"maubot.yaml names the module {module!r}, but there is neither "
                f"{_SOURCE_ROOT}/{path}/__init__.py nor {_SOURCE_ROOT}/{path}.py "
                "that git tracks"
            )
    absent = [name for name in meta.extra_files if name not in files]
    if absent:
        raise PackageError(f"maubot.yaml names files that are not packed: {', '.join(absent)}")


def archive(files: Mapping[str, bytes]) -> bytes:
    """Zip files; the same files give the same bytes, with the same zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _OLDEST_ZIP_TIME)
            entry.create_system = 3
            entry.external_attr = _PLAIN_FILE << 16
            target.writestr(entry, files[name], zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


def check(path: Path) -> None:
    """Load the file with maubot's loader, in a process that can import nothing else of ours."""
    command = [sys.executable, "-I", __file__, "check", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise PackageError(f"maubot cannot load {path.name}:\n{result.stderr.strip()}")


def _load(path: str) -> None:
    loader = ZippedPluginLoader.get(path)
    main: type[Plugin] = asyncio.run(loader.load())
    origin = str(sys.modules[main.__module__].__file__)
    if not origin.startswith(path):
        raise PackageError(f"{main.__name__} was loaded from {origin}, not from {path}")


def _source_files(root: Path) -> list[str]:
    """The files that git tracks; what else lies there is nobody's business."""
    command = ["git", "ls-files", "-z", "--cached", "--", _SOURCE_ROOT]
    try:
        listed = subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        # Not a git tree (an unpacked archive, say): everything that is nobody's cache.
        found = (root / _SOURCE_ROOT).rglob("*")
        listed = [path.relative_to(root).as_posix() for path in found]
    names = [name for name in listed if name and "__pycache__" not in name]
    links = [name for name in names if (root / name).is_symlink()]
    if links:
        raise PackageError(f"these are links, whose targets may be anything: {', '.join(links)}")
    return [name for name in names if (root / name).is_file() and not name.endswith(".pyc")]


def untracked(root: Path = ROOT) -> list[str]:
    """Files beside the plugin's own that are not packed."""
    command = ["git", "ls-files", "-z", "--others", "--exclude-standard", "--", _SOURCE_ROOT]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name]


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["check"]:
            _load(os.path.abspath(sys.argv[2]))
        else:
            for name in untracked():
                print(f"not packed, because git does not track it: {name}", file=sys.stderr)
            print(os.path.relpath(build()))
    except PackageError as error:
        sys.exit(f"error: {error}")
