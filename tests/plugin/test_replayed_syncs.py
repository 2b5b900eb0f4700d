"""A homeserver that gives old answers to `/sync` once more: Synapse does for two minutes.

A maubot that has lost its own place asks what it has asked before, and so is told again, answer
by answer, as if it happened now, what has long been said.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mautrix.client.state_store import MemorySyncStore

from homeroom.delivery import lanes
from tests.fake import FakeHomeserver, Hang, Match, Recorded
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running, until
from tests.plugin.speech import quick_edits  # noqa: F401 (a fixture for all of these)
from tests.plugin.test_again import edit
from tests.plugin.test_stopping import last_answer, react


def lose_everything(bot: Bot) -> None:
    """Lose maubot's whole folder: its own place, and the plugin's database."""
    bot.wipe()
    bot._sync_store = MemorySyncStore()


async def test_what_is_told_again_is_not_answered_again(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """The second of maubot's requests is late, so that the plugin is ready by then."""
    hs.service.remember_syncs = True
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        for text in ("one", "two", "!chat new Trips", "three"):
            await bot.ask(anna, chat_id, text)
        await bot.settled()
        tables = bot.tables()
        await bot.stop()
        lose_everything(bot)
        anna.send(chat_id, "while it was away")

        def is_late(request: Recorded) -> bool:
            return bot.is_long_poll(request) and "since" in request.query

        slow = hs.fail(Match(when=is_late), Hang())
        await bot.start()
        slow.release()
        await bot.ask(anna, chat_id, "afterwards")
        await bot.settled()
        assert agent.texts == ["one", "two", "three", "while it was away", "afterwards"]
        assert bot.tables() == tables


@pytest.mark.parametrize(
    ("is_ready", "events_at_most"),
    [(False, lanes.EVENTS_AT_MOST), (True, lanes.EVENTS_AT_MOST), (True, 1)],
)
async def test_the_plugin_may_start_anywhere_in_what_is_told_again(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_ready: bool,
    events_at_most: int,
) -> None:
    """maubot's sync is ahead of the plugin by any number of answers, as on a slow machine.

    Args:
        is_ready: the next answer comes after the plugin's start, else while it starts.
        events_at_most: what a lane keeps; more is read again.
    """
    monkeypatch.setattr(lanes, "EVENTS_AT_MOST", events_at_most)
    hs.service.remember_syncs = True
    anna = hs.user("anna")
    async with running(hs, tmp_path, platform=(agent := Agent())) as bot:
        direct = anna.create_room(invite=[bot.me])
        await bot.hear(direct, 1)
        await bot.settled()
        for invited in hs.invited(anna.user_id):
            anna.join(invited)
        await bot.settled()
        (chat_id,) = bot.chats_of(anna)
        for text in ("one", "two", "!chat new Trips"):
            await bot.ask(anna, chat_id, text)
        await bot.ask(anna, direct, "!chat new Direct")
        await bot.ask(anna, chat_id, "three")
        texts = ["one", "two", "three"]
        question = next(
            event.event_id
            for event in hs.timeline(chat_id)
            if event.content.get("body") == "three"
        )
        for ask_again, text in (
            (lambda: anna.send(chat_id, "!again"), "three"),
            (lambda: react(anna, chat_id, last_answer(bot, chat_id), "🔁"), "three"),
            (lambda: edit(anna, chat_id, question, "three, edited"), "three, edited"),
        ):
            ask_again()
            texts.append(text)
            await until(text, lambda: len(agent.texts) == len(texts))
            await bot.settled()
        tables = bot.tables()
        assert len(tables["chats"]) == 3
        start_plugin = bot.start_plugin
        for life in range(1, 13):
            await bot.stop()
            lose_everything(bot)
            texts.append(f"while it was away {life}")
            anna.send(chat_id, texts[-1])
            slow = hs.fail(Match(when=bot.is_long_poll), Hang(), skip=life)

            async def start_plugin_late() -> None:
                await until("maubot's sync", lambda: slow.hits)  # noqa: B023
                if not is_ready:
                    slow.release()  # noqa: B023
                await start_plugin()

            bot.start_plugin = start_plugin_late  # type: ignore[method-assign]
            await bot.start()
            slow.release()
            await until(texts[-1], lambda: texts[-1] in agent.texts)
            texts.append(f"afterwards {life}")
            await bot.ask(anna, chat_id, texts[-1])
            await bot.settled()
            assert agent.texts == texts, life
            assert bot.tables() == tables
