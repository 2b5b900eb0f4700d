"""The status page on a real maubot, in a real browser.

Issue 7, "Must be seen", 2. `HOMEROOM_SCREENSHOTS=DIRECTORY` keeps the screenshots.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.homes import (
    Home,
    ask,
    configure,
    invalidate_checkpoint,
    onboard,
    reconciled,
)
from tests.stack.browser import Browser, Tab
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack

TOKEN = "a-token-of-the-tests-only"
CHATS = ("General", "Plans")
CONFIG: dict[str, Any] = {
    **DEFAULT_CONFIG,
    "rooms": {"initial_chats": list(CHATS)},
    "status": {"token": TOKEN},
}
HOSTILE = '"><script>document.title = 1</script><img src=x onerror=alert(2)>\u202e' + "x" * 10_000
MANY, OWNERS = 10_000, 200
PHONE, DESKTOP = (390, 844), (1280, 900)

Shoot = Callable[[Tab, str], Awaitable[None]]


@pytest.fixture
def shoot(tmp_path: Path) -> Shoot:
    """Take a screenshot of the whole page."""
    directory = Path(os.environ.get("HOMEROOM_SCREENSHOTS", tmp_path))

    async def take(tab: Tab, name: str) -> None:
        await tab.page.screenshot(path=directory / f"status-{name}.png", full_page=True)

    return take


def page_of(bot: Stack) -> str:
    return f"{bot.maubot.url}/_matrix/maubot/plugin/{bot.instance}/"


async def sign_in(tab: Tab, bot: Stack) -> None:
    """As a person with a keyboard does."""
    await tab.page.goto(page_of(bot))
    assert tab.page.url == f"{page_of(bot)}sign-in"
    # Chromium gives the focus with the first picture, which may come after the page has loaded.
    await tab.page.wait_for_function("document.activeElement.name === 'token'")
    await tab.page.keyboard.type(TOKEN)
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url(page_of(bot))


async def tabbed(tab: Tab, *, at_most: int = 60) -> list[dict[str, Any]]:
    """Everything that the Tab key leads to from the top of the page, in order."""
    seen: list[dict[str, Any]] = []
    for _ in range(at_most):
        await tab.page.keyboard.press("Tab")
        at = await tab.focused()
        if at["tag"] == "body":
            return seen
        seen.append(at)
    return seen


async def furnish(bot: Stack) -> list[Home]:
    """Three homes, talk, an archived chat, and something for the findings."""
    homes = [await onboard(bot, name, chats=CHATS) for name in ("anna", "ben", "cleo")]
    anna, ben, cleo = homes
    await ask(bot, anna.user, anna.chats["General"], "!chat list")
    await ask(bot, ben.user, ben.chats["Plans"], "!chat archive")
    await ben.user.leave(ben.chats["General"])
    await cleo.user.set_state(cleo.chats["Plans"], "m.room.name", {"name": HOSTILE})
    mark = bot.maubot.mark()
    await bot.maubot.update_instance(bot.instance, started=False)
    await invalidate_checkpoint(
        bot
    )  # what was found before is known when everything was looked at
    await bot.maubot.update_instance(bot.instance, started=True)
    assert (await reconciled(bot, since=mark)).findings >= 1
    return homes


async def test_three_homes(make_bot: MakeStack, browser: Browser, shoot: Shoot) -> None:
    bot = await make_bot(config=CONFIG)
    homes = await furnish(bot)
    for kind, (width, height) in {"phone": PHONE, "desktop": DESKTOP}.items():
        for shade in ("light", "dark"):
            tab = await browser.open(width=width, height=height, dark=shade == "dark", scale=2)
            await tab.page.goto(page_of(bot))
            await shoot(tab, f"sign-in-{kind}-{shade}")
            assert await tab.violations() == []
            await sign_in(tab, bot)
            await tab.page.get_by_text("Numbers", exact=True).click()
            await tab.page.locator(".chats summary").first.click()
            await shoot(tab, f"three-{kind}-{shade}")
            assert await tab.violations() == []
            wider = "document.documentElement.scrollWidth > innerWidth"
            assert not await tab.page.evaluate(wider), "the page scrolls sideways"
            tab.require_quiet()
            await tab.page.context.close()

    # By keyboard alone: everything in order, and one can see where one is.
    tab = await browser.open()
    await sign_in(tab, bot)
    names = await tab.page.locator("bdi.name").all_inner_texts()
    (hostile,) = (name for name in names if name not in CHATS)
    assert hostile == f"{HOSTILE[:65]} {'x' * 13}…"
    assert await tab.page.title() == "Answering · Homeroom"
    stops = await tabbed(tab)
    assert all(stop["shown"] for stop in stops), stops
    names = [stop["name"] for stop in stops]
    assert names[:2] == ["Skip to the homes", "Sign out"]
    assert names[-4:] == ["Reload", "status.json", "metrics", "healthz"]
    assert [name for name in names if name in {"q", "status", "Find"}] == ["q", "status", "Find"]
    owners = [name for name in names if name.startswith("@")]
    assert owners == sorted(home.user.user_id for home in homes)

    # Searching, folding and signing out are done by keyboard, too.
    await tab.page.focus("#q")
    await tab.page.keyboard.type(f"plans {homes[0].user.user_id}")
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url("**?q=*")
    assert await tab.page.locator("bdi.name").all_inner_texts() == ["Plans"]
    ids = tab.page.locator(".chats .ids")
    assert not await ids.locator("code").first.is_visible()
    await ids.locator("summary").focus()
    await tab.page.keyboard.press("Enter")
    assert await ids.locator("code").all_inner_texts() == [
        homes[0].chats["Plans"],
        (
            await bot.database.fetch(
                "SELECT platform_chat_id FROM chats WHERE room_id = $1", homes[0].chats["Plans"]
            )
        )[0]["platform_chat_id"],
    ]
    await tab.page.get_by_role("button", name="Sign out").press("Enter")
    await tab.page.wait_for_url("**/sign-in")
    await tab.page.goto(page_of(bot))
    assert tab.page.url.endswith("/sign-in")
    tab.require_quiet()

    # Another token ends every session at once.
    await sign_in(tab, bot)
    await configure(bot, {"status": {"token": f"{TOKEN}-2"}}, base=CONFIG)
    await tab.page.reload()
    assert tab.page.url.endswith("/sign-in")
    assert TOKEN not in bot.maubot.log_text()


async def test_ten_thousand_chats(
    make_bot: MakeStack,
    browser: Browser,
    shoot: Shoot,
    record_property: Callable[[str, object], None],
) -> None:
    """Rows put into the plugin's database; at the start they are found to be left, and listed."""
    bot = await make_bot(config=CONFIG)
    await bot.maubot.update_instance(bot.instance, started=False)
    await fill(bot)
    mark = bot.maubot.mark()
    await bot.maubot.update_instance(bot.instance, started=True)
    assert (await reconciled(bot, since=mark, timeout=60)).left == MANY + OWNERS

    tab = await browser.open(width=DESKTOP[0], height=DESKTOP[1])
    await sign_in(tab, bot)
    first_paint, searches, pages = [], [], []
    for number in range(5):
        await tab.page.goto(page_of(bot))
        first_paint.append(await tab.first_paint())
        word = f"Chat-{number + 1}7{number}3"
        await tab.page.fill("#q", word)
        started = time.perf_counter()
        await tab.page.keyboard.press("Enter")
        await tab.page.wait_for_url(f"**?q={word}*")
        await tab.page.get_by_text("show all").wait_for()
        searches.append((time.perf_counter() - started) * 1000)
        assert await tab.page.locator("bdi.name").all_inner_texts() == [word]
    await tab.page.goto(page_of(bot))
    assert "1 to 100 of 10,000" in await tab.page.inner_text(".found")
    for number in range(2, 5):
        started = time.perf_counter()
        await tab.page.get_by_role("link", name="Next").click()
        await tab.page.get_by_text(f"Page {number} of 100").wait_for()
        pages.append((time.perf_counter() - started) * 1000)
    assert await tab.page.locator(".chats > li").count() == 100
    figures = {
        "first paint": first_paint,
        "from Enter to the found chat": searches,
        "from click to the next page": pages,
    }
    for what, times in figures.items():
        print(f"{MANY} chats, {what}: {', '.join(f'{ms:.0f}' for ms in times)} ms")
        record_property(what, sorted(times)[len(times) // 2])
    await shoot(tab, "many-desktop-light")
    assert await tab.violations() == []
    tab.require_quiet()
    phone = await browser.open(width=PHONE[0], height=PHONE[1], dark=True, scale=2)
    await sign_in(phone, bot)
    phone.require_quiet()


async def fill(bot: Stack) -> None:
    """Rows as Homeroom writes them, for rooms that the bot is not in."""
    numbers = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers"
    await bot.database.execute(
        f"{numbers} WHERE n < $1 - 1) INSERT INTO homes"
        " (matrix_user_id, space_id, status, initial_chats, created_at, updated_at)"
        " SELECT '@owner' || (1000 + n) || ':homeroom.test', '!space' || n || ':homeroom.test',"
        " 'active', '[]', 1, 1 FROM numbers",
        OWNERS,
    )
    await bot.database.execute(
        f"{numbers} WHERE n < $1 - 1) INSERT INTO chats (room_id, room_type, matrix_user_id,"
        " space_id, chat_id, platform_chat_id, name, status, created_at, updated_at)"
        " SELECT '!room' || n || ':homeroom.test', 'chat',"
        " '@owner' || (1000 + n % $2) || ':homeroom.test',"
        " '!space' || (n % $2) || ':homeroom.test', 'C' || (n / $2 + 1), 'conversation-' || n,"
        " 'Chat-' || n, 'active', 1, 1 FROM numbers",
        MANY,
        OWNERS,
    )
