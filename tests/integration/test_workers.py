"""A homeserver that is divided among workers, one of which is behind.

Whatever writes goes to one worker, whatever reads to another, which hears of every change late.
People's homes must be the same as on any homeserver.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.kill_points import ALL_KILLS
from tests.integration.on_workers import (
    PATIENCE,
    Bot,
    Home,
    everybody_knows,
    make_bot,
    reaches,
    right,
)
from tests.integration.worker_cases import CASES, a_life_with_two_readers
from tests.stack.http import ApiError, JsonApi
from tests.stack.maubot import Maubot
from tests.stack.postgres import Postgres
from tests.stack.proxy import ProxiedRequest
from tests.stack.redis import find_redis
from tests.stack.stack import MakeMaubot
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually
from tests.stack.workers import WorkerSynapse

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATE = "/_matrix/client/v3/createRoom"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> AsyncIterator[WorkerSynapse]:
    """The homeserver of this file; skips where there is no Redis, except on CI."""
    try:
        find_redis()
    except FileNotFoundError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    database = await postgres.create_database()
    directory = tmp_path_factory.mktemp("workers")
    async with WorkerSynapse(directory, database=database) as synapse:
        yield synapse


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def maubot(
    tmp_path_factory: pytest.TempPathFactory, plugin: Path, make_maubot: MakeMaubot
) -> AsyncIterator[Maubot]:
    """A maubot for all bots of this file; do not stop it."""
    async with await make_maubot(tmp_path_factory.mktemp("maubot")) as server:
        await server.upload_plugin(plugin)
        yield server


async def test_reads_are_late_on_the_worker_that_is_behind(workers: WorkerSynapse) -> None:
    """That the other tests of this file try what they say."""
    account = await workers.register("late-reader")
    api = JsonApi(base_url=workers.url, token=account.access_token)

    async def create(name: str) -> str:
        return str((await api.request("POST", CREATE, {"name": name}))["room_id"])

    async def joined() -> set[str]:
        answer = await api.request("GET", "/_matrix/client/v3/joined_rooms")
        return set(answer["joined_rooms"])

    known = await create("known")
    assert known in await joined()
    workers.lag("reader", seconds=600)
    try:
        new = await create("new")
        assert await joined() == {known}
        assert await workers.memberships(account.user_id) == {known: "join", new: "join"}
    finally:
        workers.lag("reader", seconds=0)

    async def caught_up() -> bool:
        return await joined() == {known, new}

    await eventually("the worker hears of the new room", caught_up)


async def test_an_alias_makes_one_room_whatever_lags(workers: WorkerSynapse) -> None:
    """The database refuses the second, also if both ask at once and of different workers."""
    account = await workers.register("alias-maker")
    api = JsonApi(base_url=workers.url, token=account.access_token)
    main = JsonApi(base_url=workers.main_url, token=account.access_token)
    for name in ("writer", "reader", "main"):
        workers.lag(name, seconds=1)

    async def create(through: JsonApi, name: str) -> str | tuple[int, str | None]:
        try:
            answer = await through.request("POST", CREATE, {"room_alias_name": name})
        except ApiError as error:
            return error.status, error.errcode
        return str(answer["room_id"])

    try:
        for number in range(2):
            name = f"x{number}"
            results = await asyncio.gather(create(api, name), create(main, name))
            results.append(await create(main, name))
            made = [result for result in results if isinstance(result, str)]
            refused = {result for result in results if not isinstance(result, str)}
            assert len(made) == 1, results
            assert refused <= {(400, "M_ROOM_IN_USE"), (409, "M_UNKNOWN")}
            alias = quote(f"#{name}:{workers.server_name}", safe="")
            found = await api.request("GET", f"/_matrix/client/v3/directory/room/{alias}")
            assert found["room_id"] == made[0]
    finally:
        for name in ("writer", "reader", "main"):
            workers.lag(name, seconds=0)
    assert len(await workers.memberships(account.user_id)) == 2


# What must not change, whatever lags

ASKED = os.environ.get("HOMEROOM_TEST_LAGS", "")
LAGS = [float(lag) for lag in (ASKED or "2").split()]
"""Seconds that one worker is behind; each takes minutes."""


async def tried(
    case: Callable[[Bot], Awaitable[None]], bot: Bot, *, turn: asyncio.Semaphore
) -> str:
    """Try a case when it is its turn; say `right` or what was wrong."""
    try:
        async with turn:
            began = time.monotonic()
            await case(bot)
        complaints = bot.complaints()
        assert not complaints, complaints
    except (AssertionError, TimeoutError, ApiError) as error:
        return f"WRONG after {time.monotonic() - began:.1f} s: {error}"
    return f"right, {time.monotonic() - began:.1f} s"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lag", LAGS)
async def test_a_late_worker_changes_nothing_for_people(
    workers: WorkerSynapse, maubot: Maubot, tmp_path: Path, lag: float
) -> None:
    bots = await asyncio.gather(*(make_bot(workers, maubot, tmp_path) for _ in (*CASES, "two")))
    try:
        workers.lag("reader", seconds=lag)
        # Not all at once: on a machine that is busy, nothing is seen of what is late.
        turn = asyncio.Semaphore(3)
        waits = (tried(case, bot, turn=turn) for case, bot in zip(CASES, bots, strict=False))
        results = await asyncio.gather(*waits)
        workers.read_from_two(both=True)
        results.append(await tried(a_life_with_two_readers, bots[-1], turn=turn))
    finally:
        workers.lag("reader", seconds=0)
        workers.read_from_two(both=False)
        for bot in bots:
            await maubot.set_client_started(bot.user_id, started=False)
            await bot.stack.close()
    table = {
        case.__name__.replace("_", " "): result
        for case, result in zip((*CASES, a_life_with_two_readers), results, strict=True)
    }
    lines = [f"| {name} | {result} |" for name, result in table.items()]
    print(f"\n| lag {lag:g} s | |\n|---|---|\n" + "\n".join(lines))
    wrong = [line for line in lines if "| right" not in line]
    assert not wrong, "\n".join(wrong)


# Kills, with `ALL_KILLS` after each of the bot's writes, with and without its database; else where
# a room is made, and the database is lost

_PASSING = re.compile("/(?:sync|filter|typing/[^/]+|receipt/.*)$")


async def new_person(bot: Bot) -> None:
    await (await bot.person("newcomer")).start_dm(bot.user_id)


async def new_chat(bot: Bot) -> None:
    await bot.owner.send_text(await bot.chat(), "!chat new Plans")


async def home_of_new_person(bot: Bot) -> Home:
    return await bot.home(await bot.person("newcomer"))


async def home_with_new_chat(bot: Bot) -> Home:
    return await bot.home()


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a person begins, and what must come of it."""

    begin: Callable[[Bot], Awaitable[None]]
    look: Callable[[Bot], Awaitable[Home]]
    right: Home
    rooms: int
    """How many rooms that takes."""


