"""A long life in random order, against a model: one home each, ids for ever, every word once.

People invite, write, make, rename, archive, leave and upgrade; the bot is stopped, killed, thrown
out and asked back; rows are lost and damaged; requests fail; reads are late. Whenever it runs and
has nothing left to do, what is stored and what is on the homeserver is what the model says.

A failure prints the steps that lead to it, as a program. `CI` repeats the same examples on every
run; elsewhere they are new each time, and what failed once is tried again first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mautrix.types import EventID, RoomID

from homeroom.domain.homes.ids import derive_platform_chat_id
from homeroom.domain.homes.model import Conversation
from tests.fake import (
    DropAfter,
    DropBefore,
    FakeHomeserver,
    Match,
    Recorded,
    Respond,
    Truncate,
    User,
)
from tests.fake.faults import Action
from tests.plugin.conftest import Present
from tests.plugin.harness import Bot, Row

NAMES = ("anna", "bert", "cleo")
CONFIG = """
rooms: {initial_chats: [Work, Play], version: "11"}
limits: {waiting_messages: 1000}
"""
SHRINK = "SHRINK" in os.environ
"""Finding the shortest way to a failure takes minutes."""
SETTINGS = settings(
    max_examples=int(os.environ.get("LIVES", "12")),
    stateful_step_count=25,
    deadline=None,
    derandomize="CI" in os.environ,
    database=None if "CI" in os.environ else settings.default.database,
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, *((Phase.shrink,) if SHRINK else ())),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FAULTS: tuple[Action, ...] = (
    DropBefore(),
    DropAfter(),
    Truncate(),
    Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    Respond(502, text="<html>Bad gateway</html>"),
    Respond(200, text="[]"),
)
DAMAGE = (
    "DELETE FROM homes",
    "DELETE FROM chats",
    "DELETE FROM chats WHERE rowid % 2 = 0",
    "UPDATE chats SET platform_chat_id = NULL WHERE status != 'left'",
    "UPDATE chats SET platform_chat_id = 'x' || room_id WHERE status != 'left'",
    "UPDATE chats SET chat_id = 'C9' || rowid WHERE status != 'left'",
    "UPDATE chats SET chat_id = NULL, name = x'00' WHERE status != 'left'",
    "UPDATE chats SET status = 'left' WHERE status = 'active'",
    "UPDATE chats SET space_id = '!nowhere' WHERE status != 'left'",
    "UPDATE chats SET conversation = 7, conversation_since = '$x' WHERE status != 'left'",
    "UPDATE homes SET space_id = '!nowhere', status = 'left'",
)


@dataclass
class ModelChat:
    """What must be true of a chat."""

    owner: str
    number: int
    key: str
    name: str
    status: str = "active"
    answered: list[str] = field(default_factory=list)
    """The texts that must have been answered, in this order, each once."""
    open: list[str] = field(default_factory=list)
    """Texts that are answered as soon as the bot runs."""
    conversation: Conversation | None = None
    is_forgotten: bool = False
    """Left, and its row is lost: all that is known of it is what its Space's link says."""

    def clear(self, room_id: RoomID, *, since: EventID) -> None:
        number = self.conversation.number if self.conversation else 0
        self.conversation = Conversation(number=number + 1, since=since)
        self.key = derive_platform_chat_id(room_id, conversation=self.conversation)


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.path = Path(tempfile.mkdtemp(prefix="homeroom-life-"))
        self.hs = FakeHomeserver()
        self.hs.world.clock = Present()
        self.do(self.hs.start())
        self.bot = Bot(self.hs, self.path, config=CONFIG)
        self.people = {name: self.hs.user(name) for name in NAMES}
        self.homes: dict[str, RoomID] = {}
        self.asked: dict[str, RoomID] = {}
        """Who invited the bot, and the last room they did it in."""
        self.chats: dict[RoomID, ModelChat] = {}
        self.texts = 0
        self.is_up = False
        self.is_out_of_date = False
        """The rows do not say what they should, and only a look can tell."""
        self.is_out_of_sight = False
        """The bot was thrown out of a room without knowing: what its row loses now is lost."""

    def teardown(self) -> None:
        self.do(self.bot.kill())
        self.do(self.hs.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.path)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    # The life of the process

    @initialize()
    def begin(self) -> None:
        self.up()

    @precondition(lambda self: not self.is_up)
    @rule()
    def up(self) -> None:
        self.do(self.bot.start())
        self.is_up = True
        self.is_out_of_date = self.is_out_of_sight = False

    @precondition(lambda self: self.is_up)
    @rule(killed=st.booleans())
    def down(self, killed: bool) -> None:
        self.do(self.bot.kill() if killed else self.bot.stop())
        self.is_up = False

    @precondition(lambda self: self.homes and not self.is_up and not self.is_out_of_sight)
    @rule(statement=st.sampled_from(DAMAGE))
    def damage(self, statement: str) -> None:
        if statement.startswith("DELETE FROM chats") and self.is_only_in_rows():
            return
        self.bot.alter(statement)
        self.is_out_of_date = True
        kept = self.stored("chats")
        for room_id, chat in self.chats.items():
            chat.is_forgotten |= chat.status == "left" and room_id not in kept

    # What people do

    @rule(name=st.sampled_from(NAMES))
    def invite(self, name: str) -> None:
        if len(self.asked) < 6:
            self.asked[name] = self.people[name].create_room(invite=[self.bot.me])

    @precondition(lambda self: self.talkable())
    @rule(data=st.data(), count=st.integers(1, 3))
    def write(self, data: st.DataObject, count: int) -> None:
        room_id = self.pick(data)
        for _ in range(count):
            self.say(room_id)

    @precondition(lambda self: self.is_up and self.talkable())
    @rule(data=st.data())
    def new_chat(self, data: st.DataObject) -> None:
        room_id = self.pick(data)
        owner = self.chats[room_id].owner
        if len(self.chats_of(owner)) < 6:
            self.people[owner].send(room_id, "!chat new")
            self.settle()
            self.learn(owner, expected={len(self.chats_of(owner)) + 1})

    @precondition(lambda self: self.is_up and self.talkable())
    @rule(data=st.data(), archived=st.booleans())
    def archive(self, data: st.DataObject, archived: bool) -> None:
        room_id = self.pick(data)
        verb = "archive" if archived else "unarchive"
        self.people[self.chats[room_id].owner].send(room_id, f"!chat {verb}")
        self.settle()
        self.chats[room_id].status = "archived" if archived else "active"

    @precondition(lambda self: self.is_up and self.talkable())
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        room_id = self.pick(data)
        self.ask_to_clear(room_id)
        self.settle()

    @precondition(lambda self: self.talkable())
    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        room_id = self.pick(data)
        chat = self.chats[room_id]
        self.texts += 1
        chat.name = f"Name {self.texts}"
        self.is_out_of_date = not self.is_up
        self.people[chat.owner].set_state(room_id, "m.room.name", {"name": chat.name})

    @precondition(lambda self: self.talkable())
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        room_id = self.pick(data)
        owner = self.people[self.chats[room_id].owner]
        space_id = self.homes[self.chats[room_id].owner]
        if owner.user_id in self.hs.room(space_id).joined:
            owner.set_state(space_id, "m.space.child", {}, state_key=room_id)

    @precondition(lambda self: self.talkable())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        room_id = self.pick(data)
        self.people[self.chats[room_id].owner].leave(room_id)
        self.chats[room_id].open.clear()  # whether it is still answered is a matter of luck

    @precondition(lambda self: self.homes)
    @rule(name=st.sampled_from(NAMES))
    def join_all(self, name: str) -> None:
        for room_id in self.hs.invited(name):
            self.people[name].join(room_id)

    # What becomes of the bot's rooms

    @precondition(lambda self: self.quiet() and not self.is_out_of_date)
    @rule(data=st.data())
    def throw_out(self, data: st.DataObject) -> None:
        room_id = self.pick(data, quiet=True)
        if self.hs.room(room_id).state["m.room.create", ""].get("predecessor") is None:
            # Not a room that another was upgraded to: the bot would join that one again.
            self.bot.me.leave(room_id)
            self.chats[room_id].status = "left"
            self.is_out_of_sight = not self.is_up

    @precondition(lambda self: any(chat.status == "left" for chat in self.chats.values()))
    @rule(data=st.data())
    def ask_back(self, data: st.DataObject) -> None:
        left = [room_id for room_id, chat in self.chats.items() if chat.status == "left"]
        room_id = data.draw(st.sampled_from(left), label="room")
        owner = self.people[self.chats[room_id].owner]
        if owner.user_id in self.hs.room(room_id).joined:
            marker = self.hs.room(room_id).state["dev.homeroom.room", self.bot.me.user_id]
            owner.invite(room_id, self.bot.me)
            self.chats[room_id].status = "archived" if marker.get("archived") else "active"
            self.chats[room_id].is_forgotten = False
            if self.is_up:
                self.settle()

    @precondition(lambda self: self.quiet())
    @rule(data=st.data())
    def upgrade(self, data: st.DataObject) -> None:
        room_id = self.pick(data, quiet=True)
        old = self.chats[room_id]
        new_id = self.bot.me.upgrade(room_id, "11")
        self.bot.me.invite(new_id, self.people[old.owner])
        self.people[old.owner].join(new_id)
        self.chats[new_id] = replace(old, answered=[], open=[])
        old.status = "replaced"

    # What goes wrong

    @precondition(lambda self: self.is_up)
    @rule(
        data=st.data(),
        action=st.sampled_from(FAULTS),
        skip=st.integers(0, 12),
        times=st.integers(1, 3),
        what=st.sampled_from(["invite", "new chat", "write", "clear", "restart"]),
    )
    def in_bad_weather(
        self, data: st.DataObject, action: Action, skip: int, times: int, what: str
    ) -> None:
        """Requests fail in the middle of something; a restart and a word bring it to its end."""

        def is_own(request: Recorded) -> bool:
            return request.user == self.bot.me.user_id and not self.bot.is_long_poll(request)

        self.settle()
        self.hs.fail(Match(when=is_own), action, skip=skip, times=times)
        room_id = self.pick(data) if self.talkable() else None
        name = data.draw(st.sampled_from(NAMES), label="name")
        match what:
            case "invite":
                self.invite(name)
            case "new chat" if room_id and len(self.chats_of(self.chats[room_id].owner)) < 6:
                name = self.chats[room_id].owner
                self.people[name].send(room_id, "!chat new")
            case "write" if room_id:
                self.say(room_id)
            case "clear" if room_id:
                self.ask_to_clear(room_id)
        if what == "restart":
            self.do(self.bot.restart())
        self.settle()
        self.hs.faults.clear()
        self.do(self.bot.restart())
        for asked, asked_in in self.asked.items():
            if self.bot.me.user_id in self.hs.room(asked_in).joined:
                self.people[asked].send(asked_in, "Are you there?")
        self.settle()
        if what == "new chat" and name in self.homes:
            known = len(self.chats_of(name))
            self.learn(name, expected={known, known + 1})

    @rule(reads=st.integers(0, 6), every=st.integers(1, 2))
    def read_late(self, reads: int, every: int) -> None:
        """One worker hears of everything late; with 0 reads none does."""
        self.hs.no_lag()
        if reads:
            self.hs.lag(reads=reads, every=every)

    # What must always be true

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if not self.is_up:
            return
        self.settle()
        for name in self.asked:
            self.homes.setdefault(name, self.bot.space_of(self.people[name]))
            if not self.chats_of(name):
                self.learn(name, expected={2})
        for name, space_id in self.homes.items():
            assert self.bot.spaces_of(self.people[name]) == [space_id]
        made = {r for r, room in self.hs.rooms.items() if room.creator == self.bot.me.user_id}
        assert made == {*self.homes.values(), *self.chats}
        assert self.stored("homes") == {
            self.people[name].user_id: {"space_id": space_id, "status": "active"}
            for name, space_id in self.homes.items()
        }
        assert self.stored("chats") == {
            room_id: {
                "matrix_user_id": self.people[chat.owner].user_id,
                "space_id": self.homes[chat.owner],
                "chat_id": f"C{chat.number}",
                "status": chat.status,
                **self.known_of(chat),
            }
            for room_id, chat in self.chats.items()
        }
        for room_id, chat in self.chats.items():
            chat.answered += [f"{text}\n\n({chat.key})" for text in chat.open]
            chat.open.clear()
            said = [c["body"] for c in self.bot.said(room_id) if c["msgtype"] == "m.text"]
            assert [text for text in said if text in chat.answered] == chat.answered
            assert len(said) == len(set(said))

    # The model's own ways

    def is_only_in_rows(self) -> bool:
        """Whether a chat was left whose link its owner had emptied: nothing else tells of it."""
        links = [
            self.hs.room(self.homes[chat.owner]).state.get(("m.space.child", room_id), {})
            for room_id, chat in self.chats.items()
            if chat.status == "left"
        ]
        return any(not {"via", "dev.homeroom.chat_id"} & link.keys() for link in links)

    def known_of(self, chat: ModelChat) -> Row:
        of_row = {
            "platform_chat_id": chat.key,
            "name": chat.name,
            "conversation": chat.conversation and chat.conversation.number,
            "conversation_since": chat.conversation and chat.conversation.since,
            "answer": None,
        }
        return dict.fromkeys(of_row) if chat.is_forgotten else of_row

    def stored(self, table: str) -> dict[str, Row]:
        key = "matrix_user_id" if table == "homes" else "room_id"
        rows = {row.pop(key): row for row in self.bot.tables()[table]}
        for row in rows.values():
            row.pop("initial_chats", None)
            row.pop("room_type", None)
        return rows

    def settle(self) -> None:
        self.do(self.bot.settled())

    def learn(self, name: str, *, expected: set[int]) -> None:
        """Take over chats that must be new; they get the next numbers, and keys of their own."""
        known = {room_id for room_id, chat in self.chats.items() if chat.owner == name}
        mine = [
            room_id
            for room_id, room in self.hs.rooms.items()
            if (marker := room.state.get(("dev.homeroom.room", self.bot.me.user_id)))
            and marker["user_id"] == self.people[name].user_id
            and "chat_id" in marker
        ]
        for room_id in mine:
            if room_id not in known:
                number = 1 + max((chat.number for chat in self.chats_of(name)), default=0)
                self.chats[room_id] = ModelChat(
                    owner=name,
                    number=number,
                    key=derive_platform_chat_id(room_id),
                    name=["Work", "Play"][number - 1] if number < 3 else f"Chat {number}",
                )
        assert len(self.chats_of(name)) in expected
        self.join_all(name)

    def chats_of(self, name: str) -> list[ModelChat]:
        """One for each number: what was replaced is not counted."""
        return [
            chat
            for chat in self.chats.values()
            if chat.owner == name and chat.status != "replaced"
        ]

    def talkable(self) -> list[RoomID]:
        """Chats that the bot and their owners are in."""
        return [
            room_id
            for room_id, chat in self.chats.items()
            if chat.status in {"active", "archived"}
            and {self.bot.me.user_id, self.people[chat.owner].user_id}
            <= self.hs.room(room_id).joined
        ]

    def quiet(self) -> list[RoomID]:
        """Those in which nothing waits for an answer."""
        return [room_id for room_id in self.talkable() if not self.chats[room_id].open]

    def pick(self, data: st.DataObject, *, quiet: bool = False) -> RoomID:
        rooms = self.quiet() if quiet else self.talkable()
        return data.draw(st.sampled_from(rooms), label="room")

    def say(self, room_id: RoomID) -> None:
        self.texts += 1
        chat = self.chats[room_id]
        self.person(chat).send(room_id, f"text {self.texts}")
        if chat.status == "active":
            chat.open.append(f"text {self.texts}")

    def ask_to_clear(self, room_id: RoomID) -> None:
        chat = self.chats[room_id]
        chat.clear(room_id, since=self.person(chat).send(room_id, "!chat clear"))

    def person(self, chat: ModelChat) -> User:
        return self.people[chat.owner]


@pytest.mark.timeout(900)  # of many lives; a busy machine takes its time over them
def test_a_life_in_random_order() -> None:
    run_state_machine_as_test(Life, settings=SETTINGS)
