"""Encrypted rooms, on real servers, with a real encrypting client as the person.

What is looked at is what came over the wire (`sealed`) and what the person's keys make of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.integration.homes import (
    Home,
    ask,
    configure,
    marked,
    move_in,
    onboard,
    room_state,
    said_by_bot,
    say_and_hear,
    start,
    welcomed,
)
from tests.stack.stack import MakeStack, Stack
from tests.stack.waiting import eventually

if TYPE_CHECKING:
    from tests.stack.encrypted_user import EncryptedUser

if not os.environ.get("CI"):
    pytest.importorskip("olm", reason="python-olm is not installed")

# mautrix's own, in the person's client.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The sender_key field:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

ENCRYPTED: dict[str, Any] = {
    "access": {"allow": ["*"]},
    "rooms": {"initial_chats": ["General"], "encrypted": True},
}
MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}


@pytest.fixture
async def stack(make_stack: MakeStack, plugin: Path) -> Stack:
    """A bot that encrypts."""
    return await make_stack(plugin=plugin, config=ENCRYPTED, encryption=True)


async def at_home(stack: Stack, name: str = "alice") -> tuple[EncryptedUser, Home]:
    """A person in their home, who invited the bot to an encrypted direct room, as Element does."""
    person = await stack.encrypted_user(name)
    direct = await person.create_encrypted_room(
        preset="trusted_private_chat", is_direct=True, invite=[stack.bot.user_id]
    )
    await person.wait_for_member(direct, stack.bot.user_id)
    return person, await move_in(stack, person, direct=direct)


async def encrypt(stack: Stack, room_id: str) -> None:
    """Switch encryption on, as the bot: its owner may not."""
    path = f"/_matrix/client/v3/rooms/{quote(room_id)}/state/m.room.encryption/"
    await stack.bot_api.request("PUT", path, MEGOLM)


def last_sealed(stack: Stack, person: EncryptedUser, room_id: str) -> dict[str, Any]:
    """What the bot said last, as it came."""
    (last,) = person.messages(room_id, sender=stack.bot.user_id)[-1:]
    sealed = person.sealed(last.event_id)
    assert sealed is not None, last
    return sealed


async def bring(owner: EncryptedUser, guest: EncryptedUser, room_id: str) -> None:
    await owner.invite(room_id, guest.user_id)
    await guest.wait_for_invite()
    await guest.join(room_id)


async def assert_answered_once(
    stack: Stack, person: EncryptedUser, room_id: str, texts: list[str]
) -> None:
    """Each of these has one answer, in their order, and none of them came in the clear."""

    def heard() -> list[str]:
        return [body for body in said_by_bot(stack, person, room_id) if body in texts]

    await person.wait_for(f"{len(texts)} answers", lambda: len(heard()) >= len(texts))
    assert heard() == texts
    for message in person.messages(room_id, sender=stack.bot.user_id):
        assert person.sealed(message.event_id) is not None, message


async def test_an_encrypted_chat_goes_on_whatever_happens_to_the_bot(stack: Stack) -> None:
    alice, home = await at_home(stack)
    bot = stack.bot.user_id
    welcome = await alice.wait_for_message(home.direct, sender=bot, body="This is your home")
    assert alice.sealed(welcome.event_id), "the welcome came in the clear"
    assert ("m.room.encryption", "") in await room_state(stack, home.chat)
    assert ("m.room.encryption", "") not in await room_state(stack, home.space)

    question = await alice.send_text(home.chat, "Hello")
    answer = await alice.wait_for_message(home.chat, sender=bot, after=question)
    assert answer.body == "Hello"
    assert alice.sealed(question)
    assert alice.sealed(answer.event_id)
    assert "Your chats" in (await ask(stack, alice, home.chat, "!chat list")).body

    said = ["Hello"]
    # On a busy machine maubot may have thrown a key away before it has imported the plugin.
    alice.give_keys_to_everybody()

    async def say(*texts: str) -> None:
        for text in texts:
            await alice.send_text(home.chat, text)
            said.append(text)

    await stack.maubot.stop()
    await alice.change_session(home.chat)  # the bot is told of the key while it is away
    await say("while it was stopped")
    await start(stack)
    await assert_answered_once(stack, alice, home.chat, said)

    await stack.maubot.restart()
    await alice.change_session(home.chat)  # message and key come in what maubot throws away
    await say("the first after a restart in silence")
    await assert_answered_once(stack, alice, home.chat, said)

    await say("one", "two", "three", "four", "five")
    stack.maubot.kill()
    await say("while it was dead")
    await start(stack)
    await assert_answered_once(stack, alice, home.chat, said)

    await stack.maubot.stop()
    await stack.maubot.delete_plugin_database(stack.instance)
    await say("while its database was lost")
    await start(stack)
    await assert_answered_once(stack, alice, home.chat, said)
    await say("afterwards")
    await assert_answered_once(stack, alice, home.chat, said)
    log = stack.maubot.log_text()
    errors = [line for line in log.splitlines() if "ERROR@maubot.instance" in line]
    assert all("Encryption: my account has no cross-signing identity" in e for e in errors)
    assert "yet decryption failed" not in log, "an Olm message was handled twice"


async def test_only_who_is_in_the_room_now_can_read_what_the_bot_says_after_its_absence(
    stack: Stack,
) -> None:
    alice, home = await at_home(stack)
    bob, carol = await stack.encrypted_user("bob"), await stack.encrypted_user("carol")
    await bring(alice, bob, home.chat)
    await say_and_hear(stack, alice, home.chat, "Hello Bob")
    await bob.wait_for_message(home.chat, sender=stack.bot.user_id, body="Hello Bob")

    # One thing at a time: another one in a later response would make mautrix itself change keys.
    await stack.maubot.stop()
    await alice.kick(home.chat, bob.user_id)
    await start(stack)
    await say_and_hear(stack, alice, home.chat, "Bob is gone")
    assert not await bob.can_read(home.chat, last_sealed(stack, alice, home.chat))

    await stack.maubot.stop()
    await bring(alice, carol, home.chat)
    await start(stack)
    await say_and_hear(stack, alice, home.chat, "Hello Carol")
    await carol.wait_for_message(home.chat, sender=stack.bot.user_id, body="Hello Carol")

    await stack.maubot.stop()
    phone = await stack.encrypted_user("alice", is_known=True)
    await start(stack)
    await say_and_hear(stack, alice, home.chat, "And my phone?")
    await phone.wait_for_message(home.chat, sender=stack.bot.user_id, body="And my phone?")

    # While it runs, with the answer on the heels of the change.
    await alice.kick(home.chat, carol.user_id)
    await say_and_hear(stack, alice, home.chat, "Carol is gone")
    assert not await carol.can_read(home.chat, last_sealed(stack, alice, home.chat))


async def test_a_message_without_its_key_is_named_and_holds_nobody_up(stack: Stack) -> None:
    alice, home = await at_home(stack)
    await configure(stack, {"rooms": {"encrypted": False}}, base=ENCRYPTED)
    await ask(stack, alice, home.chat, "!chat new Other")
    other = await alice.wait_for_invite(name="Other")
    await alice.join(other)
    await marked(stack, other)
    mark = stack.maubot.mark()

    before = len(said_by_bot(stack, alice, home.chat))
    await alice.change_session(home.chat, lost=True)
    lost = await alice.send_text(home.chat, "Nobody can read this")
    again = await alice.send_text(home.chat, "Nor this")
    await say_and_hear(stack, alice, other, "Meanwhile, elsewhere")
    assert said_by_bot(stack, alice, home.chat)[before:] == []
    # The other one was not encrypted; now it is.
    await encrypt(stack, other)
    await alice.wait_for("encryption", lambda: alice.encrypts(other))
    await say_and_hear(stack, alice, other, "Just between us")
    last_sealed(stack, alice, other)

    notice = await alice.wait_for_message(
        home.chat, sender=stack.bot.user_id, after=again, timeout=60
    )
    assert notice.msgtype == "m.notice"
    alice.give_keys_to_everybody()
    await alice.change_session(home.chat, lost=True)
    await alice.send_text(home.chat, "Ask me for the key")
    await alice.wait_for_message(
        home.chat, sender=stack.bot.user_id, body="Ask me for the key", timeout=60
    )
    notices = said_by_bot(stack, alice, home.chat)[before:-1]
    assert notices == [
        "I cannot read this message, because its key did not reach me. Please send it again."
    ]
    for event_id in (lost, again):
        sealed = alice.sealed(event_id)
        assert sealed is not None
        assert re.search(
            re.escape(
                f"Cannot read {event_id} of {alice.user_id} in {home.chat}"
                f" (session {sealed['content']['session_id']}): its key is missing"
            ),
            stack.maubot.log_text(since=mark),
        )


async def test_without_a_device_id_there_is_no_encryption_and_everybody_is_told(
    make_stack: MakeStack, plugin: Path
) -> None:
    stack = await make_stack(plugin=plugin)
    home = await onboard(stack, "alice")
    mark = stack.maubot.mark()
    await configure(stack, ENCRYPTED)
    await stack.maubot.wait_for_log(
        r"goes on with the last good settings:\n- rooms\.encrypted: found true, expected false,"
        r" because the bot's client in maubot has no device ID",
        since=mark,
    )
    await say_and_hear(stack, home.user, home.chat, "Still there?")

    await encrypt(stack, home.chat)
    before = len(said_by_bot(stack, home.user, home.chat))
    for number in range(3):
        content = {**MEGOLM, "session_id": "s", "sender_key": "k", "ciphertext": str(number)}
        await home.user.send(home.chat, content, event_type="m.room.encrypted")
    await home.user.wait_for_message(
        home.chat, sender=stack.bot.user_id, body="I cannot read encrypted messages"
    )

    # An encrypted direct room is answered in the clear: there is no other way to say where to go.
    bob = await stack.encrypted_user("bob")
    direct = await bob.create_encrypted_room(is_direct=True, invite=[stack.bot.user_id])
    welcome = await welcomed(stack, bob, direct)
    assert "This is your home" in welcome.body
    assert bob.sealed(welcome.event_id) is None

    async def all_named() -> bool:
        log = stack.maubot.log_text(since=mark)
        return len(set(re.findall(r"Cannot read (\S+) .* no encryption on this bot", log))) == 3

    await eventually("three lines in the log", all_named)
    assert len(said_by_bot(stack, home.user, home.chat)) == before + 1
