"""Faults of every kind, at every kind of request, while people live with the bot.

Issue 4, "Must be seen", 3. A proxy in front of the real homeserver deals every fault once to each
kind of request that the plugin makes; the kinds are what the proxy has recorded. A run prints its
seed, and HOMEROOM_TEST_SEED repeats the order of faults for each kind (not their timing).

aiohttp repeats GET, PUT and DELETE once by itself when a connection drops, so these are dropped
twice in a row.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.homes import Home, configure, finished, invalidate_checkpoint, tables
from tests.integration.resetting import is_report
from tests.stack.proxy import (
    Action,
    Answer,
    Delay,
    DropAfter,
    DropBefore,
    ProxiedRequest,
    Replace,
    Truncate,
)
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CHATS = ("General", "Ideas")
OTHER_ROOMS = 15
"""With them there are more rooms than one message of `!reset` lists."""
CONFIG: Mapping[str, Any] = {
    **DEFAULT_CONFIG,
    "access": {"allow": ["@resident*"]},
    "rooms": {"initial_chats": list(CHATS)},
    "dev": {"reset": True},
}
PATIENCE = 90.0
"""Seconds; only a test that fails waits for so long."""
IN_A_ROW = 3
"""Faults of one kind of request, after which one is let through."""
GAP = 105
"""More events than a response holds."""
ANSWERS = "dev.homeroom.answers"
DROPS = (DropBefore, DropAfter)

EXPECTED = {
    "GET versions",
    "GET capabilities",
    "GET joined_rooms",
    "GET sync",
    "POST simplified_msc3575/sync",
    "GET rooms/{}/state",
    "GET rooms/{}/state/{}/{}",
    "GET rooms/{}/joined_members",
    "GET rooms/{}/messages",
    "POST createRoom",
    "PUT rooms/{}/state/{}/{}",
    "PUT rooms/{}/send/{}/{}",
    "POST join/{}",
    "POST rooms/{}/leave",
    "POST rooms/{}/forget",
    "POST rooms/{}/invite",
    "POST upload",
    "GET directory/room/{}",
    "DELETE directory/room/{}",
    "GET rooms/{}/aliases",
    "GET user/{}/account_data/{}",
    "PUT user/{}/account_data/{}",
}
"""Every kind of request that the plugin made when this was written."""
BY_CHANCE = {"POST rooms/{}/receipt/{}/{}"}
"""What is only made where an answer takes long: it meets the faults that it happens to meet."""
MAUBOTS_OWN = re.compile(r"/(account/whoami|profile/|user/[^/]+/filter)")


def kind_of(request: ProxiedRequest) -> str | None:
    """A request's method and path, without what differs from one to the next.

    None for those that maubot makes itself: its own sync waits for news. And for the look at
    what was handled last, which is made once a minute (tests/plugin/test_back_in_time.py).
    """
    if MAUBOTS_OWN.search(request.path) or re.search(r"/rooms/[^/]+/event/", request.path):
        return None
    if request.path.endswith("/v3/sync") and "timeout=0" not in request.query.split("&"):
        return None
    path = re.sub(r"^/_matrix/(client|media)/((v\d+|r0|unstable)/)?", "", request.path)
    path = path.removeprefix("org.matrix.")
    path = re.sub(r"^(rooms|join|directory/room)/[^/]+", r"\1/{}", path)
    path = re.sub(r"^user/[^/]+/account_data/.*$", "user/{}/account_data/{}", path)
    path = re.sub(r"/(state|send|receipt)/[^/]+/[^/]*$", r"/\1/{}/{}", path)
    path = re.sub(r"/typing/[^/]+$", "/typing/{}", path)
    path = re.sub(r"/receipt/m.read/[^/]+$", "/receipt/m.read/{}", path)
    return f"{request.method} {path}"


def faults(dice: random.Random, kind: str) -> dict[str, Action]:
    """Every fault of the issue; what is wrong about wrong JSON depends on what would be right."""
    wrong: list[Any] = [[], [1, "a", None], 5, None]
    if kind == "GET rooms/{}/state":
        wrong = [{}, {"joined": 1}, 5, None, [1, "a", {"type": "m.room.create"}]]
    internal: Any = {"errcode": "M_UNKNOWN", "error": "Internal server error"}
    gateway = "<html>Bad gateway</html>"
    # The one request that must not simply be sent again fails when it has been carried out.
    fails = Replace if kind == "POST createRoom" else Answer
    return {
        "latency": Delay(0.5),
        "429 with a time": Answer(429, {"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 200}),
        "429 without": Answer(429, {"errcode": "M_LIMIT_EXCEEDED"}),
        "500": fails(status=500, body=internal),
        "502 in HTML": fails(status=502, body=gateway),
        "reset before": DropBefore(),
        "reset after": DropAfter(),
        "truncated JSON": Truncate(),
        "wrong JSON": Replace(dice.choice(wrong)),
    }


class Deck:
    """Deals each fault once to every kind of request."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._dice: dict[str, random.Random] = {}
        self._left: dict[str, list[tuple[str, Action]]] = {}
        self._in_a_row: Counter[str] = Counter()
        self._again: dict[tuple[str, str, str], Action] = {}
        self.dealt: dict[str, set[str]] = defaultdict(set)
        """Names of the faults by kind of request."""

    def choose(self, request: ProxiedRequest) -> Action | None:
        kind = kind_of(request)
        if kind is None:
            return None
        who = (request.method, request.path, request.query)
        if who in self._again:
            return self._again.pop(who)
        if kind not in self._left:
            dice = self._dice[kind] = random.Random(f"{self._seed} {kind}")
            self._left[kind] = list(faults(dice, kind).items())
            dice.shuffle(self._left[kind])
        left, dice = self._left[kind], self._dice[kind]
        if not left or self._in_a_row[kind] == IN_A_ROW or dice.random() < 0.1:
            self._in_a_row[kind] = 0
            return None
        self._in_a_row[kind] += 1
        name, action = left.pop()
        self.dealt[kind].add(name)
        if isinstance(action, DROPS) and request.method != "POST":
            self._again[who] = action
        return action

    def repeat(self, kind: str, fault: str) -> None:
        """Deal a fault once more to a kind of request that has met all of them."""
        if not self._left[kind]:
            self._left[kind].append((fault, faults(self._dice[kind], kind)[fault]))

    def open(self, kind: str) -> bool:
        """Whether there are faults that this kind of request has still to meet."""
        return bool(self._left.get(kind, True))

    def missing(self) -> dict[str, list[str]]:
        """Names of the faults that a kind of request has not met."""
        return {kind: [name for name, _ in left] for kind, left in self._left.items() if left}


