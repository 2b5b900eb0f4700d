"""With the rate limits that Synapse has by default, everything is answered, only later.

Issue 4, "Must be seen", 2. The bot is an ordinary account: after a burst of ten messages it may
send one in two seconds (by default it is five, which takes longer and shows the same). People
write all at once, the bot is restarted while answers wait for their turn, and every answer comes
once, in the order of its room. HOMEROOM_TEST_MESSAGES is how many each of the five writes; every
one of them takes the homeserver two seconds to let through.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.test_traffic import (
    CONFIG,
    PEOPLE,
    Chat,
    answered_or_late,
    disturbances,
    move_in,
)
from tests.stack.http import JsonApi
from tests.stack.stack import MakeStack, MakeSynapse, Stack
from tests.stack.synapse import Account

MESSAGES = int(os.environ.get("HOMEROOM_TEST_MESSAGES") or 4)
"""How many each of them sends."""
SECONDS_PER_MESSAGE = 7
"""Far more than the homeserver takes over one."""
RESTARTS_AFTER = (1, 4)
"""Seconds between two restarts: long enough for some answers."""


async def limit(stack: Stack, *, admin: Account) -> None:
    """Take back the exemption from the rate limits; the bucket is full then."""
    api = JsonApi(base_url=stack.synapse.url, token=admin.access_token)
    path = f"/_synapse/admin/v1/users/{stack.bot.user_id}/override_ratelimit"
    await api.request("DELETE", path)


async def answered(chats: list[Chat]) -> bool:
    return all(len(chat.heard()) >= len(chat.said) for chat in chats)


@pytest.mark.timeout(240 + 5 * MESSAGES * SECONDS_PER_MESSAGE)
async def test_restarts_while_answers_wait_for_the_rate_limit(
    make_stack: MakeStack, make_synapse: MakeSynapse, plugin: Path, tmp_path: Path, seed: int
) -> None:
    synapse = await make_synapse(rate_limits="default", messages_per_second=0.5)
    stack = await make_stack(synapse=synapse, plugin=plugin, config=CONFIG, proxy=True)
    root = await synapse.register("root", admin=True)
    # Moving in is not what is slow here; nor are people who write.
    await synapse.lift_rate_limits_of(stack.bot.user_id, admin=root)
    chats = []
    for name in PEOPLE:
        user = await stack.user(name)
        await synapse.lift_rate_limits_of(user.user_id, admin=root)
        chats.append(await move_in(stack, name))
    await limit(stack, admin=root)
    mark, log, began = stack.proxy.mark(), stack.maubot.mark(), time.monotonic()

    for number in range(MESSAGES):
        await asyncio.gather(
            *(chat.say(f"{chat.home.user.user_id} says {number}") for chat in chats)
        )
    dice, restarts = random.Random(seed), Counter[str]()
    kinds = dict(await disturbances(stack, directory=tmp_path))
    del kinds["Synapse restarted"]  # it would forget what it has counted
    del kinds["client's token and device changed"]  # logging in is limited, too
    first = dice.sample(sorted(kinds), len(kinds))
    while not await answered(chats):
        await asyncio.sleep(dice.uniform(*RESTARTS_AFTER))
        kind = first.pop() if first else dice.choice(sorted(kinds))
        if restarts.total() < MESSAGES:
            restarts[kind] += 1
            await kinds[kind]()
    await answered_or_late(chats, timeout=SECONDS_PER_MESSAGE * MESSAGES * len(chats))
    seconds = time.monotonic() - began

    limited = [request for request in stack.proxy.requests[mark:] if request.status == 429]
    heard = [Counter(chat.heard()) for chat in chats]
    expected = [Counter(chat.expected()) for chat in chats]
    lost = sum(((e - h) for e, h in zip(expected, heard, strict=True)), Counter[str]())
    doubled = sum(((h - e) for e, h in zip(expected, heard, strict=True)), Counter[str]())
    print(
        f"default rate limits: {len(chats)} users, {len(chats) * MESSAGES} messages,"
        f" {len(limited)} requests told to wait, {restarts.total()} restarts"
        f" ({', '.join(f'{kind} {count}' for kind, count in sorted(restarts.items()))}):"
        f" lost {lost.total()}, doubled {doubled.total()}, {seconds:.0f} seconds"
    )
    assert limited
    for chat in chats:
        assert chat.heard() == chat.expected()
    # Waiting for one's turn is no event: neither an error nor a warning.
    told = re.findall(
        r"^.*\[(?:WARNING|ERROR)@maubot\.instance.*$", stack.maubot.log_text(since=log), re.M
    )
    assert [line for line in told if "The clock of this machine" not in line] == []
