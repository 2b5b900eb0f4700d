"""The documents, the help texts and the parser speak of the same commands.

A *form* is a command as it is shown to people: `!reset local [--dry-run]`. What stands in brackets
may be left out, `a|b` is a choice, words in capitals stand for something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from homeroom import replies
from homeroom.domain.commands import RESET_USAGE, Misused, ResetMisused, parse_command
from tests.stack.package import ROOT

HELPS = (replies.HELP, replies.RESET_HELP)
COMMANDS = ("!chat", "!help", "!reconcile", "!reset", "!stop")

Element = tuple[str, str]
"""A command with its verb, and one of its options ("" for none): what a form is made of."""


def code_in(markdown: str) -> Iterator[str]:
    """Every code span, and every line of every code block."""
    blocks = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for block in blocks.findall(markdown):
        yield from (line.split("#")[0].strip() for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", blocks.sub("", markdown))


def is_command(code: str) -> bool:
    return code.split(" ", maxsplit=1)[0] in COMMANDS


def forms(code: str) -> Iterator[str]:
    """Divide `!chat list | help` into `!chat list` and `!chat help`."""
    first, *others = code.split(" | ")
    yield first
    command = first.split(" ")[0]
    yield from (f"{command} {other}" for other in others)


def spelled_out(form: str) -> Iterator[str]:
    """The form without what may be left out, then with one thing more at a time."""
    options = re.findall(r" \[([^]]+)\]", form)
    base = re.sub(r" \[[^]]+\]", "", form)
    for text in (base, *(f"{base} {option}" for option in options)):
        yield from choices(text)


def choices(text: str) -> Iterator[str]:
    """Replace each `a|b` by `a`, and by `b`."""
    found = re.search(r"(\S+)\|(\S+)", text)
    if found is None:
        yield text
        return
    for choice in found.groups():
        yield from choices(text[: found.start()] + choice + text[found.end() :])


def elements(codes: Iterable[str]) -> set[Element]:
    """What these forms are made of, whatever stands together with what."""
    found = set()
    for code in filter(is_command, codes):
        for text in (text for form in forms(code) for text in spelled_out(form)):
            words = text.split(" ")
            is_verb = len(words) > 1 and not words[1].startswith("--")
            command = " ".join(words[: 2 if is_verb else 1])
            rest = " ".join(words[2 if is_verb else 1 :])
            options = [option.strip() for option in re.split(r" (?=--)", rest) if option.strip()]
            found.add((command, ""))
            found |= {(command, option) for option in options}
    return found


ADMINISTRATION = (ROOT / "docs" / "administration.md").read_text(encoding="utf-8")
README = "\n".join(
    path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
)
IN_README = sorted({code for code in code_in(README) if is_command(code)})
IN_HELP = sorted({code for help_ in HELPS for code in code_in(help_) if is_command(code)})
OF_ONE_CHAT = ("rename", "clear", "archive", "unarchive", "share", "delete", "info")
"""What may have a chat's number after it: the help says so once, for all of them."""
USED = elements([*IN_HELP, "!chat new", "!reconcile [--dry-run]", RESET_USAGE])


def test_the_readme_shows_commands() -> None:
    assert {code.split(" ")[0] for code in IN_README} == set(COMMANDS)


@pytest.mark.parametrize("code", [*IN_README, *IN_HELP])
def test_what_is_shown_is_understood(code: str) -> None:
    for form in forms(code):
        for text in spelled_out(form):
            command = parse_command(text)
            assert command is not None, text
            assert not isinstance(command, Misused | ResetMisused), (text, command)


def test_the_readme_shows_every_form_that_there_is() -> None:
    loose = {code for code in code_in(README) if code.startswith("--")}
    shown = elements(IN_README)
    assert {(verb, option) for verb, option in USED - shown if option not in loose} == set()


def test_the_readme_shows_no_form_that_there_is_not() -> None:
    bare = {(command, "") for command in COMMANDS}
    numbered = {
        (command, f"{rest} C3".strip())
        for command, rest in USED
        if command.removeprefix("!chat ") in OF_ONE_CHAT
    }
    assert elements(IN_README) - USED - numbered - bare == set()


def test_the_help_on_reset_tells_of_every_form() -> None:
    codes = set(code_in(replies.RESET_HELP))
    assert RESET_USAGE in codes
    verbs = {verb for verb, _ in elements([RESET_USAGE])} - {"!reset help"}
    assert verbs - {verb for verb, _ in elements(codes - {RESET_USAGE})} == set()


def test_the_readme_keeps_restart_and_clean_room_apart() -> None:
    section = ADMINISTRATION.split("\n## Normal restart and clean room\n")[1].split("\n## ")[0]
    normal, clean = section.split("**A clean room**")
    assert "!reset" not in normal
    assert "dev.reset" in clean
    commands = [code for code in IN_README if code.startswith("!reset ")]
    assert [command for command in commands if f"`{command}`" not in clean] == []
