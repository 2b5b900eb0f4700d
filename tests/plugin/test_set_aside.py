"""A message that the process dies of again and again is set aside; no other ever is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from mautrix.crypto import MemoryCryptoStore
from mautrix.crypto.account import OlmAccount
from mautrix.types import EncryptedEvent

from homeroom import replies
from homeroom.matrix import message_text
from tests.fake import FakeHomeserver, Hang
from tests.plugin import harness
from tests.plugin.harness import Bot, running, until

SEALED = {
    "algorithm": "m.megolm.v1.aes-sha2",
    "session_id": "s",
    "sender_key": "k",
    "ciphertext": "c",
}
DEADLY = "deadly " * 200
"""Long enough to be rendered in a thread."""


class Renderer:
    """Renders, but never comes to an end with what is deadly; `release` ends it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._released = threading.Event()
        self._render = message_text.render_html

    def __call__(self, text: str) -> str | None:
        if "deadly" in text:
            self.entered.set()
            self._released.wait(30)
        return self._render(text)

    def release(self) -> None:
        """As it is with a process that has died: nothing of it goes on."""
        self._released.set()
        self.entered, self._released = threading.Event(), threading.Event()


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Renderer]:
    renderer = Renderer()
    monkeypatch.setattr(message_text, "render_html", renderer)
    yield renderer
    renderer.release()


async def die_rendering(bot: Bot, renderer: Renderer) -> None:
    await until("it is rendered", renderer.entered.is_set)
    await bot.kill()
    renderer.release()


async def test_what_the_process_dies_of_again_and_again_is_set_aside(
    hs: FakeHomeserver, tmp_path: Path, renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        (chat_id,), (berts,) = bot.chats_of(anna), bot.chats_of(bert)
        deadly = anna.send(chat_id, DEADLY)
        anna.send(chat_id, "Hello?")
        for number in range(3):
            await die_rendering(bot, renderer)
            assert (deadly in attempts(bot)) == (number > 0), "noted when it came again"
            await bot.start()
            assert await bot.ask(bert, berts, "Hi") == bot.echo(berts, "Hi")
        assert await bot.hear(chat_id, 2) == [replies.SET_ASIDE, bot.echo(chat_id, "Hello?")]
        assert f"{deadly} of {anna.user_id} in {chat_id} is set aside" in caplog.text
        await bot.settled()
        await bot.restart()
        assert await bot.ask(anna, chat_id, "And now?") == bot.echo(chat_id, "And now?")
        assert len(bot.words(chat_id)) == 3
        caplog.clear()


class Machine:
    """In place of mautrix's: never comes to an end with what is sealed."""

    account = OlmAccount()

    def __init__(self) -> None:
        self.crypto_store = MemoryCryptoStore("bot", "key")
        self.entered = asyncio.Event()

    async def decrypt_megolm_event(self, event: EncryptedEvent) -> Any:
        self.entered.set()
        await asyncio.Event().wait()

    async def get_or_fetch_device_by_key(self, *_: Any) -> None:
        return None


async def test_what_the_process_dies_of_while_it_is_decrypted_is_set_aside(
    hs: FakeHomeserver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machines: list[Machine] = []
    make_client = harness.make_client

    def with_machine(**options: Any) -> Any:
        client = make_client(**options)
        machines.append(Machine())
        client.crypto = cast("Any", machines[-1])
        return client

    monkeypatch.setattr(harness, "make_client", with_machine)
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        await bot.onboard(bert)
        (chat_id,), (berts,) = bot.chats_of(anna), bot.chats_of(bert)
        deadly = anna.send(chat_id, SEALED, type="m.room.encrypted")
        anna.send(chat_id, "Hello?")
        for number in range(3):
            await machines[-1].entered.wait()
            await bot.kill()
            assert attempts(bot) == ({deadly} if number else set())
            await bot.start()
            assert await bot.ask(bert, berts, "Hi") == bot.echo(berts, "Hi")
        assert await bot.hear(chat_id, 2) == [replies.SET_ASIDE, bot.echo(chat_id, "Hello?")]
        assert not machines[-1].entered.is_set()
        assert f"{deadly} of {anna.user_id} in {chat_id} is set aside" in caplog.text
        caplog.clear()


async def test_an_orderly_end_is_no_death(
    hs: FakeHomeserver, tmp_path: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeroom.bot.DRAIN_FOR", 0.05)
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        anna.send(chat_id, DEADLY)
        await die_rendering(bot, renderer)
        for _ in range(3):
            await bot.start()
            await until("it is rendered", renderer.entered.is_set)
            await bot.stop()
            renderer.release()
            assert attempts(bot) == set()
        monkeypatch.undo()
        await bot.start()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, DEADLY)]


async def test_who_is_killed_while_others_are_at_work_is_not_to_blame(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    """Killed five times in the middle of an answer: it is rendered, and not sent yet."""
    anna = hs.user("anna")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        text = "harmless " * 200
        anna.send(chat_id, text)
        for _ in range(5):
            sending = hs.fail(f"{chat_id}/send/", Hang())
            await sending.reached()
            await bot.kill()
            sending.cancel()
            assert attempts(bot) == set()
            await bot.start()
        assert await bot.hear(chat_id, 1) == [bot.echo(chat_id, text)]


def attempts(bot: Bot) -> set[str]:
    rows = bot.query("SELECT event_id FROM attempts WHERE event_id <> 'running'")
    return {row["event_id"] for row in rows}
