"""The parts of maubot in miniature: a client and an instance, made as maubot makes them.

Everything above HTTP is real (`maubot/client.py` and `maubot/instance.py`); there is no maubot
server. `harness.py` puts the parts together for tests, `tests/bench/start.py` to measure them.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
from maubot.lib.state_store import PgStateStore
from maubot.loader.meta import PluginMeta
from maubot.matrix import MaubotMatrixClient
from maubot.plugin_server import PluginWebApp
from maubot.standalone.loader import FileSystemLoader
from mautrix.client.state_store import SyncStore
from mautrix.types import (
    EventFilter,
    EventType,
    Filter,
    FilterID,
    RoomEventFilter,
    RoomFilter,
    StateFilter,
    UserID,
)
from mautrix.util.async_db import Database
from mautrix.util.config import RecursiveDict
from mautrix.util.logging import TraceLogger
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from homeroom import Homeroom

ROOT = Path(__file__).parents[2]

_yaml = YAML()
META = PluginMeta.deserialize(_yaml.load(ROOT / "maubot.yaml"))


def read_settings(text: str) -> Any:
    """Read the text in maubot's web UI."""
    return _yaml.load(text)


def write_settings(data: Any) -> str:
    """Write the text that maubot's web UI shows."""
    text = StringIO()
    _yaml.dump(data, text)
    return text.getvalue()


def make_client(
    *,
    user_id: UserID,
    url: str,
    token: str,
    session: aiohttp.ClientSession,
    sync_store: SyncStore,
    state: Database,
    log: TraceLogger,
) -> MaubotMatrixClient:
    """A client whose sync does not run yet."""
    client = MaubotMatrixClient(
        mxid=user_id,
        base_url=url,
        token=token,
        client_session=session,
        log=log,
        sync_store=sync_store,
        state_store=PgStateStore(state),
    )
    client.ignore_initial_sync = client.ignore_first_sync = True
    return client


@functools.cache
def _pickled_base() -> bytes:
    """What instances begin with, as what is copied soonest."""
    base = RecursiveDict(read_settings((ROOT / "base-config.yaml").read_text()), CommentedMap)
    base["texts.welcome"] = ""  # a test counts what is said in answer to something
    write_settings(base._data)  # as maubot does, to show it
    return pickle.dumps(base._data)


def read_base() -> CommentedMap:
    """The settings that instances begin with; maubot reads them before it starts one."""
    base: CommentedMap = pickle.loads(_pickled_base())
    return base


def _base_config() -> RecursiveDict[CommentedMap]:
    return RecursiveDict(read_base(), CommentedMap)


async def create_filter(client: MaubotMatrixClient) -> FilterID:
    """The filter that maubot creates once for each client."""
    return await client.create_filter(
        Filter(
            room=RoomFilter(
                timeline=RoomEventFilter(limit=50, lazy_load_members=True),
                state=StateFilter(lazy_load_members=True),
            ),
            presence=EventFilter(not_types=[EventType.PRESENCE]),
        )
    )


def make_plugin(
    client: MaubotMatrixClient,
    *,
    database: Database,
    load: Callable[[], Any],
    save: Callable[[Any], None],
    webapp: PluginWebApp,
    log: TraceLogger,
) -> Homeroom:
    """An instance that is not started yet; its database is.

    Args:
        load: what `read_settings` makes of the saved text.
        save: given what `write_settings` makes a text of.
    """
    return Homeroom(
        client=client,
        loop=asyncio.get_running_loop(),
        http=client.api.session,
        instance_id="homeroom",
        log=log,
        config=Homeroom.get_config_class()(load, _base_config, save),
        database=database,
        webapp=webapp,
        webapp_url=None,
        loader=FileSystemLoader(str(ROOT / "plugin"), META),
    )
