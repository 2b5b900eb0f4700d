"""Servers for the integration tests.

One Synapse and one PostgreSQL serve all tests of a worker; each test has a maubot, a bot and
people of its own, whose names no other test uses. A test that stops Synapse, or wants other
settings, makes its own with `make_synapse`. When a test is over its own servers are killed, which
takes no time. When it fails, the ends of their logs are part of the report.

With HOMEROOM_TEST_DATABASE=postgres every maubot has a PostgreSQL database, for itself and for its
plugins, instead of SQLite files. `-m database` is what may differ then: CI runs all on SQLite,
then this on PostgreSQL.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.stack.agent_server import AgentServer
from tests.stack.browser import Browser, find_chromium
from tests.stack.forking import forked_servers
from tests.stack.maubot import Maubot
from tests.stack.postgres import Postgres, find_binaries
from tests.stack.process import tail
from tests.stack.stack import MakeMaubot, MakeStack, MakeSynapse, Stack, build_plugin
from tests.stack.synapse import Synapse

_HERE = Path(__file__).parent
_DATABASE = os.environ.get("HOMEROOM_TEST_DATABASE") or "sqlite"
_ON_POSTGRES = _DATABASE == "postgres"
_MAY_DIFFER = {
    "test_a_crash_at_any_write_leaves_a_home_that_is_finished_once[after-and-database-lost]",
    "test_an_encrypted_chat_goes_on_whatever_happens_to_the_bot",
    "test_invites_at_the_same_moment_make_one_home[while-down]",
    "test_restarts_in_the_middle_of_traffic",
}
"""What may differ with the database that maubot and its plugins store in: seen on both.

