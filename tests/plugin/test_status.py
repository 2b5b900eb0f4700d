"""The status page: who may look, what they see, and that looking changes nothing."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeroom.replies import status as replies
from homeroom.status_page import snapshot
from tests.fake import FakeHomeserver
from tests.fake.faults import Match, Respond
from tests.plugin.harness import until
from tests.plugin.status_page import (
    CONFIG,
    TOKEN,
    cookie,
    page_of,
    require_armour,
    sign_in,
    status_of,
)
from tests.plugin.web import Web

HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}{% raw %}",
    "direction": "\u202egnp.exe\u202c \u2067one\u2066 \u200f\u061cthe other way",
    "lines": "one\ntwo\r\u2028three\x00\x1b[31m\ufeff",
    "length": "x" * 10_000,
}


# What one sees


@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_hostile_name_is_just_text(hs: FakeHomeserver, tmp_path: Path, kind: str) -> None:
    anna = hs.user("anna")
    name = HOSTILE[kind]
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.set_state(chat_id, "m.room.name", {"name": name})
        await bot.settled()
        html = (await web.get(token=TOKEN)).text
        (shown,) = re.findall(r'<bdi class="name">(.*?)</bdi>', html, re.DOTALL)
        assert len(shown) <= 80 * 5
        assert not re.search(
            "[<>\"'\x00-\x1f\x7f\u061c\u200f\u2028\u202a-\u202e\u2066-\u2069\ufeff]", shown
        )
        assert "<script" not in html
        assert "49" not in shown
        assert len(html) < 60_000
        (home,) = (await status_of(web))["homes"]
        (chat,) = home["chats"]
        assert 0 < len(chat["name"]) <= 80
        assert chat["name"].isprintable()
        # What is searched for comes back in the field, and is just text as well.
        html = (await web.get("?q=%22%3E%3Cscript%3E%E2%80%AE", token=TOKEN)).text
        assert "<script" not in html
        assert 'value="&#34;&gt;&lt;script&gt;' in html


async def test_homes_are_shown_with_their_chats_and_found(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    config = f"{CONFIG}\nrooms: {{initial_chats: [Work, Play]}}"
    async with page_of(hs, tmp_path, config=config) as (bot, web):
        for user in (bert, anna):
            await bot.onboard(user)
        work, play = bot.chats_of(anna)
        await bot.ask(anna, play, "!chat archive")
        await bot.settled()
        status = await status_of(web)
        assert status["condition"] == "ok"
        counts = {"homes": 2, "chats": 4, "active": 3, "archived": 1, "left": 0, "replaced": 0}
        assert status["counts"] == {**counts, "findings": 0, "unreadable": 0}
        anna_home, bert_home = status["homes"]
        assert (anna_home["owner"], bert_home["owner"]) == (anna.user_id, bert.user_id)
        assert anna_home["space_id"] == bot.space_of(anna)
        heard = anna_home["chats"][1].pop("last_activity")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", heard)
        assert anna_home["chats"] == [
            {
                "chat_id": "C1",
                "name": "Work",
                "status": "active",
                "room_id": work,
                "platform_chat_id": bot.key(work),
                "last_activity": None,
            },
            {
                "chat_id": "C2",
                "name": "Play",
                "status": "archived",
                "room_id": play,
                "platform_chat_id": bot.key(play),
            },
        ]

        async def found(query: str) -> list[str]:
            homes = (await status_of(web, query))["homes"]
            return [chat["room_id"] for home in homes for chat in home["chats"]]

        others = bot.chats_of(bert)
        assert await found("?q=ANNA") == [work, play]
        assert await found("?q=play+anna") == [play]
        assert await found(f"?q={bot.key(others[0])}") == [others[0]]
        assert await found("?status=archived") == [play]
        assert await found("?q=nobody") == []
        assert await found("?q=%00&status=odd&page=-1") == []
        assert await found("?status=odd&page=999999999999") == [work, play, *others]

        # After a restart the store still knows when something was said.
        await bot.restart()
        assert (await status_of(web, "?q=play+anna"))["homes"][0]["chats"][0]["last_activity"]


async def test_findings_say_what_to_do(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.leave(chat_id)
        await bot.settled()
        for _ in range(2):
            (group,) = (await status_of(web))["findings"]
            assert (group["kind"], group["count"], group["of_homes"]) == ("owner-left", 1, 1)
            assert group["rooms"][0]["room_id"] == chat_id
            html = (await web.get(token=TOKEN)).text
            assert "Its owner left or was removed." in html
            assert "They are not invited again by themselves; they can invite me" in html
            await bot.restart()
            await bot.settled()  # what was found before is known when everything was looked at
        hs.user("bot").invite(chat_id, anna)
        anna.join(chat_id)
        await bot.settled()
        assert (await status_of(web))["findings"] == []


@pytest.mark.usefixtures("unverified")
async def test_past_reconciles_survive_a_restart_and_are_bounded(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        await bot.stop()
        bot.invalidate_checkpoint()
        await bot.start()
        await bot.stop()
        bot.alter("UPDATE chats SET name = 'Other'")
        await bot.start()
        past = (await status_of(web))["reconciles"]
        assert [(one["rooms"], one["adopted"], one["updated"]) for one in past] == [
            (2, 0, 1),  # the checkpoint in the account data made a whole scan unnecessary
            (3, 0, 0),
            (0, 0, 0),
        ]
        html = (await web.get(token=TOKEN)).text
        assert html.count('class="drift"') == 1
        assert html.count('class="same"') == 2
        await bot.stop()
        bot.alter(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200)"
            " INSERT INTO reconciles SELECT n, 5, 1, 0, 0, 0, 0, 0, 0 FROM n"
        )
        await bot.start()
        assert len((await status_of(web))["reconciles"]) == 50
        assert len(bot.query("SELECT * FROM reconciles")) == 50


# What machines ask


async def test_healthz_has_one_word_for_everything(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = hs.user("admin")

    async def health(web: Web) -> tuple[int, str]:
        answer = await web.get("healthz")
        require_armour(answer)
        return answer.status, answer.text

    async with page_of(hs, tmp_path) as (bot, web):
        assert await health(web) == (200, "ok\n")
        room_id = admin.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)
        await bot.ask(admin, room_id, "!reset local")
        assert await health(web) == (503, "paused\n")
        assert "Paused by !reset" in (await web.get(token=TOKEN)).text
        await bot.ask(admin, room_id, "!reconcile")
        assert await health(web) == (200, "ok\n")
        with monkeypatch.context() as patch:
            patch.setattr(snapshot, "SILENT_AFTER", -1_000_000)
            assert await health(web) == (503, "silent\n")

        await bot.stop()
        bot.wipe()  # and with it the last good settings
        bot.config = f"{CONFIG}\nlimits: {{homes: 0}}"
        await bot.start()
        assert await health(web) == (503, "settings\n")
        html = (await web.get(token=TOKEN)).text
        assert "<code>limits.homes</code>: found <bdi>0</bdi>" in html
        await bot.configure(CONFIG)
        await until("an answer", lambda: bot.plugin and bot.app.startup.opened_at)
        assert await health(web) == (200, "ok\n")


async def test_the_page_says_why_nothing_goes(hs: FakeHomeserver, tmp_path: Path) -> None:
    fault = hs.fail(Match(path="joined_rooms"), Respond(500, {}), times=None)
    config = f"{CONFIG}\nreconcile: {{start_timeout: 0}}"
    async with page_of(hs, tmp_path, config=config) as (bot, web):
        assert (await web.get("healthz")).text == "reconciling\n"
        await until("a failure", lambda: bot.plugin and bot.app.reconciler.failure)
        status = await status_of(web)
        assert status["condition"] == "reconciling"
        assert status["homeserver"]["failures"] > 0
        assert "HTTP status 500" in status["homeserver"]["failure"]
        assert "HTTP status 500" in status["reconcile_failure"]["reason"]
        html = (await web.get(token=TOKEN)).text
        assert "The last attempt to reconcile failed" in html
        fault.cancel()
        await until("open doors", lambda: bot.plugin and bot.app.startup.opened_at)
        status = await status_of(web)
        assert (status["condition"], status["reconcile_failure"]) == ("ok", None)


async def test_a_room_that_waits_is_named_with_its_reason(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.settled()
        await bot.stop()
        for number in range(120):
            anna.send(chat_id, f"{number}")
        broken = Respond(500, {"errcode": "M_UNKNOWN", "error": "Internal server error"})
        fault = hs.fail(Match(path=f"{chat_id}/messages"), broken, times=None)
        await bot.start()
        await until("a lane that waits", lambda: bot.app.lanes.waiting)
        status = await status_of(web)
        (room,) = status["isolation"]["rooms"]
        assert room["room_id"] == chat_id
        assert "HTTP status 500" in room["why"]
        assert status["condition"] == "ok"
        assert (
            "1 room waits; nobody else does"
            in (await web.get("", headers=cookie(await sign_in(web)))).text
        )
        fault.cancel()


async def test_metrics_are_prometheus_own(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        await bot.ask(anna, bot.chats_of(anna)[0], "!chat list")
        await bot.settled()
        text = (await web.get("metrics", token=TOKEN)).text
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert samples["homeroom_condition", "ok"] == 1
        assert samples["homeroom_condition", "paused"] == 0
        assert samples["homeroom_homes",] == 1
        assert samples["homeroom_chats", "active"] == 1
        assert samples["homeroom_messages_done_total",] >= 1
        assert samples["homeroom_position_age_seconds",] == 0
        assert abs(samples["homeroom_sync_timestamp_seconds",] - time.time()) < 60
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        answer = await web.get("metrics", token=TOKEN)
        assert (answer.status, answer.text) == (404, replies.NO_METRICS)
