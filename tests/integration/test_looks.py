"""One look, every way, at a real Synapse: each tells the same, or says that it could not.

Issue 5, "Must be seen", 5. The adapters alone, in front of a real homeserver with faults between.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest
from maubot.matrix import MaubotMatrixClient
from mautrix.types import RoomID, UserID

from homeroom.domain.homes.marker import MARKER_TYPE
from homeroom.domain.homes.topology import Topology, Unreadable
from homeroom.homes.observation import Observer
from homeroom.homes.observation import by_sliding_sync as sliding
from homeroom.matrix import retry_budgets
from homeroom.matrix.current_client import CurrentClient
from homeroom.matrix.homeserver import Homeserver
from homeroom.matrix.retrying_api import RetryBudget
from tests.stack.http import JsonApi
from tests.stack.proxy import Action, Answer, DropAfter, FaultProxy, Replace, Truncate
from tests.stack.synapse import Account, Synapse

pytestmark = pytest.mark.stack

LOG: Any = logging.getLogger("maubot.instance.homeroom")
SLIDING = r"/org\.matrix\.simplified_msc3575/sync$"
STATE = r"/rooms/[^/]+/state$"
NO_SUCH_REQUEST = Answer(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})
HOMES = 4
CHATS = 3


class Place:
    """An account with homes, a room from before markers, other people's rooms, and an invite."""

    def __init__(self, synapse: Synapse, bot: Account, owner: Account) -> None:
        self.synapse = synapse
        self.bot = bot
        self.owner = owner
        self._as_bot = JsonApi(base_url=synapse.url, token=bot.access_token)
        self._as_owner = JsonApi(base_url=synapse.url, token=owner.access_token)

    async def populate(self) -> None:
        for _ in range(HOMES):
            space = await self._make(self._as_bot, self._marked("space"), is_space=True)
            for number in range(1, CHATS + 1):
                marker = self._marked("chat", chat_id=f"C{number}")
                chat = await self._make(self._as_bot, marker)
                path = f"/_matrix/client/v3/rooms/{quote(space)}/state/m.space.child/{quote(chat)}"
                await self._as_bot.request("PUT", path, {"via": ["homeroom.test"]})
        await self._make(self._as_bot)
        for is_space in (False, True):
            room = await self._make(self._as_owner, is_space=is_space)
            await self._as_bot.request("POST", f"/_matrix/client/v3/join/{quote(room)}", {})
        self.invited = await self._make(self._as_owner)

    def _marked(self, room_type: str, **more: str) -> dict[str, Any]:
        marker = {"version": 1, "room_type": room_type, "user_id": self.owner.user_id, **more}
        return {"type": MARKER_TYPE, "state_key": self.bot.user_id, "content": marker}

    async def _make(self, api: JsonApi, *state: dict[str, Any], is_space: bool = False) -> RoomID:
        other = self.owner if api is self._as_bot else self.bot
        body = {
            "name": "A room",
            "invite": [other.user_id],
            "initial_state": list(state),
            "creation_content": {"type": "m.space"} if is_space else {},
        }
        answer = await api.request("POST", "/_matrix/client/v3/createRoom", body)
        return RoomID(answer["room_id"])


@pytest.fixture
async def place(synapse: Synapse) -> Place:
    suffix = uuid4().hex[:8]
    bot = await synapse.register(f"homeroom-{suffix}")
    place = Place(synapse, bot, await synapse.register(f"anna-{suffix}"))
    await place.populate()
    return place


