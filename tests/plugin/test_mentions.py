"""An answer calls nobody, whomever it names: `m.mentions` is there where a name is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fake import FakeHomeserver, Match, Respond
from tests.plugin.speech import (  # noqa: F401 (a fixture for all of these)
    Speech,
    chatting,
    quick_edits,
    when_shown,
)


async def test_an_answer_lists_whom_it_mentions_where_it_names_somebody(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        said = list[str]()

        async def answer(text: str) -> dict[str, Any]:
            speech.say(text, None)
            anna.send(chat_id, "Hello")
            said.append(text)
            await when_shown(bot, chat_id, *said)
            await bot.settled()
            return bot.said(chat_id)[-1]

        assert "m.mentions" not in await answer("Good morning")
        assert (await answer("Good morning, Anna"))["m.mentions"] == {}
        assert (await answer("Good morning, @room"))["m.mentions"] == {}
        assert "m.mentions" not in await answer("Good morning, Bert")
        bert = hs.user("bert")
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        assert (await answer("Good evening, bert!"))["m.mentions"] == {}
        assert "m.mentions" not in await answer("Good evening, Cleo")
        hs.world.set_profile(anna.user_id, "displayname", "Cleo")
        assert (await answer("Good night, cleo"))["m.mentions"] == {}


async def test_where_nobody_knows_the_names_an_answer_says_that_it_mentions_nobody(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with chatting(hs, tmp_path, platform=(speech := Speech())) as (bot, anna, chat_id):
        fault = hs.fail(Match(path="joined_members"), Respond(500, {}), times=None)
        for text in ("One", "Two"):
            speech.say(text, None)
            anna.send(chat_id, "Hello")
        await when_shown(bot, chat_id, "One", "Two")
        assert [content["m.mentions"] for content in bot.said(chat_id)] == [{}, {}]
        assert len([each for each in hs.requests if "joined_members" in each.path]) == 1
        fault.cancel()
