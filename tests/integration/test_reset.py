"""`!reset` on real servers: it does what it says, says what it does, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.homes import (
    ask,
    configure,
    invite_bot,
    move_in,
    onboard,
    restart,
    say_and_hear,
    shown,
    start,
    tables,
    welcomed,
    writes_of_bot,
)
from tests.integration.resetting import (
    CHATS,
    CONFIG,
    DONE,
    PARTS,
    code_in,
    furnish,
    not_forgotten,
    stored,
)
from tests.stack.http import ApiError
from tests.stack.stack import MakeStack
from tests.stack.waiting import eventually

# Dry run


async def test_a_dry_run_changes_nothing(make_bot: MakeStack) -> None:
    place = await furnish(await make_bot(config=CONFIG))
    stack = place.stack
    await place.tell("!reset help")
    rows, rooms = await stored(stack), await stack.bot_rooms()
    for command, named in {
        "!reset local --dry-run": {"chats: 2 rows would be deleted"},
        "!reset leave-forget --dry-run": place.ada.rooms,
        "!reset leave-forget": place.ada.rooms,
        "!reset leave-forget --scope managed --dry-run": place.ada.rooms,
        "!reset leave-forget --scope joined --dry-run": rooms,
    }.items():
        mark = await stack.synapse.mark()
        reply = await place.tell(command)
        (write,) = shown(await writes_of_bot(stack, since=mark, at_least=1))
        assert "/send/m.room.message/" in write
        assert "nothing was changed" in reply.body
        assert [line for line in reply.body.split("\n") if line in PARTS] == PARTS
        body = reply.body.replace("`", "")
        assert {text for text in named if text not in body} == set(), reply.body
        assert await stored(stack) == rows
        assert await stack.bot_rooms() == rooms
    await stack.maubot.wait_for_log(
        rf"Reset by {place.ada.user.user_id} in {re.escape(place.office)} .*"
        r"leave-forget, scope joined, dry run, 4 rooms"
    )


# What it does


async def test_after_local_a_restart_brings_the_same_homes_back(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack = place.stack
    alice = await onboard(stack, "alice", chats=CHATS)
    before, rooms = await tables(stack), await stack.bot_rooms()

    report = (await place.tell("!reset local")).body
    assert "!reset local: done" in report
    assert "homes: 2 rows deleted" in report.replace("`", "")
    assert "chats: 4 rows deleted" in report.replace("`", "")
    assert await stored(stack) == {"homes": [], "chats": []}
    assert await stack.bot_rooms() == rooms

    # Nobody is answered, nobody gets a home, and every room is told once.
    bert = await stack.user("bert")
    waiting = await bert.start_dm(stack.bot.user_id)
    for text in ("Hello?", "Are you there?", "!chat new"):
        last = await alice.user.send_text(alice.chat, text)
    assert "paused" in (await place.tell("Hello?", room=place.ada.chat)).body
    assert "on the server" in (await place.tell("!reset leave-forget --dry-run")).body
    assert await stack.bot_rooms() == rooms

    await restart(stack)
    assert await say_and_hear(stack, alice.user, alice.chat, "Back?") == before.keys()[alice.chat]
    said = alice.user.messages(alice.chat, sender=stack.bot.user_id)
    assert len([message for message in said if "paused" in message.body]) == 1, said
    assert last  # after it, nothing but the echo of "Back?"
    home = await move_in(stack, bert, direct=waiting, chats=CHATS)
    after = await tables(stack)
    assert {room: after.chats[room] for room in before.chats} == before.chats
    assert {owner: after.homes[owner] for owner in before.homes} == before.homes
    assert await stack.bot_rooms() == rooms | home.rooms | {waiting}


async def test_leave_forget_leaves_everything_and_a_new_invite_begins_anew(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack, ada = place.stack, place.ada
    alice = await onboard(stack, "alice", chats=CHATS)
    gone = alice.rooms | ada.rooms

    # From one of the rooms that are left: it comes last, with the report in it.
    report = (await place.leave(room=ada.chat)).body
    assert f"{DONE}, but for this room, which I leave now" in report
    assert "left 5, was not in it 0, forgotten 5, failed 0, skipped 0" in report
    assert {room for room in gone if room not in report} == set()

    async def left_all() -> bool:
        return await stack.bot_rooms() == {alice.direct, ada.direct}

    await eventually("the bot is in none of the rooms", left_all)
    await stack.maubot.wait_for_log(
        rf"Reset by {ada.user.user_id} in {re.escape(ada.chat)} .*"
        r"leave-forget, scope managed, ended, left 6, forgotten 6"
    )
    await stack.maubot.wait_for_log(r"Reconciled 2 rooms in .* 6 left")
    assert await not_forgotten(stack) == set()
    for room in gone:
        with pytest.raises(ApiError):
            await stack.bot_api.request("GET", f"/_matrix/client/v3/rooms/{room}/messages")
    for home in (alice, ada):
        assert await home.user.joined_rooms() >= home.rooms
        for room in home.rooms:
            assert await home.user.joined_members(room) == {home.user.user_id}
    rows = await tables(stack)
    assert {row["status"] for row in (*rows.homes.values(), *rows.chats.values())} == {"left"}

    await restart(stack)
    assert await tables(stack) == rows
    assert await stack.bot_rooms() == {alice.direct, ada.direct}

    direct = await invite_bot(stack, alice.user)
    new = await move_in(stack, alice.user, direct=direct, chats=CHATS)
    assert not new.rooms & gone
    assert await stack.bot_rooms() == {alice.direct, ada.direct, direct} | new.rooms
    await say_and_hear(stack, alice.user, new.chat, "A clean room")


# Who may, and how


def reply_to(event_id: str) -> dict[str, Any]:
    return {"m.relates_to": {"m.in_reply_to": {"event_id": event_id}}}


def in_thread(event_id: str) -> dict[str, Any]:
    relation = {"rel_type": "m.thread", "event_id": event_id, "is_falling_back": True}
    return {"m.relates_to": {**reply_to(event_id)["m.relates_to"], **relation}}


async def test_what_is_not_a_fresh_command_of_an_admin_leaves_nothing(
    make_bot: MakeStack,
) -> None:
    place = await furnish(await make_bot(config=CONFIG))
    stack, ada, bot = place.stack, place.ada.user, place.stack.bot.user_id
    alice = await onboard(stack, "alice", chats=CHATS)
    team = await ada.create_room(invite=[bot, alice.user.user_id])
    await ada.wait_for_member(team, bot)
    await welcomed(stack, ada, team)
    await alice.user.join(team)
    elsewhere = await place.code()
    code = await place.code(room=team)
    assert code != elsewhere
    confirm = f"!reset leave-forget --confirm {code}"
    rows, rooms = await stored(stack), await stack.bot_rooms()
    mark = await stack.synapse.mark()

    # Not an administrator: no reaction, and the platform never hears of it.
    await alice.user.send_text(team, confirm)
    stranger = await alice.user.send_text(alice.chat, "!reset local")
    await say_and_hear(stack, alice.user, alice.chat, "Hello")
    heard = [m.body for m in alice.user.messages(alice.chat, sender=bot, after=stranger)]
    assert len(heard) == 1, heard

    # Not a message of its own, or not from a person's hand.
    first = await ada.send_text(team, "Shall I?")
    await ada.edit(team, first, confirm)
    await ada.send_text(team, f"> {confirm}")
    await ada.send_text(team, f"> <{bot}> {confirm}\n\nyes, that one", **reply_to(first))
    await ada.send(team, {"msgtype": "m.notice", "body": confirm})
    await ada.send(team, {"msgtype": "m.emote", "body": confirm})
    secret = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": "AwgAEnACgAkLmt6qF84IK",
        "device_id": ada.account.device_id,
        "sender_key": "key",
        "session_id": "unknown",
        "msgtype": "m.text",
        "body": confirm,
    }
    await ada.send(team, secret, event_type="m.room.encrypted")
    reply = await ada.send_text(team, confirm, **reply_to(first))
    thread = await ada.send_text(team, confirm, **in_thread(first))
    for event_id in (reply, thread):
        answer = await ada.wait_for_message(team, sender=bot, after=event_id)
        assert "not taken from replies" in answer.body

    # Not understood.
    for text in (f"{confirm} now", "!reset everything", "!reset leave-forget —confirm 00000000"):
        assert "so nothing was done. " in (await place.tell(text, room=team)).body

    # The wrong code: another room's, an earlier one, another scope's.
    stale = "that code is not the one of this plan, so nothing was done"
    for text in (
        f"!reset leave-forget --confirm {elsewhere}",
        f"!reset leave-forget --scope joined --confirm {code}",
    ):
        assert stale in (await place.tell(text, room=team)).body
    assert await stored(stack) == rows
    assert await stack.bot_rooms() == rooms

    await ask(stack, alice.user, alice.chat, "!chat new Added")
    added = await stack.bot_rooms() - rooms
    rows = await stored(stack)
    refused = await place.tell(confirm, room=team)
    assert stale in refused.body
    assert code_in(refused) != code
    assert added <= set(re.findall(r"![\w:.-]+", refused.body))

    await configure(stack, {"admins": [ada.user_id], "dev": {"reset": False}}, base=CONFIG)
    for text in (f"!reset leave-forget --confirm {code_in(refused)}", "!reset local"):
        off = await place.tell(text, room=team)
        assert "dev.reset: true" in off.body
        assert "\n" not in off.body
    await alice.user.send_text(alice.chat, "!reset local")
    await say_and_hear(stack, alice.user, alice.chat, "Hello again")

    assert await stored(stack) == rows
    assert await stack.bot_rooms() == rooms | added
    writes = shown(await stack.synapse.writes(since=mark, user_id=bot))
    assert [write for write in writes if write.endswith(("/leave", "/forget"))] == []


async def test_a_command_that_was_sent_while_the_bot_was_down_is_not_taken(
    make_stack: MakeStack, plugin: Path
) -> None:
    place = await furnish(await make_stack(plugin=plugin, config=CONFIG))
    stack, ada = place.stack, place.ada.user
    code, rooms = await place.code(), await stack.bot_rooms()
    await stack.maubot.stop()
    late = await ada.send_text(place.office, f"!reset leave-forget --confirm {code}")
    await start(stack)
    answer = await ada.wait_for_message(place.office, sender=stack.bot.user_id, after=late)
    assert "did not reach me as it was sent" in answer.body
    assert await stack.bot_rooms() == rooms
    await restart(stack)
    await say_and_hear(stack, ada, place.ada.chat, "Still there")
    answers = ada.messages(place.office, sender=stack.bot.user_id, after=late)
    assert len(answers) == 1, answers
    assert await stack.bot_rooms() == rooms