@dataclass(slots=True, kw_only=True, eq=False)
class Resident:
    """Somebody with a home, and what they have said: event IDs with their texts, by room."""

    stack: Stack
    user: MatrixUser
    direct: str
    space: str = ""
    chats: list[str] = field(default_factory=list)
    said: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def bot(self) -> str:
        return self.stack.bot.user_id

    async def move_into(self, chat: str) -> str:
        """Accept the invite to a chat of that name."""
        room = await self.user.wait_for_invite(name=chat, space=False, timeout=PATIENCE)
        await self.user.join(room)
        self.chats.append(room)
        return room

    async def say(self, text: str, *, room: str = "") -> str:
        """Say something that has to be answered; does not wait for it."""
        room = room or self.chats[0]
        event_id = await self.user.send_text(room, text)
        self.said[room][event_id] = text
        return event_id

    async def answer_to(self, event_id: str, *, room: str = "") -> str:
        """Wait for what the bot says to it."""
        room = room or self.chats[0]

        def found() -> list[str]:
            return [
                event["content"]["body"]
                for event in self.user.timeline(room)
                if event["sender"] == self.bot and event["content"].get(ANSWERS) == event_id
            ]

        return (await self.user.wait_for(f"an answer to {event_id}", found, timeout=PATIENCE))[0]

    async def ask(self, command: str, expected: str, *, room: str = "") -> None:
        """Give a command, again if the bot says that it did not work; each is answered once."""
        heard = []
        for _ in range(5):
            heard.append(await self.answer_to(await self.say(command, room=room), room=room))
            if re.search(expected, heard[-1]):
                return
        raise AssertionError(f"expected {expected!r} for {command!r}, heard {heard}")

    async def all_answered(self) -> None:
        for room, said in list(self.said.items()):
            for event_id in list(said):
                await self.answer_to(event_id, room=room)


