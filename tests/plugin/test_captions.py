"""What is not text: a caption is answered, the rest is met with a word, then with a sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeroom import replies
from tests.fake import FakeHomeserver
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, until
from tests.plugin.speech import chatting

PICTURE: dict[str, Any] = {"msgtype": "m.image", "url": "mxc://fake.test/a", "body": "a.png"}


def reactions(bot: Bot, room_id: str) -> list[tuple[str, str]]:
    """What the bot reacted to, and how."""
    relations = [
        event.content["m.relates_to"]
        for event in bot.hs.timeline(room_id)
        if event.type == "m.reaction" and event.sender == bot.me.user_id
    ]
    return [(relation["event_id"], relation["key"]) for relation in relations]


@pytest.mark.parametrize(
    ("msgtype", "attached"),
    [
        ("m.image", "picture"),
        ("m.video", "video"),
        ("m.audio", "recording"),
        ("m.file", "file"),
    ],
)
async def test_a_caption_is_answered_with_a_sentence_about_what_is_not_seen(
    hs: FakeHomeserver, tmp_path: Path, msgtype: str, attached: str
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Agent())) as (bot, anna, chat_id):
        caption = {"body": "What is this?", "filename": "a.png"}
        anna.send(chat_id, {**PICTURE, **caption, "msgtype": msgtype})
        note = f"I cannot see the {attached} yet: this answers only what you wrote."
        assert await bot.hear(chat_id, 1) == [f"re: What is this?\n\n*{note}*"]
        assert await bot.ask(anna, chat_id, "And?") == "re: And?"
        assert agent.texts == ["What is this?", "And?"]


async def test_files_without_a_caption_get_one_line_and_then_a_sign(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(agent := Agent())) as (bot, anna, chat_id):
        anna.send(chat_id, PICTURE)
        assert await bot.hear(chat_id, 1) == [replies.ONLY_TEXT]
        second = anna.send(chat_id, {**PICTURE, "filename": "a.png"})
        third = anna.send(chat_id, {**PICTURE, "filename": "b.png", "body": " "})
        await until("the signs", lambda: len(reactions(bot, chat_id)) == 2)
        assert dict(reactions(bot, chat_id)) == {second: "❔", third: "❔"}
        await bot.stop()
        bot.wipe()
        await bot.start()
        await bot.settled()
        assert len(reactions(bot, chat_id)) == 2
        assert bot.words(chat_id) == [replies.ONLY_TEXT]
        assert agent.turns == []
