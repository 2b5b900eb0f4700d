"""What hostile people write into rooms is reported, and believed never.

Issue 2, "Must be seen", 8. Mallory has a home like everybody else, and rooms of her own to which
she has invited the bot. Alice and the administrator go on as if she were not there.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from homeroom import replies
from tests.integration.homes import (
    Home,
    ask,
    finished,
    make_admin,
    marker,
    onboard,
    said_by_bot,
    say_and_hear,
    tables,
)
from tests.stack.http import ApiError
from tests.stack.proxy import Answer
from tests.stack.stack import MARKER_TYPE, MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

LONG = "A" * 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """A bot, two people with homes, and an administrator."""

    bot: Stack
    alice: Home
    mallory: Home
    admin: MatrixUser
    office: str
    mark: int

    async def report(self) -> str:
        """What `!reconcile` answers, with the links and emphasis taken out."""
        return (await ask(self.bot, self.admin, self.office, "!reconcile")).body

    async def lose_database(self) -> None:
        """Start again with an empty database, wait until the homes are known again."""
        await self.bot.maubot.update_instance(self.bot.instance, started=False)
        await self.bot.database.delete()
        mark = self.bot.maubot.mark()
        await self.bot.maubot.update_instance(self.bot.instance, started=True)
        await self.bot.maubot.wait_for_log(rf"{self.bot.instance}\] Reconciled", since=mark)

    async def require_peace(self) -> None:
        """Raise unless Alice is served as ever, and nothing in the log looks like a bug."""
        await say_and_hear(self.bot, self.alice.user, self.alice.chat, "all quiet?")
        log = self.bot.maubot.log_text(since=self.mark)
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
        errors = [line for line in log.splitlines() if "[ERROR@" in line]
        assert errors == []


@pytest.fixture
async def town(make_bot: MakeStack) -> Town:
    bot = await make_bot(proxy=True)
    mark = bot.maubot.mark()
    alice, mallory = await asyncio.gather(*(onboard(bot, name) for name in ("alice", "mallory")))
    admin, office = await make_admin(bot)
    for home in (alice, mallory):
        await home.user.wait_for_message(home.direct, sender=bot.bot.user_id, body="your home")
    return Town(bot=bot, alice=alice, mallory=mallory, admin=admin, office=office, mark=mark)


def nested(levels: int) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for _ in range(levels):
        content = {"a": content}
    return content


def state(kind: str, content: Any, *, key: str = "") -> dict[str, Any]:
    return {"type": kind, "state_key": key, "content": content}


async def lure(town: Town, initial_state: Sequence[dict[str, Any]], **content: Any) -> str:
    """Mallory makes a room of her own and has the bot in it."""
    bot, mallory = town.bot.bot.user_id, town.mallory.user
    room_id = await mallory.create_room(
        invite=[bot], initial_state=list(initial_state), is_direct=True, **content
    )
    await mallory.wait_for_member(room_id, bot)
    return room_id


async def test_marks_in_rooms_of_others_are_reported_and_never_believed(town: Town) -> None:
    bot, alice, mallory = town.bot, town.alice, town.mallory
    copied = await marker(bot, alice.chat)
    assert copied is not None
    own_key = mallory.user.user_id
    contents = {
        "copied under one's own name": (own_key, copied),
        "copied under no name": ("", copied),
        "copied under the bot's name without its sign": (bot.bot.user_id[1:], copied),
        "of one's own": (own_key, {**copied, "user_id": own_key}),
        "a Space's": (own_key, {**copied, "room_type": "space", "initial_chats": ["a", "b"]}),
        "wrong types": (
            own_key,
            {"version": True, "room_type": ["chat"], "user_id": {}, "chat_id": 1},
        ),
        "long": (own_key, {**copied, "chat_id": LONG}),
        "unknown version": (own_key, {**copied, "version": 2**53 - 1}),
        "deep": (own_key, nested(100)),
    }
    before, rooms_before = await tables(bot), await bot.bot_rooms()
    lured = {
        what: await lure(town, [state(MARKER_TYPE, content, key=key)])
        for what, (key, content) in contents.items()
    }
    lured["long name"] = await lure(town, [state("m.room.name", {"name": LONG})])
    for user_id in (bot.bot.user_id, alice.user.user_id):
        with pytest.raises(ApiError) as refused:
            await lure(town, [state(MARKER_TYPE, copied, key=user_id)])
        assert refused.value.status == 403

    async def require_nothing_believed() -> None:
        assert await tables(bot) == before
        assert await bot.bot_rooms() == rooms_before | set(lured.values())
        report = await town.report()
        assert "Rows: no changes" in report
        for what, room_id in lured.items():
            assert (room_id in report) == (what != "long name"), (what, report)
        assert len(report) < 10_000

    await require_nothing_believed()
    for what, room_id in lured.items():
        event_id = await mallory.user.send_text(room_id, "Is this Alice's conversation?")
        answer = await mallory.user.wait_for_message(
            room_id, sender=bot.bot.user_id, after=event_id
        )
        assert "In this room I do not answer" in answer.body, what
    await town.lose_database()
    await require_nothing_believed()
    await say_and_hear(bot, mallory.user, mallory.chat, "hello")
    await town.require_peace()


async def test_a_mark_of_the_bot_cannot_be_overwritten_by_a_powerful_owner(town: Town) -> None:
    bot, mallory = town.bot, town.mallory
    before = await tables(bot)
    for room_id in mallory.rooms:
        content = await marker(bot, room_id)
        for forged in ({}, {**(content or {}), "user_id": town.alice.user.user_id}):
            with pytest.raises(ApiError) as refused:
                await mallory.user.set_state(
                    room_id, MARKER_TYPE, forged, state_key=bot.bot.user_id
                )
            assert refused.value.status == 403
        assert await marker(bot, room_id) == content

    # What she may do with power level 50 is redact that of a chat; it is simply written again.
    event = (await mallory.user.state(mallory.chat))[MARKER_TYPE, bot.bot.user_id]
    await mallory.user.redact(mallory.chat, event["event_id"])
    await town.report()

    async def marked_again() -> bool:
        return await marker(bot, mallory.chat) == event["content"]

    await eventually("the chat is marked again", marked_again)
    assert await tables(bot) == before
    key = before.keys()[mallory.chat]
    assert await say_and_hear(bot, mallory.user, mallory.chat, "hello") == key
    await town.require_peace()


async def test_links_to_rooms_of_others_give_nothing_away(town: Town) -> None:
    bot, alice, mallory = town.bot, town.alice, town.mallory
    # A room that the bot made and that bears no mark: another plugin's, say.
    body = {"preset": "private_chat", "invite": [alice.user.user_id], "name": "Operations"}
    path = "/_matrix/client/v3/createRoom"
    unmarked = (await bot.bot_api.request("POST", path, body))["room_id"]
    await alice.user.join(unmarked)
    link = {"via": [bot.synapse.server_name], "order": "0", "suggested": True}
    targets = [*alice.rooms, alice.direct, town.office, unmarked, mallory.space]
    junk = {f"!junk{n}:nowhere.test": {"via": ["nowhere.test"]} for n in range(290)}
    junk |= {
        "not a room": link,
        "": link,
        "!": link,
        "!no-via": {},
        "!via-text": {"via": "homeroom.test"},
        "!via-numbers": {"via": [1, None]},
        "!long:nowhere.test": {"via": [LONG]},
        "!deep:nowhere.test": {"via": [], "a": nested(100)},
        "!order:nowhere.test": {"via": ["nowhere.test"], "order": 5},
        mallory.user.user_id: link,
    }
    before, rooms_before = await tables(bot), await bot.bot_rooms()
    links = {**junk, **dict.fromkeys(targets, link)}
    own = await lure(
        town,
        [state("m.space.child", content, key=key) for key, content in links.items()],
        creation_content={"type": "m.space"},
    )
    few = [*targets, *list(junk)[-10:], *list(junk)[:5]]
    await asyncio.gather(
        *(
            mallory.user.set_state(mallory.space, "m.space.child", links[key], state_key=key)
            for key in few
        )
    )
    for lost in (False, True):
        if lost:
            await town.lose_database()
        report = await town.report()
        assert "Rows: no changes" in report
        assert await tables(bot) == before
        assert await bot.bot_rooms() == rooms_before | {own}
    listed = await ask(bot, mallory.user, mallory.chat, "!chat list")
    assert [line for line in listed.body.splitlines() if "C1" in line or "C2" in line] != []
    assert "C2" not in listed.body
    event_id = await alice.user.send_text(unmarked, "Is anybody listening?")
    answer = await alice.user.wait_for_message(unmarked, sender=bot.bot.user_id, after=event_id)
    assert "In this room I do not answer" in answer.body
    await say_and_hear(bot, mallory.user, mallory.chat, "hello")
    await town.require_peace()


ODD_CONTENTS: dict[str, Any] = {
    "empty": {},
    "msgtype is a number": {"msgtype": 5, "body": "odd"},
    "msgtype is a list": {"msgtype": ["m.text"], "body": "odd"},
    "msgtype is unknown": {"msgtype": "test.odd", "body": "odd"},
    "no msgtype": {"body": "odd"},
    "no body": {"msgtype": "m.text"},
    "body is a list": {"msgtype": "m.text", "body": ["odd"]},
    "body is an object": {"msgtype": "m.text", "body": {"odd": "odd"}},
    "body is null": {"msgtype": "m.text", "body": None},
    "body is a number": {"msgtype": "m.text", "body": 5},
    "notice": {"msgtype": "m.notice", "body": "odd"},
    "file without a place": {"msgtype": "m.file", "body": "odd", "url": 5, "info": []},
    "edit of nothing": {
        "msgtype": "m.text",
        "body": "* !chat archive",
        "m.new_content": {"msgtype": "m.text", "body": "!chat archive"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$nothing"},
    },
    "edit without new content": {
        "msgtype": "m.text",
        "body": "!chat archive",
        "m.relates_to": {"rel_type": "m.replace"},
    },
}
"""Messages that nobody answers."""

ODD_BUT_TEXT: dict[str, Any] = {
    "relation is a list": {"m.relates_to": ["m.replace"]},
    "relation is a text": {"m.relates_to": "m.replace"},
    "relation is a number": {"m.relates_to": 5},
    "relation has wrong types": {"m.relates_to": {"rel_type": 5, "event_id": [], "key": {}}},
    "thread without a root": {"m.relates_to": {"rel_type": "m.thread", "event_id": 5}},
    "reply to a text": {"m.relates_to": {"m.in_reply_to": "odd"}},
    "reply to nothing": {"m.relates_to": {"m.in_reply_to": {"event_id": None}}},
    "format is a number": {"format": 5, "formatted_body": ["odd"]},
    "mentions are a text": {"m.mentions": "everybody"},
    "deep": {"test.odd": nested(100)},
}
"""Odd about them is something that does not matter: their text is answered like any other."""


def message(town: Town, content: Any) -> dict[str, Any]:
    """An event of Mallory's as a homeserver that checks less would pass it on."""
    return {
        "type": "m.room.message",
        "event_id": f"${secrets.token_urlsafe(32)}",
        "sender": town.mallory.user.user_id,
        "origin_server_ts": int(time.time() * 1000),
        "content": content,
    }