async def arrive(stack: Stack, name: str) -> Resident:
    """Invite the bot, move into the home."""
    user = await stack.user(name)
    resident = Resident(stack=stack, user=user, direct=await user.start_dm(stack.bot.user_id))
    resident.space = await user.wait_for_invite(space=True, timeout=PATIENCE)
    await user.join(resident.space)
    for chat in CHATS:
        await resident.move_into(chat)
    return resident


async def chatter(resident: Resident, dice: random.Random) -> None:
    """Write in the chats that there are now: one that is made meanwhile may be set aside."""
    chats = list(resident.chats)
    for number in range(5):
        await asyncio.sleep(dice.uniform(0, 0.5))
        await resident.say(f"number {number} {dice.random()}", room=dice.choice(chats))
    await resident.all_answered()


async def manage_chats(resident: Resident) -> None:
    """Make a chat, and set aside that one: in the others people may be writing."""
    await resident.ask("!chat new Extra", "is ready")
    room = await resident.move_into("Extra")
    await resident.ask("!chat rename Something else", "now called", room=room)
    await resident.ask("!chat archive", "is archived", room=room)
    await resident.ask("!chat unarchive", "is back.", room=room)


async def come_back(resident: Resident) -> None:
    """Leave one's Space, and ask the bot for it."""
    await resident.user.leave(resident.space)
    await resident.user.start_dm(resident.bot)
    assert await resident.user.wait_for_invite(space=True, timeout=PATIENCE) == resident.space
    await resident.user.join(resident.space)


async def be_turned_away(stack: Stack, stranger: MatrixUser) -> None:
    room = await stranger.start_dm(stack.bot.user_id)

    def rejected() -> bool:
        return any(
            event["type"] == "m.room.member"
            and event["state_key"] == stack.bot.user_id
            and event["content"]["membership"] == "leave"
            for event in stranger.timeline(room)
            if "state_key" in event
        )

    await stranger.wait_for("the invite to be rejected", rejected, timeout=PATIENCE)


