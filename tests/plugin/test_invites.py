"""Who may invite the bot, and what becomes of an invite that leads nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from homeroom.matrix import outgoing, retry_budgets
from homeroom.matrix.retrying_api import RetryBudget
from tests.fake import (
    Alter,
    DropAfter,
    DropBefore,
    FakeHomeserver,
    Hang,
    Match,
    RateLimit,
    Respond,
)
from tests.fake.faults import Action
from tests.plugin.harness import Bot, running, until

DEAD: dict[str, Action] = {
    "403": Respond(403, {"errcode": "M_FORBIDDEN", "error": "You are not invited to this room."}),
    "404": Respond(404, {"errcode": "M_UNKNOWN", "error": "No known servers"}),
    "500": Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"}),
    "502": Respond(502, text="<html>Bad gateway</html>"),
    "429": RateLimit(retry_after_ms=100_000_000),
    "dropped": DropBefore(),
}


@pytest.mark.parametrize(
    ("allow", "user_id", "admitted"),
    [
        ("[]", "@anna:fake.test", True),
        ("[]", "@anna:other.test", False),
        ('["@*:other.test"]', "@anna:other.test", True),
        ('["@*:other.test"]', "@anna:fake.test", False),
        ('["@b?rt:fake.test", "@anna:fake.test"]', "@anna:fake.test", True),
        ('["@anna:fake.test"]', "@anna:fake.test.evil", False),
        ('["@ANNA:fake.test"]', "@anna:fake.test", False),
    ],
)
async def test_only_who_is_allowed_gets_a_home(
    hs: FakeHomeserver, tmp_path: Path, allow: str, user_id: str, admitted: bool
) -> None:
    user = hs.user(user_id)
    async with running(hs, tmp_path, config=f"access: {{allow: {allow}}}") as bot:
        asked = user.create_room(invite=[bot.me])
        await bot.settled()
        assert len(bot.spaces_of(user)) == admitted
        assert hs.room(asked).members[bot.me.user_id] == ("join" if admitted else "leave")
        if not admitted:
            member = hs.room(asked).state["m.room.member", bot.me.user_id]
            assert member["reason"] == replies.NOT_ALLOWED
            assert hs.joined("bot") == set()


async def test_who_is_no_longer_allowed_keeps_what_they_have(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "PER_SECOND", 1000.0)  # rejections wait for a whole budget
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.configure('access: {allow: ["@nobody:fake.test"]}')
        asked = anna.create_room(invite=[bot.me])
        await bot.settled()
        assert hs.room(asked).members[bot.me.user_id] == "leave"
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")


@pytest.mark.parametrize("pending", [True, False], ids=["while it was down", "live"])
@pytest.mark.parametrize("action", DEAD.values(), ids=DEAD.keys())
async def test_a_dead_invite_is_harmless(
    hs: FakeHomeserver, tmp_path: Path, action: Action, pending: bool
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    bot = Bot(hs, tmp_path)
    hs.fail(Match(path="join/"), action, times=None)
    if pending:
        dead = anna.create_room(invite=[bot.me])
    async with running(hs, tmp_path) as bot:
        if not pending:
            dead = anna.create_room(invite=[bot.me])
        await bot.settled()
        assert bot.tables() == {"homes": [], "chats": []}
        assert set(hs.rooms) == {dead}
        hs.faults.clear()
        await bot.onboard(bert)
        await bot.restart()
        await bot.settled()
        assert bot.space_of(anna)


async def test_dead_invites_that_hang_hold_nobody_up(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than requests may be under way at once."""
    monkeypatch.setattr(retry_budgets, "JOINING", RetryBudget(call=600, failing=600, attempt=600))
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        fault = hs.fail(Match(path="join/"), Hang(), times=None)
        for _ in range(12):
            bert.create_room(invite=[bot.me])
        await until("joins that hang", lambda: len(fault.hits) >= 10)
        assert await bot.ask(anna, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        fault.cancel()


async def test_a_join_whose_answer_was_lost_is_a_join(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        hs.fail(Match(path="join/"), DropAfter())
        asked = anna.create_room(invite=[bot.me])
        await bot.settled()
        anna.send(asked, "Hello?")
        await bot.settled()
        assert bot.space_of(anna)


async def test_invites_of_the_time_it_was_down_are_answered(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    people = [hs.user(f"user{number}") for number in range(6)]
    async with running(hs, tmp_path) as bot:
        await bot.stop()
        rooms = [person.create_room(invite=[bot.me]) for person in people]
        await bot.start()
        for person, room_id in zip(people, rooms, strict=True):
            await bot.hear(room_id, 1)
            assert bot.space_of(person)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_who_waits_for_a_home_gets_it_after_a_restart(
    hs: FakeHomeserver, tmp_path: Path, way: str
) -> None:
    """The invite is accepted, and that is all: the homeserver lets nobody make a room."""
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(bert)
        fault = hs.fail(Match(path="createRoom$"), RateLimit(retry_after_ms=3_600_000), times=None)
        asked = anna.create_room(invite=[bot.me])
        assert await bot.hear(asked, 1) == [replies.OUTAGE]
        # Others are served meanwhile, which is no reason to forget about Anna.
        (chat_id,) = bot.chats_of(bert)
        assert await bot.ask(bert, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        await (bot.stop() if way == "stop" else bot.kill())
        fault.cancel()
        await bot.start()
        words = await bot.hear(asked, 2)
        assert words[1].startswith("This is your home")
        await bot.settled()
        assert bot.space_of(anna)
        await bot.restart()
        await bot.settled()
        assert bot.words(asked) == words


async def test_the_inviter_may_be_left_out(hs: FakeHomeserver, tmp_path: Path) -> None:
    """`prev_sender` is not in the spec: then it is who else is in the room."""
    anna = hs.user("anna")

    def without_it(answer: Any) -> Any:
        return json.loads(json.dumps(answer).replace("prev_sender", "other"))

    async with running(hs, tmp_path) as bot:
        hs.fail(Match(path="/sync$"), Alter(without_it), times=None)
        await bot.onboard(anna)


async def test_an_invite_to_a_space_is_accepted_in_silence(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        asked = anna.create_space(name="Anna's own", invite=[bot.me])
        await bot.settled()
        assert hs.room(asked).members[bot.me.user_id] == "join"
        assert bot.words(asked) == []
        assert bot.space_of(anna) != asked


async def test_an_invite_that_is_taken_back_is_no_home(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.stop()
        asked = anna.create_room(invite=[bot.me])
        anna.kick(asked, bot.me)
        await bot.start()
        await bot.settled()
        assert bot.tables() == {"homes": [], "chats": []}


ONLY_ANNA = "access: {allow: ['@anna:fake.test']}"


async def test_strangers_wait_in_a_queue_of_their_own(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "PER_SECOND", 1000.0)  # rejections wait for a whole budget
    anna, eve = hs.user("anna"), hs.user("eve")
    async with running(hs, tmp_path, config=ONLY_ANNA) as bot:
        await bot.settled()
        rejecting = hs.fail(Match(path="/leave$"), Hang())
        rooms = [eve.create_room(invite=[bot.me]) for _ in range(5)]
        await rejecting.reached()
        await bot.hear(anna.create_room(invite=[bot.me]), 1)
        assert len([r for r in hs.requests if r.path.endswith("/leave")]) == 1
        rejecting.release()
        await until("all are rejected", lambda: not hs.invited(bot.me.user_id) & {*rooms})
        await bot.settled()


async def test_strangers_are_left_alone_where_the_settings_say_so(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    eve = hs.user("eve")
    config = "access: {allow: ['@anna:fake.test'], reject: false}"
    async with running(hs, tmp_path, config=config) as bot:
        room_id = eve.create_room(invite=[bot.me])
        await bot.settled()
        assert room_id in hs.invited(bot.me.user_id)
        assert not [r for r in hs.requests if r.path.endswith("/leave")]


async def test_a_join_that_fails_once_is_tried_again(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.settled()
        hs.fail(Match(path="/join/"), Respond(502, text="Bad gateway"), times=2)
        await bot.hear(anna.create_room(invite=[bot.me]), 1)
        await bot.settled()
        assert len(bot.spaces_of(anna)) == 1
