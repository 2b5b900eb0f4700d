"""The order of things: every sync response once, whole, and one after the other.

The doors open on a line of responses: first what happened before they opened (one `/sync` from
the position up to which everything was handled, or from before the first look), then what
maubot's sync loop brings. Where the homeserver left older messages of a chat out (`limited`),
they are fetched before the response is taken in, up to a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from mautrix.types import RoomID
from mautrix.util.logging import TraceLogger

from ..domain.conversation.answer_parts import OpenAnswer
from ..domain.conversation.unanswered import (
    leaving_out_answered,
    open_answers,
    without_answered,
)
from ..domain.sync.changed_rooms import (
    rooms_made_by_the_bot,
    rooms_newly_encrypted,
    rooms_to_rescan,
    rooms_with_other_members,
)
from ..domain.sync.timeline import next_batch, sent_at, timeline_gaps, with_older_events
from ..homes.checkpoint_state import CheckpointState
from ..homes.routes import Routes
from ..matrix.encryption import Encryption
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..runtime.backoff import waits
from ..runtime.clock import now
from ..storage import StoreError
from .recent_timelines import recent_timelines

RETRY_AFTER: Final = (1, 2, 5, 10, 30, 60)
"""Seconds between attempts; the last one repeats."""
PAGES_AT_MOST: Final = 20
"""Pages of `/messages`, 100 events each, that are read to fill one gap."""


class TakeIn(Protocol):
    """`Doors.take_in`."""

    def __call__(
        self,
        response: object,
        *,
        not_before: int | None,
        is_live: bool,
        rescanned: frozenset[RoomID],
    ) -> None: ...


class SyncFeed:
    """Hands responses on in their order.

    Args:
        take_in: called with each response.
        found_open: called with what `unanswered` finds of answers that are not finished.
    """

    def __init__(
        self,
        *,
        homeserver: Homeserver,
        encryption: Encryption,
        routes: Routes,
        checkpoint_state: CheckpointState,
        take_in: TakeIn,
        found_open: Callable[[list[OpenAnswer]], None],
        log: TraceLogger,
    ) -> None:
        self._homeserver = homeserver
        self._encryption = encryption
        self._routes = routes
        self._checkpoint_state = checkpoint_state
        self._take_in = take_in
        self._found_open = found_open
        self._log = log
        self._line: asyncio.Queue[tuple[object, bool]] = asyncio.Queue()
        self._since: str | None = None
        self._not_before: int | None = None
        self._has_forgotten = False
        self._is_closed = False
        self._last_response_at: int | None = None

    @property
    def waiting(self) -> int:
        """Responses that came in and are not taken in yet."""
        return self._line.qsize()

    @property
    def last_response_at(self) -> int | None:
        """When maubot's sync loop brought the last response, in milliseconds since 1970."""
        return self._last_response_at

    def put(self, response: object, *, is_live: bool) -> None:
        """A response of maubot's sync loop; never waits."""
        if self._is_closed:
            return
        self._last_response_at = now()
        self._line.put_nowait((response, is_live))

    def close(self) -> None:
        """Take in nothing more. maubot goes on bringing responses until the instance stops."""
        self._is_closed = True

    async def since(self, position: str, *, not_before: int) -> bool:
        """Take in what happened since a position; False: it means nothing to the homeserver."""
        try:
            response = await self._keep_trying(
                self._homeserver.sync_since, position, is_final=_is_meaningless
            )
        except Refused as e:
            self._log.warning("Cannot catch up from the position %s: %s", position[:100], e)
            return False
        await self.go_on(position, response, not_before=not_before)
        return True

    async def changed_since(self, position: str) -> frozenset[RoomID]:
        """The rooms of which something was said since a position; nothing is taken in.

        Raises:
            HomeserverError: it is not to be had.
        """
        response = await self._homeserver.sync_since(position)
        return rooms_to_rescan(
            response,
            bot=self._homeserver.bot,
            is_ours=self._is_ours,
        )

    def _is_ours(self, room_id: RoomID) -> bool:
        return self._routes.owner_of(room_id) is not None

    async def go_on(
        self,
        position: str,
        response: object,
        *,
        not_before: int,
        rescanned: frozenset[RoomID] = frozenset(),
        has_forgotten: bool = False,
    ) -> None:
        """Take in what the homeserver said to have happened since a position.

        Args:
            rescanned: rooms that were looked at since it said so.
            has_forgotten: nobody knows which events were handled; what the bot has answered since
                is asked of the rooms.
        """
        self._not_before, self._since = not_before, position
        self._has_forgotten = has_forgotten
        await self.take(response, not_before=not_before, is_live=False, rescanned=rescanned)

    async def take(
        self,
        response: object,
        *,
        not_before: int | None,
        is_live: bool,
        rescanned: frozenset[RoomID] = frozenset(),
    ) -> None:
        """Take in one response, with the gaps in the timelines of chats filled."""
        self._homeserver.told.synced(response, is_ours=self._is_ours, now=now())
        response = await self._fill_gaps(response, not_before)
        self._checkpoint_state.note_made(rooms_made_by_the_bot(response, bot=self._homeserver.bot))
        await self._change_sessions(response)
        if self._has_forgotten and not is_live:
            self._found_open(open_answers(response, bot=self._homeserver.bot))
            response = leaving_out_answered(response, bot=self._homeserver.bot)
        self._hand_on(response, not_before=not_before, is_live=is_live, rescanned=rescanned)
        self._since = next_batch(response) or self._since

    async def unanswered(self, *, not_before: int) -> None:
        """Take in what the chats' own timelines show as not answered yet.

        For a start without a position, when nothing else tells what was said while the bot was
        away: it costs as much as was said lately.
        """
        try:
            await self._keep_trying(self._take_recent, self._routes.chat_rooms(), not_before)
        except Refused as e:
            self._log.warning("What was said meanwhile is not to be had: %s", e)

    async def _take_recent(self, chats: list[RoomID], not_before: int) -> None:
        async for response in recent_timelines(self._homeserver, chats, not_before=not_before):
            whole = await self._fill_gaps(response, not_before)
            self._found_open(open_answers(whole, bot=self._homeserver.bot))
            open_ = without_answered(whole, bot=self._homeserver.bot)
            self._hand_on(open_, not_before=not_before, is_live=False)

    def _hand_on(
        self,
        response: object,
        *,
        not_before: int | None,
        is_live: bool,
        rescanned: frozenset[RoomID] = frozenset(),
    ) -> None:
        try:
            self._take_in(response, not_before=not_before, is_live=is_live, rescanned=rescanned)
        except Exception:  # noqa: BLE001 (a bug: one response must not make the bot deaf)
            self._log.exception("Error while taking in a response")

    async def _fill_gaps(self, response: object, not_before: int | None) -> object:
        for room_id, prev_batch in timeline_gaps(response, not_before=not_before):
            if self._routes.chat(room_id) is not None:
                try:
                    older = await self._keep_trying(self._older, room_id, prev_batch, not_before)
                except Refused as e:
                    self._log.warning("Older events of %s are not to be had: %s", room_id, e)
                else:
                    response = with_older_events(response, room_id, older)
        return response

    async def _change_sessions(self, response: object) -> None:
        """Before anything in a response is answered: who left must not be able to read that."""
        self._homeserver.forget_plain(rooms_newly_encrypted(response))
        for seconds in waits(RETRY_AFTER):
            try:
                await self._encryption.forget_sessions(rooms_with_other_members(response))
                return
            except StoreError as e:
                self._log.warning("%s; trying again in %d s", e, seconds)
            await asyncio.sleep(seconds)

    async def run(self) -> None:
        """Take in what maubot's sync loop brings, for ever."""
        while True:
            response, is_live = await self._line.get()
            # What maubot throws away may tell of the time that the bot was down, too.
            not_before = None if is_live else self._not_before
            await self.take(response, not_before=not_before, is_live=is_live)

    async def _older(self, room_id: RoomID, start: str, not_before: int | None) -> list[Any]:
        """The events between the last response and `start`, oldest first.

        Where there was no response before, as far back as `not_before`, or one page.
        """
        events: list[Any] = []
        token: str | None = start
        for _ in range(PAGES_AT_MOST):
            page, token = await self._homeserver.messages_before(room_id, token, until=self._since)
            events += page
            too_old = not_before is not None and any(
                (sent := sent_at(event)) is not None and sent < not_before for event in page
            )
            if token is None or too_old or (self._since is None and not_before is None):
                break
        else:
            self._log.error(
                "More than %d events of %s were left out; the older ones stay unread",
                len(events),
                room_id,
            )
        self._log.info("Filled a gap of %d events in %s", len(events), room_id)
        return events[::-1]

    async def _keep_trying(
        self,
        read: Callable[..., Any],
        *args: Any,
        is_final: Callable[[Refused], bool] = lambda _: True,
    ) -> Any:
        """Read until it works; only a definite no is an error."""
        for seconds in waits(RETRY_AFTER):
            try:
                return await read(*args)
            except HomeserverError as e:
                if isinstance(e, Refused) and is_final(e):
                    raise
                self._log.warning("Could not catch up: %s; trying again in %d s", e, seconds)
            await asyncio.sleep(seconds)


def _is_meaningless(refusal: Refused) -> bool:
    """Whether it is the sync position that is refused; whatever else there is may pass."""
    return refusal.status == 400