@asynccontextmanager
async def observer(place: Place) -> AsyncIterator[tuple[Observer, FaultProxy]]:
    async with FaultProxy(place.synapse.url) as proxy, aiohttp.ClientSession() as session:
        client = MaubotMatrixClient(
            mxid=UserID(place.bot.user_id),
            base_url=proxy.url,
            token=place.bot.access_token,
            client_session=session,
            log=LOG,
        )
        yield (
            Observer(Homeserver(CurrentClient(client), log=LOG, concurrency=lambda: 10), log=LOG),
            proxy,
        )


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look of some twenty rooms in as many requests."""
    for name in ("FIRST", "AT_LEAST", "AT_MOST"):
        monkeypatch.setattr(sliding, name, 2)


def switched_off(proxy: FaultProxy) -> None:
    proxy.rule(Replace({"versions": ["v1.12"], "unstable_features": {}}), path=r"/versions$")
    proxy.rule(NO_SUCH_REQUEST, path=SLIDING)


def advertised_only(proxy: FaultProxy) -> None:
    proxy.rule(NO_SUCH_REQUEST, path=SLIDING)


def gives_up(how: Callable[[], Action]) -> Callable[[FaultProxy], None]:
    def set_up(proxy: FaultProxy) -> None:
        proxy.rule(how(), path=SLIDING, skip=6)

    return set_up


def without_state(proxy: FaultProxy) -> None:
    switched_off(proxy)
    proxy.rule(NO_SUCH_REQUEST, path=STATE)


SERVERS: dict[str, Callable[[FaultProxy], None]] = {
    "sliding sync is switched off": switched_off,
    "it is advertised, and is not there": advertised_only,
    "it is not there from window 7 on": gives_up(lambda: NO_SUCH_REQUEST),
    "it is cut off in window 7": gives_up(Truncate),
    "it hangs up in window 7": gives_up(DropAfter),
    "it answers nonsense in window 7": gives_up(lambda: Replace({"rooms": 7, "lists": []})),
    "it tells of nothing in window 7": gives_up(
        lambda: Replace(
            {"pos": "1/s1", "rooms": {}, "lists": {name: {"count": 40} for name in sliding.LISTS}}
        )
    ),
    "there is only /sync": without_state,
}


@pytest.mark.usefixtures("small_windows")
async def test_a_look_is_complete_whatever_the_server_does_not_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = RetryBudget(call=5, failing=0.5, attempt=30)
    monkeypatch.setattr(retry_budgets, "SCANNING", short)
    async with observer(place) as (honest, proxy):
        whole = await honest.scan()
        assert len([r for r in proxy.requests if "msc3575" in r.path]) >= 7
        assert not [r for r in proxy.requests if r.path.endswith("/state")]
    assert len(whole.rooms) == HOMES * (1 + CHATS) + 3
    assert not whole.unreadable
    assert [invite.room_id for invite in whole.invites] == [place.invited]
    for name, set_up in SERVERS.items():
        async with observer(place) as (eyes, proxy):
            set_up(proxy)
            seen = await eyes.scan()
            assert (seen.rooms, seen.invites) == (whole.rooms, whole.invites), name
            asked = {r.path for r in proxy.requests}
            assert any(path.endswith("/state") for path in asked), name


async def test_one_window_tells_what_many_do(place: Place) -> None:
    async with observer(place) as (eyes, proxy):
        seen = await eyes.scan()
        gentle = await eyes.scan_by_get()
    assert seen.rooms == gentle.rooms
    assert len([r for r in proxy.requests if "msc3575" in r.path]) <= 4


async def test_some_rooms_are_told_as_all_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with observer(place) as (eyes, _):
        whole = await eyes.scan()
        some = sorted(whole.rooms)[::2]
        expected = {room_id: whole.rooms[room_id] for room_id in some}
        assert (await eyes.scan_rooms(some)).rooms == expected
        monkeypatch.setattr("homeroom.homes.observation.observer.MANY", 1)
        assert (await eyes.scan_rooms(some)).rooms == expected
        assert (await eyes.scan_others(frozenset(whole.rooms) - set(some))).rooms == expected


async def test_a_room_that_no_way_tells_of_is_unknown(place: Place) -> None:
    async with observer(place) as (eyes, proxy):
        whole: Topology = await eyes.scan()
        room_id = sorted(whole.rooms)[0]
        proxy.rule(NO_SUCH_REQUEST, path=SLIDING)
        no = Answer(403, {"errcode": "M_FORBIDDEN", "error": "No"})
        proxy.rule(no, path=rf"/rooms/{quote(room_id, safe='')}/state$|/rooms/{room_id}/state$")
        seen = await eyes.scan()
    assert isinstance(seen.rooms[room_id], Unreadable)
    others = {key: room for key, room in whole.rooms.items() if key != room_id}
    assert {key: room for key, room in seen.rooms.items() if key != room_id} == others
