"""Whether the next start may resume from the rows without a full scan, and why not.

The reconciler says what it has made the rows say, and what it has seen that is still to be
repaired; whoever saves the sync position asks for the checkpoint that goes with it. In doubt
there is none, and the next start scans everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mautrix.types import RoomID

from ..domain.homes.checkpoint import Digest, Origin, make_checkpoint
from ..domain.homes.plan import Plan
from .routes import Routes


@dataclass(slots=True, kw_only=True)
class CheckpointState:
    """Whether the rows in the database are the whole truth at this moment.

    Args:
        origin: what a checkpoint depends on besides the rows; asked each time, because settings
            change.
    """

    routes: Routes
    origin: Callable[[], Origin]
    digest: Digest | None = field(default=None, init=False)
    """Of the rows; None: there may be something that they do not know."""
    _due: frozenset[RoomID] = field(default=frozenset(), init=False)
    _refused: set[RoomID] = field(default_factory=set, init=False)
    _made: set[RoomID] = field(default_factory=set, init=False)

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint of the rows as they are; None: they may not be the whole truth."""
        self._made = {room for room in self._made if self.routes.owner_of(room) is None}
        if self.digest is None or self.has_repairs or self.routes.unreadable or self._made:
            return None
        return make_checkpoint(self.origin(), self.digest)

    @property
    def has_repairs(self) -> bool:
        """Whether something is left to repair that can be, as far as the last scans go."""
        return not self._due <= self._refused

    def invalidate(self) -> Digest | None:
        """Trust nothing until there is a digest again; returns that of until now."""
        digest, self.digest = self.digest, None
        return digest

    @contextmanager
    def invalidated(self) -> Iterator[Digest | None]:
        """Trust nothing until there is a digest again, unless this is cancelled.

        Then whatever asked for it is not done, so it holds the position and comes again.
        """
        digest = self.invalidate()
        try:
            yield digest
        except asyncio.CancelledError:
            self.digest = digest
            raise

    def note_due(self, plan: Plan, *, instead_of: Iterable[RoomID] | None = None) -> None:
        """There are repairs to be made, in place of those in these rooms (None: in all)."""
        left = frozenset() if instead_of is None else self._due.difference(instead_of)
        self._due = left.union(repair.room_id for repair in plan.repairs)

    def note_refused(self, room_id: RoomID) -> None:
        """The homeserver does not let us repair it: no reason to scan everything again."""
        self._refused.add(room_id)

    def note_made(self, room_ids: Iterable[RoomID]) -> None:
        """Rooms were made in the bot's name: until they have rows nobody knows what they are."""
        self._made.update(room_ids)