What only the plugin's database can change is on both in the tests with `cluster`, and what a
database refuses in tests/storage.
"""


def pytest_configure() -> None:
    if _DATABASE not in {"sqlite", "postgres"}:
        raise pytest.UsageError(
            f"HOMEROOM_TEST_DATABASE: found {_DATABASE!r}, expected sqlite or postgres"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.stack)
            if _may_differ(item):
                item.add_marker(pytest.mark.database)


def _may_differ(item: pytest.Item) -> bool:
    """Say whether a test, seen on SQLite, is worth seeing on PostgreSQL."""
    return item.name in _MAY_DIFFER


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and _HERE in item.path.parents:
        directory = getattr(item, "funcargs", {}).get("tmp_path")
        logs = sorted(directory.rglob("*.log")) if directory else []
        shared = getattr(item, "funcargs", {}).get("shared_maubot")
        logs += [shared.log_file] if shared else []
        report.sections += [(f"end of {log}", tail(log, lines=40)) for log in logs]
    return report


@pytest.fixture(scope="session", autouse=True)
def _forks() -> Iterator[None]:
    """Servers are forked, so that each need not import what the one before has imported."""
    with forked_servers():
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def synapse(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Synapse]:
    """The shared homeserver: rate limits lifted; do not stop it."""
    async with Synapse(tmp_path_factory.mktemp("synapse")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    """The shared PostgreSQL; call `create_database` for a database of your own."""
    try:
        find_binaries()
    except FileNotFoundError as error:
        if os.environ.get("CI") or _ON_POSTGRES:
            raise
        pytest.skip(str(error))
    async with Postgres() as cluster:
        yield cluster


@pytest.fixture(params=["postgres"] if _ON_POSTGRES else ["sqlite", "postgres"])
def cluster(request: pytest.FixtureRequest) -> Postgres | None:
    """Run the test twice: without a cluster (plugins store in SQLite) and with one.

    Where everything is on PostgreSQL it runs once, with a cluster.
    """
    return request.getfixturevalue("postgres") if request.param == "postgres" else None


@pytest.fixture
async def agent() -> AsyncIterator[AgentServer]:
    """A platform that says what it is asked, until the test has it do something else."""
    async with AgentServer() as server:
        yield server


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium; skips where there is none, except on CI."""
    try:
        find_chromium()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    async with Browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.mbp` of this tree; of several workers one builds it for all."""
    if "PYTEST_XDIST_TESTRUNUID" not in os.environ:
        return build_plugin()
    built = tmp_path_factory.getbasetemp().parent / "built"  # of this run, not of this worker
    with built.with_name("building").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        if not built.exists():
            built.write_text(str(build_plugin()))
    return Path(built.read_text())


@pytest.fixture
def seed() -> int:
    """What the dice of a test begin with; HOMEROOM_TEST_SEED repeats a run that was printed."""
    seed = int(os.environ.get("HOMEROOM_TEST_SEED") or secrets.randbits(32))
    print(f"HOMEROOM_TEST_SEED={seed}")
    return seed


@pytest.fixture
async def make_synapse(tmp_path: Path) -> AsyncIterator[MakeSynapse]:
    """Make a homeserver for this test only; takes Synapse's arguments."""
    async with AsyncExitStack() as exits:
        numbers = itertools.count(1)

        async def make(**options: Any) -> Synapse:
            server = Synapse(tmp_path / f"synapse{next(numbers)}", **options)
            await exits.enter_async_context(server)
            exits.callback(server.kill)
            return server

        yield make


@pytest.fixture(scope="session")
def make_maubot(request: pytest.FixtureRequest) -> MakeMaubot:
    """Make a maubot with a database of its own, to be started; takes Maubot's arguments."""
    cluster = request.getfixturevalue("postgres") if _ON_POSTGRES else None

    async def make(directory: Path, **options: Any) -> Maubot:
        url = await cluster.create_database() if cluster else None
        return Maubot(directory, **{"postgres": url, "plugin_postgres": url, **options})

    return make


@pytest.fixture
async def make_stack(
    tmp_path: Path, synapse: Synapse, make_maubot: MakeMaubot
) -> AsyncIterator[MakeStack]:
    """Make a stack on the shared homeserver; takes Stack's arguments, `plugin` among them."""
    async with AsyncExitStack() as exits:
        numbers = itertools.count(1)

        async def make(**options: Any) -> Stack:
            options = {"synapse": synapse, "suffix": f"-{secrets.token_hex(4)}", **options}
            directory = tmp_path / f"stack{next(numbers)}"
            if not (options.get("maubot") or options.get("plugin_postgres")):
                options["maubot"] = await make_maubot(directory / "maubot")
            stack = Stack(directory, **options)
            is_others = stack.maubot.running
            await exits.enter_async_context(stack)
            if not is_others:
                exits.callback(stack.maubot.kill)
            return stack

        yield make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_maubot(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, make_maubot: MakeMaubot
) -> AsyncIterator[Maubot]:
    """A maubot with this tree's plugin, for bots made with `make_bot`; do not stop it."""
    async with await make_maubot(tmp_path_factory.mktemp("maubot")) as server:
        await server.upload_plugin(plugin)
        yield server


@pytest.fixture
async def maubot(tmp_path: Path, plugin: Path, make_maubot: MakeMaubot) -> AsyncIterator[Maubot]:
    """The same, but the test's own: it may be stopped and killed."""
    async with await make_maubot(tmp_path / "maubot") as server:
        await server.upload_plugin(plugin)
        yield server
        server.kill()


@pytest.fixture
async def make_bot(make_stack: MakeStack, shared_maubot: Maubot) -> AsyncIterator[MakeStack]:
    """Make a bot with an instance of its own on a maubot that runs already.

    Takes Stack's arguments; `maubot` is the shared one unless another is handed in. Much quicker
    than a stack with a maubot of its own, for tests that do not stop maubot.
    """
    bots: list[Stack] = []

    async def make(**options: Any) -> Stack:
        instance = f"homeroom-{secrets.token_hex(4)}"
        options = {"maubot": shared_maubot, "instance": instance, **options}
        bots.append(await make_stack(plugin=None, **options))
        return bots[-1]

    yield make
    for bot in bots:
        if bot.maubot is shared_maubot:
            # Not deleted: maubot closes the database twice then, and on PostgreSQL the second
            # time waits for three seconds.
            await bot.maubot.set_client_started(bot.bot.user_id, started=False)


@pytest.fixture
async def stack(make_stack: MakeStack, plugin: Path) -> Stack:
    """A bot that runs this tree's plugin with the default configuration."""
    return await make_stack(plugin=plugin)
