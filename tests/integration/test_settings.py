"""Settings that cannot be used stop nothing for good, and say all that is wrong with them.

Issue 2, "Must be seen", 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest
from ruamel.yaml import YAML

from tests.integration.homes import (
    ask,
    configure,
    is_echo,
    make_admin,
    move_in,
    onboard,
    said_by_bot,
    say_and_hear,
)
from tests.stack.package import ROOT
from tests.stack.stack import DEFAULT_CONFIG, MakeStack, Stack
from tests.stack.user import MatrixUser

WRONG: Mapping[str, tuple[Any, Any]] = {
    "admins": ("@ada:homeroom.test", ["ada"]),
    "access.allow": (True, [""]),
    "access.answer": (["owner"], "everybody"),
    "access.share": ("yes", 1),
    "access.reject": ("yes", 1),
    "rooms.space_name": (5, " "),
    "rooms.initial_chats": ("General", []),
    "rooms.version": (11, "7"),
    "rooms.encrypted": ("yes", 1),
    "limits.chats_per_owner": ("50", 0),
    "limits.homes": (None, 100_001),
    "limits.waiting_messages": (1.5, -1),
    "limits.parallel_turns": (True, 501),
    "limits.turn_timeout": ({"seconds": 5}, 3601),
    "limits.answer_length": ("long", 1_000_001),
    "reconcile.start_timeout": ("10 s", 61),
    "reconcile.adopt_unmarked": ("yes", 2),
    "catch_up.max_age": ([3600], 604_801),
    "homeserver.concurrency": (None, 0),
    "platform.kind": (None, "magic"),
    "platform.webhook.url": (80, "example.org/hook"),
    "platform.webhook.token": (12345, "two words"),
    "platform.webhook.token_file": (5, "relative/path"),
    "platform.openai.base_url": ([], "https://example.org/v1?key=1"),
    "platform.openai.api_key": (None, "kéy"),
    "platform.openai.api_key_file": (["/a"], "/"),
    "platform.openai.model": (4, "m" * 101),
    "platform.openai.stream": ("yes", 1),
    "platform.openai.system_prompt": (["Be kind."], "x" * 50_001),
    "platform.openai.temperature": ("warm", 2.1),
    "platform.openai.max_tokens": (1.5, -1),
    "platform.openai.history_messages": ("all", 1001),
    "platform.openai.history_characters": (None, -1),
    "platform.openai.conversation_field": (5, "a field"),
    "status.token": (1234567890123456, "fifteen-letters"),
    "status.token_file": (True, "/nowhere/at/all"),
    "rooms.avatar": (5, "https://example.org/a.png"),
    "chats.answer_edits": ("yes", 1),
    "texts.welcome": (5, "x" * 50_001),
    "encryption.devices": (True, "all"),
    "dev.reset": ("true", 1),
}
"""For every key a value of a wrong type, and one of a right type, or nearly, that is no use."""

NO_SETTINGS = {
    "a list": "- admins\n- access\n",
    "a text": "admins are welcome",
    "a number": "42",
    "not YAML": "admins: [\n",
    "a key twice": "admins: []\nadmins: []\n",
    "a date that does not exist": "rooms: {space_name: 2026-13-45}\n",
}
"""Texts that are not keys and values at all."""


def keys(settings: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every key of base-config.yaml, as it is named in messages."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from keys(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"a.b": 1}` into `{"a": {"b": 1}}`."""
    settings: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        section = settings
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return settings


EVERY_KEY = list(keys(YAML(typ="safe").load((ROOT / "base-config.yaml").read_text())))


def records(bot: Stack, level: str, *, since: int) -> list[str]:
    """What the instance itself has logged at a level since a mark, each with all its lines."""
    text = bot.maubot.log_text(since=since)
    head = f"[{level}@maubot.instance.{bot.instance}] "
    found = re.split(r"^\[\d{4}-\d\d-\d\d [\d:,]+\] ", text, flags=re.MULTILINE)
    return [record.removeprefix(head).rstrip() for record in found if record.startswith(head)]


