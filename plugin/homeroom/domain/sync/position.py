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
    _open: deque[tuple[str, set[Hashable]]] = field(default_factory=deque)
    _position: str | None = None

    def begin(self, token: str, work: Iterable[Hashable]) -> None:
        """A response ending at `token` came in, with this to do."""
        if (todo := set(work)) or not self._open:
            self._open.append((token, todo))
        else:  # with nothing to do it ends where the one before does: there may be thousands
            self._open[-1] = (token, self._open[-1][1])
        self._advance()

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
        while self._open and not self._open[0][1]:
            self._position = self._open.popleft()[0]
