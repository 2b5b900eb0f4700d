"""Whatever one person, one room or one agent does, nobody else waits for it.

Bert asks and is answered, in a quiet time and while somebody else does something; the table says
how long he waited. It is printed, and `docs/reliability.md` has it. Times are compared with those
of the same run only, and generously, because machines are busy.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.builds import changed_build
from tests.integration.homes import (
    Home,
    invalidate_checkpoint,
    invite_bot,
    move_in,
    onboard,
    said_by_bot,
)
from tests.stack.agent_server import Action, AgentRequest, AgentServer, Hold, repeat
from tests.stack.http import JsonApi
from tests.stack.memory import resident_megabytes
from tests.stack.proxy import Answer, Rule
from tests.stack.proxy import Hold as Held
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, MakeSynapse, Stack
from tests.stack.synapse import Account
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CONFIG: Mapping[str, Any] = {**DEFAULT_CONFIG, "access": {"allow": ["*"], "answer": "members"}}
QUESTIONS = 5
"""That Bert asks in each time."""
GAP = 105
"""More events than a response holds."""
SOME = 3
"""Questions at each end of a gap."""
MUCH = 5.0
"""Seconds of an answer beside something else, above twice a quiet one, that are no noise."""
INVITES = int(os.environ.get("HOMEROOM_TEST_INVITES") or 4)
"""Of each of six strangers: more in all than Synapse takes rejections at once."""
JUNK = "x" * 50_000
JSON = {"Content-Type": "application/json"}
BROKEN = Answer(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})


@dataclass(slots=True, kw_only=True)
class Scene:
    stack: Stack
    agent: AgentServer
    anna: Home
    bert: Home
    impatient: Path
    """A build that soon finds the homeserver too quiet."""
    small: Path
    quiet: list[float] = field(default_factory=list)
    table: list[str] = field(default_factory=list)
    asked: int = 0

    async def ask(self) -> float:
        """Have Bert ask; how many seconds his answer takes."""
        self.asked += 1
        text = f"bert {self.asked}"
        started = time.monotonic()
        await self.bert.user.send_text(self.bert.chat, text)
        await self.bert.user.wait_for_message(
            self.bert.chat, sender=self.stack.bot.user_id, body=f"re: {text}", timeout=60
        )
        return time.monotonic() - started

    async def compare(self, what: str) -> None:
        """Have Bert ask while something goes on."""
        times = [await self.ask() for _ in range(QUESTIONS)]
        self.note(what, times)
        assert statistics.median(times) < 2 * statistics.median(self.quiet) + MUCH, what
        assert max(times) < 2 * max(self.quiet) + 2 * MUCH, what

    def note(self, what: str, times: list[float]) -> None:
        median, longest = statistics.median(times), max(times)
        self.table.append(f"| {what:<60} | {median:6.2f} | {longest:6.2f} |")

    def of(self, name: str) -> list[str]:
        """What the agent was asked by somebody, in order."""
        texts = [request.text for request in self.agent.requests]
        return [text for text in texts if text.startswith(name)]

    async def until_asked(self, name: str, count: int) -> None:
        """Wait until the agent was asked so often by somebody."""

        async def is_so() -> bool:
            return len(self.of(name)) >= count

        await eventually(f"{count} questions: {name}", is_so, timeout=120)

    async def break_room(self, home: Home) -> Rule:
        return self.stack.proxy.rule(BROKEN, path=f"rooms/{home.chat}/messages")

    async def fill_gap(self, home: Home, name: str) -> list[str]:
        """Have somebody ask before and after more events than a response holds; the questions."""
        texts = [f"{name} {number}" for number in range(2 * SOME)]
        noise = {"event_type": "dev.homeroom.noise"}
        for text in texts[:SOME]:
            await home.user.send_text(home.chat, text)
        sent = (home.user.send(home.chat, {"number": n}, **noise) for n in range(GAP))
        await asyncio.gather(*sent)
        for text in texts[SOME:]:
            await home.user.send_text(home.chat, text)
        return texts


def impatient_build(directory: Path) -> Path:
    def impatient(text: str) -> str:
        assert "SILENT_AFTER: Final = 90.0" in text
        assert "PROBE_EVERY: Final = 15.0" in text
        return text.replace("Final = 90.0", "Final = 5.0").replace("Final = 15.0", "Final = 1.0")

    path = "plugin/homeroom/delivery/sync_feed.py"
    return changed_build(directory, changes={path: impatient}, version="99.0.0")


def small_build(directory: Path) -> Path:
    """A build that finds 700 kB too much, in place of 64 MiB."""

    def small(text: str) -> str:
        return text.replace("MAX_ANSWER: Final = 64 * 1024 * 1024", "MAX_ANSWER: Final = 700_000")

    path = "plugin/homeroom/matrix/retrying_api.py"
    return changed_build(directory, changes={path: small}, version="98.0.0")


@pytest.fixture
def agent(agent: AgentServer) -> AgentServer:
    agent.reply = repeat
    return agent


@pytest.mark.timeout(600)
async def test_nobody_waits_for_what_somebody_else_does(
    make_stack: MakeStack, plugin: Path, tmp_path: Path, agent: AgentServer
) -> None:
    config = {**CONFIG, "platform": agent.webhook(), "limits": {"parallel_turns": 2}}
    stack = await make_stack(plugin=plugin, proxy=True, config=config)
    scene = Scene(
        stack=stack,
        agent=agent,
        anna=await onboard(stack, "anna"),
        bert=await onboard(stack, "bert"),
        impatient=await asyncio.to_thread(impatient_build, tmp_path),
        small=await asyncio.to_thread(small_build, tmp_path),
    )
    scene.quiet = [await scene.ask() for _ in range(QUESTIONS)]
    scene.note("nothing else", scene.quiet)
    for row in (
        a_room_that_cannot_be_read,
        a_room_that_cannot_be_read_after_a_kill,
        a_room_that_cannot_be_written,
        many_chats_of_one_person,
        another_bot,
        a_database_that_cannot_be_written,
        a_chat_full_of_junk,
        a_catch_up_that_is_too_large,
        a_sync_that_is_never_answered,
    ):
        await row(scene)
    head = f"| {'while':<60} | median | longest |"
    print("\n".join(["", f"answers of somebody else, in seconds ({QUESTIONS} each)", head]))
    print("\n".join(scene.table))


async def a_room_that_cannot_be_read(scene: Scene) -> None:
    """2, live and by catching up: a gap whose `/messages` fail."""
    stack, anna = scene.stack, scene.anna
    await stack.maubot.stop()
    texts = await scene.fill_gap(anna, "anna gap")
    rule = await scene.break_room(anna)
    await stack.maubot.start()
    await asyncio.wait_for(rule.hit.wait(), 60)
    await scene.compare("2: a room cannot be read, after a stop")
    assert scene.of("anna gap") == []
    stack.proxy.heal()
    await scene.until_asked("anna gap", len(texts))
    assert scene.of("anna gap") == texts


async def a_room_that_cannot_be_read_after_a_kill(scene: Scene) -> None:
    """2, after SIGKILL and with a scan of everything."""
    stack, anna = scene.stack, scene.anna
    stack.maubot.kill()
    await invalidate_checkpoint(stack)
    texts = await scene.fill_gap(anna, "anna kill")
    rule = await scene.break_room(anna)
    await stack.maubot.start()
    await asyncio.wait_for(rule.hit.wait(), 60)
    await scene.compare("2: a room cannot be read, after SIGKILL")
    stack.maubot.kill()  # and once more, in the middle of it
    await stack.maubot.start()
    await scene.compare("2: a room cannot be read, after another one")
    stack.proxy.heal()
    await scene.until_asked("anna kill", len(texts))
    assert scene.of("anna kill") == texts


async def a_room_that_cannot_be_written(scene: Scene) -> None:
    stack, anna = scene.stack, scene.anna
    rule = stack.proxy.rule(BROKEN, method="PUT", path=f"rooms/{anna.chat}/send/")
    await anna.user.send_text(anna.chat, "anna write")
    await asyncio.wait_for(rule.hit.wait(), 60)
    await scene.compare("a room cannot be written")
    stack.proxy.heal()
    await anna.user.wait_for_message(
        anna.chat, sender=stack.bot.user_id, body="re: anna write", timeout=60
    )
    assert scene.of("anna write") == ["anna write"]


async def many_chats_of_one_person(scene: Scene) -> None:
    """7: with two turns at a time, four of Anna's chats want one each."""
    stack, anna = scene.stack, scene.anna
    chats = [anna.chat]
    for number in range(3):
        await anna.user.send_text(anna.chat, f"!chat new Chat {number}")
        chats.append(await anna.user.wait_for_invite(name=f"Chat {number}", space=False))
        await anna.user.join(chats[-1])
    holds: list[Hold] = []

    def slow(request: AgentRequest) -> Action:
        if not request.text.startswith("anna many"):
            return repeat(request)
        holds.append(Hold(then=repeat(request)))
        return holds[-1]

    scene.agent.reply = slow
    for chat in chats:
        await anna.user.send_text(chat, "anna many")
    await scene.until_asked("anna many", 2)
    for chat in chats:
        await shown_typing(scene, anna, chat)
    await scene.bert.user.send_text(scene.bert.chat, "bert among many")
    await shown_typing(scene, scene.bert, scene.bert.chat)
    holds[0].released.set()
    await scene.bert.user.wait_for_message(
        scene.bert.chat, sender=stack.bot.user_id, body="re: bert among many", timeout=60
    )
    asked = [request.text for request in scene.agent.requests if "many" in request.text]
    assert asked[:3] == ["anna many", "anna many", "bert among many"]
    scene.table.append(f"| {'7: four chats of one person, two turns at a time':<60} | next turn |")
    scene.agent.reply = repeat
    while len(scene.of("anna many")) < len(chats):
        for hold in holds:
            hold.released.set()
        await asyncio.sleep(0.1)
    for hold in holds:
        hold.released.set()


