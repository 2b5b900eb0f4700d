"""The settings: all that is wrong in one message, and what can change while it runs does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from homeroom import replies
from homeroom.config import RESTART_KEYS
from tests.fake import FakeHomeserver, Hang, Match
from tests.plugin.harness import running, until
from tests.plugin.miniature import ROOT

ALL_WRONG = """
admins: Ada
access:
    allow: {}
    answer: nobody
rooms:
    space_name: ""
    initial_chats: []
    version: 11
    encrypted: "yes"
limits:
    chats_per_owner: 0
    homes: many
    waiting_messages: 1.5
    parallel_turns: true
    turn_timeout: -1
    answer_length: 999
reconcile:
    start_timeout: 61
    adopt_unmarked: "yes"
catch_up:
    max_age: 604801
homeserver:
    concurrency: null
platform:
    kind: parrot
    webhook:
        url: ftp://example.org/secret
        token: [secret]
    openai:
        base_url: https://ada:secret@example.org/v1
        api_key: se cret
        model: 4
        stream: "yes"
        system_prompt: null
        temperature: 2.5
        max_tokens: -1
        history_messages: 1001
        history_characters: 1.5
        conversation_field: messages
status:
    token: secret
dev:
    reset: 1
"""
PROBLEMS = [
    'admins: found "Ada", expected a list of user IDs like "@ada:example.org"',
    (
        "access.allow: found keys and values, expected a list of 0 to 1000 texts of 1 to 100"
        " characters"
    ),
    'access.answer: found "nobody", expected "owner" or "members"',
    'rooms.space_name: found "", expected a text of 1 to 100 characters',
    (
        "rooms.initial_chats: found a list of 0, expected a list of 1 to 20 texts of 1 to 100"
        " characters"
    ),
    'rooms.version: found 11, expected a text from "8" on, or ""',
    'rooms.encrypted: found "yes", expected true or false',
    "limits.chats_per_owner: found 0, expected a whole number from 1 to 1000",
    'limits.homes: found "many", expected a whole number from 1 to 100000',
    "limits.waiting_messages: found 1.5, expected a whole number from 1 to 1000",
    "limits.parallel_turns: found true, expected a whole number from 1 to 500",
    "limits.turn_timeout: found -1, expected a whole number from 1 to 3600",
    "limits.answer_length: found 999, expected a whole number from 1000 to 1000000",
    "reconcile.start_timeout: found 61, expected a whole number from 0 to 60",
    'reconcile.adopt_unmarked: found "yes", expected true or false',
    "catch_up.max_age: found 604801, expected a whole number from 0 to 604800",
    "homeserver.concurrency: found nothing, expected a whole number from 1 to 100",
    'platform.kind: found "parrot", expected "echo" or "webhook" or "openai"',
    (
        "platform.webhook.url: found a text that does not begin with http:// or https://,"
        ' expected a URL like "https://example.org/hook"'
    ),
    (
        "platform.webhook.token: found a list of 1, expected a text of at most 4096 ASCII"
        " characters without blanks"
    ),
    (
        "platform.openai.base_url: found a URL with a user name or a password in it,"
        ' expected a URL like "https://example.org/v1"'
    ),
    (
        "platform.openai.api_key: found a text with blanks, expected a text of at most 4096"
        " ASCII characters without blanks"
    ),
    "platform.openai.model: found 4, expected a text of 0 to 100 characters",
    'platform.openai.stream: found "yes", expected true or false',
    "platform.openai.system_prompt: found nothing, expected a text of 0 to 50000 characters",
    'platform.openai.temperature: found 2.5, expected a number from 0 to 2, or ""',
    "platform.openai.max_tokens: found -1, expected a whole number from 0 to 1000000",
    "platform.openai.history_messages: found 1001, expected a whole number from 0 to 1000",
    "platform.openai.history_characters: found 1.5, expected a whole number from 0 to 1000000",
    (
        'platform.openai.conversation_field: found "messages", expected the name of a field that'
        ' is not used otherwise, like "user", or ""'
    ),
    (
        "status.token: found a text of 6 characters, expected at least 16 ASCII characters"
        ' without blanks, or ""'
    ),
    "dev.reset: found 1, expected true or false",
]
NOT_SETTINGS = {
    "a list": "- a\n- b",
    "a text": "hello",
    "a number": "7",
    "a date that does not exist": "rooms: {space_name: 2026-13-45}",
    "a number that Python refuses": f"limits: {{homes: {'9' * 5000}}}",
    "too deep": "[" * 5000,
}


def manual() -> dict[str, tuple[str, str]]:
    """Every key of base-config.yaml with what is said above it, and its value as it stands."""
    said, entries, path = "", {}, list[str]()
    for line in (ROOT / "base-config.yaml").read_text().splitlines():
        text = line.strip()
        if text.startswith("#"):
            said += f"{text[1:].strip()} "
            continue
        if entries and [*entries.values()][-1][1] == ">-" and len(line) - len(text) == 8:
            continue  # a text goes on
        if text:
            key, value = text.split(":", maxsplit=1)
            path = [*path[: (len(line) - len(text)) // 4], key]
            if value:
                entries[".".join(path)] = (said, value.strip())
        said = ""
    return entries


@pytest.mark.parametrize("key", manual())
def test_the_manual_says_of_every_key_its_default_and_whether_it_needs_a_restart(key: str) -> None:
    said, value = manual()[key]
    needed = "yes" if key in RESTART_KEYS.values() else "no"
    default = "this text" if value == ">-" else value
    assert re.search(rf"Default: {re.escape(default)}[.,] ", said), said
    assert re.search(rf"Restart needed: {needed}\. $", said), said


def test_the_manual_fits_into_the_editor_of_the_web_ui() -> None:
    lines = (ROOT / "base-config.yaml").read_text().splitlines()
    assert [line for line in lines if len(line) > 68] == []


async def test_every_problem_is_told_at_once(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=ALL_WRONG) as bot:
        (error,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        head, *problems = error.split("\n- ")
        assert head == (
            "The settings cannot be used, so Homeroom does nothing until they are mended:"
        )
        assert problems == PROBLEMS
        room_id = anna.create_room(invite=[bot.me])
        await bot.settled()
        assert hs.writes == []

        await bot.configure("")
        await bot.settled()
        assert len(bot.words(room_id)) == 1
        assert bot.space_of(anna)


@pytest.mark.parametrize("text", NOT_SETTINGS.values(), ids=NOT_SETTINGS.keys())
async def test_text_that_is_no_settings_at_all(
    hs: FakeHomeserver, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config=text) as bot:
        assert "the whole text: found" in caplog.text
        await bot.configure("rooms: {space_name: Nest}")
        space_id = await bot.onboard(anna)
        assert hs.room(space_id).state["m.room.name", ""] == {"name": "Nest"}


@pytest.mark.parametrize(
    "text", ["rooms: nest", "rooms: []", "rooms: null", "limits: 7\naccess: false"]
)
async def test_a_part_that_is_no_part(
    hs: FakeHomeserver, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(hs, tmp_path, config=text):
        assert "expected keys and values below it" in caplog.text
        assert hs.writes == []


async def test_an_administrator_is_told_why_nothing_happens(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    admin, anna = hs.user("admin"), hs.user("anna")
    async with running(hs, tmp_path) as bot:
        room_id = admin.create_room(invite=[bot.me, anna])
        anna.join(room_id)
        await bot.hear(room_id, 1)
        await bot.stop()
        bot.wipe()  # and with it the last good settings
        bot.config = 'admins: ["@admin:fake.test"]\nlimits: {homes: "*many*"}'
        await bot.start()
        before = len(bot.words(room_id))
        anna.send(room_id, "!reconcile")
        admin.send(room_id, "Hello")
        assert await bot.ask(admin, room_id, "!reconcile") == (
            "**The settings cannot be used**, so I do nothing. Mend them in maubot's web UI;"
            " saving is enough:\n\n"
            '● `limits.homes`: found "*many*", expected a whole number from 1 to 100000'
        )
        await bot.settled()
        assert len(bot.words(room_id)) == before + 1
        await bot.configure('admins: ["@admin:fake.test"]')
        await bot.settled()
        assert (await bot.ask(admin, room_id, "!reconcile")).startswith("**Reconciled**")
        await bot.settled()
        assert len(bot.words(room_id)) == before + 2


async def test_a_change_that_is_wrong_changes_nothing(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, admin = hs.user("anna"), hs.user("admin")
    good = "admins: ['@admin:fake.test']\nrooms: {space_name: Nest}"
    async with running(hs, tmp_path, config=good) as bot:
        await bot.configure("rooms: {space_name: 7}\nlimits: {homes: 0}")
        (error,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
        assert error == (
            "The settings cannot be used, so Homeroom goes on with the last good settings:"
            "\n- rooms.space_name: found 7, expected a text of 1 to 100 characters"
            "\n- limits.homes: found 0, expected a whole number from 1 to 100000"
        )
        space_id = await bot.onboard(anna)
        assert hs.room(space_id).state["m.room.name", ""] == {"name": "Nest"}

        await bot.onboard(admin)
        (office,) = bot.chats_of(admin)
        assert (await bot.ask(admin, office, "!reconcile")).endswith(
            "\n\n**The saved settings cannot be used**, the last good ones are in force. Mend them"
            " in maubot's web UI:"
            "\n\n● `rooms.space_name`: found 7, expected a text of 1 to 100 characters"
            "\n● `limits.homes`: found 0, expected a whole number from 1 to 100000"
        )
        await bot.configure(good)
        assert "saved settings" not in await bot.ask(admin, office, "!reconcile")


async def test_what_can_change_at_once_does(hs: FakeHomeserver, tmp_path: Path) -> None:
    anna, bert = hs.user("anna"), hs.user("bert")
    async with running(hs, tmp_path) as bot:
        await bot.onboard(anna)
        (chat_id,) = bot.chats_of(anna)
        await bot.configure(
            'rooms: {space_name: Nest, initial_chats: [A, B], version: "11"}\n'
            "access: {answer: members}\n"
            "limits: {chats_per_owner: 1}\n"
        )
        assert await bot.ask(anna, chat_id, "!chat new") == replies.too_many_chats(1)
        anna.invite(chat_id, bert)
        bert.join(chat_id)
        assert await bot.ask(bert, chat_id, "Hello") == bot.echo(chat_id, "Hello")
        space_id = await bot.onboard(bert)
        assert hs.room(space_id).version == "11"
        assert len(bot.chats_of(bert)) == 2
        assert len(bot.chats_of(anna)) == 1


async def test_what_needs_a_restart_is_named(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For as long as it is needed, whatever else is saved meanwhile; in `!reconcile` too."""
    caplog.set_level("INFO")
    admin = hs.user("admin")
    admins = "admins: ['@admin:fake.test']"
    two = f"{admins}\nreconcile: {{start_timeout: 9}}"
    async with running(hs, tmp_path, config=admins) as bot:
        room_id = admin.create_room(invite=[bot.me])
        await bot.hear(room_id, 1)

        async def save(text: str) -> tuple[str, str]:
            """What the log says of it, and the last part of the report."""
            caplog.clear()
            await bot.configure(text)
            (said,) = [message for message in caplog.messages if message.startswith("Saved")]
            report = await bot.ask(admin, room_id, "!reconcile --dry-run")
            return said, report.split("\n\n")[-1]

        in_log = "Saved; restart the instance to apply: "
        in_report = "**Saved, but waiting for a restart of the instance**: "
        for text in (two, f"{two}\naccess: {{answer: members}}"):
            assert await save(text) == (
                f"{in_log}reconcile.start_timeout",
                f"{in_report}`reconcile.start_timeout`",
            )
        assert await save(f"{admins}\nreconcile: {{start_timeout: 11}}") == (
            f"{in_log}reconcile.start_timeout",
            f"{in_report}`reconcile.start_timeout`",
        )
        assert await save(admins) == ("Saved, and in force", "Rows: no changes.")
        await bot.configure(two)
        await bot.restart()
        report = await bot.ask(admin, room_id, "!reconcile --dry-run")
        assert report.endswith("Rows: no changes.")


