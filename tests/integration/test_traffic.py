"""Every message is answered exactly once and in order, whatever is restarted meanwhile.

Issue 4, "Must be seen", 1. People write while servers go down and come up again at random
moments. A run prints its seed, and HOMEROOM_TEST_SEED repeats its order of events (not their
timing); HOMEROOM_TEST_MESSAGES=200 is the long form.

What makes a SIGKILL between "the answer was sent" and "the message was marked as handled"
harmless: the message comes again, and is answered again with the same transaction ID. Synapse
keeps those in its database (`event_txn_id_device_id`) for 24 hours and for one device of the bot,
so neither its own restart nor maubot's makes it forget. With another device, or a database that is
older than the rooms, it is the rooms that say what was answered.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from tests.integration.builds import changed_build
from tests.integration.homes import Home, onboard, reconciled, restart, said_by_bot, start
from tests.stack.http import ApiError
from tests.stack.proxy import DropAfter
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, MakeSynapse, Stack
from tests.stack.user import MatrixUser

PEOPLE = ("alice", "bob", "carol", "dave", "erin")
MESSAGES = int(os.environ.get("HOMEROOM_TEST_MESSAGES") or 25)
"""How many each of them sends."""
PAUSE = 0.8
"""Seconds, at most, between two messages of one person."""
QUIET = 1.5
"""Seconds, at most, between two disturbances."""
ANSWERED_WITHIN = 60.0
"""Seconds after the last message. mautrix waits 5 s, then twice as long each time, before it
syncs again with a homeserver that was away."""
CONFIG = {**DEFAULT_CONFIG, "limits": {"waiting_messages": 1000}}
"""A response that comes live after an outage of Synapse may hold more than the default of 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A chat, and what its owner has said, in order."""

    stack: Stack
    home: Home
    said: list[str] = field(default_factory=list)

    async def say(self, text: str) -> None:
        """Send a message as a client does: again and again, until the homeserver has it.

        Under one transaction ID, so that there is one message, whatever became of the answer.
        """
        self.said.append(text)
        path = f"/_matrix/client/v3/rooms/{quote(self.home.chat)}/send/m.room.message"
        content = {"msgtype": "m.text", "body": text}
        transaction = secrets.token_hex(8)
        sent = False
        while not sent:
            sent = await self._put(f"{path}/{transaction}", content)

    def heard(self) -> list[str]:
        """Everything that the bot has said in the chat."""
        return said_by_bot(self.stack, self.home.user, self.home.chat)

    def expected(self) -> list[str]:
        return self.said

    async def _put(self, path: str, content: Mapping[str, str]) -> bool:
        try:
            await self.home.user.api.request("PUT", path, content)
        except (aiohttp.ClientError, ApiError, asyncio.TimeoutError, OSError) as error:
            if isinstance(error, ApiError) and error.status < 500:
                raise
            await asyncio.sleep(0.1)
            return False
        return True

    async def all_answered(self, *, timeout: float) -> None:
        """Wait until nothing that was said is without an answer."""
        await self.home.user.wait_for(
            f"answers to {len(self.said)} messages",
            lambda: not set(self.expected()) - set(self.heard()),
            timeout=timeout,
        )


async def move_in(stack: Stack, name: str) -> Chat:
    home = await onboard(stack, name)
    return Chat(stack=stack, home=home)


Disturbance = Callable[[], Awaitable[object]]


async def disturbances(stack: Stack, *, directory: Path) -> Mapping[str, Disturbance]:
    """What is done to the servers, by kind; each returns when the server is up again."""
    maubot, bot, database = stack.maubot, stack.bot, stack.database
    clocks = itertools.cycle((24 * 60 * 60, -60 * 60, 0))
    await database.back_up(backup := directory / "backup")

    async def restore() -> None:
        await maubot.stop()
        await database.restore(backup)
        await maubot.start()

    async def kill() -> None:
        maubot.kill()
        await maubot.start()

    async def upload() -> None:
        ahead = next(clocks)
        await maubot.upload_plugin(
            await asyncio.to_thread(build_with_clock, directory / secrets.token_hex(4), ahead)
        )

    async def change_token() -> None:
        name = bot.user_id.partition(":")[0][1:]
        account = await stack.synapse.log_in(name, password=bot.password)
        await maubot.create_client(account, homeserver=stack.bots_homeserver, device_id=None)
        await maubot.restart_instance(stack.instance)

    return {
        "maubot stopped and an older backup restored": restore,
        "maubot killed": kill,
        "instance restarted": lambda: maubot.restart_instance(stack.instance),
        "plugin uploaded and the clock set": upload,
        "client's token and device changed": change_token,
        "Synapse restarted": stack.synapse.restart,
    }


_uploads = itertools.count(1)


def build_with_clock(directory: Path, ahead: int) -> Path:
    """A newer build for which it is so many seconds later, or earlier."""

    def set_clock(text: str) -> str:
        return text.replace("int(time.time() * 1000)", f"int((time.time() + {ahead}) * 1000)")

    changes = {"plugin/homeroom/runtime/clock.py": set_clock}
    return changed_build(directory, changes=changes, version=f"99.0.{next(_uploads)}")


async def write(chat: Chat, dice: random.Random, *, messages: int) -> None:
    name = chat.home.user.user_id
    for number in range(messages):
        await asyncio.sleep(dice.uniform(0, PAUSE))
        await chat.say(f"{name} says {number}")


async def answered_or_late(chats: Sequence[Chat], *, timeout: float) -> None:
    """Wait until everything is answered, or for so long: what is lost by then is to be counted."""
    waits = (chat.all_answered(timeout=timeout) for chat in chats)
    for error in await asyncio.gather(*waits, return_exceptions=True):
        if error is not None and not isinstance(error, TimeoutError):
            raise error


async def disturb(
    kinds: Mapping[str, Disturbance], dice: random.Random, *, until: asyncio.Event
) -> Counter[str]:
    """Every kind once, in random order, then any, for as long as people write."""
    done: Counter[str] = Counter()
    first = dice.sample(sorted(kinds), len(kinds))
    while first or not until.is_set():
        await asyncio.sleep(dice.uniform(0, QUIET))
        kind = first.pop() if first else dice.choice(sorted(kinds))
        await kinds[kind]()
        done[kind] += 1
    return done


@pytest.mark.timeout(200 + 4 * MESSAGES)
async def test_restarts_in_the_middle_of_traffic(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Path, tmp_path: Path, seed: int
) -> None:
    stack = await make_stack(synapse=await make_synapse(), plugin=plugin, config=CONFIG)
    chats = await asyncio.gather(*(move_in(stack, name) for name in PEOPLE))
    kinds = await disturbances(stack, directory=tmp_path)
    began, written = time.monotonic(), asyncio.Event()

    async def everybody_writes() -> None:
        try:
            await asyncio.gather(
                *(
                    write(chat, random.Random(f"{seed} {name}"), messages=MESSAGES)
                    for name, chat in zip(PEOPLE, chats, strict=True)
                )
            )
        finally:
            written.set()

    _, restarts = await asyncio.gather(
        everybody_writes(), disturb(kinds, random.Random(seed), until=written)
    )
    await answered_or_late(chats, timeout=ANSWERED_WITHIN)
    seconds = time.monotonic() - began
    # Whatever was answered but not noted down is answered again now, before this.
    await stack.maubot.restart()
    for chat in chats:
        await chat.say("goodbye")
    await answered_or_late(chats, timeout=60)

    expected = [Counter(chat.expected()) for chat in chats]
    heard = [Counter(chat.heard()) for chat in chats]
    lost = [sorted((e - h).elements()) for e, h in zip(expected, heard, strict=True)]
    doubled = [sorted((h - e).elements()) for e, h in zip(expected, heard, strict=True)]
    print(
        f"{len(chats)} users, {len(chats) * MESSAGES} messages, {restarts.total()} restarts"
        f" ({', '.join(f'{kind} {count}' for kind, count in sorted(restarts.items()))}):"
        f" lost {sum(map(len, lost))}, doubled {sum(map(len, doubled))}, {seconds:.0f} seconds"
    )
    assert lost == [[]] * len(chats)
    assert doubled == [[]] * len(chats)
    for chat in chats:
        assert chat.heard() == chat.expected()
    errors = re.findall(r"^.*\[ERROR@maubot\.instance.*$", stack.maubot.log_text(), re.MULTILINE)
    assert errors == []


async def test_a_kill_between_the_answer_and_its_mark(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Path
) -> None:
    """The answer is in the room, the plugin does not know it, and everybody starts anew."""
    stack = await make_stack(synapse=await make_synapse(), plugin=plugin, proxy=True)
    alice = await move_in(stack, "alice")
    lost = stack.proxy.rule(DropAfter(), path=rf"/{re.escape(alice.home.chat)}/send/")
    await alice.say("are you there?")
    await alice.all_answered(timeout=120)
    stack.maubot.kill()
    await stack.synapse.restart()
    stack.proxy.heal()
    mark = stack.proxy.mark()
    await stack.maubot.start()
    await alice.say("still?")
    await alice.all_answered(timeout=120)
    assert alice.heard() == alice.expected()
    writes = stack.proxy.writes(since=mark)
    sent = [request for request in writes if f"/{alice.home.chat}/send/" in request.path]
    assert [request.status for request in sent] == [200]  # the room says what was answered
    assert sent[0].path != lost.hits[0].path


async def test_the_homeserver_is_restored_from_an_older_backup_while_maubot_runs(
    make_stack: MakeStack, make_synapse: MakeSynapse, tmp_path: Path
) -> None:
    """maubot's sync goes on from a position of the future, and so is told nothing for long."""
    synapse, watchful = await make_synapse(), await asyncio.to_thread(watchful_build, tmp_path)
    stack = await make_stack(synapse=synapse, plugin=watchful)
    alice = await move_in(stack, "alice")
    await alice.say("before")
    await alice.all_answered(timeout=60)
    await synapse.database.back_up(backup := tmp_path / "homeserver.db")
    for number in range(3):
        await alice.say(f"forgotten {number}")
        await alice.all_answered(timeout=60)
    # Her client, too, would go on from the future, and Synapse gives one answer to one question.
    await alice.home.user.__aexit__()
    await synapse.stop()
    await synapse.database.restore(backup)
    mark = stack.maubot.mark()
    await synapse.start()

    async with MatrixUser(alice.home.user.account, homeserver=synapse.url) as client:
        alice = Chat(stack=stack, home=replace(alice.home, user=client), said=["before"])
        await alice.say("at once")
        await stack.maubot.wait_for_log("was restored from an older backup", since=mark)
        for number in range(7):
            await alice.say(f"then {number}")
        await stack.maubot.clear_cache(stack.bot.user_id)  # as the log says
        await alice.all_answered(timeout=60)
        await stack.maubot.wait_for_log("tells again what is said", since=mark)
        await alice.say("after")
        await alice.all_answered(timeout=60)
        assert alice.heard() == alice.expected()


