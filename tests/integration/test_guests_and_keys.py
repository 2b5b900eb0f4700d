"""What a guest can do to an encrypted bot with keys and ciphertext: nothing that others notice.

Mallory has a home of her own, and is a guest in Alice's chat. Bob asks in his chat all the while;
his answers are compared with those of a quiet time, and maubot's memory is looked at.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.homes import Home, invite_bot, move_in, said_by_bot, say_and_hear, start
from tests.stack.agent_server import AgentServer
from tests.stack.memory import resident_megabytes
from tests.stack.stack import MakeStack, Stack
from tests.stack.user import MatrixUser

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")

from mautrix.types import EventType, RoomID, RoomKeyEventContent, UserID

from tests.stack.megolm import MegolmSession

if TYPE_CHECKING:
    from tests.stack.encrypted_user import EncryptedUser

# mautrix's own, in the person's client.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    pytest.mark.timeout(240),
]
QUESTIONS = 5
MUCH = 5.0
"""Seconds of an answer beside an attack, above twice a quiet one, that are no noise."""
MEGABYTES = 60
"""That maubot may take more: one message cost 700 MB, and every later one again."""


async def at_home(stack: Stack, name: str) -> tuple[EncryptedUser, Home]:
    person = await stack.encrypted_user(name)
    direct = await invite_bot(stack, person)
    return person, await move_in(stack, person, direct=direct)


async def give(stack: Stack, sender: EncryptedUser, room_id: str, *, key: str, of: str) -> None:
    """Send the bot a key of the session `of`, for a room, as clients do."""
    bot = UserID(stack.bot.user_id)
    await sender.machine._fetch_keys([bot], include_untracked=True)
    content: Any = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "room_id": room_id,
        "session_id": of,
        "session_key": key,
    }
    for device in ((await sender.keys.get_devices(bot)) or {}).values():
        await sender.machine.send_encrypted_to_device(
            device, EventType.ROOM_KEY, RoomKeyEventContent.deserialize(content)
        )


async def send_sealed(
    sender: EncryptedUser, room_id: str, *, ciphertext: str, session_id: str
) -> str:
    content = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": ciphertext,
        "session_id": session_id,
        "sender_key": sender.machine.account.identity_key,
        "device_id": sender.account.device_id,
    }
    return await MatrixUser.send(sender, room_id, content, event_type="m.room.encrypted")


async def answered_in(stack: Stack, person: EncryptedUser, home: Home, what: str) -> list[float]:
    """How long the answers to some questions take."""
    times = []
    for number in range(QUESTIONS):
        began = time.monotonic()
        await say_and_hear(stack, person, home.chat, f"{what} {number}")
        times.append(time.monotonic() - began)
    print(f"{what}: median {statistics.median(times):.2f} s, longest {max(times):.2f} s")
    return times


async def test_guests_do_no_harm_with_keys_and_ciphertext(
    make_stack: MakeStack, plugin: Path, agent: AgentServer
) -> None:
    config = {
        "access": {"allow": ["*"]},
        "rooms": {"initial_chats": ["General"], "encrypted": True},
        "platform": agent.openai(),
    }
    stack = await make_stack(plugin=plugin, config=config, encryption=True)
    bot = stack.bot.user_id
    alice, home = await at_home(stack, "alice")
    bob, bobs = await at_home(stack, "bob")
    mallory, hers = await at_home(stack, "mallory")
    await alice.invite(home.chat, mallory.user_id)
    await mallory.wait_for_invite()
    await mallory.join(home.chat)
    await alice.wait_for_member(home.chat, mallory.user_id)  # whose coming changes the session
    keys = []  # what Mallory's client is given, as it is
    receive = mallory.machine._receive_room_key

    async def received(event: Any) -> None:
        keys.append(event.content)
        await receive(event)

    mallory.machine._receive_room_key = received  # type: ignore[method-assign]
    await alice.change_session(home.chat)
    await say_and_hear(stack, alice, home.chat, "First")
    current = await alice.keys.get_outbound_group_session(RoomID(home.chat))
    assert current is not None
    assert current.message_index > 0
    of = current.id

    def whole_key() -> str | None:
        """What Mallory was given of the session: all of it."""
        given = (content.session_key for content in keys if content.session_id == of)
        return next(given, None)

    whole = await mallory.wait_for("Alice's key", whole_key)
    quiet = await answered_in(stack, bob, bobs, "quiet")
    before = resident_megabytes(stack.maubot.pid)

    # An index that no client gets to, and another message after it.
    session = MegolmSession()
    session.go_to(1)
    own_key, own = session.session_key, session.session_id
    await give(stack, mallory, hers.chat, key=own_key, of=own)
    for index in (10_000, 10_000_000, 2**31 - 2, 2**31):
        session.go_to(index)
        for number in range(2):
            text = f"index {index} {number}"
            content = {"msgtype": "m.text", "body": text}
            sealed = session.encrypt(room_id=hers.chat, content=content)
            await send_sealed(mallory, hers.chat, ciphertext=sealed, session_id=own)
            if index < 2**31:
                await mallory.wait_for_message(hers.chat, sender=bot, body=text, timeout=60)
    # Alice's session, for another room; in Mallory's name; and from a later message on.
    await give(stack, mallory, hers.chat, key=whole, of=of)
    await give(stack, mallory, home.chat, key=whole, of=of)
    await give(stack, alice, home.chat, key=current.session_key, of=of)

    beside = await answered_in(stack, bob, bobs, "beside it")
    grown = resident_megabytes(stack.maubot.pid) - before
    print(f"memory: {grown:.1f} MB more")
    assert statistics.median(beside) < 2 * statistics.median(quiet) + MUCH
    assert max(beside) < 2 * max(quiet) + 2 * MUCH
    assert grown < MEGABYTES
    await say_and_hear(stack, alice, home.chat, "Second")

    # Copies of what Alice says while the bot is away; it reads the newest first.
    await stack.maubot.stop()
    third = await alice.send_text(home.chat, "Third")
    await mallory.wait_for_message(home.chat, sender=alice.user_id, body="Third")
    sealed = (mallory.sealed(third) or {})["content"]["ciphertext"]
    for room_id in (home.chat, hers.chat):
        await send_sealed(mallory, room_id, ciphertext=sealed, session_id=of)
    await start(stack)
    await alice.wait_for_message(home.chat, sender=bot, after=third, body="Third")
    await say_and_hear(stack, alice, home.chat, "Fourth")
    asked = [m["content"] for m in agent.requests[-1].messages if m["role"] == "user"]
    assert asked == ["First", "Second", "Third", "Fourth"]
    answers = said_by_bot(stack, alice, home.chat)
    assert [a for a in answers if a in asked] == asked
