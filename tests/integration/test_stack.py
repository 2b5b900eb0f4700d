"""The stack keeps its own promises; the plugin in these tests is a few lines made here."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.stack import ports
from tests.stack.http import ApiError, JsonApi
from tests.stack.package import ROOT, PackageError, archive, build
from tests.stack.ports import LOOPBACK
from tests.stack.postgres import Postgres
from tests.stack.process import ServerError, ServerProcess
from tests.stack.proxy import (
    Answer,
    Delay,
    DropAfter,
    DropBefore,
    FaultProxy,
    Hold,
    Truncate,
)
from tests.stack.stack import MakeStack, MakeSynapse
from tests.stack.synapse import Account, Synapse
from tests.stack.user import MatrixUser

ECHO_META = """
maubot: 0.6.0
id: test.echo
version: {version}
license: MIT
modules: [echo_for_tests]
main_class: Echo
database: true
database_type: asyncpg
"""
ECHO_CODE = """
from maubot import MessageEvent, Plugin
from maubot.handlers import event
from mautrix.types import EventType, Membership
from mautrix.util.async_db import UpgradeTable

upgrades = UpgradeTable()

@upgrades.register(description="first")
async def first(connection):
    await connection.execute("CREATE TABLE heard (body TEXT)")

class Echo(Plugin):
    @classmethod
    def get_db_upgrade_table(cls):
        return upgrades

    @event.on(EventType.ROOM_MEMBER)
    async def member(self, evt):
        if evt.state_key == self.client.mxid and evt.content.membership == Membership.INVITE:
            await self.client.join_room(evt.room_id)

    @event.on(EventType.ROOM_MESSAGE)
    async def message(self, evt: MessageEvent) -> None:
        if evt.sender != self.client.mxid:
            await self.database.execute("INSERT INTO heard VALUES ($1)", evt.content.body)
            await evt.respond("echo: " + evt.content.body)
"""


def make_echo(directory: Path, *, version: str = "0.0.1") -> Path:
    files = {
        "maubot.yaml": ECHO_META.format(version=version).encode(),
        "echo_for_tests/__init__.py": ECHO_CODE.encode(),
    }
    path = directory / f"echo-v{version}.mbp"
    path.write_bytes(archive(files))
    return path


@pytest.fixture
async def proxy(synapse: Synapse) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(synapse.url) as server:
        yield server


@pytest.fixture
async def account(synapse: Synapse) -> Account:
    return await synapse.register(f"user-{os.urandom(4).hex()}")


@pytest.fixture
def through(proxy: FaultProxy, account: Account) -> JsonApi:
    """The homeserver's API as a fresh user sees it through the proxy."""
    return JsonApi(base_url=proxy.url, token=account.access_token)


async def rooms_of(synapse: Synapse, account: Account) -> int:
    api = JsonApi(base_url=synapse.url, token=account.access_token)
    return len((await api.request("GET", "/_matrix/client/v3/joined_rooms"))["joined_rooms"])


async def create_room(api: JsonApi) -> None:
    await api.request("POST", "/_matrix/client/v3/createRoom", {})


async def test_the_access_log_tells_who_wrote_what_since_a_mark(synapse: Synapse) -> None:
    account = await synapse.register(f"writer-{os.urandom(4).hex()}")
    api = JsonApi(base_url=synapse.url, token=account.access_token)
    mark = await synapse.mark()
    await create_room(api)
    await api.request("GET", "/_matrix/client/v3/joined_rooms")

    requests = [
        (entry.method, entry.path, entry.status)
        for entry in await synapse.requests(since=mark)
        if entry.user_id == account.user_id
    ]
    assert requests == [
        ("POST", "/_matrix/client/v3/createRoom", 200),
        ("GET", "/_matrix/client/v3/joined_rooms", 200),
    ]
    assert len(await synapse.writes(since=mark, user_id=account.user_id)) == 1
    assert await synapse.writes(since=await synapse.mark(), user_id=account.user_id) == []


