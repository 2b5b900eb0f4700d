"""What Homeroom says to the people in its rooms, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ..config import NotInForce, Problem
from ..domain.commands import Misused
from ..domain.conversation.answer import Trouble
from ..domain.homes.model import Chat, Home, Status
from .markdown import link, plain

NOT_ALLOWED: Final = "You are not among the people this bot works for."
HELP: Final = """**What you can do here**

- Just write: the agent answers.
- `!stop` ends an answer, as does a 🛑 on it. `!stop all` drops what waits, too.
- `!again` answers your newest message once more, as does a 🔁 on its answer.
- Edit your newest message, and its answer follows.
- `!chat new NAME` makes another chat.
- `!chat list` shows your chats.
- `!chat rename NAME` gives a chat another name.
- `!chat clear` begins a new conversation in it.
- `!chat archive` puts it away, `!chat unarchive` brings it back.
- `!chat share` has me answer everybody in it, `!chat share off` only you.
- `!chat delete` makes me leave it for good.
- `!chat info` tells what support may ask for.
- `!help` shows this.

Commands are about the chat you write in; for another one add its number: `!chat archive C3`."""
_HELP_ON_SHARING: Final = next(line for line in HELP.splitlines(True) if "!chat share" in line)
ARCHIVED: Final = "This chat is archived. `!chat unarchive` takes it up again."
CLEARED: Final = (
    "A new conversation begins here: the agent no longer knows what was said before."
    " The messages stay in the room."
)
DELETED_HERE: Final = (
    "This chat is deleted. I leave the room and answer here no more; you may leave it, too."
)
SPACE_TOPIC: Final = "Your home: every room in here is a chat with the agent."
NO_HOME: Final = "You have no home yet. Invite me to a room to get one."
NOT_A_CHAT: Final = (
    "Which chat? Write it in the chat, or put its number behind it. `!chat list` shows them."
)
IN_ITS_CHAT: Final = "Please write that in the chat that it is about."
NO_SHARING: Final = (
    "Sharing a chat is not allowed here: I only answer the person whose chat it is. The"
    " administrator of this bot can change that."
)
EVERYBODY: Final = "In every chat here I answer everybody; that is how this bot is set up."
NOT_YOUR_ROOM: Final = (
    "This room is in your Space, but it is not one that you made and that is still in use, so I"
    " cannot make it a chat. `!chat new` makes one."
)
NEEDS_POWER: Final = (
    "I would make this room a chat, but I am not allowed to here. Please make me a moderator in"
    " the room's settings, then write again."
)
OWNERS_ONLY: Final = "That is for the person whose chat this is."
ADMINS_ONLY: Final = "That is for the administrators of this bot."
NO_ANSWER: Final = (
    "Something went wrong here, so there is no answer. Please send your message again; if that"
    " does not help, tell the administrator of this bot."
)
TROUBLES: Final[Mapping[Trouble, str]] = {
    Trouble.BUSY: "The agent has too much to do. Please send your message again in a few minutes.",
    Trouble.UNREACHABLE: (
        "The agent could not be reached. Please send your message again in a moment; if that does"
        " not help, tell the administrator of this bot."
    ),
    Trouble.FAILING: (
        "The agent has a problem just now. Please send your message again in a moment; if that"
        " does not help, tell the administrator of this bot."
    ),
    Trouble.MISCONFIGURED: (
        "The agent does not work with this bot's settings. Sending your message again does not"
        " help; please tell the administrator of this bot."
    ),
    Trouble.REFUSED: (
        "The agent refuses to answer this. Sending it again does not help; in other words it may."
    ),
    Trouble.TOO_LARGE: (
        "The answer is longer than what I can pass on. Sending your message again does not help;"
        " please ask for less at once."
    ),
    Trouble.CUT_OFF: (
        "The answer broke off before its end. Please send your message again if you need all of"
        " it."
    ),
}
NO_AGENT: Final = (
    "No agent is set up yet, so I repeat what you say. Set `platform` in my settings in maubot's"
    " web UI; `!agent test` then shows whether it works."
)
EMPTY: Final = "(no answer)"
WITHDRAWN: Final = "The answer ends here, because the message that asked for it was deleted."
STOPPED: Final = "Stopped."
NOTHING_TO_STOP: Final = "Nothing is being answered here just now."
PAUSED: Final = "I have to stop for a moment. The answer goes on when I am back."
INTERRUPTED: Final = (
    "The answer was interrupted. Please send your message again if you need all of it."
)
NOTHING_TO_REPEAT: Final = "There is no message here that I could answer again."
NOT_NEWEST: Final = (
    "I can answer only the newest message again. Please write this one once more instead."
)
NOT_YOURS: Final = (
    "Only who asked, or the person whose chat this is, can have that answered again."
)
ONLY_TEXT: Final = (
    "I understand text only so far: no pictures, files or voice messages. Tell me in words, and I"
    " answer."
)
NOT_UNDERSTOOD: Final = "❔"
"""The reaction to what is not text, from the second on."""
TOOK_TOO_LONG: Final = "The answer took too long. Please send your message again."
SET_ASIDE: Final = (
    "Something about this message or its answer made me stop working several times, so I leave it"
    " out. Please try it in other words, and tell your administrator if it happens again."
)
TOO_MANY_WAITING: Final = (
    "There are more messages waiting here than I can keep. Please send the last ones again"
    " when I have caught up."
)
BRAKE: Final = (
    "We seem to be two bots talking to each other, so I stop here. I go on as soon as somebody"
    " else writes."
)
SLOW: Final = (
    "Your home is being made. The homeserver lets me make rooms only slowly just now;"
    " you get invites as they are ready."
)
OUTAGE: Final = (
    "Your home could not be finished just now, because the homeserver did not answer."
    " Nothing is lost: I will go on as soon as it does."
)
NO_SETTINGS: Final = (
    "I cannot answer yet, because there is a mistake in my settings."
    " Please tell the administrator of this bot."
)
NOT_NOW: Final = (
    "That did not work just now, because the homeserver did not answer."
    " Please try again in a few minutes."
)
SPACE_MOVED: Final = (
    "Your home's Space was upgraded to a room that I am not in. Please invite me to the new Space."
)
NO_LOOK: Final = (
    "I could not look at the homeserver, so nothing was changed. The log has the reason."
)


UNKNOWN_KEYS_SHOWN: Final = 10
KEPT_OUT: Final = (
    "Somebody removed you from your home, so I do not invite you again. Please ask the"
    " administrator of this bot."
)


def not_seen(attached: str | None) -> str:
    """What stands below an answer to a caption; empty: there was nothing else to see."""
    if attached is None:
        return ""
    return f"I cannot see the {attached} yet: this answers only what you wrote."


def greeting(welcome: str, *, chat_id: str | None) -> str:
    """The first words in a new chat; empty: none are wanted."""
    if not welcome or chat_id == "C1":
        return welcome
    return "A new chat. Just write; `!help` shows what else you can do."


def help_text(*, may_share: bool) -> str:
    return HELP if may_share else HELP.replace(_HELP_ON_SHARING, "")


def only_the_owner(*, may_share: bool) -> str:
    """What people hear who write in a chat in which they are not answered."""
    text = "Hello! In this chat I only answer the person whose chat it is."
    if may_share:
        text += " If I am to answer everybody here, that person writes `!chat share`."
    return text


def shared(chat: Chat, is_shared: bool) -> str:
    if is_shared:
        return (
            f"{_titled(chat)} is shared: I answer everybody in it now."
            " `!chat share off` ends that."
        )
    return f"In {_titled(chat)} I only answer you from now on."


def welcome(home: Home, *, is_new: bool, via: str) -> str:
    if is_new:
        return (
            f"This is your home: {link(home.space_id, via, 'open it')}."
            " You have invites to it and to its chats."
        )
    return f"This is your home: {link(home.space_id, via, 'open it')}."


def invited_back(home: Home, *, via: str) -> str:
    return (
        "Welcome back! I have invited you again to your home and to your chats:"
        f" {link(home.space_id, via, 'open it')}."
    )


def pointer(home: Home, *, via: str) -> str:
    return (
        f"Your chats are in your home: {link(home.space_id, via, 'open it')}."
        " In this room I do not answer."
    )


def too_many_chats(limit: int) -> str:
    return f"You have {limit} chats, and there can be no more. `!chat unarchive` an old one?"


def too_many_homes() -> str:
    return "There is no room for another home on this bot. Please tell its administrator."


def refused(reason: str) -> str:
    return f"The homeserver refused that: {plain(reason)}"


def new_chat(chat: Chat, *, via: str) -> str:
    return f"{link(chat.room_id, via, _name(chat))} is ready ({chat.chat_id})."


def renamed(chat: Chat, name: str) -> str:
    return f"{chat.chat_id} is now called “{plain(name)}”."


def cleared(chat: Chat) -> str:
    return f"A new conversation begins in {_titled(chat)}."


def archived(chat: Chat, is_archived: bool, *, was_invited: bool) -> str:
    """What is said as a chat is archived, or taken up again."""
    if is_archived:
        return (
            f"{_titled(chat)} is archived: nothing is answered there. You may leave the room now."
            f" `!chat unarchive {chat.chat_id}` brings it back."
        )
    return f"{_titled(chat)} is back." + (" I have invited you to it." if was_invited else "")


def delete_plan(chat: Chat) -> str:
    return (
        f"If you delete {_titled(chat)}, I leave its room and answer there no more. Its number is"
        " not used again. The messages stay for whoever is in the room: leave it in your app to"
        f" be rid of them.\n\n`!chat delete {chat.chat_id} yes` does it."
        f" `!chat archive {chat.chat_id}` only puts it away."
    )


def deleted(chat: Chat) -> str:
    return f"{_titled(chat)} is deleted: I have left its room. You may leave it, too."


def no_such_chat(chat_id: str) -> str:
    return f"You have no chat {chat_id}. `!chat list` shows yours."


def chat_info(chat: Chat, *, agent: str) -> str:
    """What support asks for. Nobody else needs these ids."""
    lines = [
        f"**{_name(chat)}** ({chat.chat_id})",
        "",
        f"- Agent: `{agent}`",
        f"- Conversation: `{chat.platform_chat_id}`",
        f"- Room: `{chat.room_id}`",
        f"- Begun anew: {chat.conversation.number if chat.conversation else 0} times",
    ]
    return "\n".join(lines)


def chat_list(chats: Iterable[Chat], *, via: str) -> str:
    listed = sorted(
        (chat for chat in chats if chat.is_routed),
        key=lambda chat: int((chat.chat_id or "C0")[1:]),
    )
    if not listed:
        return "You have no chats yet. `!chat new` makes one."
    lines = [
        f"- {chat.chat_id} {link(chat.room_id, via, _name(chat))}"
        + (" (archived)" if chat.status is Status.ARCHIVED else "")
        for chat in listed
    ]
    return "**Your chats**\n\n" + "\n".join(lines)


def misused(problem: Misused) -> str:
    reason = plain(problem.reason)
    if problem.meant is None:
        return f"{reason} `!help` shows what I can do."
    return f"{reason} Did you mean `{problem.meant}`? `!help` shows more."


def bad_settings(problems: Sequence[Problem]) -> str:
    return (
        "**The settings cannot be used**, so I do nothing. Mend them in maubot's web UI; saving"
        " is enough:\n\n" + _problems(problems)
    )


def agent_is_there(kind: str, *, uncertain: str) -> str:
    """`uncertain`: what its answer does not tell."""
    if not uncertain:
        return f"The agent (`{kind}`) is there and lets me in. This cost nothing."
    return f"Something answers for the agent (`{kind}`). {uncertain} A message in a chat shows it."


def agent_fails(reason: str) -> str:
    return f"**The agent would not answer**: {plain(reason)}"


def not_in_force(settings: NotInForce) -> list[str]:
    """What `!reconcile` adds about settings that were saved and do not count; often nothing."""
    parts = []
    if settings.problems:
        parts.append(
            "**The saved settings cannot be used**, the last good ones are in force. Mend them in"
            " maubot's web UI:\n\n" + _problems(settings.problems)
        )
    if settings.unknown:
        shown = settings.unknown[:UNKNOWN_KEYS_SHOWN]
        left = len(settings.unknown) - len(shown)
        lines = [plain(sentence) for sentence in shown] + [f"and {left} more"] * (left > 0)
        parts.append("**In the settings**:\n\n" + "\n".join(f"- {line}" for line in lines))
    if settings.awaits_restart:
        keys = ", ".join(f"`{key}`" for key in settings.awaits_restart)
        parts.append(f"**Saved, but waiting for a restart of the instance**: {keys}")
    return parts


def _problems(problems: Sequence[Problem]) -> str:
    return "\n".join(
        f"- `{p.key}`: found {plain(p.found)}, expected {plain(p.expected)}" for p in problems
    )


def _titled(chat: Chat) -> str:
    return f"“{_name(chat)}” ({chat.chat_id})"


def _name(chat: Chat) -> str:
    return plain(chat.name or f"Chat {chat.chat_id}")
