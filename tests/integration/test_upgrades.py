"""Chats and Spaces go on in the rooms that they are upgraded to.

Issue 4, "Must be seen", 5. Upgrades are made in the bot's name, or by an administrator of the
homeserver who has made themselves one of the room; an owner's own power does not suffice.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.homes import (
    Home,
    ask,
    marked,
    onboard,
    reconciled,
    room_state,
    say_and_hear,
    shown,
    tables,
    writes_of_bot,
)
from tests.stack.http import ApiError
from tests.stack.stack import MakeStack, Stack
from tests.stack.user import MatrixUser
from tests.stack.waiting import eventually

CHATS = ("General", "Ideas", "Later")


async def upgrade(stack: Stack, room_id: str) -> str:
    """Upgrade a room to version 12 in the bot's name, as whoever has its token can."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/upgrade"
    answer = await stack.bot_api.request("POST", path, {"new_version": "12"})
    replacement: str = answer["replacement_room"]
    return replacement


async def upgrade_as_admin(stack: Stack, room_id: str, root: MatrixUser) -> str:
    """The same by an administrator of the homeserver, who then invites the bot."""
    path = f"/_synapse/admin/v1/rooms/{quote(room_id)}/make_room_admin"
    await root.api.request("POST", path, {"user_id": root.user_id})
    await root.join(room_id)
    replacement = await root.upgrade_room(room_id, version="12")
    try:
        await root.invite(replacement, stack.bot.user_id)
    except ApiError:
        # maubot follows tombstones by itself, if it runs: as soon as it hears of one, which may
        # be before or after this invite. Where it is in, it needs none.
        if stack.bot.user_id not in await root.joined_members(replacement):
            raise
    return replacement


async def settled(stack: Stack, home: Home, *, space: str, chats: list[str]) -> None:
    """Wait until a home says everywhere that it is in this Space."""

    async def is_settled() -> bool:
        children = await home.user.space_children(space) if space in home.user.rooms() else []
        states = [await room_state(stack, room_id) for room_id in chats]
        return children == chats and all(
            [
                key
                for (kind, key), event in state.items()
                if kind == "m.space.parent" and event["content"]
            ]
            == [space]
            and allowed(state) == [space]
            for state in states
        )

    await eventually("the home is whole again", is_settled)


def allowed(state: dict[Any, dict[str, Any]]) -> list[str]:
    rules = state["m.room.join_rules", ""]["content"]
    assert rules["join_rule"] == "restricted"
    return [condition["room_id"] for condition in rules["allow"]]


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "down"])
async def test_chats_and_their_space_go_on_under_the_same_ids(
    make_bot: MakeStack, is_running: bool
) -> None:
    """The Space once, a chat twice, another by an administrator; a third is only moved."""
    config = {"access": {"allow": ["*"]}, "rooms": {"initial_chats": list(CHATS), "version": "11"}}
    stack = await make_bot(config=config)
    home = await onboard(stack, "alice", chats=CHATS)
    alice, bob = home.user, await stack.user("bob")
    root = await stack.user("root", admin=True)
    general, ideas, later = home.chats.values()
    before = await tables(stack)
    with pytest.raises(ApiError) as refused:
        await alice.upgrade_room(general, version="12")
    assert refused.value.status == 403

    if not is_running:
        await stack.maubot.set_client_started(stack.bot.user_id, started=False)
    space = await upgrade(stack, home.space)
    middle = await upgrade(stack, general)
    new_general = await upgrade(stack, middle)
    new_ideas = await upgrade_as_admin(stack, ideas, root)
    if not is_running:
        await stack.maubot.set_client_started(stack.bot.user_id, started=True)
    for room_id in (space, new_general, new_ideas):
        await alice.wait_for(f"an invite to {room_id}", lambda r=room_id: r in alice.invites())
        await alice.join(room_id)

    chats = [new_general, new_ideas, later]
    await settled(stack, home, space=space, chats=chats)
    moved = dict(zip((general, ideas, later), chats, strict=True))
    for old, new in moved.items():
        key = before.keys()[old]
        assert await say_and_hear(stack, alice, new, "still you?") == key
        assert (await marked(stack, new))["platform_chat_id"] == key
    after = await tables(stack)
    assert after.homes == {
        alice.user_id: {**before.homes[alice.user_id], "space_id": space, "status": "active"}
    }
    replaced = {general: general, middle: general, ideas: ideas}
    assert after.chats == {
        **{
            new: {**before.chats[old], "room_id": new, "space_id": space}
            for old, new in moved.items()
        },
        **{
            old: {**before.chats[first], "room_id": old, "space_id": space, "status": "replaced"}
            for old, first in replaced.items()
        },
    }
    listed = await ask(stack, alice, new_general, "!chat list")
    assert all(name in listed.body for name in CHATS)

    # Whoever is in the Space may join its chats, as before.
    await alice.invite(space, bob.user_id)
    await bob.wait_for_invite(space=True)
    await bob.join(space)
    for room_id in chats:
        await bob.join(room_id)

    # And there is nothing left to do.
    mark, log = await stack.synapse.mark(), stack.maubot.mark()
    await stack.maubot.restart_instance(stack.instance)
    summary = await reconciled(stack, since=log)
    assert (summary.adopted, summary.updated, summary.left, summary.findings) == (0, 0, 0, 0)
    assert await say_and_hear(stack, alice, new_general, "and now?")
    writes = shown(await writes_of_bot(stack, since=mark, at_least=1))
    assert [write for write in writes if "/state/" in write or "/send/" not in write] == []