async def test_two_people_meet_talk_and_edit(synapse: Synapse) -> None:
    accounts = [await synapse.register(f"{n}-{os.urandom(4).hex()}") for n in ("a", "b")]
    a, b = (MatrixUser(account, homeserver=synapse.url) for account in accounts)
    async with a, b:
        room = await a.start_dm(b.user_id)
        assert await b.wait_for_invite(space=False) == room
        await b.join(room)
        event_id = await a.send_text(room, "one")
        await b.wait_for_message(room, sender=a.user_id, body="one")
        await a.edit(room, event_id, "two")
        message = await b.wait_for_message(room, body="two")
        assert (message.event_id, message.edited) == (event_id, True)

        with pytest.raises(TimeoutError, match=r"a message in .* with 'three'\nIt saw:(.|\n)*two"):
            await b.wait_for_message(room, body="three", timeout=0.1)
        await b.leave(room)
        assert b.rooms() == set()


async def test_a_space_shows_its_children_in_order(synapse: Synapse) -> None:
    account = await synapse.register(f"user-{os.urandom(4).hex()}")
    async with MatrixUser(account, homeserver=synapse.url) as user:
        space = await user.create_room(creation_content={"type": "m.space"})
        rooms = [await user.create_room(name=name) for name in ("one", "two", "gone")]
        for room, order in zip(rooms, ("b", "a", "c"), strict=True):
            link = {"via": [synapse.server_name], "order": order}
            await user.set_state(space, "m.space.child", link, state_key=room)
        await user.set_state(space, "m.space.child", {}, state_key=rooms[2])
        assert await user.space_children(space) == [rooms[1], rooms[0]]


