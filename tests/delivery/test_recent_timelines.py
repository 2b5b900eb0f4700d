"""What was said last in the chats: all of it that is recent, and hardly anything else."""

from __future__ import annotations

from typing import Any

import pytest
from mautrix.types import RoomID

from homeroom.delivery import recent_timelines as recent
from homeroom.delivery.recent_timelines import recent_timelines
from homeroom.matrix import retry_budgets
from homeroom.matrix.homeserver import Homeserver
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake import Alter, FakeHomeserver, Match, Respond, Truncate
from tests.fake.clients import Connect
from tests.fake.faults import Action

SLIDING = Match(when=lambda r: "lists" in (r.body or {}))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "ROOMS", 2)
    for name in ("READING", "SCANNING"):
        monkeypatch.setattr(retry_budgets, name, RetryBudget(call=0.2, failing=0.2, attempt=60))


def talk(hs: FakeHomeserver) -> tuple[list[RoomID], dict[str, str]]:
    """Ten rooms, and in three of them something was said lately; returns what, by room."""
    bot, anna = hs.user("bot"), hs.user("anna")
    rooms = [bot.create_room(invite=[anna]) for _ in range(10)]
    for room_id in rooms:
        anna.join(room_id)
        anna.send(room_id, "Long ago")
    hs.clock.now_ms += 60 * 60 * 1000
    said = {room_id: anna.send(room_id, "Just now") for room_id in (rooms[2], rooms[7], rooms[5])}
    return rooms, said


async def read(homeserver: Homeserver, rooms: list[RoomID], hs: FakeHomeserver) -> dict[str, str]:
    """The last event of each room that is told of, if it is recent."""
    not_before = hs.clock.now_ms - 10 * 60 * 1000
    last: dict[str, Any] = {}
    async for response in recent_timelines(homeserver, rooms, not_before=not_before):
        for room_id, entry in response["rooms"]["join"].items():
            assert room_id not in last
            last[room_id] = entry["timeline"]["events"][-1]
    return {
        room_id: event["event_id"]
        for room_id, event in last.items()
        if event["origin_server_ts"] >= not_before
    }


async def test_it_costs_as_much_as_was_said_lately(hs: FakeHomeserver, connect: Connect) -> None:
    rooms, said = talk(hs)
    assert await read(connect(), rooms, hs) == said
    assert len([r for r in hs.requests if SLIDING(r)]) == 3  # two windows, and one too old
    assert not [r for r in hs.requests if r.route.endswith("/messages")]


async def test_other_rooms_are_not_told_of(hs: FakeHomeserver, connect: Connect) -> None:
    rooms, said = talk(hs)
    kept = [room_id for room_id in rooms if room_id != rooms[7]]
    assert await read(connect(), kept, hs) == {k: v for k, v in said.items() if k != rooms[7]}


@pytest.mark.parametrize("skip", [0, 1], ids=["at once", "in the middle"])
@pytest.mark.parametrize(
    "action",
    [
        Respond(404, {"errcode": "M_UNRECOGNIZED", "error": "No"}),
        Respond(500, text=""),
        Truncate(),
    ],
    ids=["404", "500", "cut off"],
)
async def test_without_sliding_sync_every_chat_is_read(
    hs: FakeHomeserver, connect: Connect, action: Action, skip: int
) -> None:
    rooms, said = talk(hs)
    hs.fail(SLIDING, action, times=None, skip=skip)
    assert await read(connect(), rooms, hs) == said
    assert len([r for r in hs.requests if r.route.endswith("/messages")]) == 10 - 2 * skip


async def test_a_server_that_repeats_itself_is_not_listened_to_for_ever(
    hs: FakeHomeserver, connect: Connect
) -> None:
    rooms, _ = talk(hs)
    first: list[Any] = []

    def again(answer: Any) -> Any:
        first.append(answer)
        return first[0]

    hs.fail(SLIDING, Alter(again), times=None)
    assert len(await read(connect(), rooms, hs)) == 2
    assert len(first) == 2
