"""Commands of an owner and of an administrator, and what is answered to whom."""

from __future__ import annotations

import re
import secrets
from urllib.parse import quote

import pytest

from homeroom import replies
from tests.integration.homes import (
    ask,
    configure,
    make_admin,
    marked,
    marker,
    onboard,
    room_state,
    said_by_bot,
    say_and_hear,
    tables,
    writes_of_bot,
)
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack


@pytest.fixture
async def stack(make_bot: MakeStack) -> Stack:
    """A bot with the default configuration, on a maubot that is shared: it must not be stopped."""
    return await make_bot()


async def test_chat_commands_of_an_owner(stack: Stack) -> None:
    home = await onboard(stack, "alice")
    alice, bot, server = home.user, stack.bot.user_id, stack.synapse.server_name

    made = await ask(stack, alice, home.chat, "!chat new Trip to *Rome* [now]")
    assert "(C2)" in made.body
    rome = await alice.wait_for_invite(name="Trip to *Rome* [now]", space=False)
    await alice.join(rome)
    assert quote(rome) in made.body
    content = await marked(stack, rome)
    assert (content["chat_id"], content["user_id"]) == ("C2", alice.user_id)
    assert await alice.space_children(home.space) == [home.chat, rome]
    assert await say_and_hear(stack, alice, rome, "Ciao") == content["platform_chat_id"]

    await ask(stack, alice, rome, "!chat new")
    third = await alice.wait_for_invite(name="Chat 3", space=False)
    await alice.join(third)

    listed = await ask(stack, alice, home.chat, "!chat list")
    positions = [listed.body.index(quote(room)) for room in (home.chat, rome, third)]
    assert positions == sorted(positions)
    assert re.findall(r"\bC\d+\b", listed.body) == ["C1", "C2", "C3"]
    assert "archived" not in listed.body

    renamed = await ask(stack, alice, rome, "!chat rename  Rome  2027 ")
    assert "Rome 2027" in renamed.body
    state = await room_state(stack, rome)
    assert state["m.room.name", ""]["content"] == {"name": "Rome 2027"}
    assert (await tables(stack)).chats[rome]["name"] == "Rome 2027"

    archived = await ask(stack, alice, rome, "!chat archive")
    assert "!chat unarchive" in archived.body
    assert await marker(stack, rome) == content | {"archived": True}
    assert await alice.space_children(home.space) == [home.chat, third]
    assert (await tables(stack)).chats[rome]["status"] == "archived"
    refused = await ask(stack, alice, rome, "Are you still there?")
    assert "archived" in refused.body
    listed = await ask(stack, alice, home.chat, "!chat list")
    assert [line for line in listed.body.splitlines() if "archived" in line] == [
        line for line in listed.body.splitlines() if quote(rome) in line
    ]

    await ask(stack, alice, rome, "!chat unarchive")
    assert await marker(stack, rome) == content
    assert await alice.space_children(home.space) == [home.chat, rome, third]
    link = (await room_state(stack, home.space))["m.space.child", rome]["content"]
    assert link == {"via": [server], "order": "000002", "suggested": True}
    assert await say_and_hear(stack, alice, rome, "Back") == content["platform_chat_id"]

    for command in ("!chat help", "!chat"):
        help_ = await ask(stack, alice, home.chat, command)
        for word in ("new", "list", "rename", "archive", "unarchive"):
            assert f"!chat {word}" in help_.body
    assert "The new name is missing" in (await ask(stack, alice, rome, "!chat rename")).body
    assert "Did you mean `!chat new`?" in (await ask(stack, alice, rome, "!chat nwe")).body
    rows = await tables(stack)
    assert {row["chat_id"]: row["status"] for row in rows.chats.values()} == dict.fromkeys(
        ("C1", "C2", "C3"), "active"
    )
    assert await stack.bot_rooms() == {home.direct, home.space, home.chat, rome, third}
    state = await room_state(stack, third)
    assert state["m.room.create", ""]["sender"] == bot


async def test_there_are_no_more_chats_than_the_limit(make_bot: MakeStack) -> None:
    config = {**DEFAULT_CONFIG, "limits": {"chats_per_owner": 2}}
    stack = await make_bot(config=config)
    home = await onboard(stack, "alice")
    await ask(stack, home.user, home.chat, "!chat new")
    assert "You have 2 chats" in (await ask(stack, home.user, home.chat, "!chat new")).body
    assert len((await tables(stack)).chats) == 2
    assert len(await stack.bot_rooms()) == 4