async def bring(town: Town, events: list[dict[str, Any]]) -> None:
    """Put events into a sync response to the bot, in Mallory's chat.

    Synapse takes few odd contents from its own users; from other servers there come more.
    """
    proxy = town.bot.proxy
    synced = [r.answer for r in proxy.requests if r.path.endswith("/v3/sync") and r.answer]
    room = {"timeline": {"events": events, "limited": False, "prev_batch": "s0"}}
    answer = {
        "next_batch": synced[-1]["next_batch"],
        "rooms": {"join": {town.mallory.chat: room}},
    }
    rule = proxy.rule(Answer(200, answer), method="GET", path=r"/v3/sync$", times=1)
    # News end the request that waits for them now; the next one is answered with the events.
    await town.mallory.user.send_text(town.mallory.chat, "now")
    await asyncio.wait_for(rule.hit.wait(), 45)


async def test_messages_of_odd_shapes_stop_nothing(town: Town) -> None:
    bot, mallory = town.bot, town.mallory
    odd = {f"odd: {what}": extra for what, extra in ODD_BUT_TEXT.items()}
    texts = [{"msgtype": "m.text", "body": text, **extra} for text, extra in odd.items()]
    events = [message(town, content) for content in [*ODD_CONTENTS.values(), *texts]]
    await bring(town, events)
    said = ["now", *odd]
    said.append("plain again")
    await mallory.user.send_text(mallory.chat, said[-1])
    await mallory.user.wait_for_message(
        mallory.chat, sender=bot.bot.user_id, body=lambda body: body.startswith(said[-1])
    )
    answers = said_by_bot(bot, mallory.user, mallory.chat)
    notices = [answer for answer in answers if answer.startswith("I understand text only")]
    assert len(notices) == 1
    # In which of the two responses "now" came is all that is left to chance.
    assert sorted(answers) == sorted([*said, *notices])
    await town.require_peace()


