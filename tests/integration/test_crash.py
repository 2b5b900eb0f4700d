"""A crash at any step of an onboarding leaves nothing that the next start cannot finish.

Issue 2, "Must be seen", 5. Many bots live on one maubot, each behind a proxy of its own that
takes the homeserver away at another of the bot's writes; then maubot is killed, with all of them
in the middle of something.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.integration.homes import room_state, tables
from tests.integration.kill_points import kill_points
from tests.stack.maubot import Maubot
from tests.stack.proxy import DropAfter, ProxiedRequest
from tests.stack.stack import MARKER_TYPE, MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CHATS = ("General", "Ideas")
CONFIG = {"access": {"allow": ["*"]}, "rooms": {"initial_chats": list(CHATS)}}

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarding:
    """A bot of its own, the person who invites it, and where."""

    bot: Stack
    owner: MatrixUser
    direct: str

    def writes(self) -> list[ProxiedRequest]:
        """The bot's requests that could change something, from the invite on."""
        return [request for request in self.bot.proxy.requests if changes_something(request)]

    async def bot_is_in(self) -> bool:
        return self.direct in await self.bot.bot_rooms()


def changes_something(request: ProxiedRequest) -> bool:
    """Whether this is a write; sliding sync reads by POST, and a filter is maubot's own."""
    return request.writes and not request.path.endswith(("/sync", "/filter"))


async def make(make_bot: MakeStack, maubot: Maubot) -> Onboarding:
    """Make a bot and the person, who has a room but has not invited the bot yet."""
    bot = await make_bot(maubot=maubot, proxy=True, config=CONFIG)
    owner = await bot.user("owner")
    return Onboarding(bot=bot, owner=owner, direct=await owner.create_room())


async def undisturbed(make_bot: MakeStack, maubot: Maubot) -> list[str]:
    """Onboard somebody, return the bot's writes up to the welcome, which is the last.

    A look that an event asked for meanwhile may repeat a marker or a link after it. On a busy
    machine the bot has also said that it takes a while.
    """
    case = await make(make_bot, maubot)
    await case.owner.invite(case.direct, case.bot.bot.user_id)
    await case.owner.wait_for_message(case.direct, sender=case.bot.bot.user_id, body="your home")
    await require_one_complete_home(case)
    lines = [f"{request.method} {request.path}" for request in case.writes()]
    sent = [number for number, line in enumerate(lines) if "/send/" in line]
    return [line for number, line in enumerate(lines[: sent[-1] + 1]) if number not in sent[:-1]]


async def require_one_complete_home(case: Onboarding) -> None:
    """Raise unless there is one Space, each chat once, all complete, and nothing else."""
    bot, owner = case.bot.bot.user_id, case.owner.user_id
    rooms = await case.bot.bot_rooms()
    states = {room_id: await room_state(case.bot, room_id) for room_id in rooms - {case.direct}}
    markers = {room_id: state[MARKER_TYPE, bot]["content"] for room_id, state in states.items()}
    spaces = [room_id for room_id, marker in markers.items() if marker["room_type"] == "space"]
    assert len(spaces) == 1, markers
    space = spaces[0]
    chats = {marker["chat_id"]: room for room, marker in markers.items() if room != space}
    assert sorted(chats) == ["C1", "C2"], markers
    assert len(rooms) == 4, rooms

    rows = await tables(case.bot)
    assert {row["space_id"] for row in rows.homes.values()} == {space}
    assert set(rows.chats) == set(chats.values())
    for number, name in enumerate(CHATS, start=1):
        room_id = chats[f"C{number}"]
        state, row = states[room_id], rows.chats[room_id]
        assert state["m.room.name", ""]["content"]["name"] == name
        assert state["m.space.parent", space]["content"]["canonical"] is True
        assert states[space]["m.space.child", room_id]["content"]["via"]
        assert markers[room_id]["platform_chat_id"] == row["platform_chat_id"]
        assert (row["chat_id"], row["status"]) == (f"C{number}", "active")
    for state in states.values():
        assert state["m.room.member", owner]["content"]["membership"] in {"invite", "join"}
    assert {key for kind, key in states[space] if kind == "m.space.child"} == set(chats.values())


