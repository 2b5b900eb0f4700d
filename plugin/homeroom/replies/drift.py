"""The drift report of `!reconcile`."""

from __future__ import annotations

from typing import Final

from ..domain.homes.model import Chat, Home, Status
from ..domain.homes.plan import (
    Change,
    Finding,
    FindingKind,
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Plan,
    Repair,
    SetChat,
    SetHome,
    StampMarker,
    UnlinkChild,
)
from ..domain.never import assert_never
from .markdown import code, duration, listed, plain


def report(plan: Plan, *, seconds: float, dry_run: bool) -> str:
    """The drift report of `!reconcile`: rows as `+ ~ -`, what is repaired, what was found."""
    head = "Dry run, nothing was changed" if dry_run else "Reconciled"
    parts = [f"**{head}**: {plan.rooms} rooms in {seconds:.1f} s."]
    if plan.changes:
        parts.append("**Rows**\n\n" + listed([_change(change) for change in plan.changes]))
    else:
        parts.append("Rows: no changes.")
    if plan.repairs:
        title = "Would be repaired" if dry_run else "Being repaired"
        parts.append(f"**{title}**\n\n" + listed([_repair(repair) for repair in plan.repairs]))
    if plan.unreadable:
        lines = [f"`{room.room_id}`: {plain(room.reason)}" for room in plan.unreadable]
        parts.append("**Could not be read, left as they are**\n\n" + listed(lines))
    if plan.findings:
        # Nobody's many hide somebody's one.
        urgent_first = sorted(plan.findings, key=lambda f: ADVICE[f.kind][1] == _NOTHING)
        parts.append("**Findings**\n\n" + listed([_finding(f) for f in urgent_first]))
    return "\n\n".join(parts)


LOOK_BROKEN_OFF: Final = "The look at the rooms broke off."


def looking(done: int, total: int, *, seconds_left: float | None) -> str:
    """How far a look is; edited into one message."""
    left = "" if seconds_left is None else f", about {duration(seconds_left)} to go"
    return f"Looked at {done} of {total} rooms{left}. The report follows."


def looked(total: int, *, seconds: float) -> str:
    """The last of that message."""
    return f"Looked at {total} rooms in {duration(seconds)}. The report follows."


def _change(change: Change) -> str:
    match change:
        case SetHome(before=before, after=after):
            what = f"home of {code(after.matrix_user_id)}"
            old = _home_values(before) if before else {}
            new = _home_values(after)
        case SetChat(before=before_chat, after=after_chat):
            what = f"chat {code(after_chat.room_id)}"
            old = _chat_values(before_chat) if before_chat else {}
            new = _chat_values(after_chat)
        case _:
            assert_never(change)
    if not old:
        values = ", ".join(f"{key} {code(value)}" for key, value in new.items() if value)
        return f"`+` {what}: {values}"
    sign = "-" if new["status"] == Status.LEFT.value else "~"
    values = ", ".join(
        f"{key} {code(old[key])} → {code(value)}"
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
        "conversation": str(chat.conversation.number) if chat.conversation else None,
        "conversation_since": chat.conversation.since if chat.conversation else None,
    }


def _repair(repair: Repair) -> str:
    match repair:
        case StampMarker(room_id=room_id, marker=marker):
            return f"marker of `{room_id}` ({marker.chat_id or marker.room_type.value})"
        case LinkChild(space_id=space_id, room_id=room_id):
            return f"link from Space `{space_id}` to `{room_id}`"
        case UnlinkChild(space_id=space_id, room_id=room_id):
            return f"no link any more from Space `{space_id}` to `{room_id}`, which was upgraded"
        case MoveToSpace(room_id=room_id, space_id=space_id):
            return f"parent and join rule of `{room_id}`, for Space `{space_id}`"
        case JoinReplacement(room_id=room_id, replacement=replacement):
            return f"join of `{replacement}`, which replaces `{room_id}`"
        case InviteToReplacement(room_id=room_id, user_id=user_id):
            return f"invite of {code(user_id)} to `{room_id}`, which replaces a room of theirs"
        case _:
            assert_never(repair)


_NOTHING: Final = "nothing has to be done"
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
        _NOTHING,
    ),
    FindingKind.DUPLICATE_PLATFORM_CHAT_ID: (
        "two chats asked for one conversation; this one got a new one",
        "nothing has to be done, unless the older room was a copy",
    ),
    FindingKind.FOREIGN_MARKER: (
        "somebody else's event that looks like my mark; ignored",
        _NOTHING,
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
        _NOTHING,
    ),
}
"""What each finding means, and what a person can do about it."""


def _finding(finding: Finding) -> str:
    meaning, advice = ADVICE[finding.kind]
    detail = f" ({plain(finding.detail)})" if finding.detail else ""
    whose = f" of {code(finding.user_id)}" if finding.user_id else ""
    where = f"`{finding.room_id}`{whose}"
    return f"{_sentence(meaning + detail)} {_sentence(advice)} ({where})"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