BEGUN = (
    Begun(begin=new_person, look=home_of_new_person, right=right("General"), rooms=2),
    Begun(begin=new_chat, look=home_with_new_chat, right=right("General", "Plans"), rooms=1),
)


def changes_something(request: ProxiedRequest) -> bool:
    return request.writes and not _PASSING.search(request.path)


def makes_room(request: ProxiedRequest) -> bool:
    return request.writes and request.path == CREATE


async def writes_of(begun: Begun, make: Callable[[], Awaitable[Bot]]) -> list[str]:
    """Say after which writes to kill: those that are made if nothing disturbs, as they come."""
    if not ALL_KILLS:
        return ["createRoom"] * begun.rooms
    bot = await make()
    mark = bot.stack.proxy.mark()
    await begun.begin(bot)
    await reaches(lambda: begun.look(bot), begun.right)
    await everybody_knows(bot)
    writes = bot.stack.proxy.requests[mark:]
    return [str(request) for request in writes if changes_something(request)]


async def kill_after(begun: Begun, bot: Bot, *, write: int) -> None:
    """The homeserver goes away from the bot when it has done the n-th write."""
    where = changes_something if ALL_KILLS else makes_room
    bot.stack.proxy.sever_after(write, when="after", where=where)
    await begun.begin(bot)
    await asyncio.wait_for(bot.stack.proxy.severed.wait(), PATIENCE)