async def run_into(case: Onboarding, *, write: int, when: When) -> None:
    """Have the person invite the bot; the homeserver goes away at the bot's n-th write."""
    case.bot.proxy.sever_after(write, when=when, where=changes_something)
    await case.owner.invite(case.direct, case.bot.bot.user_id)
    await asyncio.wait_for(case.bot.proxy.severed.wait(), 60)

    async def over() -> bool:
        return when == "before" or case.writes()[write - 1].forwarded

    await eventually(f"write {write} is carried out", over)


async def come_back(case: Onboarding) -> None:
    """The owner's next sign of life, and what the bot says to it.

    Where the invite is still pending there is none: the bot answers it by itself.
    """
    event_id = None
    if await case.bot_is_in():
        event_id = await case.owner.send_text(case.direct, "Hello?")
    await case.owner.wait_for_message(
        case.direct,
        sender=case.bot.bot.user_id,
        # Not: "Your home is being made."
        body=lambda body: "This is your home" in body or "Your chats are in" in body,
        after=event_id,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("when", "loses_database", "first"),
    [("before", False, 1), ("after", False, 2), ("after", True, 3)],
    ids=["before", "after", "after-and-database-lost"],
)
async def test_a_crash_at_any_write_leaves_a_home_that_is_finished_once(
    make_bot: MakeStack, maubot: Maubot, when: When, loses_database: bool, first: int
) -> None:
    writes = await undisturbed(make_bot, maubot)
    assert len(writes) >= 9, writes  # join, 3 rooms, 2 links, 2 markers, 1 message
    points = kill_points(len(writes), first=first)
    made = await asyncio.gather(*(make(make_bot, maubot) for _ in points))
    cases = {
        f"{when} write {number} ({writes[number - 1]})": (number, case)
        for number, case in zip(points, made, strict=True)
    }
    await asyncio.gather(
        *(run_into(case, write=number, when=when) for number, case in cases.values())
    )
    maubot.kill()
    for _, case in cases.values():
        case.bot.proxy.heal()
        if loses_database:
            await case.bot.database.delete()
    await maubot.start()

    results = await asyncio.gather(
        *(finish(case) for _, case in cases.values()), return_exceptions=True
    )
    require_none_failed(list(cases), results)


def require_none_failed(names: list[str], results: list[BaseException | None]) -> None:
    """Raise one AssertionError that names every case that failed."""
    pairs = zip(names, results, strict=True)
    failures = [f"{name}: {result!r}" for name, result in pairs if result is not None]
    assert not failures, "\n".join(failures)


async def finish(case: Onboarding) -> None:
    await come_back(case)
    await require_one_complete_home(case)


async def test_an_answer_that_is_lost_at_any_write_makes_nothing_twice(
    make_bot: MakeStack, maubot: Maubot
) -> None:
    """The homeserver did what was asked and the answer never came; maubot lives on."""
    writes = await undisturbed(make_bot, maubot)

    async def lose(number: int) -> None:
        case = await make(make_bot, maubot)
        rule = case.bot.proxy.rule(DropAfter(), where=changes_something, skip=number - 1, times=1)
        await case.owner.invite(case.direct, case.bot.bot.user_id)
        await case.owner.wait_for_message(
            case.direct, sender=case.bot.bot.user_id, body="your home", timeout=60
        )
        assert len(rule.hits) == 1
        await require_one_complete_home(case)

    points = kill_points(len(writes), first=1)
    results = await asyncio.gather(
        *(lose(number) for number in points),
        return_exceptions=True,
    )
    require_none_failed([writes[number - 1] for number in points], results)