async def test_more_requests_at_once_are_made_as_soon_as_it_is_saved(
    hs: FakeHomeserver, tmp_path: Path
) -> None:
    anna = hs.user("anna")
    async with running(hs, tmp_path, config="homeserver: {concurrency: 1}") as bot:
        await bot.onboard(anna)
        (chat,) = bot.chats_of(anna)
        looking = hs.fail(Match(method="GET", path="joined_rooms"), Hang())
        anna.set_state(chat, "m.room.name", {"name": "Another"})
        await looking.reached()
        anna.send(chat, "!chat new Second")
        await bot.configure("homeserver: {concurrency: 2}")
        await until("another chat, beside the look", lambda: len(bot.chats_of(anna)) == 2)
        looking.release()


@pytest.mark.parametrize(
    "chats", ["[A, B]", "\n  - A  # the first\n  # the second\n  - B"], ids=["inline", "block"]
)
async def test_the_users_text_survives_and_new_keys_are_added(
    hs: FakeHomeserver, tmp_path: Path, caplog: pytest.LogCaptureFixture, chats: str
) -> None:
    text = f"rooms:\n  space_name: Nest\n  colour: blue\n  initial_chats: {chats}\nplugins: [x]\n"
    comments = [
        line.strip()
        for line in (ROOT / "base-config.yaml").read_text().splitlines()
        if line.strip().startswith("#")
    ]
    async with running(hs, tmp_path, config=text) as bot:
        for key in ("rooms.colour", "plugins"):
            assert (
                f"Settings: {key} is not a key of Homeroom's, so it is kept and not used"
                in caplog.messages
            )
        for _ in range(2):
            saved = YAML().load(bot.config)
            assert (saved["rooms"]["space_name"], saved["rooms"]["colour"]) == ("Nest", "blue")
            assert saved["rooms"]["initial_chats"] == ["A", "B"]
            assert saved["catch_up"] == {"max_age": 3600}
            assert saved["plugins"] == ["x"]
            lines = [line.strip() for line in bot.config.splitlines()]
            assert [line for line in lines if line.startswith("#")] == comments
            once = bot.config
            await bot.restart()
            assert bot.config == once
