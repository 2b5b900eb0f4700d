"""The status page: who may look, what they see, and that looking changes nothing."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeroom.replies import status as replies
from homeroom.status_page import access, snapshot
from tests.fake import FakeHomeserver
from tests.fake.faults import Match, Respond
from tests.plugin.harness import Bot, running, until
from tests.plugin.web import BASE, Web, WebAnswer, served

TOKEN = "a-token-of-the-tests-only"
CONFIG = f'status: {{token: "{TOKEN}"}}\nadmins: ["@admin:fake.test"]\ndev: {{reset: true}}'
PATHS = ("", "status.json", "metrics", "healthz", "sign-in", "sign-out")
SECRET = ("", "status.json", "metrics")
NOT_BELOW = ("", "/../homeroom")
TRICKS = (
    *NOT_BELOW,
    "//",
    "/..",
    "/x/../..",
    "/%2e%2e/",
    "/..%2f..%2fstatus.json",
    "/./status.json",
    "//status.json",
    "/status.json/",
    "/status.json%00",
    "/status.json;x=y",
    "/status.json%3Fq=x",
    "/STATUS.JSON",
    "/%ff",
    "/page.html",
    "/style.css",
    "/homeroom/status_page/page.html",
)
HOSTILE = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}{% raw %}",
    "direction": "\u202egnp.exe\u202c \u2067one\u2066 \u200f\u061cthe other way",
    "lines": "one\ntwo\r\u2028three\x00\x1b[31m\ufeff",
    "length": "x" * 10_000,
}


@asynccontextmanager
async def page_of(
    hs: FakeHomeserver, path: Path, *, config: str = CONFIG
) -> AsyncIterator[tuple[Bot, Web]]:
    async with running(hs, path, config=config) as bot, served(bot) as web:
        yield bot, web


async def status_of(web: Web, query: str = "") -> Any:
    answer = await web.get(f"status.json{query}", token=TOKEN)
    assert answer.status == 200, answer
    return json.loads(answer.text)


async def sign_in(web: Web, token: str = TOKEN, **headers: str) -> WebAnswer:
    return await web.ask("POST", "sign-in", data={"token": token}, headers=headers)


def cookie(answer: WebAnswer) -> dict[str, str]:
    """What the browser would send back."""
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def require_armour(answer: WebAnswer) -> None:
    """Every answer has these headers, whatever it is."""
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    expected = {
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    assert {name: answer.headers[name] for name in expected} == expected


# Who may look


async def test_there_is_no_page_without_a_token_and_a_change_counts_at_once(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    async with page_of(hs, tmp_path, config="") as (bot, web):

        async def statuses(**how: Any) -> set[int]:
            answers = [await web.get(path, **how) for path in PATHS]
            for answer in answers:
                require_armour(answer)
            return {answer.status for answer in answers}

        assert await statuses() == {404}
        assert await statuses(token=TOKEN) == {404}
        await bot.configure(CONFIG)
        assert (await web.get("healthz")).status == 200
        session = cookie(await sign_in(web))
        assert (await web.get(headers=session)).status == 200
        await bot.configure('status: {token: "another-token-of-the-tests"}')
        assert (await web.get("status.json", headers=session)).status == 401
        assert (await web.get("status.json", token=TOKEN)).status == 401
        assert (await web.get("status.json", token="another-token-of-the-tests")).status == 200
        await bot.configure("")
        assert await statuses(token="another-token-of-the-tests") == {404}


async def test_a_machine_shows_the_token(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with page_of(hs, tmp_path) as (_, web):
        for path in SECRET:
            answer = await web.get(path, token=TOKEN)
            require_armour(answer)
            assert answer.status == 200, answer
            for wrong in (TOKEN[:-1], TOKEN.upper(), "x" * 5000):
                answer = await web.get(path, token=wrong)
                require_armour(answer)
                assert (answer.status, answer.text) == (401, replies.NOT_THE_ONE)
        for headers in ({}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}):
            answer = await web.get("status.json", headers=headers)
            assert (answer.status, answer.text) == (401, replies.NOT_SIGNED_IN)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        answer = await web.get()
        assert (answer.status, answer.headers["Location"], answer.text) == (303, "sign-in", "")


async def test_a_person_signs_in_and_out(
    hs: FakeHomeserver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with page_of(hs, tmp_path) as (bot, web):
        form = await web.get("sign-in")
        assert (form.status, 'type="password"' in form.text) == (200, True)
        wrong = await sign_in(web, "wrong")
        assert (wrong.status, replies.NOT_THE_ONE in wrong.text) == (401, True)
        assert "Set-Cookie" not in wrong.headers

        right = await sign_in(web)
        assert (right.status, right.headers["Location"]) == (303, "./")
        assert re.fullmatch(
            r"homeroom_status=\d+\.[0-9a-f]{64}; Max-Age=43200; HttpOnly; SameSite=Strict",
            right.headers["Set-Cookie"],
        )
        assert TOKEN not in str(right)
        session = cookie(right)
        for path in SECRET:
            assert (await web.get(path, headers=session)).status == 200
        assert (await web.get("sign-in", headers=session)).status == 303
        for proxied in ("https", "HTTPS, http"):
            secure = await sign_in(web, **{"X-Forwarded-Proto": proxied})
            assert secure.headers["Set-Cookie"].endswith("; Secure")

        # It ends with its time, and nobody can make one, not even who knows the token.
        name, _, value = session["Cookie"].partition("=")
        expires, _, signature = value.partition(".")
        for forged in (
            f"{int(expires) + 1}.{signature}",
            f"{expires}.{'0' * 64}",
            f"{expires}.",
            expires,
            ".",
            f"{'9' * 40}.{signature}",
            access.new_session(TOKEN, key=access.new_key(), now=time.time()),
            access.new_session(TOKEN, key=b"", now=time.time()),
            access.new_session("", key=b"", now=time.time()),
        ):
            headers = {"Cookie": f"{name}={forged}"}
            assert (await web.get("status.json", headers=headers)).status == 401, forged
        for later, status in ((access.SESSION_SECONDS - 60, 200), (access.SESSION_SECONDS, 401)):
            real = time.time
            with monkeypatch.context() as patch:
                patch.setattr("homeroom.status_page.page.time.time", lambda: real() + later)  # noqa: B023
                assert (await web.get("status.json", headers=session)).status == status

        out = await web.ask("POST", "sign-out", headers=session)
        assert (out.status, out.headers["Location"]) == (303, "sign-in")
        assert out.headers["Set-Cookie"].startswith("homeroom_status=; Max-Age=0; ")
        await bot.restart()
        assert (await web.get("status.json", headers=session)).status == 401
        for path in ("sign-in", "sign-out"):
            elsewhere = await web.ask(
                "POST", path, data={"token": TOKEN}, headers={"Sec-Fetch-Site": "cross-site"}
            )
            assert (elsewhere.status, "Set-Cookie" in elsewhere.headers) == (403, False)
        huge = await web.ask("POST", "sign-in", data={"token": "x" * 100_000})
        assert huge.status == 413


@pytest.mark.parametrize("name", ["token", "access_token", "Token"])
async def test_a_token_in_the_address_is_refused_and_not_logged(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level(0)
    async with page_of(hs, tmp_path) as (bot, web):
        for path in ("", "status.json", "healthz", "sign-in"):
            answer = await web.get(f"{path}?{name}={TOKEN}", token=TOKEN)
            require_armour(answer)
            assert (answer.status, answer.text) == (400, replies.NOT_IN_THE_ADDRESS)
        assert bot.plugin is not None
        assert TOKEN not in repr(bot.plugin.settings())
    assert "GET" in caplog.text
    assert TOKEN not in caplog.text


async def test_nobody_can_keep_the_right_token_out(hs: FakeHomeserver, tmp_path: Path) -> None:
    """A thousand wrong ones from twelve addresses, all at once, and the right one among them."""
    async with page_of(hs, tmp_path) as (_, web):

        async def guess(number: int) -> int:
            proxied = {"X-Forwarded-For": f"203.0.113.{number % 12}"}
            wrong = f"wrong-{number}"
            if number % 2:
                return (await sign_in(web, wrong, **proxied)).status
            return (await web.get("status.json", token=wrong, headers=proxied)).status

        guesses = [asyncio.create_task(guess(number)) for number in range(1000)]
        right = list[int]()
        for _ in range(50):
            right.append((await web.get("status.json", token=TOKEN)).status)
            right.append((await sign_in(web)).status)
        assert right == [200, 303] * 50
        statuses = await asyncio.gather(*guesses)
        assert set(statuses) <= {401, 429}
        assert statuses.count(401) >= access.HELD_UP_AT_MOST


async def test_a_wrong_token_is_answered_late(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with page_of(hs, tmp_path) as (_, web):
        begin = time.monotonic()
        assert (await web.get("status.json", token="wrong")).status == 401
        assert time.monotonic() - begin >= access.WRONG_TOKEN_SECONDS


# What one cannot do


async def test_there_is_nothing_behind_other_paths(hs: FakeHomeserver, tmp_path: Path) -> None:
    async with page_of(hs, tmp_path) as (_, web):
        for path in TRICKS:
            answer = await web.raw(f"{BASE}homeroom{path}")
            assert answer.status == 404, path
            if path not in NOT_BELOW:  # there it is maubot itself that answers
                assert answer.text == replies.NOT_FOUND, path
                require_armour(answer)


async def test_there_is_nothing_but_reading(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        before, asked = _dump(bot), len(hs.requests)
        for path in PATHS:
            allowed = {"sign-in": "GET, POST, HEAD", "sign-out": "POST"}.get(path, "GET, HEAD")
            for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"):
                answer = await web.ask(method, path, token=TOKEN, data=b"token=wrong")
                require_armour(answer)
                if method in allowed.split(", "):
                    assert answer.status != 405, (method, path)
                else:
                    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        for path in SECRET:
            whole = await web.get(path, token=TOKEN)
            head = await web.ask("HEAD", path, token=TOKEN)
            assert (head.status, head.text) == (200, "")
            assert head.headers["Content-Type"] == whole.headers["Content-Type"]
            assert (await web.ask("HEAD", path)).status in {303, 401}
        assert _dump(bot) == before
        news = [request for request in hs.requests[asked:] if not bot.is_long_poll(request)]
        assert news == []


def _dump(bot: Bot) -> dict[str, Any]:
    tables = bot.query("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {
        table["name"]: bot.query(f"SELECT * FROM {table['name']}")
        for table in tables
        if table["name"] != "sync_state"
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


async def test_past_reconciles_survive_a_restart_and_are_bounded(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with page_of(hs, tmp_path) as (bot, web):
        await bot.onboard(anna)
        await bot.stop()
        bot.doubt()
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
