"""What people do with their homes, and how these must be then, on a homeserver with a late worker.

A case is told by its name, and fails if anything is not right in the end.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote

from tests.integration.homes import is_echo, tables
from tests.integration.on_workers import PATIENCE, Bot, everybody_knows, right


async def onboarding(bot: Bot) -> None:
    newcomer = await bot.person("newcomer")
    await newcomer.start_dm(bot.user_id)
    await bot.accept(newcomer, rooms=2)
    await bot.becomes(right("General"), user=newcomer)
    await everybody_knows(bot)
    assert await bot.home(newcomer) == right("General")


async def two_invites_at_once(bot: Bot) -> None:
    newcomer = await bot.person("newcomer")
    await asyncio.gather(*(newcomer.start_dm(bot.user_id) for _ in range(2)))
    await bot.accept(newcomer, rooms=2)
    await bot.becomes(right("General"), user=newcomer)
    await everybody_knows(bot)
    assert await bot.home(newcomer) == right("General")


async def a_new_chat(bot: Bot) -> None:
    answer = await bot.ask("!chat new Plans")
    assert "is ready" in answer.body or "Plans" in answer.body, answer.body
    await bot.becomes(right("General", "Plans"))


async def a_chat_is_renamed(bot: Bot) -> None:
    await bot.ask("!chat rename Travels")
    await bot.becomes(right("Travels"))


async def a_chat_is_renamed_in_the_client(bot: Bot) -> None:
    await bot.owner.set_state(await bot.chat(), "m.room.name", {"name": "Travels"})
    await bot.becomes(right("Travels"))


async def a_chat_is_archived(bot: Bot) -> None:
    chat = await bot.chat()
    await bot.ask("!chat archive")
    event_id = await bot.owner.send_text(chat, "Are you there?")
    await bot.becomes(right("General", archived=["C1"]))
    await everybody_knows(bot)
    said = bot.owner.messages(chat, sender=bot.user_id, after=event_id)
    assert [message.body for message in said if message.msgtype == "m.text"] == []


async def a_chat_is_cleared(bot: Bot) -> None:
    chat = await bot.chat()
    old = (await bot.rooms_of(bot.owner))[chat]["platform_chat_id"]
    await bot.ask("!chat clear")
    answer = await bot.ask("Who am I?")
    new = (await bot.rooms_of(bot.owner))[chat]["platform_chat_id"]
    assert new != old
    assert is_echo("Who am I?", answer.body)
    await bot.becomes(right("General"))


async def a_chat_is_upgraded(bot: Bot) -> None:
    chat = await bot.chat()
    key = (await bot.rooms_of(bot.owner))[chat]["platform_chat_id"]
    path = f"/_matrix/client/v3/rooms/{quote(chat)}/upgrade"
    await bot.stack.bot_api.request("POST", path, {"new_version": "12"})
    await bot.accept(bot.owner, rooms=1)
    await bot.becomes(right("General"))
    assert await bot.chat() != chat
    assert is_echo("Are you there?", (await bot.ask("Are you there?")).body)
    assert (await bot.rooms_of(bot.owner))[await bot.chat()]["platform_chat_id"] == key


async def everything_is_left(bot: Bot) -> None:
    plan = await bot.ask("!reset leave-forget", room=bot.direct)
    code = re.search(r"--confirm ([0-9a-f]{8})\b", plan.body)
    assert code, plan.body
    event_id = await bot.owner.send_text(bot.direct, f"!reset leave-forget --confirm {code[1]}")
    report = await bot.owner.wait_for_message(
        bot.direct,
        sender=bot.user_id,
        after=event_id,
        body=lambda body: ("leave-forget: " in body and "**Server**" in body) or "done" in body,
        timeout=PATIENCE,
    )
    assert "leave-forget: done" in report.body, report.body
    assert "failed 0" in report.body, report.body
    joined = (await bot.workers.memberships(bot.user_id)).items()
    assert [room_id for room_id, membership in joined if membership == "join"] == [bot.direct]


async def a_life_with_two_readers(bot: Bot) -> None:
    """What one of two workers has not heard of yet is not gone."""
    statuses: set[str] = set()

    async def watch() -> None:
        while True:
            statuses.update(row["status"] for row in (await tables(bot.stack)).chats.values())
            await asyncio.sleep(0.1)

    watching = asyncio.ensure_future(watch())
    await bot.ask("!chat new Plans")
    await bot.becomes(right("General", "Plans"))
    await bot.ask("!chat rename Travels")
    await bot.ask("Are you there?")
    await bot.becomes(right("Travels", "Plans"))
    await everybody_knows(bot)
    watching.cancel()
    assert statuses == {"active"}


CASES = (
    onboarding,
    two_invites_at_once,
    a_new_chat,
    a_chat_is_renamed,
    a_chat_is_renamed_in_the_client,
    a_chat_is_archived,
    a_chat_is_cleared,
    a_chat_is_upgraded,
    everything_is_left,
)
