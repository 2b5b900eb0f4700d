"""Whatever dies, is lost or comes late: every question is answered once, every command done once.

People write, edit, delete and make chats. The bot is stopped, and killed at any of its requests;
its databases are lost, or put back from a copy of any age; the homeserver forgets transaction IDs,
does what it was asked long after it was asked, or twice, and reads what was; its clock is days
away from the bot's. Whenever the bot runs and has nothing left to do:

- every question is answered in one message that holds the whole answer, in the order of the
  questions; the platform may have been asked again, but only under the same key
- every `!chat new` has made one chat
- every person has one home

A failure prints the steps that lead to it, as a program. `CI` repeats the same examples on every
run. `KINDS` names what may happen, if not everything; `LIVES` how many examples there are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mautrix.types import EventID, RoomID

from homeroom.delivery import answer_stream as stream
from homeroom.domain.conversation.answer import End, Item, Text
from homeroom.domain.conversation.turn import Turn
from tests.fake import FakeHomeserver, Hang, Late, Match, Recorded, Running, Twice
from tests.fake.faults import Action, Fault
from tests.plugin.harness import Bot

NAMES = ("anna", "bert")
CHATS = 4
"""How many chats one person makes at most."""
ANSWERS = "dev.homeroom.answers"
DAY_MS = 24 * 60 * 60 * 1000
CONFIG = """
rooms: {initial_chats: [General], version: "11"}
limits: {waiting_messages: 1000}
"""
ALL = (
    "kill",
    "kill a command",
    "lose the database",
    "restore",
    "restore everything",
    "forget transactions",
    "late answers",
    "late rooms",
    "twice",
    "late reads",
    "edit",
    "delete",
    "clock",
)
KINDS = set(os.environ["KINDS"].split(",") if os.environ.get("KINDS") else ALL)
SETTINGS = settings(
    max_examples=int(os.environ.get("LIVES", "8")),
    stateful_step_count=int(os.environ.get("STEPS", "16")),
    deadline=None,
    derandomize="CI" in os.environ,
    database=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate, *((Phase.shrink,) if "SHRINK" in os.environ else ())),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def quick_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATHER", "EDIT_AFTER", "SLOWEST"):
        monkeypatch.setattr(stream, name, 0.01)


class Agent:
    """A platform that answers the same question in the same way, piece by piece.

    It goes on when its words so far are shown, or after a moment: so answers are edited.
    """

    def __init__(self, shown: Callable[[str], bool]) -> None:
        self.keys: dict[str, set[str]] = defaultdict(set)
        """Under which keys each text was asked."""
        self._shown = shown

    async def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        self.keys[turn.text].add(str(turn.key))
        said = ""
        for piece in ("Answer", " to ", turn.text, "."):
            yield Text(piece)
            said += piece
            for _ in range(20):
                if self._shown(said.strip()):
                    break
                await asyncio.sleep(0.005)
        yield End()

    async def close(self) -> None:
        pass


def answer_to(text: str) -> str:
    return f"Answer to {text}."


@dataclass
class Question:
    """A message, and all that its text may have been when it was answered."""

    event_id: EventID
    texts: list[str]
    is_deleted: bool = False


@dataclass
class Copy:
    """What the bot's process had on disk at some time."""

    directory: Path
    next_batch: Any


@dataclass
class Shown:
    """A message of the bot as a client shows it."""

    answers: str
    text: str


