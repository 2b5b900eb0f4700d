"""What the homeserver remembers of transaction IDs.

Synapse remembers them for 24 hours for each device. Others remember them for half an hour, for
each access token, or until they are restarted: a test shortens the memory, or has it lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .accounts import Session
from .events import Json


@dataclass(eq=False)
class Transactions:
    """Answers to requests with a transaction ID, each given again without doing it again."""

    keep: int | None = None
    """How many are remembered, of all devices together; None is all."""
    by_token: bool = False
    """Whether another access token of the same device is a stranger."""
    answers: dict[tuple[str, ...], Json] = field(default_factory=dict)

    def forget(self) -> None:
        """Forget all of them."""
        self.answers.clear()

    async def once(self, session: Session, path: str, do: Callable[[], Awaitable[Json]]) -> Json:
        """Do it and remember the answer, or give the answer that is remembered."""
        key = (session.token, path) if self.by_token else (*session.viewer, path)
        if key not in self.answers:
            self.answers[key] = await do()
        answer = self.answers[key]
        while self.keep is not None and len(self.answers) > self.keep:
            del self.answers[next(iter(self.answers))]
        return answer
