"""The words a person can type: from a message's text to a command, or to why it is none.

A command begins with `!` and one of Homeroom's words; phones write capitals and blanks, so neither
counts. What follows has to be understood completely, or nothing is done and the person hears how
it is written. Other words behind a `!` are the agent's, unless one looks like a slip.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from .homes.model import ChatID
from .reset import Scope

MAX_CHAT_NAME: Final = 100

STOP_REACTIONS: Final = frozenset("🛑⏹❌")
"""Emoji, without variation selectors, that end an answer."""
AGAIN_REACTION: Final = "🔁"

RESET_USAGE: Final = (
    "!reset local [--dry-run]"
    " | leave-forget [--scope managed|joined] [--goodbye] [--dry-run] [--confirm CODE]"
    " | help"
)
_LEAVE_OPTIONS: Final = ("--scope", "--goodbye", "--dry-run", "--confirm")
_PERSONS_WORDS: Final = ("chat", "help", "stop", "again")
_ADMINS_WORDS: Final = ("reconcile", "reset")
_CHAT_VERBS: Final = (
    *("new", "list", "rename", "clear", "archive", "unarchive", "share", "delete"),
    *("info", "help"),
)
_WORD: Final = re.compile(r"\s*(?P<mark>[!/])(?P<blank>\s*)(?P<word>[^\W_]+)(?=\s|$)")
_NUMBER: Final = re.compile(r"[cC]([1-9][0-9]{0,5})")
_LOOKS_LIKE: Final = 0.75
"""The share of equal letters (difflib) from which on a word is taken for a slip."""


@dataclass(frozen=True, slots=True)
class ChatNew:
    """Make another chat; without a name it is called by its number."""

    name: str | None


@dataclass(frozen=True, slots=True)
class ChatList:
    """List the chats of whoever asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRename:
    """Give a chat another name."""

    name: str
    chat_id: ChatID | None = None
    """None, here and below: the chat in which it was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatClear:
    """Begin a new conversation in a chat."""

    chat_id: ChatID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatArchive:
    """Put a chat away, or bring it back."""

    archive: bool
    chat_id: ChatID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatShare:
    """Have everybody in a chat answered, or only its owner again."""

    share: bool
    chat_id: ChatID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDelete:
    """Unless it is confirmed, it only says what it would do."""

    is_confirmed: bool
    chat_id: ChatID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatInfo:
    """Tell the ids of a chat that support may ask for."""

    chat_id: ChatID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End the answer that is being given; with `everything`, what waits is dropped, too."""

    everything: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the newest question once more; the new answer takes the old one's place."""


@dataclass(frozen=True, slots=True)
class Help:
    """Tell what a person can do."""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Scan everything and mend the rows; a dry run only reports."""

    dry_run: bool


@dataclass(frozen=True, slots=True)
class AgentTest:
    """Ask the agent a question that shows whether it works."""


@dataclass(frozen=True, slots=True)
class ResetHelp:
    """Explain `!reset`."""


@dataclass(frozen=True, slots=True)
class ResetLocal:
    """Delete the rows and the checkpoint; a dry run only reports."""

    dry_run: bool


@dataclass(frozen=True, slots=True)
class ResetLeave:
    """Without a code, or as a dry run, it only shows the plan."""

    scope: Scope
    dry_run: bool
    code: str | None
    says_goodbye: bool = False


@dataclass(frozen=True, slots=True)
class ResetMisused:
    """A `!reset` that is not understood: only those who may reset are told."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Misused:
    """A command that is not understood.

    `reason` is a whole sentence, in which `meant` is not named; `meant` is what was probably
    meant, or how it is written.
    """

    reason: str
    meant: str | None = None


ChatCommand = (
    ChatNew
    | ChatList
    | ChatRename
    | ChatClear
    | ChatArchive
    | ChatShare
    | ChatDelete
    | ChatInfo
    | Stop
    | Again
    | Help
)
ResetCommand = ResetHelp | ResetLocal | ResetLeave | ResetMisused
Command = ChatCommand | Reconcile | AgentTest | ResetCommand | Misused


ChangesChat = ChatClear | ChatArchive | ChatDelete


def changes_chat(command: Command | None) -> ChangesChat | None:
    """The command, if it changes how a chat answers: it keeps its place among the messages there.

    All other commands need not wait for the answers before them.
    """
    match command:
        case ChatClear() | ChatArchive() | ChatDelete(is_confirmed=True):
            return command
        case _:
            return None


def ends_answers(command: ChangesChat) -> bool:
    """Whether no message that is before this command in its chat is to be answered any more."""
    return not isinstance(command, ChatArchive) or command.archive


