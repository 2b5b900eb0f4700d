"""What one room has to wait for, nobody else waits for; and nothing of it is lost."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mautrix.types import RoomID

from homeroom.delivery import handled
from homeroom.delivery.parking import Parking
from homeroom.matrix import homeserver, retrying_api
from homeroom.runtime.retry import RetryPolicy
from tests.fake import FakeHomeserver, Fault, Match, Respond, User
from tests.plugin.agent import Agent
from tests.plugin.harness import POSITION, Bot, running, until

BROKEN = Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})
MANY = 12
"""More messages than a sync response has of one room."""


@pytest.fixture(autouse=True)
def short_timelines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homeserver, "EVENTS_OF_EACH_ROOM", (5, 3, 1))


@asynccontextmanager
async def two_people(
    hs: FakeHomeserver, tmp_path: Path, agent: Agent
) -> AsyncIterator[tuple[Bot, User, RoomID, User, RoomID]]:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path, platform=agent) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        (annas,), (berts,) = bot.chats_of(anna), bot.chats_of(bert)
        yield bot, anna, annas, bert, berts


def break_room(hs: FakeHomeserver, room_id: str) -> Fault:
    return hs.fail(Match(path=f"{room_id}/messages"), BROKEN, times=None)


async def say_while_down(bot: Bot, anna: User, room_id: str, count: int = MANY) -> list[str]:
    await bot.settled()
    await bot.stop()
    texts = [f"anna {number}" for number in range(count)]
    for text in texts:
        anna.send(room_id, text)
    return texts


async def alter(bot: Bot, sql: str) -> None:
    """Change the database while the bot works with it, and goes on with that: it has locks."""
    for attempt in range(10):
        try:
            await asyncio.to_thread(bot.alter, sql)
        except sqlite3.OperationalError as e:  # noqa: PERF203 (ten times at most)
            if "locked" not in str(e) or attempt == 9:
                raise
        else:
            return


def said_by(agent: Agent, name: str) -> list[str]:
    return [text for text in agent.texts if text.startswith(name)]


async def test_a_room_that_cannot_be_read_holds_up_nobody_else(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        texts = await say_while_down(bot, anna, annas)
        bert.send(berts, "bert while down")
        fault = break_room(hs, annas)
        await bot.start()
        assert await bot.hear(berts, 1) == ["re: bert while down"]
        assert await bot.ask(bert, berts, "bert live") == "re: bert live"
        anna.send(annas, "anna live")
        await until("it was tried twice", lambda: len(fault.hits) > 1)
        (waiting,) = bot.app.lanes.waiting
        assert (waiting.room_id, waiting.is_parked) == (annas, False)
        assert bot.words(annas) == []
        fault.cancel()
        await until("all are asked", lambda: len(said_by(agent, "anna")) > MANY)
        await bot.settled()
        assert said_by(agent, "anna") == [*texts, "anna live"]
        assert bot.app.lanes.waiting == ()
        assert len(bot.app.lanes) == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_parked_room_lets_the_position_go_on_and_goes_on_from_its_own_place(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(Parking, "PARK_AFTER", 0.0)
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        texts = await say_while_down(bot, anna, annas)
        fault = break_room(hs, annas)
        await bot.start()
        await until("it is parked", lambda: bot.app.parking.has(annas))
        (before,) = bot.query(POSITION)
        anna.send(annas, "anna live")
        assert await bot.ask(bert, berts, "bert live") == "re: bert live"
        await until("the position goes on", lambda: bot.query(POSITION) != [before])
        assert [row["room_id"] for row in bot.query("SELECT * FROM places")] == [annas]
        await (bot.stop() if end == "stop" else bot.kill())
        assert bot.words(annas) == []
        fault.cancel()
        await bot.start()
        await until("all are asked", lambda: len(said_by(agent, "anna")) > MANY)
        await until("it is over", lambda: not bot.query("SELECT * FROM places"))
        await bot.settled()
        assert said_by(agent, "anna") == [*texts, "anna live"]


async def test_a_lost_database_does_not_lose_the_place_of_a_parked_room(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The checkpoint's position is past what was said there; the place is in the checkpoint."""
    monkeypatch.setattr(Parking, "PARK_AFTER", 0.0)
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        texts = await say_while_down(bot, anna, annas)
        fault = break_room(hs, annas)
        await bot.start()
        await until("it is parked", lambda: bot.app.parking.has(annas))
        (before,) = bot.query(POSITION)
        assert await bot.ask(bert, berts, "bert live") == "re: bert live"
        await until("the position goes on", lambda: bot.query(POSITION) != [before])
        (place,) = bot.query("SELECT * FROM places")
        await bot.stop()
        fault.cancel()
        bot.wipe(checkpoint=False)
        await bot.start()
        await until("all are asked", lambda: len(said_by(agent, "anna")) == MANY)
        await until("it is over", lambda: not bot.query("SELECT * FROM places"))
        await bot.settled()
        assert said_by(agent, "anna") == texts
        assert said_by(agent, "bert") == ["bert live"]
        assert "Restored 4 rows from the checkpoint" in caplog.text
        assert place["room_id"] == annas
        # What is over is not in the next one.
        await bot.stop()
        bot.wipe(checkpoint=False)
        await bot.start()
        await bot.settled()
        assert bot.query("SELECT * FROM places") == []
        assert said_by(agent, "anna") == texts


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "kept"])
async def test_a_place_in_the_checkpoint_never_overrules_one_in_the_database(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    monkeypatch.setattr(Parking, "PARK_AFTER", 0.0)
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        await say_while_down(bot, anna, annas)
        break_room(hs, annas)
        await bot.start()
        await until("it is parked", lambda: bot.app.parking.has(annas))
        (before,) = bot.query(POSITION)
        assert await bot.ask(bert, berts, "bert live") == "re: bert live"
        await until("the position goes on", lambda: bot.query(POSITION) != [before])
        await bot.stop()
        if is_lost:
            bot.alter("DELETE FROM places")
        else:
            bot.alter("UPDATE places SET why = 'later'")
        bot.alter("DELETE FROM sync_state")
        await bot.start()
        await until("it is known", lambda: bot.app.parking.has(annas))
        (place,) = bot.query("SELECT * FROM places")
        assert (place["why"] == "later") is not is_lost


async def test_a_message_that_cannot_be_answered_parks_its_room(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parking, "PARK_AFTER", 0.0)
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        fault = hs.fail(Match(method="PUT", path=f"{annas}/send/"), BROKEN, times=None)
        anna.send(annas, "anna 1")
        await until("it is parked", lambda: bot.app.parking.has(annas))
        anna.send(annas, "anna 2")
        (before,) = bot.query(POSITION)
        assert await bot.ask(bert, berts, "bert live") == "re: bert live"
        await until("the position goes on", lambda: bot.query(POSITION) != [before])
        await bot.kill()
        fault.cancel()
        await bot.start()
        assert await bot.hear(annas, 2) == ["re: anna 1", "re: anna 2"]
        await bot.settled()
        assert bot.query("SELECT * FROM places") == []


async def test_a_catch_up_that_is_too_large_is_asked_for_in_smaller_parts(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        texts = await say_while_down(bot, anna, annas, 30)
        bert.send(berts, "bert while down")
        monkeypatch.setattr(retrying_api, "MAX_ANSWER", 16_000)
        monkeypatch.setattr(homeserver, "PAGE", 10)
        await bot.start()
        await bot.hear(annas, 30)
        await bot.hear(berts, 1)
        assert said_by(agent, "anna") == texts
        own = [r for r in hs.requests if r.route == "sync" and r.query.get("timeout") == "0"]
        assert len(own) < 20


async def test_a_walk_is_bounded_by_ourselves(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever `to` does on this homeserver."""
    hs.switches.honours_to = False
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, _, _):
        for number in range(3):
            await bot.ask(anna, annas, f"anna before {number}")
        texts = await say_while_down(bot, anna, annas)
        await bot.start()
        await until("all are asked", lambda: len(said_by(agent, "anna")) == MANY + 3)
        await bot.settled()
        assert said_by(agent, "anna") == [*(f"anna before {n}" for n in range(3)), *texts]


@pytest.mark.parametrize("position", ["older", "none"])
@pytest.mark.parametrize("memory", ["remembers", "has forgotten"])
async def test_a_restored_database_answers_nothing_again(
    hs: FakeHomeserver, tmp_path: Path, position: str, memory: str
) -> None:
    """Nor do transaction IDs have to be remembered for that: the rooms say what is answered."""
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, _, _):
        await bot.ask(anna, annas, "anna 1")
        await bot.settled()
        await bot.stop()
        backup = tmp_path / "backup.db"
        shutil.copy(bot.database_path, backup)
        await bot.start()
        for number in range(2, 6):
            await bot.ask(anna, annas, f"anna {number}")
        await bot.settled()
        await bot.stop()
        anna.send(annas, "anna 6")
        if position == "older":
            bot.wipe()
            shutil.copy(backup, bot.database_path)
        else:
            bot.wipe()
        if memory == "has forgotten":
            hs.transactions.forget()
        await bot.start()
        await bot.hear(annas, 6)
        await bot.settled()
        assert said_by(agent, "anna") == [f"anna {number}" for number in range(1, 7)]
        assert bot.words(annas) == [f"re: anna {number}" for number in range(1, 7)]


async def test_what_cannot_be_written_down_is_known_all_the_same(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handled, "WRITE_AGAIN", RetryPolicy(pauses=(0.5,)))
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, _, _):
        await bot.settled()
        await alter(bot, "ALTER TABLE handled_events RENAME TO elsewhere")
        for number in range(3):
            assert await bot.ask(anna, annas, f"anna {number}") == f"re: anna {number}"
        assert said_by(agent, "anna") == ["anna 0", "anna 1", "anna 2"]
        marks = bot.app.handled
        await until("it is not written", lambda: marks.unwritten == 3)
        assert marks.trouble
        await alter(bot, "ALTER TABLE elsewhere RENAME TO handled_events")
        await until("it is written", lambda: marks.unwritten == 0)
        assert marks.trouble is None
        rows = bot.query("SELECT * FROM handled_events WHERE room_id = ?", annas)
        assert len(rows) == 3


@pytest.mark.parametrize("when", ["in line", "while down", "while down, with a gap"])
async def test_the_newest_version_of_a_question_is_asked_under_its_own_key(
    hs: FakeHomeserver, tmp_path: Path, when: str
) -> None:
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, _, _):
        if when == "in line":
            agent._answer = agent.when_let_go
            anna.send(annas, "anna first")
            await until("it is worked on", lambda: agent.at_work == 1)
        else:
            await bot.stop()
        question = anna.send(annas, "anna wrogn")
        relation = {"rel_type": "m.replace", "event_id": question}
        for text in ("anna wrong", "anna right"):
            edit = anna.send(
                annas,
                {
                    "msgtype": "m.text",
                    "body": f"* {text}",
                    "m.new_content": {"msgtype": "m.text", "body": text},
                    "m.relates_to": relation,
                },
            )
        if "gap" in when:
            for number in range(MANY):
                anna.send(annas, f"anna {number}")
        if when == "in line":
            await until("the edit has come", lambda: question in bot.app.inbox._revisions.edits)
            agent.let_go.set()
        else:
            await bot.start()
        await bot.hear(annas, 2 if when == "in line" else 1 + (MANY if "gap" in when else 0))
        turns = {turn.event_id: turn for turn in agent.turns}
        assert (turns[question].text, turns[question].key) == ("anna right", edit)


async def test_an_edit_of_somebody_else_changes_nothing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    agent = Agent()
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, _):
        anna.invite(annas, bert)
        bert.join(annas)
        await bot.settled()
        await bot.stop()
        question = anna.send(annas, "anna as it was")
        content = {"msgtype": "m.text", "body": "forged"}
        relation = {"rel_type": "m.replace", "event_id": question}
        bert.send(annas, {**content, "m.new_content": content, "m.relates_to": relation})
        await bot.start()
        assert await bot.hear(annas, 1) == ["re: anna as it was"]


async def test_a_redaction_counts_in_its_own_room_only(hs: FakeHomeserver, tmp_path: Path) -> None:
    """On a homeserver that lets everything through."""
    agent = Agent()
    agent._answer = agent.when_let_go
    async with two_people(hs, tmp_path, agent) as (bot, anna, annas, bert, berts):
        anna.send(annas, "anna 1")
        await until("it is worked on", lambda: agent.at_work == 1)
        question = anna.send(annas, "anna 2")
        bert.send(berts, {"redacts": question}, type="m.room.redaction")
        await bot.ask(bert, berts, "!help")
        agent.let_go.set()
        assert await bot.hear(annas, 2) == ["re: anna 1", "re: anna 2"]
