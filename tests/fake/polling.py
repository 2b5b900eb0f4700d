"""`/sync` and sliding sync: looked up, and waited for where there is nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from typing_extensions import assert_never

from .call import Call, Service
from .errors import MatrixError, bad_request
from .events import Json
from .filters import read_filter
from .lag import SLIDING
from .sliding import sliding_sync
from .switches import FutureSince
from .sync import sync
from .tokens import read_token
from .world import World

SLIDING_SYNC = "org.matrix.simplified_msc3575"


async def get_sync(call: Call) -> Json:
    session, world = call.session, call.world
    filter_ = read_filter(world.accounts[call.me], call.query.get("filter"))
    since = read_token(call.query["since"]) if call.query.get("since") else None
    if since is not None and since > world.stream:
        since = _future(call.service.switches.future_since, world)
    full = call.query.get("full_state", "false") == "true"
    remembered = (*session.viewer, *(f"{k}={v}" for k, v in sorted(call.query.items())))
    if call.service.remember_syncs and remembered in call.service.syncs:
        return call.service.syncs[remembered]
    wait = 0 if since is None or full else call.number("timeout", 0)

    def look() -> tuple[Json, bool]:
        answer = sync(world, session, filter_, since=since, full_state=full)
        return answer.body, answer.has_news

    body = await _poll(call.service, look, wait)
    call.service.syncs[remembered] = body
    return body


def _future(answer: FutureSince, world: World) -> int | None:
    """Give where to begin for a position that this server has not reached yet."""
    match answer:
        case "now":
            return world.stream
        case "initial":
            return None
        case "refused":
            raise bad_request("Invalid stream token")
        case _:
            assert_never(answer)


async def post_sliding_sync(call: Call) -> Json:
    session, world, request = call.session, call.world, call.body()
    if not call.service.unstable_features.get(SLIDING_SYNC):
        raise MatrixError(404, "M_UNRECOGNIZED", "Unrecognized request")
    pos = call.query.get("pos")
    wait = 0 if pos is None else call.number("timeout", 0)
    connections = call.service.connections

    def hidden() -> frozenset[str]:
        at = call.as_of(SLIDING, call.me, world.member_events(call.me))
        rooms = world.memberships.get(call.me, {}) if at is not None else {}
        return frozenset(
            room_id for room_id in rooms if world.rooms[room_id].member(call.me, at=at) is None
        )

    def look() -> tuple[Json, bool]:
        answer = sliding_sync(world, connections, session, request, pos=pos, hidden=hidden())
        return answer.body, answer.has_news

    return await _poll(call.service, look, wait)


async def _poll(service: Service, look: Callable[[], tuple[Json, bool]], wait_ms: int) -> Json:
    """Look until there is news or the time is up."""
    seconds = wait_ms / 1000
    if service.longest_poll is not None:
        seconds = min(seconds, service.longest_poll)
    body, has_news = look()
    if has_news or seconds <= 0:
        return body
    changed = asyncio.Event()
    service.world.listeners.append(changed.set)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    try:
        while not has_news and (left := deadline - loop.time()) > 0:
            try:
                await asyncio.wait_for(changed.wait(), left)
            except asyncio.TimeoutError:
                break
            changed.clear()
            body, has_news = look()
    finally:
        service.world.listeners.remove(changed.set)
    return look()[0] if not has_news else body
