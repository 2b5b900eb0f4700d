"""`!reset` where it can go wrong: in the middle, twice, and while other things happen."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeroom import replies
from homeroom.storage import StoreError
from tests.fake import FakeHomeserver, Hang, Match, Respond, User
from tests.plugin.harness import Bot, running, until

CONFIG = '{admins: ["@ada:%s"], dev: {reset: true}, rooms: {initial_chats: [General, Ideas]}}'
DONE = "!reset leave-forget: done"
UNFINISHED = "!reset leave-forget: not everything went through"
FORBIDDEN = Respond(403, {"errcode": "M_FORBIDDEN", "error": "No"})


@dataclass(frozen=True)
class Place:
    """A bot with an administrator, who has a home and a room besides."""

    hs: FakeHomeserver
    bot: Bot
    ada: User
    office: str

    @property
    def chats(self) -> list[str]:
        return list(self.bot.chats_of(self.ada))

    @property
    def home(self) -> set[str]:
        return {self.bot.space_of(self.ada), *self.chats}

    @property
    def rooms(self) -> set[str]:
        return set(self.hs.joined(self.bot.me.user_id))

    async def ask(self, text: str, *, room: str = "") -> str:
        return await self.bot.ask(self.ada, room or self.office, text)

    async def confirm(self, *, room: str = "", scope: str = "managed") -> str:
        """Ask for a plan, return the command that carries it out."""
        plan = await self.ask(f"!reset leave-forget --scope {scope}", room=room)
        found = re.search(r"!reset leave-forget --scope \w+ --confirm \w+", plan)
        assert found, plan
        return found[0]

    async def run(self, command: str, *, room: str = "") -> str:
        """Give the command, return the report."""
        self.ada.send(room or self.office, command)
        return await self.report(room=room)

    async def report(self, *, room: str = "") -> str:
        def found() -> str | None:
            said = self.bot.words(room or self.office)
            return next((text for text in said if DONE in text or UNFINISHED in text), None)

        report = await until("a report", found)
        assert report is not None
        return report


@asynccontextmanager
async def at(hs: FakeHomeserver, path: Path) -> AsyncIterator[Place]:
    async with running(hs, path, config=CONFIG % hs.server_name) as bot:
        ada = hs.user("ada")
        await bot.onboard(ada)
        office = ada.create_room(invite=[bot.me])
        await until("a word in the office", lambda: bot.words(office))
        await bot.settled()
        yield Place(hs, bot, ada, office)


def leaves(hs: FakeHomeserver) -> list[str]:
    return [r.path for r in hs.requests if r.path.endswith(("/leave", "/forget"))]


def was_delivered(hs: FakeHomeserver, event_id: str) -> bool:
    """Whether a sync response has told the bot of an event."""
    return any(event_id in str(r.answer) for r in hs.requests if r.route == "sync")


# local


async def test_after_local_nothing_is_routed_until_a_reconcile(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        bot, before = place.bot, place.bot.tables()
        assert "!reset local: done" in await place.ask("!reset local")
        assert bot.tables() == {"homes": [], "chats": []}

        chat, other = place.chats
        place.ada.send(chat, "Hello?")
        place.ada.send(chat, "!chat new")
        place.ada.send(chat, "Hello??")
        assert await place.ask("Hello?", room=other) == replies.RESET_PAUSED
        bert = hs.user("bert")
        waiting = bert.create_room(invite=[bot.me])
        await bot.settled()
        assert bot.words(chat) == [replies.RESET_PAUSED]
        assert waiting not in place.rooms

        assert "**Reconciled**" in await place.ask("!reconcile")
        await until("a word in the room of the invite", lambda: bot.words(waiting))
        await bot.settled()
        assert [row for row in bot.tables()["chats"] if row["room_id"] in place.home] == (
            before["chats"]
        )
        assert await place.ask("Hello again", room=chat) == bot.echo(chat, "Hello again")

        await place.ask("!reset local")
        assert await place.ask("And now?", room=chat) == replies.RESET_PAUSED


async def test_local_leaves_no_room_and_says_what_it_deleted(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        rooms = place.rooms
        would = await place.ask("!reset local --dry-run")
        did = await place.ask("!reset local")
        for text, words in ((would, "would be deleted"), (did, "deleted")):
            assert f"● `chats`: 2 rows {words}\n" in text
            assert f"● `homes`: 1 row {words}\n" in text
        assert place.rooms == rooms
        assert leaves(hs) == []


# leave-forget, in the middle


async def test_a_run_that_was_killed_is_not_taken_up_again_by_itself(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        command = await place.confirm()
        hang = hs.fail(Match(method="POST", path="/leave$", user=place.bot.me.user_id), Hang())
        place.ada.send(place.office, command)
        await hang.reached()
        await place.bot.kill()
        hang.cancel()
        await place.bot.start()
        await place.bot.settled()
        assert len(leaves(hs)) == 1
        assert place.home <= place.rooms
        assert len([t for t in place.bot.words(place.office) if "Leaving and" in t]) == 1
        # What comes in by maubot's first response may be old; whoever means it sends it again.
        said = await place.ask("!reset")
        assert said == replies.RESET_NOT_LIVE or "Starting from zero" in said
        gone = place.home
        assert DONE in await place.run(await place.confirm())
        await place.bot.settled()
        assert not gone & place.rooms


@pytest.mark.parametrize("loses", ["position", "everything"])
async def test_a_command_that_comes_again_with_an_empty_memory_is_not_taken(
    hs: FakeHomeserver, tmp_path: Path, loses: str
) -> None:
    async with at(hs, tmp_path) as place:
        command = await place.confirm()
        await place.bot.stop()
        place.ada.send(place.office, command)
        if loses == "everything":
            place.bot.wipe()
        else:
            place.bot.alter("DELETE FROM sync_state")
        await place.bot.start()
        await place.bot.settled()
        assert leaves(hs) == []
        assert place.home <= place.rooms


async def test_an_invite_during_a_run_is_answered_after_it(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        command = await place.confirm()
        hang = hs.fail(Match(method="POST", path="/leave$", user=place.bot.me.user_id), Hang())
        place.ada.send(place.office, command)
        await hang.reached()
        bert = hs.user("bert")
        waiting = bert.create_room(invite=[place.bot.me])
        assert await place.ask("Hello?", room=place.chats[0]) == replies.RESET_PAUSED
        assert waiting not in place.rooms
        hang.release()
        assert DONE in await place.report()
        await until("a word in the room of the invite", lambda: place.bot.words(waiting))
        await place.bot.settled()
        assert place.bot.space_of(bert) in place.rooms


async def test_two_runs_at_once_are_one_after_the_other(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        bot = place.bot
        second = place.ada.create_room(invite=[bot.me])
        await until("a word in the second room", lambda: bot.words(second))
        first_command = await place.confirm()
        second_command = await place.confirm(room=second)
        gone = place.home
        hang = hs.fail(Match(method="POST", path="/leave$", user=bot.me.user_id), Hang())
        place.ada.send(place.office, first_command)
        await hang.reached()
        event_id = place.ada.send(second, second_command)
        await until("the second is there", lambda: was_delivered(hs, event_id))
        for chat in place.chats:  # time enough to begin with the second, too
            await place.ask("!reset help", room=chat)
        hang.release()
        assert DONE in await place.report()
        await bot.settled()
        assert "that code is not the one of this plan" in bot.words(second)[-1]
        assert len(leaves(hs)) == 2 * len(gone)


# leave-forget, and what is said


async def test_the_room_of_the_command_is_left_after_the_report(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        room, gone = place.chats[0], place.home
        report = await place.run(await place.confirm(room=room), room=room)
        assert f"{DONE}, but for this room, which I leave now" in report
        await place.bot.settled()
        assert not gone & place.rooms
        assert [event.type for event in hs.timeline(room)][-2:] == [
            "m.room.message",
            "m.room.member",
        ]
        assert {row["status"] for row in place.bot.tables()["chats"]} == {"left"}


async def test_without_its_report_the_room_of_the_command_is_not_left(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        room, gone = place.chats[0], place.home
        command = await place.confirm(room=room)
        hs.fail(Match(method="PUT", path="/send/"), FORBIDDEN, times=None, skip=1)
        place.ada.send(room, command)
        await until("rows that say left", lambda: "left" in str(place.bot.tables()))
        await place.bot.settled()
        assert place.rooms & gone == {room}


async def test_the_room_of_the_command_that_cannot_be_left_is_told(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        room = place.chats[0]
        command = await place.confirm(room=room)
        hs.fail(Match(method="POST", path=re.escape(room) + "/leave$"), FORBIDDEN)
        await place.run(command, room=room)
        await place.bot.settled()
        assert place.bot.words(room)[-1] == "I could not leave this room: M_FORBIDDEN: No"
        assert room in place.rooms


async def test_a_list_that_cannot_be_attached_is_said_to_be_missing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        for _ in range(25):
            place.bot.me.create_room()
        large = Respond(413, {"errcode": "M_TOO_LARGE", "error": "Too large"})
        hs.fail("/upload$", large, times=None)
        plan = await place.ask("!reset leave-forget --scope joined --dry-run")
        assert "more: the whole list is attached" in plan
        await place.bot.settled()
        assert place.bot.words(place.office)[-1] == (
            "The whole list could not be attached (M_TOO_LARGE: Too large); the log has it."
        )


async def test_a_long_list_is_attached(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with at(hs, tmp_path) as place:
        for _ in range(25):
            place.bot.me.create_room()
        hs.fail("/upload$", Respond(200, {"content_uri": "mxc://fake.test/list"}))
        await place.ask("!reset leave-forget --scope joined --dry-run")
        await place.bot.settled()
        attached = place.bot.said(place.office)[-1]
        assert (attached["msgtype"], attached["body"]) == ("m.file", "homeroom-reset-plan.txt")


async def test_every_room_of_the_account_is_left_with_the_scope_joined(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with at(hs, tmp_path) as place:
        other = place.bot.me.create_room(name="Reminders")
        report = await place.run(await place.confirm(scope="joined"))
        assert "Every room of this bot account" in report
        assert other in report
        await until("the bot is in no room", lambda: not place.rooms)


# What fails, stays failed


async def test_a_command_that_failed_is_not_tried_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """The inbox tries messages again when the homeserver comes back; not these."""
    async with at(hs, tmp_path) as place:
        command = await place.confirm()
        said = place.bot.words(place.office)
        away = Match(path="/(joined_rooms$|send/)", user=place.bot.me.user_id)
        fault = hs.fail(away, Respond(502, text="Bad Gateway"), times=None)
        event_id = place.ada.send(place.office, command)
        handled = "SELECT * FROM handled_events WHERE event_id = ?"
        await until("it is given up", lambda: place.bot.query(handled, event_id))
        fault.cancel()
        await place.bot.settled()
        assert place.bot.words(place.office) == said
        assert leaves(hs) == []
        assert DONE in await place.run(command)


async def test_a_database_that_fails_is_told_and_nothing_is_left(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at(hs, tmp_path) as place:
        command = await place.confirm()
        await place.bot.settled()  # a command is marked as handled after its answer is heard
        assert place.bot.plugin is not None
        store = place.bot.app.store
        mark, failures = store.mark_handled, 2

        async def fail_twice(*args: object, **more: object) -> None:
            nonlocal failures
            if failures:
                failures -= 1
                raise StoreError("the disk is full")
            await mark(*args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "mark_handled", fail_twice)
        assert "did not go through: the disk is full" in await place.ask(command)
        await place.bot.settled()
        assert leaves(hs) == []
        assert place.home <= place.rooms


async def test_strangers_and_the_platform_hear_nothing(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with at(hs, tmp_path) as place:
        bert = hs.user("bert")
        await place.bot.onboard(bert)
        (chat, _) = place.bot.chats_of(bert)
        for text in ("!reset", "!reset help", "!reset local", "!reset\nlocal", "!reset now"):
            bert.send(chat, text)
        assert await place.bot.ask(bert, chat, "Hello") == place.bot.echo(chat, "Hello")
        assert len(place.bot.words(chat)) == 1
        assert place.bot.tables()["homes"]