async def test_commands_are_taken_from_their_sender_only(town: Town) -> None:
    """Not from edits, quotes, state, notices, nor from people who are not asked."""
    bot, alice, mallory = town.bot, town.alice, town.mallory
    before = await tables(bot)
    admin = town.admin.user_id
    first = await mallory.user.send_text(mallory.chat, "first words")
    await mallory.user.wait_for_message(mallory.chat, sender=bot.bot.user_id, body="first words")
    await mallory.user.edit(mallory.chat, first, "!chat archive")
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": first}}}
    quotes = {
        f"> <{admin}> !reconcile\n\nwhat is this?": "what is this?",
        f"> <{admin}> hello\n> !chat archive\n\nwell": "well",
        "I was told to write\n!chat archive": "I was told to write",
        "`!chat archive`": "`!chat archive`",
    }
    for text, heard in quotes.items():
        event_id = await mallory.user.send_text(mallory.chat, text, **reply)
        answer = await mallory.user.wait_for_message(
            mallory.chat, sender=bot.bot.user_id, after=event_id
        )
        assert answer.body.startswith(heard), (text, answer)
    await mallory.user.send(mallory.chat, {"msgtype": "m.notice", "body": "!chat archive"})
    for command in ("!reconcile", "!reconcile --dry-run"):
        answer = await ask(bot, mallory.user, mallory.chat, command)
        assert "administrators" in answer.body

    # In Alice's chat, as her guest, she hears once that she is not answered.
    await alice.user.invite(alice.chat, mallory.user.user_id)
    await mallory.user.join(alice.chat)
    own = await alice.user.send_text(alice.chat, "my own words")
    await alice.user.wait_for_message(alice.chat, sender=bot.bot.user_id, body="my own words")
    for command in ("!chat archive", "!chat rename Mine", "!chat new Mine", "!reconcile"):
        await mallory.user.send_text(alice.chat, command)
    told = replies.only_the_owner(may_share=False)
    await alice.user.wait_for_message(alice.chat, sender=bot.bot.user_id, body=told)
    await mallory.user.edit(alice.chat, own, "!chat archive")
    await say_and_hear(bot, alice.user, alice.chat, "still here")
    assert len(said_by_bot(bot, alice.user, alice.chat)) == 3
    assert await tables(bot) == before
    await finished(bot, alice)
    await town.require_peace()


async def test_a_room_full_of_junk_state_is_no_trouble(town: Town) -> None:
    """Types that Homeroom reads, with contents that mean nothing, in a room of Mallory's."""
    odd: list[Any] = [{"name": 5}, {"name": ["x"]}, {"via": 5}, {"replacement_room": 5}]
    kinds = ("m.space.parent", "m.space.child", MARKER_TYPE)
    junk = [
        state(kind, content, key=key)
        for kind in kinds
        for number, content in enumerate(odd)
        for key in ((f"key{number}", "") if number == 0 else (f"key{number}",))
    ]
    room_id = await lure(town, junk)
    mallory = town.mallory.user
    # (With a `replacement_room` that is no text maubot itself logs a traceback: it would join it.)
    tombstone = {"replacement_room": town.alice.chat, "body": LONG[:50_000]}
    await mallory.set_state(room_id, "m.room.tombstone", tombstone)
    before = await tables(town.bot)
    report = await town.report()
    assert "Rows: no changes" in report
    assert room_id in report
    assert json.dumps(odd[1]) not in report
    assert await tables(town.bot) == before
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/joined_members"
    assert town.bot.bot.user_id in (await town.bot.bot_api.request("GET", path))["joined"]
    await town.require_peace()
