"""Homeroom's start, as maubot starts it: from `start()` to open doors.

Run as `python -m tests.bench.start FOLDER DATABASE URL USER TOKEN`. FOLDER keeps maubot's side
(mautrix's state store, the place of the sync loop is left out); DATABASE is the plugin's.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
from maubot.matrix import MaubotMatrixClient
from mautrix.client import MemorySyncStore
from mautrix.client.state_store.asyncpg import PgStateStore
from mautrix.types import UserID
from mautrix.util.async_db import Database
from mautrix.util.config import RecursiveDict
from mautrix.util.logging import TraceLogger
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from homeroom.adapters.http import PatientAPI
from homeroom.bot import Homeroom

from .probe import measure, tell

_BASE = Path("base-config.yaml")


async def start(folder: Path, database_url: str, url: str, user: str, token: str) -> None:
    """Start the plugin and print what it cost."""
    logging.setLoggerClass(TraceLogger)
    log = logging.getLogger("bench")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    state = Database.create(
        f"sqlite:{folder / 'maubot.db'}", upgrade_table=PgStateStore.upgrade_table
    )
    database = Database.create(database_url, upgrade_table=Homeroom.get_db_upgrade_table())
    async with aiohttp.ClientSession() as http:
        await state.start()
        await database.start()
        client = MaubotMatrixClient(
            mxid=UserID(user),
            base_url=url,
            token=token,
            client_session=http,
            sync_store=MemorySyncStore(),
            state_store=PgStateStore(state),
        )
        plugin = _plugin(client, database, log)  # type: ignore[arg-type]
        requests = 0
        send = PatientAPI._attempt

        async def counting(*arguments: Any) -> Any:
            nonlocal requests
            requests += 1
            return await send(*arguments)

        async def work() -> tuple[int, int]:
            await plugin.internal_start()
            return len(plugin.reconciler._routes.chat_rooms()), requests

        with mock.patch.object(PatientAPI, "_attempt", counting):
            cost = await measure(work)
        await plugin.internal_stop()
        await database.stop()
        await state.stop()
    tell(cost)


def _plugin(client: MaubotMatrixClient, database: Database, log: TraceLogger) -> Homeroom:
    yaml = YAML()
    base: Any = RecursiveDict(yaml.load(_BASE), CommentedMap)
    base["reconcile.start_timeout"] = 60
    text = yaml.load("reconcile: {start_timeout: 60}\n")
    return Homeroom(
        client=client,
        loop=asyncio.get_running_loop(),
        http=client.api.session,
        instance_id="homeroom",
        log=log,
        config=Homeroom.get_config_class()(lambda: text, base.clone, lambda _: None),
        database=database,
        webapp=None,
        webapp_url=None,
        loader=mock.sentinel.loader,
    )


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    asyncio.run(start(Path(folder), *rest))