async def shown_typing(scene: Scene, home: Home, chat: str) -> None:
    """Wait until the bot types in a chat: it has the question then, and waits for a turn."""
    bot = scene.stack.bot.user_id
    await home.user.wait_for(
        f"the bot types in {chat}", lambda: bot in home.user.typing(chat), timeout=60
    )


async def another_bot(scene: Scene) -> None:
    """11: a member who answers every answer at once."""
    stack, anna = scene.stack, scene.anna
    robot = await stack.user("robot")
    await anna.user.invite(anna.chat, robot.user_id)
    await robot.join(anna.chat)
    before = len(said_by_bot(stack, anna.user, anna.chat))
    for number in range(10):
        await robot.send_text(anna.chat, f"robot {number}")
        await robot.wait_for_message(
            anna.chat, sender=stack.bot.user_id, body=f"re: robot {number}", timeout=60
        )
    await robot.send_text(anna.chat, "robot 10")
    await robot.wait_for_message(anna.chat, sender=stack.bot.user_id, body="two bots", timeout=60)
    for number in range(11, 20):
        await robot.send_text(anna.chat, f"robot {number}")
    await scene.compare("11: another bot in a chat")
    assert scene.of("robot") == [f"robot {number}" for number in range(10)]
    assert len(said_by_bot(stack, anna.user, anna.chat)) == before + 11


