"""A hostile member of somebody's chat gets nothing, takes nothing, and holds nobody up.

Issue 4, "Must be seen", 7. Mallory is Alice's guest. She sends what a client can be made to send,
as fast as Synapse takes it (its rate limits are lifted). The plugin's database is PostgreSQL,
which refuses more texts than SQLite does. HOMEROOM_TEST_FLOOD=1000 is a longer flood, of commands
and of messages.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homeroom import replies
from homeroom.domain.content_keys import ANSWERS, MORE_TO_COME, NOTHING
from tests.integration.homes import (
    Home,
    Tables,
    ask,
    configure,
    marker,
    onboard,
    room_state,
    say_and_hear,
    tables,
)
from tests.stack.http import ApiError
from tests.stack.memory import resident_megabytes
from tests.stack.postgres import Postgres
from tests.stack.stack import DEFAULT_CONFIG, MARKER_TYPE, MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

FLOOD = int(os.environ.get("HOMEROOM_TEST_FLOOD") or 0)
COMMANDS = FLOOD or 300
MESSAGES = FLOOD or 80
AT_ONCE = 20
WAITING = 10
"""`limits.waiting_messages`: fewer than come in while one answer is sent."""
MEMORY = 100.0
"""Megabytes that all of this may cost at most; 1,000 messages of 64 kB are 64."""
LONG = "A" * 60_000
TRICKS = "\u202e\u2066\u0000\u0007\u200d\ufeff\U000e0001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    stack: Stack
    alice: Home
    bob: Home
    mallory: Home
    mark: int

    @property
    def chat(self) -> str:
        """Alice's chat, in which Mallory is her guest."""
        return self.alice.chat

    async def everything(self) -> tuple[Tables, Any, Any, Any]:
        """All that is Alice's, and everybody's: rows, marker, children, rooms."""
        state = await room_state(self.stack, self.alice.space)
        children = {key: event["content"] for key, event in state.items() if "child" in key[0]}
        rooms = await self.stack.bot_rooms()
        return await tables(self.stack), await marker(self.stack, self.chat), children, rooms

    def answered(self) -> list[str]:
        """Whom the bot has answered in Alice's chat; notices to somebody among it."""
        timeline = self.alice.user.timeline(self.chat)
        senders = {event["event_id"]: event["sender"] for event in timeline}
        answers = [event for event in timeline if event["sender"] == self.stack.bot.user_id]
        return [
            senders[event["content"][ANSWERS]]
            for event in answers
            if event["content"].get(ANSWERS, NOTHING) != NOTHING
            and MORE_TO_COME not in event["content"]
        ]

    def require_peace(self) -> None:
        """Raise if the log tells of a bug, or repeats what Mallory wrote."""
        log = self.stack.maubot.log_text(since=self.mark)
        # (What mautrix cannot read it logs itself, whole, and not as the instance.)
        ours = [
            part
            for part in re.split(r"^(?=\[)", log, flags=re.MULTILINE)
            if "@maubot.instance" in part
        ]
        loud = [part for part in ours if "[ERROR@" in part or "Traceback" in part]
        assert loud == [], "".join(loud)[:5000]
        assert all(len(part) < 2000 for part in ours), max(ours, key=len)[:500]
        assert "Traceback" not in log, log[log.index("Traceback") - 1000 :][:5000]


@pytest.fixture
async def scene(make_stack: MakeStack, postgres: Postgres, plugin: Path) -> Scene:
    stack = await make_stack(
        plugin=plugin,
        plugin_postgres=await postgres.create_database(),
        config={**DEFAULT_CONFIG, "limits": {"waiting_messages": WAITING}},
    )
    people = ("alice", "bob", "mallory")
    alice, bob, mallory = await asyncio.gather(*(onboard(stack, name) for name in people))
    await alice.user.invite(alice.chat, mallory.user.user_id)
    await mallory.user.join(alice.chat)
    return Scene(stack=stack, alice=alice, bob=bob, mallory=mallory, mark=stack.maubot.mark())


@dataclass(slots=True)
class Served:
    seconds: list[float] = field(default_factory=list)


@asynccontextmanager
async def served(scene: Scene) -> AsyncIterator[Served]:
    """Bob talks in his own chat all the while, and is answered."""
    log, is_over = Served(), asyncio.Event()

    async def talk() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            began = time.monotonic()
            await say_and_hear(scene.stack, scene.bob.user, scene.bob.chat, f"Bob {number}")
            log.seconds.append(time.monotonic() - began)

    talking = asyncio.create_task(talk())
    try:
        yield log
        assert not talking.done(), talking.exception()
    finally:
        # Not cancelled: `asyncio.wait_for` loses that if it comes with the answer (Python 3.11).
        is_over.set()
        await asyncio.gather(talking, return_exceptions=True)