async def require_enabled(bot: Stack) -> None:
    instance = await bot.maubot.get_instance(bot.instance)
    assert (instance["enabled"], instance["started"]) == (True, True)


async def office_of(bot: Stack, admin: MatrixUser) -> str:
    """A room of an administrator that the bot is in, though Homeroom did not accept the invite."""
    office = await admin.start_dm(bot.bot.user_id)
    await bot.bot_api.request("POST", f"/_matrix/client/v3/join/{quote(office)}", {})
    await admin.wait_for_member(office, bot.bot.user_id)
    return office


@pytest.mark.parametrize("which", [0, 1], ids=["types", "values"])
async def test_every_wrong_key_is_named_in_one_message_and_the_instance_waits(
    make_bot: MakeStack, which: int
) -> None:
    wrong = {key: WRONG[key][which] for key in EVERY_KEY}
    bot = await make_bot(config=nested(wrong))
    mark = bot.maubot.mark()
    errors = records(bot, "ERROR", since=0)
    assert len(errors) == 1, errors
    for key in EVERY_KEY:
        assert re.search(rf"\b{re.escape(key)}: found .+, expected .+", errors[0]), (key, errors)
    await require_enabled(bot)

    # It does nothing, and tells an administrator why, as soon as one can be read.
    alice, admin = await bot.user("alice"), await bot.user("ada")
    direct = await alice.start_dm(bot.bot.user_id)
    wrong["admins"] = [admin.user_id, 5]
    await bot.maubot.update_instance(bot.instance, config=nested(wrong))
    office = await office_of(bot, admin)
    answer = await ask(bot, admin, office, "!reconcile")
    assert all(key in answer.body for key in EVERY_KEY), answer.body
    assert await bot.bot_rooms() == {office}
    assert (await alice.state(direct))["m.room.member", bot.bot.user_id]["content"][
        "membership"
    ] == "invite"
    assert await bot.database.fetch("SELECT * FROM homes") == []
    await require_enabled(bot)

    # Mended, it starts by itself and comes back to what waited.
    await configure(bot, {"admins": [admin.user_id]})
    home = await move_in(bot, alice, direct=direct)
    await say_and_hear(bot, alice, home.chat, "hello")
    report = await ask(bot, admin, office, "!reconcile")
    assert "Reconciled" in report.body, report
    await require_enabled(bot)
    assert "Traceback" not in bot.maubot.log_text(since=mark)


async def test_a_section_that_is_no_section_is_named_once(make_bot: MakeStack) -> None:
    bot = await make_bot(config={"access": "everybody", "rooms": {"version": 5}, "limits": []})
    (error,) = records(bot, "ERROR", since=0)
    found = re.findall(r"(\S+): found (.+), expected (.+)", error)
    expected = "keys and values below it"
    assert [entry for entry in found if entry[0] != "rooms.version"] == [
        ("access", '"everybody"', expected),
        ("limits", "a list of 0", expected),
    ]
    await require_enabled(bot)


@pytest.mark.parametrize("text", NO_SETTINGS.values(), ids=NO_SETTINGS.keys())
async def test_a_text_that_is_no_settings_at_all_can_be_mended(
    make_bot: MakeStack, text: str
) -> None:
    bot = await make_bot(config=text)
    (error,) = records(bot, "ERROR", since=0)
    assert "the whole text: found" in error
    await require_enabled(bot)
    await configure(bot, {})
    home = await onboard(bot, "alice")
    await say_and_hear(bot, home.user, home.chat, "hello")

    # The same while it runs.
    mark = bot.maubot.mark()
    await bot.maubot.update_instance(bot.instance, config=text)
    (error,) = records(bot, "ERROR", since=mark)
    assert "the whole text: found" in error
    assert "last good settings" in error
    await say_and_hear(bot, home.user, home.chat, "still there?")
    await require_enabled(bot)