async def a_database_that_cannot_be_written(scene: Scene) -> None:
    """13, as far as a test can have it: the table of what is done is gone for a while."""
    database = scene.stack.database
    await database.execute("ALTER TABLE handled_events RENAME TO elsewhere")
    await scene.compare("13: the database cannot be written")
    await database.execute("ALTER TABLE elsewhere RENAME TO handled_events")
    asked = scene.of("bert")
    assert len(asked) == len(set(asked))


async def a_chat_full_of_junk(scene: Scene) -> None:
    """8: a chat has 30 MB of state, and is renamed again and again."""
    stack, anna = scene.stack, scene.anna
    junk = [
        {"type": f"junk {n}", "state_key": "", "sender": anna.user.user_id, "content": {"x": JUNK}}
        for n in range(600)
    ]
    stack.proxy.rule(Answer(200, json.dumps(junk), JSON), path=f"rooms/{anna.chat}/state$")
    before, most, mark = resident_megabytes(stack.maubot.pid), 0.0, stack.proxy.mark()

    async def rename() -> None:
        nonlocal most
        for number in range(60):
            await anna.user.set_state(anna.chat, "m.room.name", {"name": f"Junk {number}"})
            most = max(most, resident_megabytes(stack.maubot.pid))

    renaming = asyncio.create_task(rename())
    await scene.compare("8: a chat full of junk is renamed 60 times")
    await renaming
    looks = [r for r in stack.proxy.requests[mark:] if r.path.endswith("/joined_rooms")]
    scene.table.append(
        f"|    of 60 renames {len(looks)} looks; memory {before:.0f} MB, then"
        f" {most - before:+.0f} MB at most |"
    )
    assert len(looks) <= 30
    assert most - before < 100
    stack.proxy.heal()