def watchful_build(directory: Path) -> Path:
    """A build that looks every two seconds whether the homeserver has gone back, not every 60."""

    def watchful(text: str) -> str:
        assert "KNOWN_AFTER: Final = 30 * 1000" in text
        text = text.replace("KNOWN_AFTER: Final = 30 * 1000", "KNOWN_AFTER: Final = 0")
        return text.replace("LOOK_EVERY: Final = 60.0", "LOOK_EVERY: Final = 2.0")

    changes = {"plugin/homeroom/delivery/history_watch.py": watchful}
    return changed_build(directory, changes=changes, version="99.0.0")


async def test_a_message_is_the_first_event_after_an_idle_restart(stack: Stack) -> None:
    """maubot throws away the response that brings it."""
    alice = await move_in(stack, "alice")
    for number in range(3):
        await restart(stack)
        await alice.say(f"first {number}")
        await alice.all_answered(timeout=120)
    assert alice.heard() == alice.expected()


async def test_it_was_down_for_longer_than_the_homeserver_keeps_a_response(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Path
) -> None:
    """Synapse answers maubot's first request as it did before, for two minutes.

    A bot that is back sooner may be lucky; here the homeserver has forgotten its responses.
    """
    synapse = await make_synapse()
    stack = await make_stack(synapse=synapse, plugin=plugin)
    alice, bob = await asyncio.gather(move_in(stack, "alice"), move_in(stack, "bob"))
    for number in range(2):
        for chat in (alice, bob):
            await chat.say(f"before {number}")
            await chat.all_answered(timeout=120)
        await stack.maubot.stop()
        await synapse.restart()
        for chat in (alice, bob):
            await chat.say(f"first while down {number}")
            await chat.say(f"second while down {number}")
        await start(stack)
        for chat in (alice, bob):
            await chat.all_answered(timeout=120)
    for chat in (alice, bob):
        assert chat.heard() == chat.expected()