async def at_full_speed(work: Iterable[Awaitable[Any]]) -> list[Any]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(job: Awaitable[Any]) -> Any:
        async with slots:
            return await job

    return await asyncio.gather(*map(one, work))


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def odd_events(scene: Scene, target: str) -> list[tuple[str, dict[str, Any]]]:
    """Events of many types; `target` is a message of Alice's."""
    text = {"msgtype": "m.text", "body": "!chat archive"}
    wrong: list[Any] = [None, 5, 1.0, True, [], {}, LONG, TRICKS, nested(400), 2**53 - 1]
    relations: list[Any] = [
        {"rel_type": "m.replace", "event_id": target},
        {"rel_type": "m.thread", "event_id": LONG},
        {"rel_type": "m.thread", "event_id": target, "m.in_reply_to": {"event_id": 5}},
        {"rel_type": ["m.replace"], "event_id": {}},
        {"rel_type": "m.annotation", "event_id": target, "key": LONG[:1000]},
        *wrong,
    ]
    events: list[tuple[str, dict[str, Any]]] = [
        *(("m.room.message", {"msgtype": value, "body": "odd"}) for value in wrong),
        *(("m.room.message", {"msgtype": "m.text", "body": value}) for value in wrong),
        *(("m.room.message", {**text, "m.relates_to": relation}) for relation in relations),
        *(("m.room.message", {**text, "m.new_content": value}) for value in wrong),
        *(("m.room.message", {**text, "dev.homeroom.answers": value}) for value in wrong),
        ("m.room.message", {**text, "dev.homeroom.answers": target}),
        ("m.room.message", {**text, "dev.homeroom.more_to_come": True}),
        *(
            ("m.room.message", {**text, "format": value, "formatted_body": value})
            for value in wrong
        ),
        *(("m.room.message", {**text, "m.mentions": value}) for value in wrong),
        *(
            ("m.room.message", {"msgtype": kind, "body": "x", "url": LONG, "info": []})
            for kind in ("m.image", "m.file", "m.audio", "m.video", "m.location", "m.emote")
        ),
        *(
            (
                "m.room.encrypted",
                {
                    "algorithm": "m.megolm.v1.aes-sha2",
                    "ciphertext": value,
                    "session_id": value,
                    "sender_key": value,
                    "device_id": value,
                },
            )
            for value in wrong
        ),
        (
            "m.reaction",
            {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": "x"}},
        ),
        ("m.poll.start", {"m.poll": {"question": LONG[:1000], "answers": []}}),
        ("m.poll.response", {"m.relates_to": {"rel_type": "m.reference", "event_id": target}}),
        ("m.sticker", {"body": LONG, "url": 5}),
        ("dev.homeroom.room", {"version": 1, "room_type": "chat", "user_id": "@x:y"}),
        *(("test.odd", {"deep": nested(levels)}) for levels in range(450, 900, 50)),
        *(("m.room.message", {**text, "deep": nested(levels)}) for levels in range(450, 900, 50)),
    ]
    bodies = ("> " * 8_000, "[a](" * 4_000, '"' * 20_000, "*_" * 9_000, "\U0001f600" * 14_000)
    events += [("m.room.message", {"msgtype": "m.text", "body": body}) for body in bodies]
    return events


def odd_states(scene: Scene) -> list[tuple[str, str, dict[str, Any]]]:
    bot, mallory = scene.stack.bot.user_id, scene.mallory.user.user_id
    forged = {"version": 1, "room_type": "chat", "user_id": mallory, "chat_id": "C1"}
    return [
        (MARKER_TYPE, bot, forged),
        (MARKER_TYPE, "", forged),
        (MARKER_TYPE, mallory, forged),
        ("m.room.name", "", {"name": LONG}),
        ("m.room.tombstone", "", {"body": "moved", "replacement_room": scene.mallory.chat}),
        ("m.room.power_levels", "", {"users": {mallory: 100}}),
        ("m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"}),
        ("m.space.parent", scene.mallory.space, {"via": ["homeroom.test"], "canonical": True}),
        *(
            ("m.room.member", mallory, {"membership": "join", "displayname": name})
            for name in ("\u202e!chat archive", "a\nb", LONG[:20_000], "`*_[x](y)")
        ),
    ]


async def tried(sending: Awaitable[Any]) -> bool:
    """Whether Synapse took it."""
    try:
        await sending
    except ApiError:
        return False
    return True


def commands() -> list[str]:
    words = (
        "!chat archive",
        "!chat new Mine",
        "!chat rename Mine",
        "!chat list",
        "!chat",
        "!reset local",
        "!reset leave-forget --confirm 1234",
        "!reconcile",
        "!reconcile --dry-run",
        f"!chat rename {LONG}",
        "!reset " + "--scope " * 7_000,
    )
    return list(itertools.islice(itertools.cycle(words), COMMANDS))


async def put(user: MatrixUser, room_id: str, path: str, content: Mapping[str, Any]) -> None:
    full = f"/_matrix/client/v3/rooms/{quote(room_id)}/{path}"
    await user.api.request("PUT", full, content)


