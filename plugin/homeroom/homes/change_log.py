"""Changes of rows as sentences for the log: whose it is, which chat, what was and what is."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from ..domain.homes.model import Chat, Home
from ..domain.homes.plan import Change, Plan, SetChat, SetHome
from ..domain.never import assert_never

SHOWN: Final = 80
"""Characters of a value: names are other people's words."""


def sentence(change: Change) -> str:
    """What became of one row."""
    match change:
        case SetHome(before=None, after=home):
            return f"{home.matrix_user_id} has a home: {home.space_id}"
        case SetHome(before=before, after=home):
            return f"The home of {home.matrix_user_id}: {_differences(before, home)}"
        case SetChat(before=None, after=chat):
            return f"{_chat(chat)} is new: {chat.room_id}, {_short(chat.name)}"
        case SetChat(before=before_chat, after=chat):
            return f"{_chat(chat)} ({chat.room_id}): {_differences(before_chat, chat)}"
        case _:
            assert_never(change)


def summary(plan: Plan) -> str:
    """How many rows changed and what was found; what is nothing is left out."""
    counts = {
        "new": plan.adopted,
        "changed": plan.updated,
        "given ids": plan.backfilled,
        "left": plan.left,
        "unreadable": len(plan.unreadable),
        "findings": len(plan.findings),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or (
        "nothing to change"
    )


def _chat(chat: Chat) -> str:
    return f"Chat {chat.chat_id or 'without a number'} of {chat.matrix_user_id}"


def _differences(before: Home | Chat | None, after: Home | Chat) -> str:
    values = (
        (one.name, getattr(before, one.name), getattr(after, one.name)) for one in fields(after)
    )
    return ", ".join(
        f"{name} {_short(old)} → {_short(new)}" for name, old, new in values if old != new
    )


def _short(value: object) -> str:
    text = str(getattr(value, "value", value))
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
