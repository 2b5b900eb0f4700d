"""Up to which sync position everything has been handled.

Responses come in one after the other, their messages are finished in any order. A position may
be kept only when everything that came before it is done, so that a process that dies at any
moment asks the homeserver again from there and loses nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Which sync position everything before is handled at."""

    _open: deque[tuple[str | None, set[Hashable]]] = field(default_factory=deque)
    _position: str | None = None

    def begin(self, token: str | None, work: Iterable[Hashable]) -> None:
        """A response ending at `token` came in, with this to do.

        Without a token it is no account of what happened up to a position, and what comes after
        waits for it all the same.
        """
        self._open.append((token, set(work)))
        self._advance()

    def extend(self, item: Hashable, more: Iterable[Hashable]) -> None:
        """There is more to do in the responses of which this is not done yet."""
        more = list(more)
        for _, work in self._open:
            if item in work:
                work.update(more)

    def done(self, item: Hashable) -> None:
        """One piece of work is finished, whichever response brought it (or several did)."""
        for _, work in self._open:
            work.discard(item)
        self._advance()

    @property
    def position(self) -> str | None:
        """The last token before which nothing is open; None until there is one."""
        return self._position

    def _advance(self) -> None:
        """What has nothing to do ends where the one before it does: there may be thousands."""
        waiting: deque[tuple[str | None, set[Hashable]]] = deque()
        for token, work in self._open:
            if work:
                waiting.append((token, work))
            elif waiting:
                before, left = waiting[-1]
                waiting[-1] = (token or before, left)
            else:
                self._position = token or self._position
        self._open = waiting