def parse_command(text: str) -> Command | None:
    """Read a message; None if it is not a command."""
    found = _WORD.match(text)
    if found is None:
        return None
    word, rest = found["word"].lower(), text[found.end() :].strip()
    if found["mark"] == "/" and (found["blank"] or word not in _PERSONS_WORDS):
        return None  # it may be a path, or the agent's
    match word:
        case "chat" if rest.lower().split() in (["stop"], ["stop", "all"]):
            return Stop(everything="all" in rest.lower())
        case "chat":
            return _parse_chat(rest)
        case "again" | "help" if not rest:
            return Again() if word == "again" else Help()
        case "stop" if not found["blank"] or rest.lower() in ("", "all"):
            return Stop(everything=rest.lower() == "all")
        case "reconcile":
            return _parse_reconcile(rest.lower().split())
        case "agent" if rest.lower() == "test":
            return AgentTest()
        case "reset":
            return _parse_reset(rest.split())
    return None if found["blank"] else _parse_slip(word)


def _parse_slip(word: str) -> Misused | None:
    """A word that is one of ours but for a letter or two; None for all others."""
    if word in _PERSONS_WORDS:
        return None
    near = get_close_matches(word[:20], (*_PERSONS_WORDS, *_ADMINS_WORDS), 1, _LOOKS_LIKE)
    if not near:
        return None
    return Misused(reason=f"I do not know “!{word[:20]}”.", meant=f"!{near[0]}")


def _parse_chat(text: str) -> Command:
    first, *more = text.split(maxsplit=1) or ["help"]
    verb, rest = first.lower(), " ".join(more[0].split()) if more else ""
    if verb not in _CHAT_VERBS:
        near = get_close_matches(verb[:20], _CHAT_VERBS, 1, 0.5)
        meant = f"!chat {near[0]}" if near else None
        return Misused(reason=f"There is no “!chat {first[:20]}”.", meant=meant)
    if verb == "new":
        return _too_long(rest) or ChatNew(rest or None)
    chat_id, name = _chat_number(rest)
    if verb == "rename":
        if not name:
            return Misused(reason="The new name is missing.", meant="!chat rename NAME")
        return _too_long(name) or ChatRename(name=name, chat_id=chat_id)
    if verb == "delete" and name.lower() in ("", "yes"):
        return ChatDelete(is_confirmed=bool(name), chat_id=chat_id)
    if verb == "share" and name.lower() in ("", "off"):
        return ChatShare(share=not name, chat_id=chat_id)
    takes_number = verb not in ("list", "help")
    if name or (chat_id and not takes_number):
        what = "only a chat's number, like C3," if takes_number else "nothing"
        return Misused(reason=f"“!chat {verb}” takes {what} after it.", meant=f"!chat {verb}")
    if not takes_number:
        return ChatList() if verb == "list" else Help()
    if verb in ("clear", "info"):
        return (ChatClear if verb == "clear" else ChatInfo)(chat_id=chat_id)
    return ChatArchive(archive=verb == "archive", chat_id=chat_id)


def _chat_number(text: str) -> tuple[ChatID | None, str]:
    """The chat that a text begins with, and the rest of it."""
    first, _, rest = text.partition(" ")
    if number := _NUMBER.fullmatch(first):
        return ChatID(f"C{number[1]}"), rest
    return None, text


def _too_long(name: str) -> Misused | None:
    if len(name) <= MAX_CHAT_NAME:
        return None
    return Misused(
        reason=f"That name has {len(name)} characters, and at most {MAX_CHAT_NAME} fit."
    )


def _parse_reconcile(words: list[str]) -> Command:
    if not words:
        return Reconcile(dry_run=False)
    if words == ["--dry-run"]:
        return Reconcile(dry_run=True)
    unknown = next((word for word in words if word != "--dry-run"), words[0])
    return Misused(
        reason=f"“!reconcile” does not know “{unknown[:40]}”.", meant="!reconcile --dry-run"
    )


def _parse_reset(words: list[str]) -> ResetCommand:
    mode, *options = words or ["help"]
    if mode == "help" and not options:
        return ResetHelp()
    if mode == "local" and options in ([], ["--dry-run"]):
        return ResetLocal(dry_run=bool(options))
    if mode == "leave-forget":
        return _parse_leave(options)
    known = {"local": {"--dry-run"}}.get(mode, set())
    unknown = next((option for option in options if option not in known), None)
    wrong = (unknown or options[0]) if mode in {"help", "local"} else mode
    return ResetMisused(f"“{wrong[:40]}” is not understood")


def _parse_leave(options: list[str]) -> ResetCommand:
    values: dict[str, str] = {}
    rest = iter(options)
    for option in rest:
        if option in values or option not in _LEAVE_OPTIONS:
            return ResetMisused(f"“{option[:40]}” is not understood, or stands there twice")
        value = "" if option in ("--dry-run", "--goodbye") else next(rest, None)
        if value is None or value.startswith("--"):
            return ResetMisused(f"something is missing after {option}")
        values[option] = value
    scope = values.get("--scope", Scope.MANAGED.value)
    if scope not in {Scope.MANAGED.value, Scope.JOINED.value}:
        return ResetMisused(f"there is no scope “{scope[:40]}”")
    if "--dry-run" in values and "--confirm" in values:
        return ResetMisused("--dry-run and --confirm do not go together")
    return ResetLeave(
        scope=Scope(scope),
        dry_run="--dry-run" in values,
        code=values.get("--confirm"),
        says_goodbye="--goodbye" in values,
    )
