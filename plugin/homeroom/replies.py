"""Every word that a person reads from Homeroom: in rooms, and nowhere else.

Plain functions from values to Markdown. Names come from rooms and may be hostile: `_plain` makes
them harmless before they are put into a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from mautrix.types import RoomID, UserID

from .config import Problem
from .domain.commands import CHAT_USAGE, Misused
from .domain.model import Chat, Home, Status
from .domain.never import assert_never
from .domain.plan import (
    Change,
    Finding,
    FindingKind,
    JoinReplacement,
    LinkChild,
    Plan,
    Repair,
    SetChat,
    SetHome,
    StampMarker,
)

MAX_LISTED: Final = 50
"""Rows and findings that are listed before the rest is only counted."""

NOT_ALLOWED: Final = "You are not among the people this bot works for."
HELP: Final = f"""**What you can do here**

- Write something: the agent answers.
- `!chat new [name]` makes another chat, `!chat list` shows all of yours.
- `!chat rename NAME` renames this chat.
- `!chat archive` sets this chat aside; `!chat unarchive` takes it up again.

Usage: `{CHAT_USAGE}`"""
ARCHIVED: Final = "This chat is archived. `!chat unarchive` takes it up again."
ARCHIVED_NOW: Final = (
    "This chat is archived: it is out of your home's list and nothing is answered here."
    " `!chat unarchive` takes it up again."
)
UNARCHIVED_NOW: Final = "This chat is taken up again."
NO_HOME: Final = "You have no home yet. Invite me to a room to get one."
NOT_A_CHAT: Final = "That works in one of your chats only."
OWNERS_ONLY: Final = "That is for the person whose chat this is."
ADMINS_ONLY: Final = "`!reconcile` is for the administrators of this bot."
NO_ANSWER: Final = "There was no answer this time. Please send your message again in a moment."
TOOK_TOO_LONG: Final = "The answer took too long. Please send your message again."
TOO_MANY_WAITING: Final = (
    "There are more messages waiting here than I can keep. Please send the last ones again"
    " when I have caught up."
)
OUTAGE: Final = (
    "Your home could not be finished just now, because the homeserver did not answer."
    " Nothing is lost: write something here in a few minutes and I will go on."
)
SPACE_MOVED: Final = (
    "Your home's Space was upgraded to a room that I am not in. Please invite me to the new Space."
)
NO_LOOK: Final = (
    "I could not look at the homeserver, so nothing was changed. The log has the reason."
)
WORKING: Final = "Not ready yet: I am still looking at the homeserver."


def welcome(home: Home, *, via: str) -> str:
    return (
        f"This is your home: {_link(home.space_id, via, 'open it')}."
        " You have an invite to it and to the chats in it."
    )


def pointer(home: Home, *, via: str) -> str:
    return (
        f"I do not talk in this room. Your home is here: {_link(home.space_id, via, 'open it')}."
    )


def too_many_chats(limit: int) -> str:
    return f"You have {limit} chats, and there can be no more. `!chat unarchive` an old one?"


def too_many_homes() -> str:
    return "There is no room for another home on this bot. Please tell its administrator."


def refused(reason: str) -> str:
    return f"The homeserver refused that: {_plain(reason)}"


def new_chat(chat: Chat, *, via: str) -> str:
    return f"{_link(chat.room_id, via, _name(chat))} is ready ({chat.chat_id})."


def renamed(name: str) -> str:
    return f"This chat is now called “{_plain(name)}”."


def chat_list(chats: Iterable[Chat], *, via: str) -> str:
    listed = sorted(
        (chat for chat in chats if chat.is_routed),
        key=lambda chat: int((chat.chat_id or "C0")[1:]),
    )
    if not listed:
        return "You have no chats yet. `!chat new [name]` makes one."
    lines = [
        f"- {chat.chat_id} {_link(chat.room_id, via, _name(chat))}"
        + (" (archived)" if chat.status is Status.ARCHIVED else "")
        for chat in listed
    ]
    return "**Your chats**\n\n" + "\n".join(lines)


def misused(problem: Misused) -> str:
    return f"{_plain(problem.reason)}. Usage: `{problem.usage}`"


def bad_settings(problems: Sequence[Problem]) -> str:
    lines = [
        f"- `{p.key}`: found {_plain(p.found)}, expected {_plain(p.expected)}" for p in problems
    ]
    return (
        "**The settings cannot be used**, so I do nothing. Mend them in maubot's web UI:\n\n"
        + "\n".join(lines)
    )


def report(plan: Plan, *, seconds: float, dry_run: bool) -> str:
    """The drift report of `!reconcile`: rows as `+ ~ -`, what is repaired, what was found."""
    head = "Dry run, nothing was changed" if dry_run else "Reconciled"
    parts = [f"**{head}**: {plan.rooms} rooms in {seconds:.1f} s."]
    if plan.changes:
        parts.append("**Rows**\n\n" + _listed([_change(change) for change in plan.changes]))
    else:
        parts.append("Rows: no changes.")
    if plan.repairs:
        title = "Would be repaired" if dry_run else "Being repaired"
        parts.append(f"**{title}**\n\n" + _listed([_repair(repair) for repair in plan.repairs]))
    if plan.unreadable:
        lines = [f"`{room.room_id}`: {_plain(room.reason)}" for room in plan.unreadable]
        parts.append("**Could not be read, left as they are**\n\n" + _listed(lines))
    if plan.findings:
        parts.append("**Findings**\n\n" + _listed([_finding(f) for f in plan.findings]))
    return "\n\n".join(parts)


def _change(change: Change) -> str:
    match change:
        case SetHome(before=before, after=after):
            what = f"home of {_code(after.matrix_user_id)}"
            old = _home_values(before) if before else {}
            new = _home_values(after)
        case SetChat(before=before_chat, after=after_chat):
            what = f"chat {_code(after_chat.room_id)}"
            old = _chat_values(before_chat) if before_chat else {}
            new = _chat_values(after_chat)
        case _:
            assert_never(change)
    if not old:
        values = ", ".join(f"{key} {_code(value)}" for key, value in new.items() if value)
        return f"`+` {what}: {values}"
    sign = "-" if new["status"] == Status.LEFT.value else "~"
    values = ", ".join(
        f"{key} {_code(old[key])} → {_code(value)}"
        for key, value in new.items()
        if old[key] != value
    )
    return f"`{sign}` {what}: {values}"


def _home_values(home: Home) -> dict[str, str | None]:
    return {
        "space_id": home.space_id,
        "status": home.status.value if home.status else None,
        "initial_chats": ", ".join(home.initial_chats) or None,
    }


def _chat_values(chat: Chat) -> dict[str, str | None]:
    return {
        "matrix_user_id": chat.matrix_user_id,
        "space_id": chat.space_id,
        "chat_id": chat.chat_id,
        "platform_chat_id": chat.platform_chat_id,
        "name": chat.name,
        "status": chat.status.value if chat.status else None,
        "room_type": chat.room_type.value if chat.room_type else None,
    }


def _repair(repair: Repair) -> str:
    match repair:
        case StampMarker(room_id=room_id, marker=marker):
            return f"marker of `{room_id}` ({marker.chat_id or marker.room_type.value})"
        case LinkChild(space_id=space_id, room_id=room_id):
            return f"link from Space `{space_id}` to `{room_id}`"
        case JoinReplacement(room_id=room_id, replacement=replacement):
            return f"join of `{replacement}`, which replaces `{room_id}`"
        case _:
            assert_never(repair)


ADVICE: Final = {
    FindingKind.UNOWNED_SPACE: (
        "a Space that I made, but whose it is cannot be told",
        "leave just one person besides me in it, or remove me from it",
    ),
    FindingKind.SECOND_SPACE: (
        "a second Space of one owner; its chats go on working",
        "remove me from the one that is not wanted",
    ),
    FindingKind.AMBIGUOUS_OWNER: (
        "an old chat that is linked from several homes; not taken in",
        "remove the link from all but one",
    ),
    FindingKind.DUPLICATE_CHAT_ID: (
        "two chats asked for one number; this one got another",
        "nothing has to be done",
    ),
    FindingKind.DUPLICATE_PLATFORM_CHAT_ID: (
        "two chats asked for one conversation; this one got a new one",
        "nothing has to be done, unless the older room was a copy",
    ),
    FindingKind.FOREIGN_MARKER: (
        "somebody else's event that looks like my mark; ignored",
        "nothing has to be done",
    ),
    FindingKind.MALFORMED_MARKER: (
        "a mark of mine that I cannot read; the row is left as it is",
        "was it written by a newer version of Homeroom? Then use that one",
    ),
    FindingKind.REPLACEMENT_NOT_JOINED: (
        "the room was upgraded and I am not in the new one",
        "invite me to the new room",
    ),
    FindingKind.REPLACEMENT_NOT_CONFIRMED: (
        "the room points to a new one that does not point back; not followed",
        "upgrade the room again, or make a new chat",
    ),
    FindingKind.CLOSED: ("the room was closed without a new one", "make a new chat"),
    FindingKind.OWNER_LEFT: (
        "its owner left or was removed",
        "they are not invited again by themselves; they can invite me to come back",
    ),
    FindingKind.UNLINKED: (
        "somebody took the chat out of the Space's list; it goes on working",
        "put it back in a client if that was not wanted",
    ),
    FindingKind.NOT_OURS: (
        "the database called a room Homeroom's that is not; it is not answered",
        "nothing has to be done",
    ),
}
"""What each finding means, and what a person can do about it."""


def _finding(finding: Finding) -> str:
    meaning, advice = ADVICE[finding.kind]
    who = f", {_code(finding.user_id)}" if finding.user_id else ""
    detail = f" ({_plain(finding.detail)})" if finding.detail else ""
    return f"`{finding.room_id}`{who}: {meaning}{detail}. → {advice}"


def _listed(lines: Sequence[str]) -> str:
    shown = [f"- {line}" for line in lines[:MAX_LISTED]]
    if len(lines) > MAX_LISTED:
        shown.append(f"- … and {len(lines) - MAX_LISTED} more; the log has them at level debug")
    return "\n".join(shown)


def _link(room_id: RoomID, via: str, text: str) -> str:
    """https://spec.matrix.org/latest/appendices/#matrixto-navigation"""
    return f"[{text}](https://matrix.to/#/{quote(room_id)}?via={quote(via)})"


def _name(chat: Chat) -> str:
    return _plain(chat.name or f"Chat {chat.chat_id}")


def _code(value: str | UserID | RoomID | None) -> str:
    return "nothing" if value is None else f"`{_plain(value, escape=False)}`"


_MARKDOWN: Final = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]<>()#|~&"})


def _plain(text: str, *, escape: bool = True) -> str:
    """Text from elsewhere, made harmless: one line, bounded, no Markdown, no direction tricks."""
    text = "".join(c if c.isprintable() else " " for c in text)
    if len(text) > 200:
        text = text[:200] + "…"
    return text.translate(_MARKDOWN) if escape else text.replace("`", "'")
