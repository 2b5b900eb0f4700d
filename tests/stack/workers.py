"""A Synapse that is divided among processes, as large installations are.

    async with Postgres() as cluster, WorkerSynapse(directory, database=url) as synapse:
        synapse.lag("reader", seconds=2)

The main process, a worker for `/sync`, two for the other requests, one that stores events. Redis
carries what they tell each other. A proxy in front, in the event loop of the test, sends each
request to its worker: what writes to `writer`, what reads to `reader`, as some of the routes do
that Synapse's documents allow. A request waits until the worker that made a change knows of it,
and no other: with a lag, `reader` tells what was.

What is true is asked of Synapse's own database (`memberships`, `state`), not of a worker. Caches
hide nothing on a server on which nothing was read yet: make one home before anything is tried.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from .http import Json, JsonApi
from .ports import LOOPBACK, free_port
from .process import ServerProcess
from .proxy import FaultProxy, ProxiedRequest
from .redis import Redis, SlowSubscription
from .synapse import Synapse

WORKERS = ("sync", "writer", "reader", "persister")
_CLIENT = r"/_matrix/client/(?:r0|v1|v3|unstable)/"
_SYNC = re.compile(_CLIENT + "sync$")
_WRITES = re.compile(
    _CLIENT + r"(?:createRoom|join/[^/]+|directory/room/[^/]+"
    r"|rooms/[^/]+/(?:join|leave|invite|kick|ban|unban|send/.*|redact/.*|state/.*))$"
)
_READS = re.compile(
    _CLIENT + r"(?:joined_rooms|directory/room/[^/]+|org\.matrix\.simplified_msc3575/sync"
    r"|rooms/[^/]+/(?:state.*|members|joined_members|messages|event/.*|aliases))$"
)


class WorkerSynapse(Synapse):
    """The same homeserver to its clients, at one URL."""

    def __init__(self, directory: Path, *, database: str, **options: Any) -> None:
        """`database` is the URL of an empty PostgreSQL database, with the locale C."""
        super().__init__(directory, **options)
        self.front = FaultProxy(self._worker_of)
        self.main_url, self.url = self.url, self.front.url
        self.log_files = {name: directory / f"{name}.log" for name in WORKERS}
        self._database = database
        self._redis = Redis(directory / "redis")
        self._slow = {name: SlowSubscription(self._redis) for name in ("main", *WORKERS)}
        self._replication = {name: free_port() for name in ("main", *WORKERS)}
        self._ports = {name: free_port() for name in WORKERS}
        self._round_robin = 0
        self._turn = 0
        self._servers = AsyncExitStack()
        self._workers = {
            name: ServerProcess(
                f"Synapse's {name}",
                [
                    *(sys.executable, "-m", "synapse.app.generic_worker"),
                    *("--config-path", directory / "homeserver.yaml"),
                    *("--config-path", directory / f"{name}.yaml"),
                ],
                directory=directory,
                output=directory / f"{name}-output.log",
            )
            for name in WORKERS
        }

    async def start(self, *, timeout: float = 120) -> None:
        """Start Redis, the main process, then the workers."""
        async with AsyncExitStack() as servers:
            await servers.enter_async_context(self._redis)
            for slow in self._slow.values():
                await servers.enter_async_context(slow)
            await servers.enter_async_context(self.front)
            servers.push_async_callback(super().stop)
            await super().start(timeout=timeout)
            for worker in self._workers.values():
                servers.push_async_callback(worker.stop)
            await asyncio.gather(*(self.start_worker(name) for name in WORKERS))
            self._servers = servers.pop_all()

    async def stop(self) -> None:
        await self._servers.aclose()

    async def start_worker(self, name: str, *, timeout: float = 120) -> None:
        """Start a worker that does not run, and wait until it answers."""
        worker = self._workers[name]
        worker.start()
        api = JsonApi(base_url=f"http://{LOOPBACK}:{self._ports[name]}")
        await worker.wait_ready(
            lambda: api.answers("/health"), timeout=timeout, logs=[self.log_files[name]]
        )

    async def restart_worker(self, name: str, *, killed: bool = False) -> None:
        """End a worker, gently or not, and start it again: its caches are empty then."""
        worker = self._workers[name]
        if killed:
            worker.kill()
        else:
            await worker.stop()
        await self.start_worker(name)

    @property
    def longest_lag(self) -> float:
        """How late the worker is that is most behind, in seconds."""
        return max(slow.seconds for slow in self._slow.values())

    def lag(self, name: str, *, seconds: float) -> None:
        """Have a worker hear so late of what the others change; 0 has it catch up at once."""
        self._slow[name].be_late(seconds)

    def read_from_two(self, *, both: bool) -> None:
        """Send reads to `reader` and `writer` in turn, or to `reader` alone."""
        self._round_robin = int(both)

    async def memberships(self, user_id: str) -> dict[str, str]:
        """Ask the database for the rooms of a user: room ID to membership."""
        rows = await self._query(
            "SELECT room_id, membership FROM local_current_membership WHERE user_id = $1", user_id
        )
        return {row["room_id"]: row["membership"] for row in rows}

    async def state(self, room_id: str) -> dict[tuple[str, str], Json]:
        """Ask the database for the state of a room: (type, state key) to content."""
        rows = await self._query(
            "SELECT c.type, c.state_key, j.json FROM current_state_events c"
            " JOIN event_json j USING (event_id) WHERE c.room_id = $1",
            room_id,
        )
        return {
            (row["type"], row["state_key"]): json.loads(row["json"])["content"] for row in rows
        }

    async def said(self, room_id: str, *, sender: str) -> list[Json]:
        """Ask the database for the contents of somebody's messages in a room, oldest first."""
        rows = await self._query(
            "SELECT j.json FROM events e JOIN event_json j USING (event_id) WHERE e.room_id = $1"
            " AND e.sender = $2 AND e.type = 'm.room.message' ORDER BY e.stream_ordering",
            room_id,
            sender,
        )
        return [json.loads(row["json"])["content"] for row in rows]

    async def _query(self, sql: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._database)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *values)
        finally:
            await connection.close()
        return rows

    def _worker_of(self, request: ProxiedRequest) -> str:
        name = self._name_of_worker(request)
        return self.main_url if name == "main" else f"http://{LOOPBACK}:{self._ports[name]}"

    def _name_of_worker(self, request: ProxiedRequest) -> str:
        if _SYNC.search(request.path):
            return "sync"
        is_sliding = "simplified_msc3575" in request.path
        if (request.method == "GET" or is_sliding) and _READS.search(request.path):
            self._turn += self._round_robin
            return "writer" if self._turn % 2 else "reader"
        if request.method != "GET" and _WRITES.search(request.path):
            return "writer"
        return "main"

    def _write_configuration(self) -> None:
        super()._write_configuration()
        for name in WORKERS:
            log = self._log_configuration()
            log["handlers"]["file"]["filename"] = str(self.log_files[name])
            log_file = self._directory / f"{name}.log.yaml"
            log_file.write_text(json.dumps(log))
            resources = [{"names": ["client", "health"], "compress": False}]
            worker = {
                "worker_app": "synapse.app.generic_worker",
                "worker_name": name,
                "worker_log_config": str(log_file),
                "worker_pid_file": str(self._directory / f"{name}.pid"),
                "worker_listeners": [
                    self._listener(self._ports[name], resources),
                    self._listener(self._replication[name], [{"names": ["replication"]}]),
                ],
                "redis": self._redis_of(name),
            }
            (self._directory / f"{name}.yaml").write_text(json.dumps(worker, indent=1))

    def _configuration(self, key: Path) -> dict[str, Any]:
        url = urlsplit(self._database)
        configuration = super()._configuration(key)
        replication = self._listener(self._replication["main"], [{"names": ["replication"]}])
        return configuration | {
            "listeners": [*configuration["listeners"], replication],
            "database": {
                "name": "psycopg2",
                "args": {
                    "user": url.username,
                    "host": url.hostname,
                    "port": url.port,
                    "dbname": url.path.removeprefix("/"),
                    "cp_min": 1,
                    "cp_max": 5,
                },
            },
            "redis": self._redis_of("main"),
            "worker_replication_secret": secrets.token_hex(8),
            "instance_map": {
                name: {"host": LOOPBACK, "port": port} for name, port in self._replication.items()
            },
            "stream_writers": {"events": "persister"},
        }

    def _redis_of(self, name: str) -> dict[str, Any]:
        return {"enabled": True, "host": LOOPBACK, "port": self._slow[name].port}

    @staticmethod
    def _listener(port: int, resources: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "port": port,
            "bind_addresses": [LOOPBACK],
            "type": "http",
            "tls": False,
            "resources": resources,
        }
