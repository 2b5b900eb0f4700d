"""Messages in whose decrypting or rendering the process died, again and again, are set aside.

After an end that was none (a crash, a kill) everything comes again that was not done, and with it
what the process may have died of. So in such a life, for such messages only, each attempt to
decrypt one or to render a long answer to it is noted before, and the note is taken back after.
Only who is found noted `DEATHS` lives in a row is set aside: a process may be killed at any
moment, and no message is to blame for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final

from mautrix.types import EventID
from mautrix.util.logging import TraceLogger

from ..domain.sync.news import Encrypted, Message
from ..runtime.noted_work import Note, noting
from ..storage import Store, StoreError

DEATHS: Final = 2
"""Lives that ended in the same work, after the one that ended before it was noted."""


@dataclass(slots=True, kw_only=True)
class Attempts:
    """Knows which messages the process died in, and notes what it is at."""

    store: Store
    log: TraceLogger
    _is_needed: bool = field(default=False, init=False)
    """Whether the last life ended without saying so."""
    _deaths: dict[EventID, int] = field(default_factory=dict, init=False)

    async def begin_life(self) -> None:
        """Read what the last life left. That it cannot be read is no reason not to start."""
        try:
            self._is_needed, self._deaths = await self.store.begin_life()
        except StoreError as e:
            self.log.warning("Nobody knows how the last run ended: %s", e)

    async def end_life(self) -> None:
        """This is an orderly end: nothing that was under way is to blame for it.

        Raises:
            StoreError: it will look like a crash.
        """
        await self.store.end_life()

    def is_to_be_set_aside(self, message: Message | Encrypted) -> bool:
        """Whether the process died in it too often."""
        return self._deaths.get(message.event_id, 0) >= DEATHS

    @contextmanager
    def at(self, message: Message | Encrypted) -> Iterator[None]:
        """While this message is worked on."""
        is_noted = self._is_needed and not message.is_live
        with noting(self._note(message.event_id)) if is_noted else nullcontext():
            yield

    def _note(self, event_id: EventID) -> Note:
        async def write() -> None:
            deaths = self._deaths.get(event_id, 0) + 1
            try:
                await self.store.note_attempt(event_id, deaths=deaths)
            except StoreError as e:  # a full disk must not make it deaf
                self.log.warning("The work on %s is not noted: %s", event_id, e)

        async def take_back() -> None:
            self._deaths.pop(event_id, None)
            try:
                await self.store.forget_attempt(event_id)
            except StoreError as e:
                self.log.warning("The work on %s stays noted: %s", event_id, e)

        return Note(write=write, take_back=take_back)
