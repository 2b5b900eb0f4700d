"""What happened to members while the bot was down is in mautrix's state store after the start.

Issue 4, "Must be seen", 6. maubot throws away the response that would have told; megolm keys are
shared by what the store says. It lies in maubot's own database: on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.integration.homes import Home, onboard, room_state, start
from tests.stack.maubot import Maubot
from tests.stack.postgres import Postgres
from tests.stack.stack import MakeStack, Stack

Members = dict[str, tuple[str, str | None, str | None]]
"""Membership, display name and avatar by user ID."""


async def truth(stack: Stack, room_id: str) -> tuple[Members, Any]:
    """Members and power levels as the homeserver has them."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/members"
    events = (await stack.bot_api.request("GET", path))["chunk"]
    members = {
        event["state_key"]: (
            event["content"]["membership"],
            event["content"].get("displayname"),
            event["content"].get("avatar_url"),
        )
        for event in events
    }
    levels = (await room_state(stack, room_id))["m.room.power_levels", ""]["content"]
    return members, levels


async def known(stack: Stack, room_id: str) -> tuple[Members, Any]:
    """The same as the state store has them."""
    database = stack.maubot.own_database
    members = await database.fetch("SELECT * FROM mx_user_profile WHERE room_id = $1", room_id)
    (room,) = await database.fetch("SELECT * FROM mx_room_state WHERE room_id = $1", room_id)
    assert room["has_full_member_list"]
    return {
        row["user_id"]: (row["membership"], row["displayname"], row["avatar_url"])
        for row in members
    }, json.loads(room["power_levels"])


async def change_everything(stack: Stack, home: Home) -> None:
    """Everything that can happen to members of a chat: Bob to Frank are in it, Gina is not."""
    alice, chat = home.user, home.chat
    people = {name: await stack.user(name) for name in ("bob", "carl", "dora", "emil", "gina")}
    rooms = f"/_matrix/client/v3/rooms/{quote(chat)}"
    await people["bob"].leave(chat)
    await alice.kick(chat, people["carl"].user_id)
    await alice.api.request("POST", f"{rooms}/ban", {"user_id": people["dora"].user_id})
    for path, name in (("displayname", "Emil E."), ("avatar_url", "mxc://homeroom.test/emil")):
        user_id = people["emil"].user_id
        await people["emil"].api.request(
            "PUT", f"/_matrix/client/v3/profile/{quote(user_id)}/{path}", {path: name}
        )
    await alice.invite(chat, people["gina"].user_id)
    hana = await stack.user("hana")
    await alice.invite(chat, hana.user_id)
    await hana.join(chat)
    levels = (await room_state(stack, chat))["m.room.power_levels", ""]["content"]
    levels = {**levels, "invite": 25, "users": {**levels["users"], hana.user_id: 30}}
    path = f"{rooms}/state/m.room.power_levels/"
    await stack.bot_api.request("PUT", path, levels)


async def test_members_who_changed_meanwhile_are_known(
    make_stack: MakeStack, plugin: Path, cluster: Postgres | None, tmp_path: Path
) -> None:
    url = await cluster.create_database() if cluster else None
    maubot = Maubot(tmp_path / "maubot", postgres=url, plugin_postgres=url)
    stack = await make_stack(plugin=plugin, maubot=maubot)
    home = await onboard(stack, "alice")
    for name in ("bob", "carl", "dora", "emil"):
        user = await stack.user(name)
        await home.user.invite(home.chat, user.user_id)
        await user.join(home.chat)
    await stack.maubot.stop()
    await start(stack)
    for room_id in home.rooms:
        assert await known(stack, room_id) == await truth(stack, room_id)

    await stack.maubot.stop()
    await change_everything(stack, home)
    actual = await truth(stack, home.chat)
    stale = await known(stack, home.chat)
    assert stale[0] != actual[0]
    assert stale[1] != actual[1]
    await start(stack)
    assert await known(stack, home.chat) == actual
    assert {membership for membership, *_ in actual[0].values()} == {
        "join",
        "leave",
        "ban",
        "invite",
    }
    assert actual[0][f"@emil{stack.bot.user_id[len('@homeroom') :]}"][1] == "Emil E."
