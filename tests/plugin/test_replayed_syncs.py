"""A homeserver that gives old answers to `/sync` once more: Synapse does for two minutes.

A maubot that has lost its own place asks what it has asked before, and so is told again, answer
by answer, as if it happened now, what has long been said.
"""

from __future__ import annotations

from pathlib import Path

from mautrix.client.state_store import MemorySyncStore

from tests.fake import FakeHomeserver, Hang, Match, Recorded
from tests.plugin.agent import Agent
from tests.plugin.harness import Bot, running


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
