"""Hostile members at the front door: nothing stops the bot, nobody is held up, no bug is logged.

Issue 4, "Must be seen", 7. What a homeserver checks less than Synapse could pass on comes in here;
`tests/integration/test_hostile_member.py` is the same with real servers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from homeroom.domain.content_keys import ANSWERS, NOTHING
from tests.domain import hostile
from tests.domain.test_fuzz import EVENT_TYPES, KEYS, places, replaced
from tests.fake import FakeHomeserver
from tests.plugin.agent import Agent
from tests.plugin.harness import running

MESSAGE: dict[str, Any] = {
    "msgtype": "m.text",
    "body": "!chat archive",
    "m.relates_to": {
        "rel_type": "m.thread",
        "event_id": "$root",
        "m.in_reply_to": {"event_id": "$other"},
    },
    "m.mentions": {"user_ids": ["@anna:fake.test"]},
    "dev.homeroom.answers": "$x",
}
HARD_TO_RENDER = {
    "quotes in quotes": "> " * 7_000,
    "lists in lists": "1. " * 5_000,
    "links that do not end": "[a](" * 3_700,
    "brackets": "([]" * 5_000,
    "what HTML makes longer": '"' * 15_000,
    "four bytes each": "\U0001f600" * 15_000,
    "three bytes each": "\u202e" * 15_000,
    "control characters": "\x01" * 9_000,
    "more than one event": "word " * 12_000,
}


@pytest.mark.parametrize("answer", ["owner", "members"])
async def test_odd_events_stop_nothing(hs: FakeHomeserver, tmp_path: Path, answer: str) -> None:
    anna, mallory = hs.user("anna"), hs.user("mallory")
    async with running(hs, tmp_path, config=f"access: {{answer: {answer}}}") as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, mallory)
        mallory.join(chat_id)
        before = bot.tables()

        def force(kind: str, content: Any) -> None:
            hs.world.force(chat_id, kind, content, sender=mallory.user_id, state_key=None)

        for name, strange in {**hostile.STRANGE, "deep": hostile.nested(100)}.items():
            if name.startswith("surrogate"):
                continue  # the fake sends no escapes; `tests/domain/test_fuzz.py` has these
            for path in places(MESSAGE):
                content = replaced(MESSAGE, path, strange)
                # (A body that is no text makes mautrix itself log a traceback.)
                if isinstance(content, dict) and isinstance(content.get("body"), str):
                    force("m.room.message", content)
        for kind in EVENT_TYPES:
            if kind != "m.room.message":
                force(kind, dict.fromkeys(KEYS, hostile.nested(100)))
        await bot.settled()
        own = anna.send(chat_id, "Hello")
        await bot.settled()
        assert bot.said(chat_id)[-1]["body"] == bot.echo(chat_id, "Hello")
        if answer == "owner":
            assert {content[ANSWERS] for content in bot.said(chat_id)} == {NOTHING, own}
            assert len(bot.said(chat_id)) == 2  # the one notice that talk of others costs
        assert bot.tables() == before


@pytest.mark.parametrize("text", HARD_TO_RENDER.values(), ids=HARD_TO_RENDER.keys())
async def test_whatever_is_said_fits_and_is_said(
    hs: FakeHomeserver, tmp_path: Path, text: str
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.send(chat_id, text)
        await bot.settled()
        whole = "".join(bot.words(chat_id))
        assert whole.endswith(f"({bot.key(chat_id)})")
        assert "cut off" not in whole
        kept = {c for c in text if c.isprintable() and not c.isspace()}
        assert sum(map(whole.count, kept)) >= sum(map(text.count, kept))
        anna.send(chat_id, "still there?")
        await bot.settled()
        assert bot.words(chat_id)[-1] == bot.echo(chat_id, "still there?")


async def test_who_is_not_answered_takes_no_place(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, mallory = hs.user("anna"), hs.user("mallory")
    agent = Agent()
    config = "limits: {waiting_messages: 3}"
    async with running(hs, tmp_path, platform=agent, config=config) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.invite(chat_id, mallory)
        mallory.join(chat_id)
        agent._answer = agent.when_let_go
        for number in range(30):
            mallory.send(chat_id, f"!chat new {number}")
            mallory.send(chat_id, f"me {number}")
        for number in range(3):
            anna.send(chat_id, str(number))
        agent.let_go.set()
        await bot.hear(chat_id, 4)
        await bot.settled()
        answers = ["re: 0", "re: 1", "re: 2"]
        assert sorted(bot.words(chat_id)) == [replies.only_the_owner(may_share=False), *answers]


async def test_who_writes_much_takes_nobody_elses_place(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert, mallory = (hs.user(name) for name in ("anna", "bert", "mallory"))
    agent = Agent()
    config = "limits: {waiting_messages: 3, parallel_turns: 2}\naccess: {answer: members}"
    async with running(hs, tmp_path, platform=agent, config=config) as bot:
        for person in (anna, bert):
            await bot.onboard(person)
        (chat_id,), (other,) = bot.chats_of(anna), bot.chats_of(bert)
        anna.invite(chat_id, mallory)
        mallory.join(chat_id)
        agent._answer = agent.when_let_go
        for number in range(50):
            mallory.send(chat_id, f"me {number}")
        assert await bot.hear(chat_id, 1) == [replies.TOO_MANY_WAITING]
        for number in range(3):
            anna.send(chat_id, str(number))
        agent.let_go.set()
        assert await bot.ask(bert, other, "Hello") == "re: Hello"
        await bot.hear(chat_id, 7)
        await bot.settled()
        assert bot.words(chat_id)[1:] == [
            *(f"re: me {number}" for number in range(3)),
            *(f"re: {number}" for number in range(3)),
        ]


async def test_there_are_never_more_homes_than_the_settings_allow(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """However many people come at once."""
    people = [hs.user(f"user{number}") for number in range(6)]
    async with running(hs, tmp_path, config="limits: {homes: 2}") as bot:
        asked = [person.create_room(invite=[bot.me]) for person in people]
        answers = await asyncio.gather(*(bot.hear(room_id, 1) for room_id in asked))
        await bot.settled()
        assert sum(words == [replies.too_many_homes()] for words in answers) == 4
        assert len([person for person in people if bot.spaces_of(person)]) == 2
