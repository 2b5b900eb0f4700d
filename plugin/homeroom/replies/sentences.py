"""What Homeroom says to the people in its rooms, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..config import Problem
from ..domain.commands import CHAT_USAGE, Misused
from ..domain.model import Chat, Home, Status
from .markdown import link, plain

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
SLOW: Final = (
    "Your home is being made. The homeserver lets me make rooms only slowly just now;"
    " you get invites as they are ready."
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


def welcome(home: Home, *, via: str) -> str:
    return (
        f"This is your home: {link(home.space_id, via, 'open it')}."
        " You have an invite to it and to the chats in it."
    )


def pointer(home: Home, *, via: str) -> str:
    return f"I do not talk in this room. Your home is here: {link(home.space_id, via, 'open it')}."


def too_many_chats(limit: int) -> str:
    return f"You have {limit} chats, and there can be no more. `!chat unarchive` an old one?"


def too_many_homes() -> str:
    return "There is no room for another home on this bot. Please tell its administrator."


def refused(reason: str) -> str:
    return f"The homeserver refused that: {plain(reason)}"


def new_chat(chat: Chat, *, via: str) -> str:
    return f"{link(chat.room_id, via, _name(chat))} is ready ({chat.chat_id})."


def renamed(name: str) -> str:
    return f"This chat is now called “{plain(name)}”."


def chat_list(chats: Iterable[Chat], *, via: str) -> str:
    listed = sorted(
        (chat for chat in chats if chat.is_routed),
        key=lambda chat: int((chat.chat_id or "C0")[1:]),
    )
    if not listed:
        return "You have no chats yet. `!chat new [name]` makes one."
    lines = [
        f"- {chat.chat_id} {link(chat.room_id, via, _name(chat))}"
        + (" (archived)" if chat.status is Status.ARCHIVED else "")
        for chat in listed
    ]
    return "**Your chats**\n\n" + "\n".join(lines)


def misused(problem: Misused) -> str:
    return f"{plain(problem.reason)}. Usage: `{problem.usage}`"


def bad_settings(problems: Sequence[Problem]) -> str:
    lines = [
        f"- `{p.key}`: found {plain(p.found)}, expected {plain(p.expected)}" for p in problems
    ]
    return (
        "**The settings cannot be used**, so I do nothing. Mend them in maubot's web UI:\n\n"
        + "\n".join(lines)
    )


def _name(chat: Chat) -> str:
    return plain(chat.name or f"Chat {chat.chat_id}")