async def restart_amid_questions(
    stack: Stack, residents: list[Resident], *, gap: bool, doubted: bool
) -> None:
    """Restart the instance; people write meanwhile.

    With a `gap` more happens in their chats than a response holds. Everything is looked at again
    where what the instance knows is `doubted`.
    """
    await stack.maubot.update_instance(stack.instance, started=False)
    if doubted:
        await invalidate_checkpoint(stack)
    for resident in residents:
        await resident.say("is anybody there?")
        if not gap:
            continue
        noise = {"event_type": "dev.homeroom.noise"}
        room, user = resident.chats[0], resident.user
        await asyncio.gather(*(user.send(room, {"number": n}, **noise) for n in range(GAP)))
    await stack.maubot.update_instance(stack.instance, started=True)
    for resident in residents:
        await resident.all_answered()


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """A bot, the people who live with it, and what they can do to cause a kind of request."""

    bot: Stack
    deck: Deck
    residents: list[Resident]
    stranger: MatrixUser
    restarts: list[float] = field(default_factory=list)

    async def restart(self, residents: list[Resident], *, gap: bool = False) -> None:
        doubted = len(self.restarts) % 2 == 0
        await restart_amid_questions(self.bot, residents, gap=gap, doubted=doubted)
        self.restarts.append(time.monotonic())

    async def restart_and_make_a_chat(self) -> None:
        await self.restart(self.residents[:1])
        await manage_chats(self.residents[1])

    async def make_a_chat_without_an_answer(self) -> None:
        self.deck.repeat("POST createRoom", "500")
        await manage_chats(self.residents[1])

    async def look_around(self) -> None:
        await self.residents[0].ask("!reset leave-forget --scope joined --dry-run", "leave-forget")

    def causes(self) -> Mapping[str, Callable[[], Awaitable[object]]]:
        ada, bert, *_ = self.residents
        return {
            "GET capabilities": self.restart_and_make_a_chat,
            "GET versions": lambda: self.restart([ada]),
            "GET sync": lambda: self.restart([ada]),
            "POST simplified_msc3575/sync": lambda: self.restart([ada]),
            "GET rooms/{}/messages": lambda: self.restart([ada], gap=True),
            "GET user/{}/account_data/{}": lambda: self.restart([ada]),
            "PUT user/{}/account_data/{}": lambda: self.restart([ada]),
            "POST createRoom": lambda: manage_chats(bert),
            "GET directory/room/{}": self.make_a_chat_without_an_answer,
            "GET rooms/{}/state/{}/{}": lambda: manage_chats(bert),
            "PUT rooms/{}/state/{}/{}": lambda: manage_chats(bert),
            "POST rooms/{}/leave": lambda: be_turned_away(self.bot, self.stranger),
            "POST rooms/{}/invite": lambda: come_back(ada),
            "POST join/{}": lambda: come_back(ada),
            "GET rooms/{}/joined_members": lambda: ada.user.send_text(ada.direct, "Hello?"),
            "POST upload": self.look_around,
            "GET joined_rooms": self.look_around,
            "GET rooms/{}/state": self.look_around,
            "PUT rooms/{}/send/{}/{}": self.look_around,
        }


async def live(bot: Stack, deck: Deck, dice: random.Random) -> Life:
    """Move in, write, give commands and come and go, with restarts in the middle of it."""
    residents = await asyncio.gather(*(arrive(bot, f"resident{n}") for n in range(3)))
    life = Life(bot=bot, deck=deck, residents=list(residents), stranger=await bot.user("stranger"))
    ada, bert, *others = residents
    for _ in range(OTHER_ROOMS):
        room = quote(await ada.user.create_room(preset="public_chat"))
        await bot.bot_api.request("POST", f"/_matrix/client/v3/join/{room}", {})
    await configure(bot, {"admins": [ada.user.user_id]}, base=CONFIG)

    def talk() -> list[Awaitable[None]]:
        return [chatter(resident, random.Random(dice.random())) for resident in residents]

    await asyncio.gather(*talk(), ada.ask("!reconcile", "Rows:"), life.restart(others, gap=True))
    await asyncio.gather(
        *talk(), manage_chats(bert), be_turned_away(bot, life.stranger), come_back(ada)
    )
    for kind, cause in life.causes().items():
        for _ in range(20):
            if deck.open(kind):
                await cause()
    return life


async def answers_in(bot: Stack, room: str) -> list[tuple[str, str]]:
    """Ask the homeserver for all answers of the bot: what each answers, and how.

    Those that answer nothing are words on how far it is.
    """
    path = f"/_matrix/client/v3/rooms/{quote(room)}/messages"
    filter_ = json.dumps({"types": ["m.room.message"], "senders": [bot.bot.user_id]})
    query = {"dir": "b", "limit": "1000", "filter": filter_}
    answer = await bot.bot_api.request("GET", path, query=query)
    contents = [event["content"] for event in reversed(answer["chunk"])]
    return [
        (content[ANSWERS], content["body"])
        for content in contents
        if content.get(ANSWERS, "none") != "none"
    ]