async def test_a_rule_answers_in_the_homeservers_place(
    proxy: FaultProxy, through: JsonApi
) -> None:
    rule = proxy.rule(
        Answer(429, {"errcode": "M_LIMIT_EXCEEDED"}), method="GET", path="joined", skip=1, times=1
    )
    await through.request("GET", "/_matrix/client/v3/joined_rooms")
    with pytest.raises(ApiError) as raised:
        await through.request("GET", "/_matrix/client/v3/joined_rooms")
    await through.request("GET", "/_matrix/client/v3/joined_rooms")
    assert (raised.value.status, raised.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert [request.forwarded for request in proxy.requests] == [True, False, True]
    assert len(rule.hits) == 1


@pytest.mark.parametrize(
    ("action", "rooms"),
    [(DropBefore(), 0), (DropAfter(), 1), (Truncate(), 1)],
    ids=["before", "after", "truncated"],
)
async def test_a_rule_breaks_the_connection(
    synapse: Synapse,
    proxy: FaultProxy,
    through: JsonApi,
    account: Account,
    action: DropBefore | DropAfter | Truncate,
    rooms: int,
) -> None:
    proxy.rule(action, method="POST", path="/createRoom$")
    with pytest.raises(aiohttp.ClientError):
        await create_room(through)
    assert await rooms_of(synapse, account) == rooms


async def test_a_rule_delays_or_holds(proxy: FaultProxy, through: JsonApi) -> None:
    hold = Hold()
    rule = proxy.rule(hold, method="POST")
    creating = asyncio.create_task(create_room(through))
    await asyncio.wait_for(rule.hit.wait(), 5)
    assert not creating.done()
    hold.released.set()
    await creating

    proxy.heal()
    proxy.rule(Delay(0.2))
    started = asyncio.get_running_loop().time()
    await create_room(through)
    assert asyncio.get_running_loop().time() - started > 0.2


@pytest.mark.parametrize(("when", "rooms"), [("before", 1), ("after", 2)])
async def test_the_server_goes_away_at_the_second_write_and_comes_back(
    synapse: Synapse, proxy: FaultProxy, through: JsonApi, account: Account, when: str, rooms: int
) -> None:
    proxy.sever_after(2, when=when)  # type: ignore[arg-type]
    polling = asyncio.create_task(
        through.request("GET", "/_matrix/client/v3/sync?timeout=30000&since=s0_0")
    )
    await create_room(through)
    await through.request("GET", "/_matrix/client/v3/joined_rooms")
    assert not proxy.severed.is_set()
    with pytest.raises(aiohttp.ClientError):
        await create_room(through)
    assert proxy.severed.is_set()
    with pytest.raises(aiohttp.ClientError):
        await through.request("GET", "/_matrix/client/v3/joined_rooms")
    await asyncio.wait([polling], timeout=5)
    polling.exception()

    assert await rooms_of(synapse, account) == rooms
    proxy.heal()
    await create_room(through)
    assert await rooms_of(synapse, account) == rooms + 1


async def test_the_proxy_finds_a_homeserver_that_was_restarted(make_synapse: MakeSynapse) -> None:
    synapse = await make_synapse(rate_limits="default", default_room_version="11")
    alice = await synapse.register("alice")
    async with FaultProxy(synapse.url) as proxy:
        api = JsonApi(base_url=proxy.url, token=alice.access_token)
        synapse.kill()
        with pytest.raises(aiohttp.ClientError):
            await create_room(api)
        await synapse.start()
        async with MatrixUser(alice, homeserver=proxy.url) as user:
            room = await user.create_room()
            create = (await user.state(room))["m.room.create", ""]
        assert create["content"]["room_version"] == "11"


async def test_default_rate_limits_are_those_of_synapse(make_synapse: MakeSynapse) -> None:
    synapse = await make_synapse(rate_limits="default")
    alice, admin = await synapse.register("alice"), await synapse.register("admin", admin=True)
    api = JsonApi(base_url=synapse.url, token=alice.access_token)

    async def create_rooms() -> None:
        for _ in range(30):
            await create_room(api)

    with pytest.raises(ApiError) as raised:
        await create_rooms()
    assert raised.value.status == 429
    await synapse.lift_rate_limits_of(alice.user_id, admin=admin)
    await create_room(api)


async def test_maubot_runs_an_uploaded_plugin_across_restarts(
    make_stack: MakeStack, tmp_path: Path, cluster: Postgres | None
) -> None:
    url = await cluster.create_database() if cluster else None
    stack = await make_stack(
        plugin=make_echo(tmp_path), plugin_id="test.echo", config="", plugin_postgres=url
    )
    alice = await stack.user("alice")
    room = await alice.start_dm(stack.bot.user_id)
    await alice.wait_for_member(room, stack.bot.user_id)
    await alice.send_text(room, "hello")
    await alice.wait_for_message(room, sender=stack.bot.user_id, body="echo: hello")
    assert await stack.database.fetch("SELECT body FROM heard") == [{"body": "hello"}]
    assert await stack.bot_rooms() == {room}

    await stack.maubot.stop()
    assert await stack.database.tables() >= {"heard"}
    await stack.maubot.delete_plugin_database(stack.instance)
    assert await stack.database.tables() == set()
    mark = stack.maubot.mark()
    await stack.maubot.start()
    await stack.maubot.wait_for_log("Started instance of test.echo", since=mark)
    assert await stack.database.fetch("SELECT body FROM heard WHERE body <> $1", "x") == []

    await stack.maubot.upload_plugin(make_echo(tmp_path, version="0.0.2"))
    assert [plugin["version"] for plugin in await stack.maubot.plugins()] == ["0.0.2"]
    await stack.maubot.restart_instance(stack.instance)
    instance = await stack.maubot.get_instance(stack.instance)
    assert (instance["enabled"], instance["started"]) == (True, True)


async def test_a_proxy_that_finds_its_port_taken_leaves_nothing_open() -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        proxy = FaultProxy("http://unused.invalid", port=other.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            async with proxy:
                pass
    assert proxy._session is not None
    assert proxy._session.closed


def test_no_port_is_picked_twice_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even before anybody listens on it, by whichever worker."""
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    monkeypatch.setattr(ports, "_RANGE", range(20_000, 20_030))
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    picked: list[int] = []
    for worker in range(3):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        monkeypatch.setattr(ports, "_picked", set())  # each is a process
        picked += [ports.free_port() for _ in range(10)]
    assert sorted(picked) == list(range(20_000, 20_030))
    with pytest.raises(RuntimeError, match="No free port"):
        ports.free_port()


async def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    process = ServerProcess("Demo", command, directory=tmp_path, output=tmp_path / "output.log")
    process.start()

    async def never() -> bool:
        return False

    with pytest.raises(ServerError, match=r"Demo ended with status 1\n(.|\n)*no such luck"):
        await process.wait_ready(never, timeout=10)


async def test_a_signal_that_was_lost_is_sent_again_until_it_is_heard(tmp_path: Path) -> None:
    script = """
        import signal, time
        heard = []
        signal.signal(signal.SIGTERM, lambda *_: heard.append(print("signal", flush=True)))
        print("ready", flush=True)
        while len(heard) < 2:  # the first one is lost
            time.sleep(0.05)
        print("stopping", flush=True)
        time.sleep(2.5)
        print("stopped", flush=True)
    """
    output = tmp_path / "output.log"
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = ServerProcess("Demo", command, directory=tmp_path, output=output)
    process.start()

    async def is_ready() -> bool:
        return "ready" in output.read_text()

    await process.wait_ready(is_ready, timeout=10)
    await process.stop(has_heard=lambda: "stopping" in output.read_text())
    assert output.read_text().split() == ["ready", "signal", "signal", "stopping", "stopped"]


def test_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = """
        import asyncio, pathlib, sys
        from tests.stack.process import ServerProcess
        directory = pathlib.Path(sys.argv[1])
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        server = ServerProcess("S", command, directory=directory, output=directory / "o.log")
        server.start()
        print(server.pid, flush=True)
        asyncio.run(asyncio.sleep(60))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    descriptor = None
    try:
        descriptor = os.pidfd_open(server)
        assert select_readable(descriptor, seconds=5), "the server lives on"
    except ProcessLookupError:
        pass
    finally:
        if descriptor is not None:
            os.close(descriptor)


def select_readable(descriptor: int, *, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that can be built, with things in it that must not be packed."""
    files = {
        "maubot.yaml": ECHO_META.format(version="0.0.1"),
        "base-config.yaml": "a: 1",
        "LICENSE": "MIT",
        "README.md": "not packed",
        "plugin/echo_for_tests/__init__.py": ECHO_CODE,
        "plugin/echo_for_tests/__pycache__/x.cpython-311.pyc": "not packed",
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


def test_a_package_holds_the_sources_and_the_same_tree_gives_the_same_bytes(tree: Path) -> None:
    first = build(tree)
    assert first == tree / "dist/echo-v0.0.1.mbp"
    with zipfile.ZipFile(first) as packed:
        names = packed.namelist()
    assert names == [
        "LICENSE",
        "base-config.yaml",
        "echo_for_tests/__init__.py",
        "maubot.yaml",
    ]
    for path in tree.rglob("*"):
        os.utime(path, (0, 0))
    assert build(tree, output=tree / "again").read_bytes() == first.read_bytes()
    assert build(tree, version="0.0.2.dev1").name == "echo-v0.0.2.dev1.mbp"


def test_a_package_without_one_of_its_modules_is_not_built(tree: Path) -> None:
    (tree / "plugin/echo_for_tests/__init__.py").rename(tree / "plugin/other.py")
    with pytest.raises(PackageError, match=r"neither plugin/echo_for_tests/__init__.py nor"):
        build(tree)
    assert not (tree / "dist").exists()


def test_a_package_that_maubot_cannot_load_is_not_built(tree: Path) -> None:
    (tree / "plugin/echo_for_tests/__init__.py").write_text("import nowhere\nclass Echo: ...")
    with pytest.raises(PackageError, match="No module named 'nowhere'"):
        build(tree)
    assert list((tree / "dist").iterdir()) == []
