"""A real maubot server, driven through the management API that its web UI uses.

Its own database and, unless a PostgreSQL URL is given, those of its plugins are SQLite files in
its directory. Its web server opens only after every plugin's `start()` has returned, and until
then there is no API: `start(wait=False)`, then `wait_ready`, is for tests that look at that.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bcrypt
from typing_extensions import Self

from .database import PluginDatabase, PostgresPluginDatabase, SqlitePluginDatabase
from .http import Json, JsonApi
from .ports import LOOPBACK, free_port
from .process import ServerProcess, tail
from .synapse import Account
from .waiting import eventually

_API = "/_matrix/maubot/v1"
_STOPPING = "Interrupt received, stopping..."


class Maubot:
    """A maubot in a directory; started again there, it finds its clients and instances."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        admin_user: str = "admin",
        admin_password: str = "admin",
        plugin_postgres: str | None = None,
        postgres: str | None = None,
        python_path: str | None = None,
    ) -> None:
        """`postgres` is where maubot stores what is its own (the state of rooms, say).

        If it is the plugins' database as well, maubot opens it once.
        `python_path` comes before the installed packages: another SQLAlchemy, for instance.
        """
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.ui_url = f"{self.url}/_matrix/maubot/"
        self.admin_user = admin_user
        self.admin_password = admin_password
        self.log_file = directory / "maubot.log"
        self.plugin_directory = directory / "plugins"
        self._directory = directory
        self._plugin_postgres = plugin_postgres
        self._postgres = postgres
        self._api = JsonApi(base_url=self.url + _API)
        self._process = ServerProcess(
            "maubot",
            [sys.executable, "-m", "maubot", "-c", directory / "config.yaml"],
            directory=directory,
            output=directory / "output.log",
            environment={"PYTHONPATH": python_path} if python_path else None,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    async def start(self, *, wait: bool = True, timeout: float = 60) -> None:
        """Start the server and, unless told not to, wait until one can log in."""
        self._write_configuration()
        self._process.start()
        if wait:
            try:
                await self.wait_ready(timeout=timeout)
            except BaseException:
                self._process.kill()
                raise

    async def wait_ready(self, *, timeout: float = 60) -> None:
        """Wait until the management API answers, and log in."""
        await self._process.wait_ready(self.answers, timeout=timeout, logs=[self.log_file])
        await self.login()

    async def answers(self) -> bool:
        """Say whether the management API answers now."""
        return await self._api.answers("/features")

    async def stop(self) -> None:
        """End the server as its service manager would, with SIGTERM, and wait for it.

        With another one if it has not heard the first: maubot raises KeyboardInterrupt wherever
        the signal finds it, and if that is where asyncpg sends a statement, nobody hears of it
        (`finally: return await waiter`).
        """
        mark = self.mark()
        await self._process.stop(has_heard=lambda: _STOPPING in self.log_text(since=mark))

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._process.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def login(self) -> None:
        """Log in as the administrator; `start` has done so."""
        body = {"username": self.admin_user, "password": self.admin_password}
        anonymous = JsonApi(base_url=self._api.base_url)
        token = (await anonymous.request("POST", "/auth/login", body))["token"]
        self._api = JsonApi(base_url=self._api.base_url, token=token)

    async def upload_plugin(self, path: Path, *, allow_override: bool = True) -> Json:
        """Upload an `.mbp`; where the plugin is known, its instances restart with the new one."""
        query = {"allow_override": "true"} if allow_override else {}
        content = await asyncio.to_thread(path.read_bytes)
        return await self._api.request("POST", "/plugins/upload", query=query, data=content)

    async def plugins(self) -> list[dict[str, Any]]:
        """Return the uploaded plugins: `id`, `version`, `instances` and `path` of each."""
        plugins: list[dict[str, Any]] = await self._api.request("GET", "/plugins")
        return plugins

    async def create_client(
        self, account: Account, *, homeserver: str, autojoin: bool = False, **settings: Any
    ) -> Json:
        """Add a bot account, or update it where it is known."""
        body = {
            "homeserver": homeserver,
            "access_token": account.access_token,
            "device_id": account.device_id,
            "autojoin": autojoin,
            "online": False,
            "enabled": True,
            "started": True,
            **settings,
        }
        return await self._api.request("PUT", f"/client/{account.user_id}", body)

    async def get_client(self, user_id: str) -> Json:
        return await self._api.request("GET", f"/client/{user_id}")

    async def generate_recovery_key(self, user_id: str) -> str:
        """Press *Generate recovery key*: the account gets an identity that signs its device."""
        answer = await self._api.request("POST", f"/client/{user_id}/generate_recovery_key", {})
        key: str = answer["recovery_key"]
        return key

    async def verify(self, user_id: str, *, recovery_key: str) -> None:
        """Press *Verify*: the account's device gets a signature of its identity."""
        body = {"recovery_key": recovery_key}
        await self._api.request("POST", f"/client/{user_id}/verify", body)

    async def delete_client(self, user_id: str) -> None:
        """Forget a bot account; its instances must be deleted before."""
        await self._api.request("DELETE", f"/client/{user_id}")

    async def set_client_started(self, user_id: str, *, started: bool) -> Json:
        """Start or stop a bot account and with it its instances."""
        return await self._api.request("PUT", f"/client/{user_id}", {"started": started})

    async def clear_cache(self, user_id: str) -> None:
        """Press *Clear cache*: the account's sync begins anew."""
        await self._api.request("POST", f"/client/{user_id}/clearcache", {})

    async def create_instance(
        self,
        instance: str,
        *,
        plugin_id: str,
        primary_user: str,
        config: Mapping[str, Any] | str = "",
        enabled: bool = True,
    ) -> Json:
        """Create and start an instance; returns when its `start()` has returned."""
        body = {
            "type": plugin_id,
            "primary_user": primary_user,
            "config": _yaml(config),
            "enabled": enabled,
        }
        return await self._api.request("PUT", f"/instance/{instance}", body)

    async def get_instance(self, instance: str) -> Json:
        """Return `enabled`, `started`, `config` (YAML text) and more."""
        return await self._api.request("GET", f"/instance/{instance}")

    async def instances(self) -> list[dict[str, Any]]:
        instances: list[dict[str, Any]] = await self._api.request("GET", "/instances")
        return instances

    async def update_instance(
        self,
        instance: str,
        *,
        enabled: bool | None = None,
        started: bool | None = None,
        config: Mapping[str, Any] | str | None = None,
    ) -> Json:
        """Change what is given and leave the rest."""
        body = {
            "enabled": enabled,
            "started": started,
            "config": None if config is None else _yaml(config),
        }
        return await self._api.request("PUT", f"/instance/{instance}", body)

    async def restart_instance(self, instance: str) -> Json:
        """Stop and start one instance; the sync of its account goes on meanwhile."""
        await self.update_instance(instance, started=False)
        return await self.update_instance(instance, started=True)

    async def delete_instance(self, instance: str) -> None:
        await self._api.request("DELETE", f"/instance/{instance}")

    def plugin_database(self, instance: str) -> PluginDatabase:
        """Return the database of an instance, for looking in and for breaking it."""
        if self._plugin_postgres:
            return PostgresPluginDatabase(url=self._plugin_postgres, schema=f"mbp_{instance}")
        return SqlitePluginDatabase(path=self.plugin_directory / f"{instance}.db")

    @property
    def own_database(self) -> PluginDatabase:
        """What maubot itself stores, mautrix's state store among it."""
        if self._postgres:
            return PostgresPluginDatabase(url=self._postgres, schema="public")
        return SqlitePluginDatabase(path=self._own_file)

    @property
    def _own_file(self) -> Path:
        return self._directory / "maubot.db"

    async def delete_plugin_database(self, instance: str) -> None:
        """Delete all that an instance has stored; stop maubot, or the instance, before."""
        await self.plugin_database(instance).delete()

    def mark(self) -> int:
        """Return the place where the log ends now."""
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def log_text(self, *, since: int = 0) -> str:
        """Return the log since a mark."""
        if not self.log_file.exists():
            return ""
        with self.log_file.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    async def wait_for_log(
        self, pattern: str, *, since: int = 0, timeout: float = 45
    ) -> re.Match[str]:
        """Wait until the log since a mark has what the regular expression describes."""

        async def find() -> re.Match[str] | None:
            return re.search(pattern, self.log_text(since=since), re.MULTILINE)

        try:
            return await eventually(f"{pattern!r} in maubot's log", find, timeout=timeout)
        except TimeoutError as error:
            raise TimeoutError(
                f"{error}\n--- end of {self.log_file}\n{tail(self.log_file)}"
            ) from None

    def _write_configuration(self) -> None:
        """Write the configuration once; from then on it is maubot's own, which rewrites it."""
        path = self._directory / "config.yaml"
        for directory in (self.plugin_directory, self._directory / "trash"):
            directory.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._configuration(), indent=1))

    def _configuration(self) -> dict[str, Any]:
        plugins = str(self.plugin_directory)
        is_shared = self._postgres is not None and self._postgres == self._plugin_postgres
        # maubot would hash the password itself, with rounds that take a quarter of a second.
        password = bcrypt.hashpw(self.admin_password.encode(), bcrypt.gensalt(4)).decode()
        return {
            "database": self._postgres or f"sqlite:{self._own_file}",
            "plugin_directories": {
                "upload": plugins,
                "load": [plugins],
                "trash": str(self._directory / "trash"),
            },
            "plugin_databases": {
                "sqlite": plugins,
                "postgres": "default" if is_shared else self._plugin_postgres,
                "postgres_opts": {"min_size": 1, "max_size": 5},
            },
            "server": {
                "hostname": LOOPBACK,
                "port": self.port,
                "public_url": self.url,
                "unshared_secret": "homeroom-tests",
            },
            "admins": {self.admin_user: password},
            "logging": {
                "version": 1,
                "formatters": {
                    "plain": {"format": "[%(asctime)s] [%(levelname)s@%(name)s] %(message)s"}
                },
                "handlers": {
                    "file": {
                        "class": "logging.FileHandler",
                        "formatter": "plain",
                        "filename": str(self.log_file),
                    }
                },
                "loggers": {
                    "maubot": {"level": "DEBUG"},
                    "mau": {"level": "DEBUG"},
                    "aiohttp": {"level": "INFO"},
                },
                "root": {"level": "INFO", "handlers": ["file"]},
            },
        }


def _yaml(config: Mapping[str, Any] | str) -> str:
    """Render a configuration as the text that the web UI would send; JSON is YAML."""
    return config if isinstance(config, str) else json.dumps(config, indent=1)
