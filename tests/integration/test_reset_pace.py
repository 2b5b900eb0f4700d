"""`!reset leave-forget` is as fast as the homeserver allows, and no faster.

Issue 3, "Must be seen", 3: Synapse with its default rate limits, a bot that is not exempted.
Nearly all of its time this test waits for the homeserver to allow the next request; so that it is
less time, that is after two seconds instead of five.

Synapse holds every 429 back for half a second, on top of the `retry_after_ms` in it, so with one
request in five seconds the bound of 1.15 times what it asks for has little room (1.13 was seen).
What the homeserver takes by itself, for 429s and for everything else, is counted with what it asks
for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.homes import ask, configure, invite_bot, welcomed
from tests.integration.resetting import code_in, is_report
from tests.stack.http import JsonApi
from tests.stack.proxy import ProxiedRequest
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, MakeSynapse, Stack
from tests.stack.synapse import BURST, Account
from tests.stack.user import MatrixUser

HOMES = 2
CHATS = 13
"""So many that it takes longer than `PROGRESS_EVERY`, which is 30 seconds."""
ROOMS = HOMES * (CHATS + 1)
CONFIG: Mapping[str, Any] = {
    **DEFAULT_CONFIG,
    "rooms": {"initial_chats": [f"Chat {number}" for number in range(1, CHATS + 1)]},
    "dev": {"reset": True},
}
SLACK = 1.15
PER_SECOND = 0.5
LISTED = 20
"""Rooms that one message of `!reset` lists."""
HELD_BACK = 0.5
"""Seconds for which Synapse keeps a 429 to itself."""


async def limit_again(stack: Stack, *, admin: Account) -> None:
    """Take back the exemption from the rate limits."""
    api = JsonApi(base_url=stack.synapse.url, token=admin.access_token)
    user = quote(stack.bot.user_id)
    await api.request("DELETE", f"/_synapse/admin/v1/users/{user}/override_ratelimit")


async def furnish(stack: Stack, owner: MatrixUser) -> None:
    """Have the bot make a home; nobody moves in."""
    direct = await invite_bot(stack, owner)
    await owner.wait_for_message(
        direct, sender=stack.bot.user_id, body="This is your home", timeout=60
    )


def told_to_wait(requests: list[ProxiedRequest]) -> list[float]:
    """The seconds that the homeserver asked for, answer by answer."""
    refused = [request for request in requests if request.status == 429]
    return [request.answer["retry_after_ms"] / 1000 for request in refused]


async def attached(stack: Stack, user: MatrixUser, room: str, name: str) -> None:
    """Wait for a text file from the bot."""
    file = await user.wait_for_message(room, sender=stack.bot.user_id, body=name, timeout=60)
    assert file.msgtype == "m.file"


@pytest.mark.timeout(240)
async def test_many_rooms_are_left_in_the_time_that_the_homeserver_asks_for(
    make_synapse: MakeSynapse, make_stack: MakeStack, plugin: Any
) -> None:
    synapse = await make_synapse(rate_limits="default", messages_per_second=PER_SECOND)
    stack = await make_stack(plugin=plugin, synapse=synapse, proxy=True, config=CONFIG)
    root = await synapse.register("root", admin=True)
    ada = await stack.user("ada")
    bert = await stack.user("bert")
    for account in (stack.bot, ada.account, bert.account):
        await synapse.lift_rate_limits_of(account.user_id, admin=root)
    await furnish(stack, ada)
    await furnish(stack, bert)
    await configure(stack, {"admins": [ada.user_id]}, base=CONFIG)
    office = await ada.create_room(invite=[stack.bot.user_id])
    await welcomed(stack, ada, office)
    await limit_again(stack, admin=root)
    kept = {
        room_id
        for room_id in await stack.bot_rooms()
        if room_id in ada.rooms() | bert.rooms()  # nobody has moved in: these are not homes
    }
    assert len(await stack.bot_rooms() - kept) == ROOMS

    code = code_in(await ask(stack, ada, office, "!reset leave-forget"))
    await attached(stack, ada, office, "homeroom-reset-plan.txt")
    mark = stack.proxy.mark()
    run = await ada.send_text(office, f"!reset leave-forget --confirm {code}")
    began = time.monotonic()
    report = await ada.wait_for_message(
        office, sender=stack.bot.user_id, after=run, body=is_report, timeout=200
    )
    took = time.monotonic() - began

    asked = told_to_wait(stack.proxy.requests[mark:])
    print(
        f"{took:.1f} s, asked for {sum(asked):.1f} s in {len(asked)} answers:"
        f" {took / sum(asked):.3f}"
    )
    assert f"left {ROOMS}, was not in it 0, forgotten {ROOMS}, failed 0" in report.body
    assert f"… and {ROOMS - LISTED} more: the whole list is attached" in report.body
    assert await stack.bot_rooms() == kept
    said = ada.messages(office, sender=stack.bot.user_id, after=run)
    (progress,) = [message for message in said if "Leaving and forgetting: " in message.body]
    assert progress.edited
    assert f"{ROOMS} of {ROOMS}" in progress.body
    edits = [
        event["content"]["m.new_content"]["body"]
        for event in ada.timeline(office)
        if "m.new_content" in event["content"]
    ]
    assert any(" to go" in edit for edit in edits), edits
    allowed = sum(
        request.status == 200 and ("/leave" in request.path or "/send/" in request.path)
        for request in stack.proxy.requests[mark:]
    )
    # What is asked for, or, where the bot waits before it is told to, what is allowed.
    least = max(sum(asked) + HELD_BACK * len(asked), (allowed - BURST) / PER_SECOND)
    # And what the homeserver takes to do it, which is much where it shares the machine.
    least += sum(
        request.seconds
        for request in stack.proxy.requests[mark:]
        if request.status == 200 and not request.path.endswith("/sync")
    )
    print(f"{allowed} requests were allowed, in {least:.1f} s at least: {took / least:.3f}")
    assert took <= SLACK * least
    await attached(stack, ada, office, "homeroom-reset-report.txt")