@pytest.mark.timeout(300)
async def test_a_guest_who_may_not_be_answered_gets_nothing_done(scene: Scene) -> None:
    stack, mallory, chat = scene.stack, scene.mallory.user, scene.chat
    await say_and_hear(stack, scene.alice.user, chat, "before")
    await mallory.send_text(chat, "Let me in")
    await mallory.wait_for_message(
        chat, sender=stack.bot.user_id, body=replies.only_the_owner(may_share=False)
    )  # the one notice that talk of others costs
    target = scene.alice.user.messages(chat, sender=scene.alice.user.user_id)[-1].event_id
    before, memory = await scene.everything(), resident_megabytes(stack.maubot.pid)
    began = time.monotonic()
    async with served(scene) as bob:
        numbers = itertools.count()
        taken = await at_full_speed(
            tried(put(mallory, chat, f"send/{kind}/odd{next(numbers)}", content))
            for kind, content in odd_events(scene, target)
        )
        states = [
            await tried(mallory.set_state(chat, kind, content, state_key=key))
            for kind, key, content in odd_states(scene)
        ]
        redacted = await tried(mallory.redact(chat, target))
        await say_and_hear(stack, scene.alice.user, chat, "meanwhile")
        await at_full_speed(mallory.send_text(chat, text) for text in commands())
        await say_and_hear(stack, scene.alice.user, chat, "afterwards")
    seconds = time.monotonic() - began
    after = resident_megabytes(stack.maubot.pid)
    print(
        f"a hostile guest: {sum(taken)} odd events ({len(taken) - sum(taken)} refused by Synapse),"
        f" {sum(states)} of {len(states)} states, {COMMANDS} commands in {seconds:.0f} s;"
        f" others answered {len(bob.seconds)} times meanwhile, after {max(bob.seconds):.1f} s at"
        f" most; reactions 0, memory {memory:.0f} -> {after:.0f} MB"
    )
    assert sum(taken) > 50
    assert not redacted
    assert set(scene.answered()) == {scene.alice.user.user_id}
    assert len(scene.answered()) == 3
    assert await scene.everything() == before
    assert after - memory < MEMORY
    scene.require_peace()


@pytest.mark.timeout(300)
async def test_a_guest_who_is_answered_takes_nobodys_place(scene: Scene) -> None:
    stack, mallory, chat = scene.stack, scene.mallory.user, scene.chat
    config = {**DEFAULT_CONFIG, "limits": {"waiting_messages": WAITING}}
    await configure(stack, {"access": {"allow": ["*"], "answer": "members"}}, base=config)
    before, memory = await scene.everything(), resident_megabytes(stack.maubot.pid)
    began = time.monotonic()
    async with served(scene) as bob:
        flood = asyncio.create_task(
            at_full_speed(mallory.send_text(chat, f"Mallory {n}") for n in range(MESSAGES))
        )
        own: list[float] = []
        while not flood.done() or not own:
            asked = time.monotonic()
            text = f"Alice {len(own)}"
            await scene.alice.user.send_text(chat, text)
            await scene.alice.user.wait_for_message(
                chat,
                sender=stack.bot.user_id,
                body=lambda body, text=text: body.startswith(text),
                timeout=60,
            )
            own.append(time.monotonic() - asked)
        await flood
        sent = time.monotonic() - began

        async def all_handled() -> bool:
            rows = await stack.database.fetch(
                "SELECT COUNT(*) AS count FROM handled_events WHERE room_id = $1", chat
            )
            return bool(rows[0]["count"] >= MESSAGES + len(own))

        await eventually("all of the flood is handled", all_handled, timeout=60)
        for command in ("!chat archive", "!chat rename Mine", "!reconcile"):
            answer = await ask(stack, mallory, chat, command)
            assert answer.body in (replies.OWNERS_ONLY, replies.ADMINS_ONLY)
    seconds = time.monotonic() - began
    after = resident_megabytes(stack.maubot.pid)
    said = [message.body for message in scene.alice.user.messages(chat, sender=stack.bot.user_id)]
    turned_away = said.count(replies.TOO_MANY_WAITING)
    answered = sum(body.startswith("Mallory ") for body in said)
    print(
        f"a flood of {MESSAGES} messages in {sent:.0f} s: {answered} answered, the others turned"
        f" away with {turned_away} notices in {seconds:.0f} s; the owner was answered {len(own)}"
        f" times meanwhile, after {max(own):.1f} s at most, others {len(bob.seconds)} times, after"
        f" {max(bob.seconds):.1f} s at most; memory {memory:.0f} -> {after:.0f} MB"
    )
    assert answered < MESSAGES
    assert 1 <= turned_away <= 1 + seconds // 60
    assert await scene.everything() == before
    assert after - memory < MEMORY
    scene.require_peace()
