"""Agent platforms: who answers in a chat.

A platform is one coroutine: a turn in, the answer out, in as many pieces as it comes in. It knows
nothing of Matrix; what it does know a conversation by is `platform_chat_id`, which stays the same
whatever happens to the bot.

    configured    the platform of the settings, and another one when they change
    echo          needs nothing
    webhook       a server of the administrator's; the contract is in docs/agents.md
    openai        any server with the Chat Completions API
    http_client   what the last two share: one request, sent again while that may help
    http_answer   what comes back: read within bounds, and judged if it cannot be used
    sse           server-sent events
    health        how it is doing, for the status page
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from ..domain.conversation.answer import Item, Trouble
from ..domain.conversation.turn import Turn, Utterance


class History(Protocol):
    """What was said in a conversation so far."""

    async def before(self, turn: Turn) -> Sequence[Utterance]:
        """The conversation up to this turn, without it, oldest first.

        Raises:
            Unavailable: the room cannot be read now; an answer without it would be wrong.
        """
        ...


class PlatformError(Exception):
    """The platform did not answer, or not to the end; the message is for the log.

    Never with a key, a token or a whole answer in it.

    Args:
        request_id: what the platform calls this request, for asking its operator; None if it does
            not say.
    """

    def __init__(self, message: str, *, trouble: Trouble, request_id: str | None = None) -> None:
        super().__init__(f"{message} (request {request_id})" if request_id else message)
        self.trouble = trouble
        self.request_id = request_id


class Platform(Protocol):
    """An agent, in whatever protocol it speaks."""

    def answer(self, turn: Turn) -> AsyncGenerator[Item, None]:
        """Answer a turn, in as many pieces as it comes; `End` is the last item.

        Called once for a key unless the process dies in the middle; then again with the same one.
        No text, or blanks only: nothing is said. Whoever stops listening closes the generator. It
        may take for ever: whoever listens bounds the time, in all.

        The pieces are text that Matrix can carry (no lone surrogates), and of bounded length.

        Raises:
            PlatformError: no answer, or no more of it, for a reason that is in the error.
            Unavailable: the homeserver was needed for it and cannot be had; to be tried again.
        """
        ...

    async def check(self) -> str:
        """Ask for something that costs nothing, to see whether it is there and lets us in.

        Returns what stays uncertain, as a sentence for the administrator; empty: nothing.

        Raises:
            PlatformError: it is not, or does not; in the same words as a turn would.
        """
        ...

    async def close(self) -> None:
        """Close connections that are open. No turn is asked for afterwards."""
        ...
