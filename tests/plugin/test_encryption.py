"""A bot that cannot encrypt: it says so, once, and leaves nobody guessing.

What it does with keys is tested on real servers (`tests/integration/test_encryption.py`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from mautrix.types import RoomID

from homeroom import replies
from homeroom.replies import encryption as words
from tests.fake import FakeHomeserver, Match, Respond, User
from tests.plugin.harness import running

MEGOLM = {"algorithm": "m.megolm.v1.aes-sha2"}


def send_sealed(user: User, room_id: RoomID) -> str:
    content = {**MEGOLM, "session_id": "s", "sender_key": "k", "ciphertext": "c"}
    return user.send(room_id, content, type="m.room.encrypted")


async def test_encrypted_chats_are_refused_where_the_bot_would_be_mute(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(hs, tmp_path, config="rooms: {encrypted: true, version: 5}"):
        (error,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert error.split("\n- ")[1:] == [
            'rooms.version: found 5, expected a text from "8" on, or ""',
            (
                "rooms.encrypted: found true, expected false, because the bot's client in maubot"
                " has no device ID (see docs/encryption.md)"
            ),
        ]
        assert hs.writes == []


async def test_in_a_chat_that_is_encrypted_all_the_same_one_notice_says_so(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, eve = hs.user("anna"), hs.user("eve")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        bot.me.set_state(chat_id, "m.room.encryption", MEGOLM)
        bot.me.invite(chat_id, eve)
        eve.join(chat_id)
        send_sealed(eve, chat_id)
        await bot.settled()
        guest = replies.only_the_owner(may_share=False)
        assert bot.words(chat_id) == [guest]

        sealed = [send_sealed(anna, chat_id) for _ in range(3)]
        await bot.settled()
        assert [content["msgtype"] for content in bot.said(chat_id)] == ["m.notice"] * 2
        assert bot.words(chat_id) == [guest, words.NO_ENCRYPTION]
        named = [r.getMessage() for r in caplog.records if "Cannot read" in r.getMessage()]
        assert [line for line in named if anna.user_id in line] == [
            f"Cannot read {event_id} of {anna.user_id} in {chat_id} (session s):"
            " there is no encryption on this bot"
            for event_id in sealed
        ]

        await bot.restart()
        send_sealed(anna, chat_id)
        await bot.settled()
        assert len(bot.words(chat_id)) == 2


async def test_a_notice_that_could_not_be_sent_is_said_with_the_next_message(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        bot.me.set_state(chat_id, "m.room.encryption", MEGOLM)
        refused = hs.fail(Match(method="PUT", path="/send/"), Respond(403, {"errcode": "M_NO"}))
        send_sealed(anna, chat_id)
        await refused.reached()
        await bot.settled()
        assert bot.words(chat_id) == []
        send_sealed(anna, chat_id)
        await bot.settled()
        assert bot.words(chat_id) == [words.NO_ENCRYPTION]


async def test_in_an_encrypted_direct_room_everybody_is_told_where_to_go(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        direct = anna.create_room(
            invite=[bot.me],
            initial_state=[{"type": "m.room.encryption", "state_key": "", "content": MEGOLM}],
        )
        (welcome,) = await bot.hear(direct, 1)
        assert "This is your home" in welcome
        await bot.settled()
        for _ in range(3):
            send_sealed(anna, direct)
        await bot.settled()
        assert len(bot.words(direct)) == 2
        assert "Your chats are in your home" in bot.words(direct)[1]


async def test_what_is_deleted_or_edited_or_no_ciphertext_is_nothing(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        edit = {"rel_type": "m.replace", "event_id": "$x"}
        for content in (
            {},
            {**MEGOLM, "session_id": 5, "ciphertext": "c"},
            {**MEGOLM, "session_id": "s", "ciphertext": {"body": "c"}},
            {**MEGOLM, "session_id": "s", "ciphertext": "c", "m.relates_to": edit},
        ):
            anna.send(chat_id, content, type="m.room.encrypted")
        await bot.settled()
        assert bot.words(chat_id) == []


async def test_a_request_to_verify_each_other_gets_one_friendly_line(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """In the chat, and in the room where the bot was invited."""
    anna, eve = hs.user("anna"), hs.user("eve")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        direct = anna.create_room(invite=[bot.me])
        await bot.settled()
        before = len(bot.words(direct))
        bot.me.invite(chat_id, eve)
        eve.join(chat_id)
        request = {
            "msgtype": "m.key.verification.request",
            "body": "Alice wants to verify you",
            "from_device": "PHONE",
            "methods": ["m.sas.v1"],
            "to": bot.me.user_id,
        }
        for sender, room_id in ((eve, chat_id), (anna, chat_id), (anna, chat_id), (anna, direct)):
            sender.send(room_id, request)
            await bot.settled()
        guest = replies.only_the_owner(may_share=False)
        assert bot.words(chat_id) == [guest, words.VERIFY]
        assert bot.words(direct)[before:] == [words.VERIFY]


async def test_what_is_said_in_the_clear_in_an_encrypted_chat_is_no_question(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        bot.me.set_state(chat_id, "m.room.encryption", MEGOLM)
        for text in ("Hello", "!chat list", "Hello?"):
            anna.send(chat_id, text)
        await bot.settled()
        assert bot.words(chat_id) == [words.NO_ENCRYPTION]