@dataclass
class Person:
    name: str
    commands: int = 0
    questions: dict[RoomID, list[Question]] = field(default_factory=dict)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.path = Path(tempfile.mkdtemp(prefix="homeroom-once-"))
        self.hs = FakeHomeserver()
        self.clock = Running()
        self.hs.world.clock = self.clock
        self.do(self.hs.start())
        self.bot = Bot(self.hs, self.path, config=CONFIG)
        self.agent = self.bot.platform = Agent(self.is_shown)
        self.people = {name: Person(name) for name in NAMES}
        self.copies: list[Copy] = []
        self.late: list[Fault] = []
        self.texts = 0
        self.is_up = False

    def teardown(self) -> None:
        try:
            if not self.is_up:
                self.start()
            self.all_is_well()
        finally:
            self.do(self.bot.kill())
            self.do(self.hs.stop())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.path)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    # The life of the process

    @initialize(days=st.sampled_from([0.0, -8.0, -1.0, -0.05, 0.05, 1.0, 8.0]))
    def begin(self, days: float) -> None:
        if "clock" in KINDS:
            self.clock.set_behind(int(days * DAY_MS))
        self.start()
        for name, person in self.people.items():
            user = self.hs.user(name)
            self.do(self.bot.onboard(user))
            person.questions = {RoomID(room_id): [] for room_id in self.bot.chats_of(user)}

    @precondition(lambda self: not self.is_up)
    @rule()
    def up(self) -> None:
        self.start()
        self.all_is_well()

    @precondition(lambda self: self.is_up)
    @rule(killed=st.booleans())
    def down(self, killed: bool) -> None:
        """While it may be at anything."""
        self.do(self.bot.kill() if killed and "kill" in KINDS else self.bot.stop())
        self.is_up = False
        self.hs.faults.rules = [fault for fault in self.hs.faults.rules if fault in self.late]

    @precondition(lambda self: self.is_up and "kill" in KINDS)
    @rule(
        data=st.data(),
        action=st.sampled_from([Hang(), Hang(after=True), Late()]),
        skip=st.integers(0, 14),
        what=st.sampled_from(["write", "command", "restart"]),
    )
    def killed_at_a_request(
        self, data: st.DataObject, action: Action, skip: int, what: str
    ) -> None:
        """Before it was done, after it was done, or it is done when the bot is up again."""
        if what == "restart":
            self.do(self.bot.stop())
        fault = self.hs.fail(Match(when=self.is_own), action, skip=skip)
        if isinstance(action, Late):
            if not {"late answers", "late rooms"} <= KINDS:
                fault.action = Hang(after=True)
            else:
                self.late.append(fault)
        if what == "restart":
            self.do(self.start_until(fault))
        elif what == "command" and "kill a command" in KINDS:
            self.make_chat(data)
        else:
            self.write(data, 2)
        self.do(self.until_reached(fault))
        self.do(self.bot.kill())
        self.is_up = False
        if fault not in self.late:
            fault.cancel()

    @precondition(lambda self: not self.is_up and "lose the database" in KINDS)
    @rule()
    def lose_the_database(self) -> None:
        self.bot.plugin = None
        self.bot.wipe()

    @precondition(lambda self: not self.is_up and len(self.copies) < 5)
    @rule()
    def copy_the_databases(self) -> None:
        directory = self.path / f"copy{len(self.copies)}"
        directory.mkdir()
        for file in self.path.glob("*.db*"):
            shutil.copy(file, directory)
        self.copies.append(Copy(directory, self.do(self.bot._sync_store.get_next_batch())))

    @precondition(lambda self: not self.is_up and self.copies and "restore" in KINDS)
    @rule(data=st.data(), everything=st.booleans())
    def restore_the_databases(self, data: st.DataObject, everything: bool) -> None:
        """The plugin's, or maubot's with it."""
        copy = data.draw(st.sampled_from(self.copies), label="copy")
        everything = everything and "restore everything" in KINDS
        names = "*.db*" if everything else f"{self.bot.database_path.name}*"
        for file in self.path.glob(names):
            file.unlink()
        for file in copy.directory.glob(names):
            shutil.copy(file, self.path)
        if everything:
            self.do(self.bot._sync_store.put_next_batch(copy.next_batch))

    # What people do

    @rule(data=st.data(), count=st.integers(1, 3))
    def write(self, data: st.DataObject, count: int) -> None:
        name, room_id = self.pick(data)
        for _ in range(count):
            self.texts += 1
            text = f"question {self.texts}"
            event_id = self.hs.user(name).send(room_id, text)
            self.people[name].questions[room_id].append(Question(event_id, [text]))

    @precondition(lambda self: not self.is_up and "edit" in KINDS)
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """The newest question, which waits for its answer."""
        name, room_id = self.pick(data)
        question = self.newest_unanswered(name, room_id)
        if question is not None:
            self.texts += 1
            text = f"question {self.texts}"
            new = {"msgtype": "m.text", "body": text}
            relation = {"rel_type": "m.replace", "event_id": question.event_id}
            content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
            self.hs.user(name).send(room_id, content)
            begun = any(shown.answers == question.event_id for shown in self.shown(room_id))
            question.texts = [*question.texts, text] if begun else [text]

    @precondition(lambda self: not self.is_up and "delete" in KINDS)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name, room_id = self.pick(data)
        question = self.newest_unanswered(name, room_id)
        if question is not None:
            self.hs.user(name).redact(room_id, question.event_id)
            question.is_deleted = True

    @rule(data=st.data())
    def make_chat(self, data: st.DataObject) -> None:
        name, room_id = self.pick(data)
        person = self.people[name]
        if person.commands < CHATS and (self.is_up or "kill a command" in KINDS):
            person.commands += 1
            self.hs.user(name).send(room_id, "!chat new")
            if "kill a command" not in KINDS:
                self.all_is_well()

    # What goes wrong at the homeserver

    @precondition(lambda self: "forget transactions" in KINDS and not self.is_up)
    @rule()
    def forget_transactions(self) -> None:
        """As with a new access token, which the bot gets before it starts."""
        self.hs.transactions.forget()

    @precondition(lambda self: self.is_up and {"late answers", "late rooms"} & KINDS)
    @rule(
        skip=st.integers(0, 5),
        times=st.integers(1, 2),
        status=st.sampled_from([None, 504]),
        what=st.sampled_from(["/send/", "createRoom"]),
    )
    def be_late(self, skip: int, times: int, status: int | None, what: str) -> None:
        """Tell the bot that something went wrong, and do it some time later."""
        if ("late answers" if what == "/send/" else "late rooms") in KINDS:
            match = Match(path=what, when=self.is_own)
            self.late.append(self.hs.fail(match, Late(status=status), skip=skip, times=times))

    @precondition(lambda self: self.late)
    @rule()
    def what_is_late_is_done(self) -> None:
        for fault in self.late:
            self.do(fault.done())
        self.late.clear()

    @precondition(lambda self: self.is_up and "twice" in KINDS)
    @rule(skip=st.integers(0, 5))
    def be_twice(self, skip: int) -> None:
        match = Match(path="/send/|/state/", when=self.is_own)
        self.late.append(self.hs.fail(match, Twice(), skip=skip))

    @precondition(lambda self: "late reads" in KINDS)
    @rule(reads=st.integers(0, 6), every=st.integers(1, 2))
    def read_late(self, reads: int, every: int) -> None:
        self.hs.no_lag()
        if reads:
            self.hs.lag(reads=reads, every=every)

    # What must be true

    @precondition(lambda self: self.is_up)
    @rule()
    def all_is_well(self) -> None:
        self.do(self.bot.settled())
        self.what_is_late_is_done()
        self.hs.faults.clear()
        self.do(self.bot.settled())
        for name, person in self.people.items():
            user = self.hs.user(name)
            assert len(self.bot.spaces_of(user)) == 1
            chats = self.bot.chats_of(user)
            assert len(chats) == 1 + person.commands
            for room_id in self.hs.invited(name):
                user.join(room_id)
            for room_id in chats:
                person.questions.setdefault(RoomID(room_id), [])
            for room_id, questions in person.questions.items():
                self.every_question_is_answered_once(room_id, questions)
        for text, keys in self.agent.keys.items():
            assert len(keys) == 1, (text, keys)

    def every_question_is_answered_once(self, room_id: RoomID, questions: list[Question]) -> None:
        deleted = {question.event_id for question in questions if question.is_deleted}
        shown = [message for message in self.shown(room_id) if message.answers not in deleted]
        asked = [question for question in questions if not question.is_deleted]
        assert [message.answers for message in shown] == [question.event_id for question in asked]
        for message, question in zip(shown, asked, strict=True):
            assert message.text in map(answer_to, question.texts)

    def is_shown(self, text: str) -> bool:
        """Whether somebody reads just this now."""
        rooms = (room_id for person in self.people.values() for room_id in person.questions)
        return any(text == message.text for room in rooms for message in self.shown(room))

    def shown(self, room_id: RoomID) -> list[Shown]:
        """What a client shows of the bot's answers in a room."""
        messages: dict[str, Shown] = {}
        for event in self.hs.timeline(room_id):
            content = event.content
            if event.sender != self.bot.me.user_id or content.get("msgtype") != "m.text":
                continue
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                messages[relation["event_id"]].text = content["m.new_content"]["body"]
            elif content.get(ANSWERS, "none") != "none":
                messages[event.event_id] = Shown(content[ANSWERS], content["body"])
        return list(messages.values())

    # The model's own ways

    def start(self) -> None:
        self.do(self.bot.start())
        self.is_up = True

    async def start_until(self, fault: Fault) -> None:
        starting = asyncio.ensure_future(self.bot.start())
        reached = asyncio.ensure_future(fault.reached())
        await asyncio.wait([starting, reached], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if not starting.done():
            starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    async def until_reached(self, fault: Fault) -> None:
        """Wait until a request has met a fault, or there is none left that could."""
        if self.bot.plugin is None:
            return
        reached = asyncio.ensure_future(fault.reached())
        settled = asyncio.ensure_future(self.bot.settled())
        await asyncio.wait([reached, settled], return_when=asyncio.FIRST_COMPLETED, timeout=5)
        for task in (reached, settled):
            task.cancel()
        await asyncio.gather(reached, settled, return_exceptions=True)

    def is_own(self, request: Recorded) -> bool:
        return request.user == self.bot.me.user_id and not self.bot.is_long_poll(request)

    def pick(self, data: st.DataObject) -> tuple[str, RoomID]:
        places = [
            (name, room_id) for name, person in self.people.items() for room_id in person.questions
        ]
        return data.draw(st.sampled_from(places), label="place")

    def newest_unanswered(self, name: str, room_id: RoomID) -> Question | None:
        questions = self.people[name].questions[room_id]
        finals = {m.answers for m in self.shown(room_id) if m.text.endswith(".")}
        waiting = [q for q in questions if q.event_id not in finals and not q.is_deleted]
        return waiting[-1] if waiting and waiting[-1] is questions[-1] else None


@pytest.mark.timeout(1200)
def test_a_life_in_which_everything_happens_once() -> None:
    run_state_machine_as_test(Life, settings=SETTINGS)
