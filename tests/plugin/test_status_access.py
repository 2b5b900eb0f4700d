"""Who may see the status page, and what nobody can do with it."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from homeroom.replies import status as replies
from homeroom.status_page import access
from tests.fake import FakeHomeserver
from tests.plugin.harness import Bot
from tests.plugin.status_page import (
    CONFIG,
    PATHS,
    SECRET,
    TOKEN,
    cookie,
    page_of,
    require_armour,
    sign_in,
)
from tests.plugin.web import BASE

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
