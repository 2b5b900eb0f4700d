"""The words a person can type: from a message's text to a command, or to why it is none.

A command is the first word of a message, exactly; what follows must be understood completely or
nothing is done. Text that starts with another word is not a command, also if it starts with `!`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .reset import Scope

MAX_CHAT_NAME: Final = 100

CHAT_USAGE: Final = "!chat new [name] | list | rename NAME | clear | archive | unarchive | help"
RECONCILE_USAGE: Final = "!reconcile [--dry-run]"
RESET_USAGE: Final = (
    "!reset local [--dry-run]"
    " | leave-forget [--scope managed|joined] [--dry-run] [--confirm CODE]"
    " | help"
)


@dataclass(frozen=True, slots=True)
class ChatNew:
    name: str | None


@dataclass(frozen=True, slots=True)
class ChatList:
    pass


@dataclass(frozen=True, slots=True)
class ChatRename:
    name: str


@dataclass(frozen=True, slots=True)
class ChatClear:
    pass


@dataclass(frozen=True, slots=True)
class ChatArchive:
    archive: bool


@dataclass(frozen=True, slots=True)
class ChatHelp:
    pass


@dataclass(frozen=True, slots=True)
class Reconcile:
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ResetHelp:
    pass


@dataclass(frozen=True, slots=True)
class ResetLocal:
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ResetLeave:
    """Without a code, or as a dry run, it only shows the plan."""

    scope: Scope
    dry_run: bool
    code: str | None


@dataclass(frozen=True, slots=True)
class ResetMisused:
    """A `!reset` that is not understood: only those who may reset are told."""

    reason: str


@dataclass(frozen=True, slots=True)
class Misused:
    """A command that is not understood: what is wrong with it, and how it is used."""

    reason: str
    usage: str


ChatCommand = ChatNew | ChatList | ChatRename | ChatClear | ChatArchive | ChatHelp
ResetCommand = ResetHelp | ResetLocal | ResetLeave | ResetMisused
Command = ChatCommand | Reconcile | ResetCommand | Misused


def parse_command(text: str) -> Command | None:
    """Read a message; None if it is not a command."""
    # Blanks of every kind: phones write some that are no space, and a line break is one, too.
    word, *more = text.split(maxsplit=1) or [""]
    rest = more[0].strip() if more else ""
    match word:
        case "!chat":
            return _parse_chat(rest)
        case "!reconcile":
            return _parse_reconcile(rest.split())
        case "!reset":
            return _parse_reset(rest.split())
    return None


def _parse_chat(text: str) -> Command:
    verb, _, rest = text.partition(" ")
    rest = " ".join(rest.split())
    if len(rest) > MAX_CHAT_NAME:
        return Misused(
            f"that name has {len(rest)} characters, at most {MAX_CHAT_NAME} fit", CHAT_USAGE
        )
    if verb == "new":
        return ChatNew(rest or None)
    if verb == "rename":
        return ChatRename(rest) if rest else Misused("the new name is missing", CHAT_USAGE)
    plain: dict[str, ChatCommand] = {
        "list": ChatList(),
        "clear": ChatClear(),
        "archive": ChatArchive(archive=True),
        "unarchive": ChatArchive(archive=False),
        "help": ChatHelp(),
        "": ChatHelp(),
    }
    if verb not in plain:
        return Misused(f"there is no “!chat {verb[:20]}”", CHAT_USAGE)
    if rest:
        return Misused(f"“!chat {verb}” takes nothing after it", CHAT_USAGE)
    return plain[verb]


def _parse_reconcile(words: list[str]) -> Command:
    if not words:
        return Reconcile(dry_run=False)
    if words == ["--dry-run"]:
        return Reconcile(dry_run=True)
    return Misused(f"“{' '.join(words)[:40]}” is not understood", RECONCILE_USAGE)


def _parse_reset(words: list[str]) -> ResetCommand:
    mode, *options = words or ["help"]
    if mode == "help" and not options:
        return ResetHelp()
    if mode == "local" and options in ([], ["--dry-run"]):
        return ResetLocal(dry_run=bool(options))
    if mode == "leave-forget":
        return _parse_leave(options)
    wrong = options[0] if mode in {"help", "local"} else mode
    return ResetMisused(f"“{wrong[:40]}” is not understood")


def _parse_leave(options: list[str]) -> ResetCommand:
    values: dict[str, str] = {}
    rest = iter(options)
    for option in rest:
        if option in values or option not in {"--scope", "--dry-run", "--confirm"}:
            return ResetMisused(f"“{option[:40]}” is not understood, or stands there twice")
        value = "" if option == "--dry-run" else next(rest, None)
        if value is None or value.startswith("--"):
            return ResetMisused(f"something is missing after {option}")
        values[option] = value
    scope = values.get("--scope", Scope.MANAGED.value)
    if scope not in {Scope.MANAGED.value, Scope.JOINED.value}:
        return ResetMisused(f"there is no scope “{scope[:40]}”")
    if "--dry-run" in values and "--confirm" in values:
        return ResetMisused("--dry-run and --confirm do not go together")
    return ResetLeave(
        scope=Scope(scope), dry_run="--dry-run" in values, code=values.get("--confirm")
    )