async def a_catch_up_that_is_too_large(scene: Scene) -> None:
    """3: more was said while it was away than is taken in at once (here 700 kB)."""
    stack = scene.stack
    await stack.maubot.upload_plugin(scene.small)
    await scene.ask()
    await stack.maubot.stop()
    questions = []
    for home in (scene.anna, scene.bert):
        name = home.user.user_id[1:5]
        sent = (
            home.user.send(home.chat, {"x": JUNK}, event_type="dev.homeroom.noise")
            for _ in range(12)
        )
        await home.user.send_text(home.chat, f"{name} before the junk")
        await asyncio.gather(*sent)
        await home.user.send_text(home.chat, f"{name} after the junk")
        questions += [f"{name} before the junk", f"{name} after the junk"]
    mark = stack.proxy.mark()
    await stack.maubot.start()
    await scene.compare("3: a catch-up that is too large")
    await scene.until_asked("anna after the junk", 1)
    await scene.until_asked("bert after the junk", 1)
    asked = [request.text for request in scene.agent.requests if "the junk" in request.text]
    assert sorted(asked) == sorted(questions)
    own = [r for r in stack.proxy.requests[mark:] if r.path.endswith("/v3/sync")]
    own = [r for r in own if "timeout=0" in r.query.split("&")]
    scene.table.append(f"|    asked for in {len(own)} parts |")
    assert len(own) < 15


async def a_sync_that_is_never_answered(scene: Scene) -> None:
    """14: maubot's own sync waits for ever; Homeroom asks for itself (here after seconds)."""
    await scene.stack.maubot.upload_plugin(scene.impatient)
    held = scene.stack.proxy.rule(
        Held(), path="/v3/sync", where=lambda request: "timeout=0" not in request.query.split("&")
    )
    await scene.ask()  # what maubot waits for now is answered
    await asyncio.wait_for(held.hit.wait(), 60)
    await scene.bert.user.send_text(scene.bert.chat, "bert in silence")
    started = time.monotonic()
    await scene.bert.user.wait_for_message(
        scene.bert.chat, sender=scene.stack.bot.user_id, body="re: bert in silence", timeout=60
    )
    scene.note("14: maubot's /sync is never answered", [time.monotonic() - started])
    scene.stack.proxy.heal()


@pytest.mark.timeout(300)
async def test_nobody_waits_for_the_invites_of_strangers(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Path
) -> None:
    """4: invites of six people who are not allowed, with Synapse's own rate limits."""
    synapse = await make_synapse(rate_limits="default")
    config = {**CONFIG, "access": {"allow": ["@bert*"]}}
    stack = await make_stack(synapse=synapse, plugin=plugin, proxy=True, config=config)
    root = await synapse.register("root", admin=True)
    bert = await stack.user("bert")
    strangers = [await stack.user(f"stranger{number}") for number in range(6)]
    for user_id in (stack.bot.user_id, bert.user_id, *(user.user_id for user in strangers)):
        await synapse.lift_rate_limits_of(user_id, admin=root)
    home = await move_in(stack, bert, direct=await invite_bot(stack, bert))
    await take_back_exemption(stack, admin=root)

    async def ask(text: str) -> float:
        started = time.monotonic()
        await bert.send_text(home.chat, text)
        await bert.wait_for_message(home.chat, sender=stack.bot.user_id, body=text, timeout=120)
        return time.monotonic() - started

    quiet = await ask("In a quiet time")

    async def bother(stranger: MatrixUser) -> None:
        for _ in range(INVITES):
            await stranger.create_room(invite=[stack.bot.user_id])

    await asyncio.gather(*map(bother, strangers))
    times = [await ask(f"Beside invites {number}") for number in range(3)]
    rejected = [r for r in stack.proxy.requests if r.path.endswith("/leave")]
    print(
        f"\n4: {6 * INVITES} invites of strangers: an answer took {quiet:.2f} s before, then"
        f" {statistics.median(times):.2f} s (median), {max(times):.2f} s (longest);"
        f" {len(rejected)} were rejected by then"
    )
    assert max(times) < 2 * quiet + MUCH


async def take_back_exemption(stack: Stack, *, admin: Account) -> None:
    """Have Synapse limit the bot as it limits everybody; its budget is full then."""
    api = JsonApi(base_url=stack.synapse.url, token=admin.access_token)
    path = f"/_synapse/admin/v1/users/{stack.bot.user_id}/override_ratelimit"
    await api.request("DELETE", path)