async def finishes(begun: Begun, bot: Bot) -> None:
    """Somebody says something, in case that the bot waits for it; then all is there once."""
    if begun.begin is new_person:
        newcomer = await bot.person("newcomer")
        for room_id in newcomer.rooms():
            await newcomer.send_text(room_id, "Are you there?")
    await reaches(lambda: begun.look(bot), begun.right)
    await everybody_knows(bot)
    assert await begun.look(bot) == begun.right


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("loses_database", [False, True] if ALL_KILLS else [True])
async def test_a_kill_after_any_request_makes_nothing_twice(
    workers: WorkerSynapse,
    plugin: Path,
    make_maubot: MakeMaubot,
    tmp_path: Path,
    lag: float,
    loses_database: bool,
) -> None:
    async with await make_maubot(tmp_path / "maubot") as maubot:
        await maubot.upload_plugin(plugin)
        bots: list[Bot] = []

        async def make() -> Bot:
            bot = await make_bot(workers, maubot, tmp_path, proxy=True)
            bots.append(bot)
            return bot

        try:
            cases = []
            for begun in BEGUN:
                writes = await writes_of(begun, make)
                cases += [(begun, number, line) for number, line in enumerate(writes, start=1)]
            victims = await asyncio.gather(*(make() for _ in cases))
            workers.lag("reader", seconds=lag)
            await asyncio.gather(
                *(
                    kill_after(begun, bot, write=number)
                    for (begun, number, _), bot in zip(cases, victims, strict=True)
                )
            )
            maubot.kill()
            for bot in victims:
                bot.stack.proxy.heal()
                if loses_database:
                    await bot.stack.database.delete()
            await maubot.start()
            results = await asyncio.gather(
                *(finishes(case[0], bot) for case, bot in zip(cases, victims, strict=True)),
                return_exceptions=True,
            )
        finally:
            workers.lag("reader", seconds=0)
            for bot in bots:
                await bot.stack.close()
    rows = [
        f"| {begun.begin.__name__}, write {number}: {line} | {result or 'right'} |"
        for (begun, number, line), result in zip(cases, results, strict=True)
    ]
    print(f"\n| killed after, lag {lag:g} s, database lost: {loses_database} | |\n|---|---|")
    print("\n".join(rows))
    assert all(result is None for result in results), "\n".join(rows)


# Traffic

MESSAGES = int(os.environ.get("HOMEROOM_TEST_WORKER_MESSAGES") or 60)
"""In all."""
RESTARTS = ("maubot killed", "reader", "maubot", "writer", "sync")
if MESSAGES > 200:
    RESTARTS = 2 * (*RESTARTS, "maubot", "maubot killed", "maubot")
"""What is restarted one after the other, while people write."""


async def said_to(user: MatrixUser, room_id: str, text: str) -> None:
    """Send as a client does: under one transaction ID, until the homeserver has it."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/send/m.room.message/{secrets.token_hex(8)}"

    async def sent() -> bool:
        try:
            await user.api.request("PUT", path, {"msgtype": "m.text", "body": text})
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return False
        except ApiError as error:
            if error.status < 500:
                raise
            return False
        return True

    await eventually(f"{text!r} is sent", sent, timeout=PATIENCE)


@pytest.mark.skipif(not ASKED, reason="takes minutes; set HOMEROOM_TEST_LAGS, for example to 2")
@pytest.mark.timeout(300 + 5 * MESSAGES)
async def test_traffic_through_restarts_of_maubot_and_of_workers(
    workers: WorkerSynapse, plugin: Path, make_maubot: MakeMaubot, tmp_path: Path
) -> None:
    async with await make_maubot(tmp_path / "maubot") as maubot:
        await maubot.upload_plugin(plugin)
        bot = await make_bot(workers, maubot, tmp_path)
        workers.lag("reader", seconds=2)
        chat = await bot.chat()

        async def restart(what: str) -> None:
            if what == "maubot killed":
                maubot.kill()
                await maubot.start()
            elif what == "maubot":
                await maubot.restart()
            else:
                await workers.restart_worker(what, killed=True)

        async def disturb() -> None:
            for what in RESTARTS:
                await restart(what)

        async def write(number: int) -> None:
            await said_to(bot.owner, chat, f"message {number}")

        disturbing = asyncio.ensure_future(disturb())
        began = time.monotonic()
        for number in range(MESSAGES):
            await write(number)
            if not disturbing.done():
                await asyncio.wait([disturbing], timeout=60 / MESSAGES)
        await disturbing

        async def heard() -> list[str]:
            said = await workers.said(chat, sender=bot.user_id)
            texts = [content["body"] for content in said if content["msgtype"] == "m.text"]
            return [text.partition("\n")[0] for text in texts]  # and a note for admins

        wanted = [f"message {number}" for number in range(MESSAGES)]
        try:
            await reaches(heard, wanted)
        finally:
            workers.lag("reader", seconds=0)
            found, expected = Counter(await heard()), Counter(wanted)
            print(
                f"{MESSAGES} messages, {len(RESTARTS)} restarts:"
                f" lost {(expected - found).total()}, doubled {(found - expected).total()},"
                f" {time.monotonic() - began:.0f} s"
            )
            await bot.stack.close()