@pytest.mark.parametrize("text", ["", "null\n", "{}\n", "# nothing but a comment\n"])
async def test_settings_that_are_empty_are_the_defaults(make_bot: MakeStack, text: str) -> None:
    bot = await make_bot(config=text)
    assert records(bot, "ERROR", since=0) == []
    home = await onboard(bot, "alice")
    await say_and_hear(bot, home.user, home.chat, "hello")
    saved = YAML(typ="safe").load((await bot.maubot.get_instance(bot.instance))["config"])
    assert list(keys(saved)) == EVERY_KEY


async def test_a_change_counts_at_once_and_a_broken_one_changes_nothing(
    make_bot: MakeStack,
) -> None:
    bot = await make_bot()
    home = await onboard(bot, "alice")
    alice, guest = home.user, await bot.user("guest")
    await alice.invite(home.chat, guest.user_id)
    await guest.join(home.chat)

    async def is_answered(text: str) -> bool:
        await guest.send_text(home.chat, text)
        await say_and_hear_last(bot, alice, home.chat, f"after {text}")
        return any(said.startswith(text) for said in said_by_bot(bot, alice, home.chat))

    assert not await is_answered("one")
    await configure(bot, {"access": {"allow": ["*"], "answer": "members"}})
    assert await is_answered("two")
    mark = bot.maubot.mark()
    await configure(bot, {"access": {"allow": ["*"], "answer": "nobody"}, "limits": {"homes": 0}})
    (error,) = records(bot, "ERROR", since=mark)
    assert 'access.answer: found "nobody"' in error
    assert "limits.homes: found 0" in error
    assert "last good settings" in error
    assert await is_answered("three")
    await configure(bot, {"access": {"allow": ["*"], "answer": "owner"}})
    assert not await is_answered("four")
    await require_enabled(bot)


async def say_and_hear_last(bot: Stack, user: MatrixUser, room_id: str, text: str) -> None:
    """Say something and wait for its echo, whatever is said before."""
    await user.send_text(room_id, text)
    await user.wait_for_message(
        room_id, sender=bot.bot.user_id, body=lambda body: is_echo(text, body)
    )


async def test_unknown_keys_are_kept_and_named(make_bot: MakeStack) -> None:
    bot = await make_bot()
    home = await onboard(bot, "alice")
    text = """
# My own words.
admins: []
acess: {allow: []}  # a typo
rooms:
  initial_chats: [General]
  colour: green  # of a newer version
"""
    mark = bot.maubot.mark()
    await bot.maubot.update_instance(bot.instance, config=text)
    warnings = records(bot, "WARNING", since=mark)
    named = re.findall(r"Settings: (\S+) is not a key", "\n".join(warnings))
    assert sorted(named) == ["acess", "rooms.colour"]
    saved = YAML(typ="safe").load((await bot.maubot.get_instance(bot.instance))["config"])
    assert saved["acess"] == {"allow": []}
    assert saved["rooms"] == {
        "space_name": "Homeroom",
        "initial_chats": ["General"],
        "version": "",
        "encrypted": False,
        "avatar": "",
        "colour": "green",
    }
    assert set(EVERY_KEY) <= set(keys(saved))
    await say_and_hear(bot, home.user, home.chat, "hello")


async def test_after_a_restart_the_last_good_settings_are_in_force(make_bot: MakeStack) -> None:
    bot = await make_bot()
    admin, office = await make_admin(bot)
    settings = {**DEFAULT_CONFIG, "admins": [admin.user_id], "platform": {"kind": "magic"}}
    await bot.maubot.update_instance(bot.instance, config=settings)
    assert "Reconciled" in (await ask(bot, admin, office, "!reconcile")).body
    await bot.maubot.restart_instance(bot.instance)
    report = (await ask(bot, admin, office, "!reconcile")).body
    assert "Reconciled" in report
    assert "platform.kind" in report
    await require_enabled(bot)
    await configure(bot, {"admins": [admin.user_id]})
    assert "Reconciled" in (await ask(bot, admin, office, "!reconcile")).body
