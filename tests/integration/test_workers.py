"""A homeserver that is divided among workers, one of which is behind.

Whatever writes goes to one worker, whatever reads to another, which hears of every change late.
People's homes must be the same as on any homeserver.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.stack.http import ApiError, JsonApi
from tests.stack.postgres import Postgres
from tests.stack.redis import find_redis
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
