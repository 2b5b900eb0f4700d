"""A throw-away PostgreSQL cluster on loopback.

Durability is off, for it lives as long as the tests. PostgreSQL refuses to run as root, so when
we are root it runs as `postgres` or `nobody`; its files lie in a temporary directory of their
own, because that user may not enter one of pytest's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import asyncpg
from typing_extensions import Self

from .ports import LOOPBACK, free_port
from .process import ServerProcess


class Postgres:
    """A cluster; `async with` makes, starts, stops and deletes it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._binaries = find_binaries()
        self._user = _unprivileged_user()
        self._directory = Path(tempfile.mkdtemp(prefix="homeroom-postgres-"))
        if self._user is not None:
            shutil.chown(self._directory, self._user, self._user_group())
        data = self._directory / "data"
        self._process = ServerProcess(
            "PostgreSQL",
            [self._binaries / "postgres", "-D", data, *self._settings()],
            directory=self._directory,
            output=self._directory / "output.log",
            user=self._user,
            # SIGINT: end without waiting for clients to go.
            stop_signal=signal.SIGINT,
        )

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._make_cluster)
            self._process.start()
            await self._process.wait_ready(self._answers, timeout=30)
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._process.stop()
        finally:
            self._remove()

    async def create_database(self, *, like: str | None = None) -> str:
        """Create a database, return its URL: an empty one, or a copy of what another URL names.

        Nobody may be connected to what is copied.
        """
        name = f"homeroom_{secrets.token_hex(6)}"
        template = f" TEMPLATE {_name(like)}" if like else ""
        await self._execute(f"CREATE DATABASE {name}{template}")
        return self._url(name)

    async def drop_database(self, url: str) -> None:
        """Delete a database, whoever is still connected to it."""
        await self._execute(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _url(self, database: str) -> str:
        return f"postgresql://homeroom@{LOOPBACK}:{self.port}/{database}"

    def _user_group(self) -> int:
        assert self._user is not None
        return pwd.getpwnam(self._user).pw_gid

    def _make_cluster(self) -> None:
        subprocess.run(
            [
                *(self._binaries / "initdb", "-D", self._directory / "data"),
                *("--username=homeroom", "--auth=trust", "--encoding=UTF8", "--locale=C"),
                *("--no-sync", "--no-instructions"),
            ],
            cwd=self._directory,
            check=True,
            capture_output=True,
            user=self._user,
            group=self._user_group() if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": 100,
        }
        return [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self._url("postgres"), timeout=5)
        except (OSError, asyncpg.PostgresError, asyncio.TimeoutError):
            return False
        await connection.close()
        return True

    def _remove(self) -> None:
        self._process.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def find_binaries() -> Path:
    """Return the directory of the newest PostgreSQL server that is installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    in_path = [Path(directory) for directory in os.environ.get("PATH", "").split(os.pathsep)]
    for directory in (*debian, *in_path):
        if all((directory / name).is_file() for name in ("initdb", "postgres")):
            return directory
    raise FileNotFoundError(
        "No PostgreSQL server: initdb and postgres are neither in PATH nor in "
        "/usr/lib/postgresql/*/bin (on Debian and Ubuntu: apt-get install postgresql)"
    )


def _version(path: Path) -> float:
    with contextlib.suppress(ValueError):
        return float(path.parent.name)
    return 0


def _unprivileged_user() -> str | None:
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)