async def lost_and_doubled(bot: Stack, residents: list[Resident]) -> tuple[list[str], list[str]]:
    """Hold what was said against what was answered."""
    lost, doubled = [], []
    for resident in residents:
        for room, said in resident.said.items():
            heard = await answers_in(bot, room)
            count = Counter(event_id for event_id, _ in heard)
            lost += [text for event_id, text in said.items() if not count[event_id]]
            doubled += [text for event_id, text in said.items() if count[event_id] > 1]
            assert count.keys() <= said.keys(), (heard, said)
            for event_id, body in heard:
                if not said[event_id].startswith("!"):
                    assert body.startswith(said[event_id])  # and what admins are told beside it
    return lost, doubled


async def require_that_every_room_is_somebodys(life: Life) -> int:
    """Raise unless all rooms that were ever made are the homes' and chats' own, complete."""
    bot, rows = life.bot, await tables(life.bot)
    creations = [r for r in bot.proxy.requests if kind_of(r) == "POST createRoom" and r.forwarded]
    made = {r.answer["room_id"] for r in creations if "room_id" in r.answer}
    taken = [r for r in creations if r.answer.get("errcode") == "M_ROOM_IN_USE"]
    assert len(made) + len(taken) == len(creations), creations
    spaces = {row["space_id"] for row in rows.homes.values()}
    assert spaces == {resident.space for resident in life.residents}
    assert made == spaces | rows.chats.keys()
    for resident in life.residents:
        chats = {
            room: row
            for room, row in rows.chats.items()
            if row["matrix_user_id"] == resident.user.user_id
        }
        assert chats.keys() == set(resident.chats)
        numbers = {f"C{number}" for number in range(1, len(chats) + 1)}
        assert {row["chat_id"] for row in chats.values()} == numbers
        home = Home(
            user=resident.user,
            direct=resident.direct,
            space=resident.space,
            chats={room: room for room in chats},
        )
        await finished(bot, home)
    return len(made)


@pytest.mark.timeout(600)
async def test_every_fault_at_every_kind_of_request(make_bot: MakeStack, seed: int) -> None:
    bot = await make_bot(proxy=True, config=CONFIG)
    log, began, deck = bot.maubot.mark(), time.monotonic(), Deck(seed)
    bot.proxy.choose(deck.choose)
    life = await live(bot, deck, random.Random(seed))
    ada = life.residents[0]
    for resident in life.residents:
        await resident.say("goodbye")
        await resident.all_answered()
    lost, doubled = await lost_and_doubled(bot, life.residents)
    rooms = await require_that_every_room_is_somebodys(life)

    # From zero, with faults at leaving and forgetting.
    plan_of_all = "!reset leave-forget --scope joined"
    event_id = await ada.user.send_text(ada.direct, plan_of_all)
    plan = await ada.answer_to(event_id, room=ada.direct)
    code = re.search(r"--confirm ([0-9a-f]{8})", plan)
    assert code, plan
    event_id = await ada.user.send_text(ada.direct, f"{plan_of_all} --confirm {code[1]}")
    await ada.user.wait_for_message(
        ada.direct, sender=ada.bot, after=event_id, body=is_report, timeout=PATIENCE
    )

    async def is_nowhere() -> bool:
        return not await bot.bot_rooms()

    await eventually("the bot is in no room", is_nowhere, timeout=PATIENCE)

    seconds = time.monotonic() - began
    dealt = Counter(fault for faults_ in deck.dealt.values() for fault in faults_)
    messages = sum(len(said) for r in life.residents for said in r.said.values())
    print(
        f"{len(life.residents)} users, {messages} messages, {rooms} rooms,"
        f" {dealt.total()} faults ({', '.join(f'{f} {n}' for f, n in sorted(dealt.items()))})"
        f" at {len(deck.dealt)} kinds of request, {len(life.restarts)} restarts:"
        f" lost {len(lost)}, doubled {len(doubled)}, {seconds:.0f} seconds"
    )
    assert lost == doubled == []
    assert deck.dealt.keys() >= EXPECTED
    assert deck.missing().keys() <= BY_CHANCE
    instance = await bot.maubot.get_instance(bot.instance)
    assert (instance["enabled"], instance["started"]) == (True, True)
    assert "Traceback" not in bot.maubot.log_text(since=log)
