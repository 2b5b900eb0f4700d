"""Servers for the integration tests.

One Synapse and one PostgreSQL serve all tests of a worker; each test has a maubot, a bot and
people of its own, whose names no other test uses. A test that stops Synapse, or wants other
settings, makes its own with `make_synapse`. When a test fails, the ends of its servers' logs are
part of the report.

With HOMEROOM_TEST_DATABASE=postgres every maubot has a PostgreSQL database, for itself and for its
plugins, instead of SQLite files. `-m database` leaves out what will not differ then: CI runs all
on SQLite, then these on PostgreSQL.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import AsyncIterator, Generator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.stack.browser import Browser, find_chromium
from tests.stack.maubot import Maubot
from tests.stack.postgres import Postgres, find_binaries
from tests.stack.process import tail
from tests.stack.stack import MakeMaubot, MakeStack, MakeSynapse, Stack, build_plugin
from tests.stack.synapse import Synapse

_HERE = Path(__file__).parent
_DATABASE = os.environ.get("HOMEROOM_TEST_DATABASE") or "sqlite"
_ON_POSTGRES = _DATABASE == "postgres"
_SAME = {
    "test_again.py": "what is asked once more is read from the room, not from the database",
    "test_faults.py": "of the homeserver's answers; what is stored then is seen in other files",
    "test_guests_and_keys.py": "about keys; the guards' statements are on both in matrix/",
    "test_history.py": "what is read from rooms; nothing of it is stored",
    "test_hostile.py": "test_hostile_member.py is on PostgreSQL, which refuses more than SQLite",
    "test_invites.py": "about what the homeserver says of invites; nothing of it is stored",
    "test_isolation.py": "about who waits; on both in storage/ is what a database refuses",
    "test_litellm.py": "what a platform says goes past the database",
    "test_live.py": "about what is read from the homeserver, and how soon",
    "test_order.py": "about what waits until the homeserver has been looked at",
    "test_person.py": "what people hear; what is stored then is seen in other files",
    "test_platform_faults.py": "what a platform says goes past the database",
    "test_rate_limits.py": "the homeserver's pace, and minutes of waiting for it",
    "test_reset.py": "what it deletes is tested on both in storage/; the rest is not stored",
    "test_reset_interrupted.py": "of what the homeserver does in the middle of it",
    "test_reset_pace.py": "the homeserver's pace",
    "test_settings.py": "what maubot stores; the last good text is tested on both in storage/",
    "test_signed_out.py": "of what the homeserver refuses",
    "test_soak.py": "about memory; which rows are forgotten is tested on both in storage/",
    "test_stack.py": "about the stack itself; its test of databases runs on both anyway",
    "test_strict_client.py": "about keys, which are maubot's to store",
    "test_status_page.py": "what a browser shows; how it is read is tested on both in storage/",
    "test_unknown.py": "of what the homeserver does not say; and four minutes of it",
    "test_upgrades.py": "of rooms; what their rows become is tested on both in storage/",
    "test_web_ui.py": "maubot's own pages",
    "test_webhook.py": "what a platform says goes past the database",
}
"""Files that are not worth the time of a second run on PostgreSQL, and why."""
_SAME_TESTS = {
    "test_a_long_stream_under_default_rate_limits",
    "test_a_message_is_the_first_event_after_an_idle_restart",
    "test_a_message_without_its_key_is_named_and_holds_nobody_up",
    "test_a_second_invite_gets_a_pointer_to_the_first_home",
    "test_an_answer_that_is_lost_at_any_write_makes_nothing_twice",
    "test_an_owner_who_left_is_invited_again_when_they_ask",
    "test_it_was_down_for_longer_than_the_homeserver_keeps_a_response",
    "test_more_was_said_while_the_bot_was_down_than_a_response_holds",
    "test_only_who_is_in_the_room_now_can_read_what_the_bot_says_after_its_absence",
    "test_only_the_owner_is_answered_unless_the_settings_say_members",
    "test_the_homeserver_is_restored_from_an_older_backup_while_maubot_runs",
    "test_the_homeserver_limits_how_fast_markers_are_stamped",
    "test_the_homeservers_default_room_version_is_used",
    "test_the_version_of_the_rooms_is_the_homeservers_default",
    "test_there_are_no_more_chats_than_the_limit",
    "test_who_is_in_the_space_can_join_its_chats_and_nobody_else",
    "test_who_is_not_allowed_is_rejected_with_a_reason",
    "test_without_a_device_id_there_is_no_encryption_and_everybody_is_told",
}
"""Tests of other files that are about what the homeserver says."""


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
    fixtures = set(getattr(item, "fixturenames", ()))
    runs_on_both = bool(fixtures & {"cluster", "postgres"})
    is_same = item.path.name in _SAME or getattr(item, "originalname", "") in _SAME_TESTS
    return "make_maubot" in fixtures and not runs_on_both and not is_same


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
def plugin() -> Path:
    """The `.mbp` of this tree."""
    return build_plugin()


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
            return await exits.enter_async_context(server)

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
            return await exits.enter_async_context(stack)

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
