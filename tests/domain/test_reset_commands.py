"""What a person may type after `!reset`: understood completely, or an error, never a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.domain.commands import (
    ResetCommand,
    ResetHelp,
    ResetLeave,
    ResetLocal,
    ResetMisused,
    parse_command,
)
from homeroom.domain.reset import Scope

MANAGED, JOINED = Scope.MANAGED, Scope.JOINED


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("!reset", ResetHelp()),
        ("!reset help", ResetHelp()),
        ("!reset local", ResetLocal(dry_run=False)),
        ("!reset local --dry-run", ResetLocal(dry_run=True)),
        ("  !reset   local  ", ResetLocal(dry_run=False)),
        ("!reset\u00a0local\u2003--dry-run", ResetLocal(dry_run=True)),
        ("!reset\tlocal\n--dry-run\n", ResetLocal(dry_run=True)),
        ("!reset leave-forget", ResetLeave(scope=MANAGED, dry_run=False, code=None)),
        ("!reset leave-forget --dry-run", ResetLeave(scope=MANAGED, dry_run=True, code=None)),
        (
            "!reset leave-forget --scope managed",
            ResetLeave(scope=MANAGED, dry_run=False, code=None),
        ),
        (
            "!reset leave-forget --scope joined --dry-run",
            ResetLeave(scope=JOINED, dry_run=True, code=None),
        ),
        (
            "!reset leave-forget --dry-run --scope joined",
            ResetLeave(scope=JOINED, dry_run=True, code=None),
        ),
        (
            "!reset leave-forget --confirm 12ab34cd",
            ResetLeave(scope=MANAGED, dry_run=False, code="12ab34cd"),
        ),
        (
            "!reset leave-forget --confirm 12ab34cd --scope joined",
            ResetLeave(scope=JOINED, dry_run=False, code="12ab34cd"),
        ),
    ],
)
def test_a_command(text: str, command: ResetCommand) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!reset everything", "“everything” is not understood"),
        ("!reset Local", "“Local” is not understood"),
        ("!reset --dry-run local", "“--dry-run” is not understood"),
        ("!reset help me", "“me” is not understood"),
        ("!reset local now", "“now” is not understood"),
        ("!reset local —dry-run", "“—dry-run” is not understood"),
        ("!reset local --dryrun", "“--dryrun” is not understood"),
        ("!reset local --dry-run --dry-run", "“--dry-run” is not understood"),
        ("!reset local --confirm 12ab34cd", "“--confirm” is not understood"),
        ("!reset local --dry-run or not", "“or” is not understood"),
        ("!reset local\n\nWhat does that do?", "“What” is not understood"),
        ("!reset leave-forget now", "“now” is not understood, or stands there twice"),
        (
            "!reset leave-forget —dry-run",
            "“—dry-run” is not understood, or stands there twice",
        ),
        (
            "!reset leave-forget --confirm a --confirm b",
            "“--confirm” is not understood, or stands there twice",
        ),
        (
            "!reset leave-forget --scope=joined",
            "“--scope=joined” is not understood, or stands there twice",
        ),
        ("!reset leave-forget --scope", "something is missing after --scope"),
        ("!reset leave-forget --scope --dry-run", "something is missing after --scope"),
        ("!reset leave-forget --confirm", "something is missing after --confirm"),
        ("!reset leave-forget --confirm --dry-run", "something is missing after --confirm"),
        ("!reset leave-forget --scope all", "there is no scope “all”"),
        ("!reset leave-forget --scope Joined", "there is no scope “Joined”"),
        (
            "!reset leave-forget --dry-run --confirm 12ab34cd",
            "--dry-run and --confirm do not go together",
        ),
        ("!reset " + "x" * 100, f"“{'x' * 40}” is not understood"),
    ],
)
def test_what_is_not_understood_is_an_error(text: str, reason: str) -> None:
    assert parse_command(text) == ResetMisused(reason)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "reset local",
        "!resetlocal",
        "> !reset local",
        "Try !reset local",
        "*!reset local*",
        "`!reset local`",
        "\\!reset local",
        "!\u200breset local",
    ],
)
def test_other_text_is_no_command(text: str) -> None:
    assert parse_command(text) is None


UNDERSTOOD = ["local", "leave-forget", "--dry-run", "--scope", "joined", "--confirm", "12ab34cd"]
words = st.sampled_from([*UNDERSTOOD, "now", "--force", "-n", "—dry-run", "!reset", "\u200b"])


@given(st.lists(words, max_size=6))
def test_only_these_run(arguments: list[str]) -> None:
    """Whatever is written: what changes something is one of these, to the word."""
    command = parse_command(" ".join(["!reset", *arguments]))
    match command:
        case ResetLocal(dry_run=False):
            assert arguments == ["local"]
        case ResetLeave(dry_run=False, code=str(code)):
            assert arguments[0] == "leave-forget"
            options = arguments[1:]
            at = options.index("--confirm")
            assert options[at + 1] == code
            rest = options[:at] + options[at + 2 :]
            assert rest in ([], ["--scope", command.scope.value])
        case _:
            assert isinstance(command, ResetCommand)


@given(st.text(max_size=40))
def test_any_text_after_the_word_is_answered_and_never_the_platforms(text: str) -> None:
    command = parse_command(f"!reset {text}")
    assert isinstance(command, ResetCommand)
    if text.split() != ["local"]:
        assert command != ResetLocal(dry_run=False)


def test_goodbye_goes_with_every_other_option() -> None:
    assert parse_command("!reset leave-forget --goodbye --confirm 12ab34cd") == ResetLeave(
        scope=Scope.MANAGED, dry_run=False, code="12ab34cd", says_goodbye=True
    )