async def test_only_the_owner_is_answered_unless_the_settings_say_members(stack: Stack) -> None:
    home = await onboard(stack, "alice")
    bob = await stack.user("bob")
    await home.user.invite(home.chat, bob.user_id)
    assert await bob.wait_for_invite() == home.chat
    await bob.join(home.chat)
    before, rooms = await tables(stack), await stack.bot_rooms()

    for text in ("Hello?", "!chat list", "!chat rename Mine", "!chat archive", "!reconcile"):
        await bob.send_text(home.chat, text)
    told = replies.only_the_owner(may_share=False)
    await home.user.wait_for_message(home.chat, sender=stack.bot.user_id, body=told)
    key = await say_and_hear(stack, home.user, home.chat, "It is me")
    # One message at a time and in order: what was to be said to Bob would have come before.
    assert said_by_bot(stack, home.user, home.chat) == [told, "It is me"]

    await configure(stack, {"access": {"allow": ["*"], "answer": "members"}})
    assert await say_and_hear(stack, bob, home.chat, "And now?") == key
    reply = await ask(stack, bob, home.chat, "!chat archive")
    assert reply.body == "That is for the person whose chat this is."
    assert await tables(stack) == before
    assert await stack.bot_rooms() == rooms


async def test_while_people_move_in_nothing_is_to_be_repaired(stack: Stack) -> None:
    """They join while the bot writes, and then Synapse tells of state that has passed."""
    admin, office = await make_admin(stack)
    for number in range(8):
        await onboard(stack, f"alice{number}")
        calm = await ask(stack, admin, office, "!reconcile")
        assert "Rows: no changes." in calm.body
        assert "repaired" not in calm.body


async def test_an_administrator_reads_the_drift_and_reconciles_it(stack: Stack) -> None:
    home = await onboard(stack, "alice")
    admin, office = await make_admin(stack)
    before = await tables(stack)
    calm = await ask(stack, admin, office, "!reconcile")
    assert "Rows: no changes." in calm.body
    assert "repaired" not in calm.body

    key, wrong = before.keys()[home.chat], "wrong-key"
    lost = await ask(stack, home.user, home.chat, "!chat new Lost")
    lost_room = await home.user.wait_for_invite(name="Lost")
    assert quote(lost_room) in lost.body
    before = await tables(stack)
    await stack.database.execute(
        "UPDATE chats SET platform_chat_id = $1, name = $2 WHERE room_id = $3",
        wrong,
        "Wrong name",
        home.chat,
    )
    await stack.database.execute("DELETE FROM chats WHERE room_id = $1", lost_room)
    ghost = f"!ghost{secrets.token_hex(8)}:homeroom.test"
    await stack.database.execute(
        "INSERT INTO chats (room_id, room_type, matrix_user_id, space_id, chat_id,"
        " platform_chat_id, name, status, created_at, updated_at)"
        " VALUES ($1, 'chat', $2, $3, 'C9', 'ghost-key', 'Ghost', 'active', 1, 1)",
        ghost,
        home.user.user_id,
        home.space,
    )
    damaged = await tables(stack)
    mark = await stack.synapse.mark()

    dry = await ask(stack, admin, office, "!reconcile --dry-run")
    assert "Dry run, nothing was changed" in dry.body
    lines = _report_lines(dry.body)
    changed = next(line for line in lines if home.chat in line)
    assert f"platform_chat_id {wrong} → {key}" in changed
    assert "name Wrong name → General" in changed
    assert "~" in changed
    added = next(line for line in lines if lost_room in line)
    assert "+" in added
    assert before.keys()[lost_room] in added
    gone = next(line for line in lines if ghost in line)
    assert "status active → left" in gone
    assert await tables(stack) == damaged
    writes = await writes_of_bot(stack, since=mark)
    assert [entry.path for entry in writes if "/send/m.room.message/" not in entry.path] == []

    real = await ask(stack, admin, office, "!reconcile")
    assert "Reconciled" in real.body
    assert _report_lines(real.body) >= {changed, added, gone}
    after = await tables(stack)
    assert {room: row for room, row in after.chats.items() if room != ghost} == before.chats
    assert after.chats[ghost] == damaged.chats[ghost] | {"status": "left"}
    assert after.homes == before.homes
    again = await ask(stack, admin, office, "!reconcile --dry-run")
    assert "Rows: no changes." in again.body
    assert await say_and_hear(stack, home.user, home.chat, "Still me?") == key

    no = await ask(stack, home.user, home.chat, "!reconcile")
    assert no.body == replies.ADMINS_ONLY
    assert (
        "does not know “--force”" in (await ask(stack, admin, office, "!reconcile --force")).body
    )


def _report_lines(body: str) -> set[str]:
    """The lines of a report, without its Markdown."""
    return {line.replace("`", "").strip() for line in body.splitlines()}