async def test_more_was_said_while_the_bot_was_down_than_a_response_holds(
    make_stack: MakeStack, plugin: Path
) -> None:
    """Synapse gives 100 events of a room at most; the older ones are fetched page by page."""
    stack = await make_stack(plugin=plugin)
    alice, bob = await asyncio.gather(move_in(stack, "alice"), move_in(stack, "bob"))
    stack.maubot.kill()
    user, room = alice.home.user, alice.home.chat
    for number in range(20):
        await alice.say(f"while down {number}")
        if number % 10 == 5:
            noise = (user.send(room, {"x": n}, event_type="test.noise") for n in range(60))
            await asyncio.gather(*noise)
    await bob.say("just one")

    mark = stack.maubot.mark()
    await stack.maubot.start(wait=False)
    for number in range(10):  # while it comes up and catches up
        await alice.say(f"meanwhile {number}")
    await stack.maubot.wait_ready()
    await reconciled(stack, since=mark)
    for chat in (alice, bob):
        await chat.all_answered(timeout=120)
    await stack.maubot.wait_for_log(
        rf"Filled a gap of \d+ events in {alice.home.chat}", since=mark
    )

    await stack.maubot.stop()
    await start(stack)
    for chat in (alice, bob):
        await chat.say("goodbye")
        await chat.all_answered(timeout=120)
        assert chat.heard() == chat.expected()
