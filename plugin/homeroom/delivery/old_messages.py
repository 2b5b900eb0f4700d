"""Messages that are too old to be answered: noted, and passed over however they come again."""

from __future__ import annotations

from dataclasses import dataclass, field

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..homes.routes import Routes
from ..runtime.tasks import Background
from ..storage import Store, StoreError
from .handled import HandledMarks


@dataclass(slots=True, kw_only=True)
class OldMessages:
    """Notes and counts them."""

    routes: Routes
    store: Store
    handled: HandledMarks
    background: Background
    log: TraceLogger
    passed_over: int = field(default=0, init=False)
    """How many, since the start."""

    def pass_over(self, room_id: RoomID, event_ids: frozenset[EventID]) -> None:
        """Answer none of these, if the room is a chat; never waits."""
        if event_ids and self.routes.chat(room_id) is not None:
            self.background.start(self._note(room_id, event_ids), name="noting what is too old")

    async def _note(self, room_id: RoomID, event_ids: frozenset[EventID]) -> None:
        try:
            new = event_ids - await self.store.handled(event_ids)
        except StoreError:
            new = event_ids
        if new:
            self.passed_over += len(new)
            self.log.info(
                "%d messages in %s are older than catch_up.max_age, and are not answered: %s",
                len(new),
                room_id,
                ", ".join(sorted(new)[:5]),
            )
            await self.handled.add_all((event_id, room_id) for event_id in new)
