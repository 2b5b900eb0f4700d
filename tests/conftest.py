"""What every run says first, in which order it goes, and the fixtures of several folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from maubot.matrix import MaubotMatrixClient

from homeroom.matrix.current_client import CurrentClient
from homeroom.matrix.homeserver import Homeserver
from tests import delays
from tests.fake import FakeHomeserver
from tests.fake.clients import LOG, Naps, client_of
from tests.stack.postgres import Postgres, find_binaries

LONG_FIRST = (
    "integration/test_faults.py",
    "integration/test_reset_interrupted.py",
    "integration/test_traffic.py",
    "integration/test_unknown.py",
    "integration/test_restart.py",
    "integration/test_isolation.py",
    "integration/test_legacy.py",
    "integration/test_workers.py",
    "integration/test_encryption.py",
    "integration/test_onboarding.py",
    "integration/test_exactly_once.py",
    "integration/test_crash.py",
    "integration/test_reset_pace.py",
    "integration/test_streaming.py",
    "integration/test_reset.py",
    "integration/test_hostile.py",
    "test_sqlalchemy_versions.py",
    "integration/test_settings.py",
    "integration/test_order.py",
    "integration/test_remote_checkpoint.py",
    "integration/test_strict_client.py",
    "integration/test_litellm.py",
    "integration/test_status_page.py",
    "integration/test_soak.py",
    "integration/test_hostile_member.py",
    "integration/test_stack.py",
    "integration/test_again.py",
    "integration/test_rate_limits.py",
    "integration/test_history.py",
)
"""Files that take a minute or more: begun first, so that nobody waits for one of them at the end.
(With `--no-loadscope-reorder`; xdist itself would begin with the files of many tests.)"""


delays.install()


def pytest_report_header() -> str:
    return f"SQLAlchemy {sqlalchemy.__version__} from {Path(sqlalchemy.__file__).parent.parent}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {f"tests/{name}": rank for rank, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.split("::")[0], len(ranks)))


@pytest.fixture
async def hs() -> AsyncIterator[FakeHomeserver]:
    async with FakeHomeserver() as server:
        yield server


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def client(hs: FakeHomeserver) -> AsyncIterator[MaubotMatrixClient]:
    async with client_of(hs) as client:
        yield client


@pytest.fixture
def connect(client: MaubotMatrixClient, naps: Naps) -> Callable[..., Homeserver]:
    """The adapter with this many requests at once."""

    def make(concurrency: int = 10) -> Homeserver:
        return Homeserver(
            CurrentClient(client), log=LOG, concurrency=lambda: concurrency, sleep=naps
        )

    return make


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database on a throw-away server; skips where there is none, except on CI."""
    try:
        find_binaries()
    except FileNotFoundError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    cluster = Postgres()
    asyncio.run(cluster.__aenter__())
    try:
        yield asyncio.run(cluster.create_database())
    finally:
        asyncio.run(cluster.__aexit__(None, None, None))
