"""Bad settings after a restart and after an upgrade, as people and administrators see them.

`tests/config/test_settings_matrix.py` tries every key.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from homeroom import replies
from tests.fake import FakeHomeserver
from tests.plugin.harness import running
from tests.plugin.web import served

TOKEN = "a-token-of-the-tests-only"
GOOD = f'admins: ["@admin:fake.test"]\nstatus: {{token: "{TOKEN}"}}\n'
BAD = {
    "platform.kind": f"{GOOD}platform: {{kind: webhok}}",
    "limits.homes": f"{GOOD}limits: {{homes: 0}}",
    "the whole text": "- no settings",
}
RELEASED = Path(__file__).parents[1] / "storage" / "released"


async def test_the_last_good_settings_are_in_force_after_a_restart(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, admin = hs.user("anna"), hs.user("admin")
    async with running(hs, tmp_path, config=GOOD) as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        office = admin.create_room(invite=[bot.me])
        await bot.hear(office, 1)
        for key, text in BAD.items():
            caplog.clear()
            bot.config = text
            await bot.restart()
            assert await bot.ask(anna, chat, key) == bot.echo(chat, key)
            (error,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
            assert error.startswith(
                "The settings cannot be used, so Homeroom goes on with the last good settings:"
                f"\n- {key}: found "
            )
            async with served(bot) as web:
                assert (await web.get("healthz")).text == "ok\n"
                page = (await web.get(token=TOKEN)).text
                assert "The last good ones are in force." in page
                assert f"<code>{key}</code>: found" in page
            report = await bot.ask(admin, office, "!reconcile --dry-run")
            assert "**The saved settings cannot be used**, the last good ones" in report
            assert f"`{key}`: found" in report


@pytest.mark.parametrize("version", ["0.1.0", "0.2.1"])
async def test_without_any_good_settings_whoever_asks_is_told(
    hs: FakeHomeserver, tmp_path: Path, version: str
) -> None:
    """These versions kept none; what they stored is shown, as stored."""
    anna, admin = hs.user("anna"), hs.user("admin")
    async with running(hs, tmp_path, config=GOOD) as bot:
        room = anna.create_room(invite=[bot.me])
        office = admin.create_room(invite=[bot.me])
        await bot.hear(room, 1)
        await bot.hear(office, 1)
        await bot.stop()
        bot.wipe()
        with closing(sqlite3.connect(bot.database_path)) as database, database:
            database.executescript((RELEASED / f"{version}.sqlite.sql").read_text())
        bot.config = BAD["platform.kind"]
        await bot.start()
        assert await bot.ask(anna, room, "Are you there?") == replies.NO_SETTINGS
        anna.send(room, "Hello?")
        async with served(bot) as web:
            assert (await web.get("healthz")).text == "settings\n"
            page = (await web.get(token=TOKEN)).text
            assert "<code>platform.kind</code>: found <bdi>&#34;webhok&#34;</bdi>" in page
            assert '<span class="figure">1</span> home' in page
            assert "As stored. They were not compared with the homeserver yet." in page
            assert "Nothing is wrong" not in page
        assert "`platform.kind`" in await bot.ask(admin, office, "!reconcile")
        await bot.settled()
        assert bot.words(room).count(replies.NO_SETTINGS) == 1
        await bot.configure(GOOD)
        assert (await bot.ask(admin, office, "!reconcile")).startswith("**Reconciled**")
