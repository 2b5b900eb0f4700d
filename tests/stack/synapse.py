"""A real Synapse: one process, SQLite, loopback, no federation, no telemetry.

Its access log is read back as data, so that a test can say "and no write request since". A
request is logged *after* it was answered; `mark` and `requests` therefore send a request of
their own and wait until that one is in the log. Long polls appear when they end.

The registration secret opens the server to whoever can reach it, and passwords are hashed as
cheaply as bcrypt can: nothing here is fit for a server that others can reach.

Sliding sync cannot be switched off in Synapse 1.163 (the servlet is always registered; the
`msc3575_enabled` option only says whether admins may toggle it per user). To test without it,
answer 404 for its path in `proxy.FaultProxy`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from typing_extensions import Self

from .database import SqlitePluginDatabase
from .http import JsonApi
from .ports import LOOPBACK, free_port
from .process import ServerProcess
from .waiting import eventually

RateLimits = Literal["lifted", "default"]

BURST = 10
"""Messages, state events and leaves that Synapse takes at once by default."""
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_VERSIONS = "/_matrix/client/versions"
_ACCESS = re.compile(
    r" \{(?P<user>[^}]*)\} Processed request: .*? "
    r'(?P<status>\d+)!? "(?P<method>[A-Z]+) (?P<uri>\S+) HTTP'
)
_SETTLE = "settled="
_UNLIMITED = {"per_second": 100_000, "burst_count": 100_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A Matrix account and one logged-in device of it."""

    user_id: str
    access_token: str
    device_id: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogEntry:
    """A request that Synapse has answered; `user_id` is None for one without a token."""

    method: str
    path: str
    query: str
    status: int
    user_id: str | None

    @property
    def writes(self) -> bool:
        """Whether the request could have changed something."""
        return self.method not in READ_METHODS


class Synapse:
    """A homeserver in a directory; started again there, it finds its data."""

    def __init__(
        self,
        directory: Path,
        *,
        server_name: str = "homeroom.test",
        port: int | None = None,
        rate_limits: RateLimits = "lifted",
        messages_per_second: float | None = None,
        default_room_version: str | None = None,
        app_services: Sequence[Path] = (),
        keep_sync_responses: bool = True,
        push: bool = False,
    ) -> None:
        """`messages_per_second`: how fast one account may send after the usual burst.

        `push`: whether it works out whom to notify.
        """
        self.server_name = server_name
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.log_file = directory / "homeserver.log"
        self._directory = directory
        self._rate_limits = rate_limits
        self._messages_per_second = messages_per_second
        self._default_room_version = default_room_version
        self._app_services = app_services
        self._keep_sync_responses = keep_sync_responses
        self._push = push
        self._secret = "homeroom-tests"
        self._api = JsonApi(base_url=self.url)
        config = directory / "homeserver.yaml"
        self._process = ServerProcess(
            "Synapse",
            [sys.executable, "-m", "synapse.app.homeserver", "--config-path", config],
            directory=directory,
            output=directory / "output.log",
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

    async def start(self, *, timeout: float = 60) -> None:
        """Start the server and wait until it answers."""
        self._write_configuration()
        self._process.start()
        try:
            await self._process.wait_ready(
                lambda: self._api.answers(_VERSIONS), timeout=timeout, logs=[self.log_file]
            )
        except BaseException:
            self._process.kill()
            raise

    async def stop(self) -> None:
        """Stop the server; nothing happens if it is not running."""
        await self._process.stop()

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._process.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def database(self) -> SqlitePluginDatabase:
        """What the server stores, for putting an older state of it back."""
        return SqlitePluginDatabase(path=self._directory / "homeserver.db")

    async def register(
        self, name: str, *, password: str | None = None, admin: bool = False
    ) -> Account:
        """Register a user, with a random password unless one is given."""
        password = password or secrets.token_urlsafe(12)
        path = "/_synapse/admin/v1/register"
        nonce = (await self._api.request("GET", path))["nonce"]
        parts = [nonce, name, password, "admin" if admin else "notadmin"]
        mac = hmac.new(self._secret.encode(), "\0".join(parts).encode(), hashlib.sha1)
        body = {
            "nonce": nonce,
            "username": name,
            "password": password,
            "admin": admin,
            "mac": mac.hexdigest(),
        }
        return _account(await self._api.request("POST", path, body), password)

    async def log_in(self, name: str, *, password: str) -> Account:
        """Log in as a registered user, on a device of its own."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": name},
            "password": password,
        }
        answer = await self._api.request("POST", "/_matrix/client/v3/login", body)
        return _account(answer, password)

    async def account(self, name: str, *, password: str, admin: bool = False) -> Account:
        """Return the account of that name, registered when first asked for.

        It is remembered with its device in the server's directory, for when a kept server is
        started again.
        """
        known = self._accounts()
        if name in known:
            return Account(**known[name])
        account = await self.register(name, password=password, admin=admin)
        # Others may have been registered meanwhile.
        accounts = {**self._accounts(), name: asdict(account)}
        self._accounts_file.write_text(json.dumps(accounts, indent=1))
        return account

    @property
    def _accounts_file(self) -> Path:
        return self._directory / "accounts.json"

    def _accounts(self) -> dict[str, dict[str, str]]:
        path = self._accounts_file
        return json.loads(path.read_text()) if path.exists() else {}

    async def lift_rate_limits_of(self, user_id: str, *, admin: Account) -> None:
        """Exempt one user from the rate limits, as an administrator can."""
        api = JsonApi(base_url=self.url, token=admin.access_token)
        path = f"/_synapse/admin/v1/users/{quote(user_id)}/override_ratelimit"
        await api.request("POST", path, {"messages_per_second": 0, "burst_count": 0})

    async def mark(self) -> int:
        """Return a place in the access log: everything answered so far lies before it."""
        await self._settle()
        return self._log_size()

    async def requests(self, *, since: int = 0) -> Sequence[AccessLogEntry]:
        """Return what was answered since a mark, in the order of the log."""
        await self._settle()
        entries = (_entry(match) for match in _ACCESS.finditer(self._read_log(since)))
        return [entry for entry in entries if not entry.query.startswith(_SETTLE)]

    async def writes(
        self, *, since: int = 0, user_id: str | None = None
    ) -> Sequence[AccessLogEntry]:
        """Return the requests since a mark that could have changed something (of one user)."""
        entries = await self.requests(since=since)
        return [e for e in entries if e.writes and user_id in (None, e.user_id)]

    async def _settle(self) -> None:
        """Wait until a request sent now is in the log, and with it all that were answered."""
        query = f"{_SETTLE}{secrets.token_hex(8)}"
        before = self._log_size()
        await self._api.request("GET", f"{_VERSIONS}?{query}")

        async def logged() -> bool:
            return query in self._read_log(before)

        await eventually(f"a request that was answered in {self.log_file}", logged)

    def _log_size(self) -> int:
        return self.log_file.stat().st_size

    def _read_log(self, since: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def _write_configuration(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        key = self._directory / "signing.key"
        if not key.exists():
            seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
            key.write_text(f"ed25519 a_test {seed}\n")
        # JSON is YAML; whatever needs no quoting rules needs no YAML library.
        for name, content in (
            ("homeserver.yaml", self._configuration(key)),
            ("log.yaml", self._log_configuration()),
        ):
            (self._directory / name).write_text(json.dumps(content, indent=1))

    def _configuration(self, key: Path) -> dict[str, Any]:
        listener = {
            "port": self.port,
            "bind_addresses": [LOOPBACK],
            "type": "http",
            "tls": False,
            "resources": [{"names": ["client"], "compress": False}],
        }
        configuration: dict[str, Any] = {
            "server_name": self.server_name,
            "public_baseurl": f"{self.url}/",
            "listeners": [listener],
            "pid_file": str(self._directory / "homeserver.pid"),
            "database": {
                "name": "sqlite3",
                "args": {"database": str(self._directory / "homeserver.db")},
            },
            "log_config": str(self._directory / "log.yaml"),
            "signing_key_path": str(key),
            "media_store_path": str(self._directory / "media"),
            "registration_shared_secret": self._secret,
            "macaroon_secret_key": self._secret,
            "form_secret": self._secret,
            "bcrypt_rounds": 4,
            "report_stats": False,
            "federation_domain_whitelist": [],
            "trusted_key_servers": [],
            "url_preview_enabled": False,
            "presence": {"enabled": False},
            # What hardly anybody here looks at; a sixth of what Synapse has to do.
            "push": {"enabled": self._push},
            "stats": {"enabled": False},
            "user_directory": {"enabled": False},
            "app_service_config_files": [str(path) for path in self._app_services],
        }
        if not self._keep_sync_responses:
            configuration["caches"] = {"sync_response_cache_duration": "0s"}
        if self._default_room_version is not None:
            configuration["default_room_version"] = self._default_room_version
        if self._messages_per_second is not None:
            configuration["rc_message"] = {
                "per_second": self._messages_per_second,
                "burst_count": BURST,
            }
        if self._rate_limits == "lifted":
            configuration |= {
                "rc_message": _UNLIMITED,
                "rc_registration": _UNLIMITED,
                "rc_login": {
                    "address": _UNLIMITED,
                    "account": _UNLIMITED,
                    "failed_attempts": _UNLIMITED,
                },
                "rc_joins": {"local": _UNLIMITED, "remote": _UNLIMITED},
                "rc_joins_per_room": _UNLIMITED,
                "rc_invites": {
                    "per_room": _UNLIMITED,
                    "per_user": _UNLIMITED,
                    "per_issuer": _UNLIMITED,
                },
                "rc_room_creation": _UNLIMITED,
                "rc_admin_redaction": _UNLIMITED,
                "rc_user_directory": _UNLIMITED,
                "rc_profile": _UNLIMITED,
            }
        return configuration

    def _log_configuration(self) -> dict[str, Any]:
        return {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "handlers": {
                "file": {
                    "class": "logging.FileHandler",
                    "filename": str(self.log_file),
                    "formatter": "plain",
                }
            },
            "loggers": {"synapse.access": {"level": "INFO"}},
            "root": {"level": "WARNING", "handlers": ["file"]},
        }


def _account(answer: dict[str, str], password: str) -> Account:
    return Account(
        user_id=answer["user_id"],
        access_token=answer["access_token"],
        device_id=answer["device_id"],
        password=password,
    )


def _entry(match: re.Match[str]) -> AccessLogEntry:
    path, _, query = match["uri"].partition("?")
    return AccessLogEntry(
        method=match["method"],
        path=path,
        query=query,
        status=int(match["status"]),
        user_id=match["user"] if match["user"].startswith("@") else None,
    )
