"""Takes in every sync response once, in the server's order, and divides it by rooms.

First comes what happened before the plugin was ready (one `/sync` from the position up to which
everything was handled, or what the chats' own timelines show), then what maubot's sync loop
brings. A response is only divided here, which never waits for anybody: where a room has to wait
for something, its part goes into a lane of its own (`lanes.py`).

Left out are messages that the rooms themselves show to be answered, and those that are older than
`catch_up.max_age`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import filterfalse
from typing import Any, Final, TypeVar

from mautrix.types import EventID, RoomID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.conversation.answer_parts import OpenAnswer
from ..domain.conversation.unanswered import answers_in, asked_before
from ..domain.json_shapes import as_dict
from ..domain.sync.changed_rooms import (
    rooms_made_by_the_bot,
    rooms_to_rescan,
    rooms_with_other_members,
)
from ..domain.sync.news import SAID
from ..domain.sync.timeline import (
    event_ids,
    is_initial,
    is_told_whole,
    joined_in,
    next_batch,
    redacted_in,
    slices,
    timeline_gaps,
    timeline_of,
    too_old,
    with_timelines,
    without,
)
from ..homes.checkpoint_state import CheckpointState
from ..homes.routes import Routes
from ..matrix.encryption import Encryption
from ..matrix.errors import HomeserverError, Refused, TooLarge
from ..matrix.homeserver import Homeserver
from ..runtime.clock import now
from ..runtime.retry import RetryPolicy, retry
from ..runtime.tasks import Background
from ..runtime.timeouts import timeout
from .inbox import Inbox
from .lanes import Lanes, Part
from .old_messages import OldMessages
from .recent_timelines import recent_timelines
from .state_writes import StateWrites
from .terms import LIVE, TakeIn, Terms

T = TypeVar("T")

READ_AGAIN: Final = RetryPolicy(pauses=(1, 2, 5, 10, 30, 60))
READ_LIVE_BACK: Final = 5 * 60 * 1000
"""Milliseconds before the last response for which a gap in a live one is read back at least."""
SILENT_AFTER: Final = 90.0
"""Seconds without a response of maubot's sync loop, which asks again every half minute."""
PROBE_EVERY: Final = 15.0
PROBE_WITHIN: Final = 30.0
"""Seconds that our own question for news may take."""


@dataclass(slots=True, kw_only=True)
class SyncFeed:
    """Takes in every sync response once, in order, and fills what was left out.

    Args:
        take_in: called with each response, or a part of one.
        found: called with what the rooms say of answers: those that are open, and which are given.
    """

    homeserver: Homeserver
    encryption: Encryption
    routes: Routes
    checkpoint_state: CheckpointState
    state_writes: StateWrites
    take_in: TakeIn
    found: Callable[[tuple[OpenAnswer, ...], frozenset[EventID]], None]
    inbox: Inbox
    lanes: Lanes
    old_messages: OldMessages
    background: Background
    settings: Callable[[], Settings]
    log: TraceLogger
    keeps_position: bool = field(default=True, init=False)
    """False: positions are not to be trusted now."""
    maubot_told_at: int = field(default=0, init=False)
    """When maubot's sync last told what was said, or began anew, in milliseconds since 1970."""
    _line: asyncio.Queue[tuple[object, bool]] = field(default_factory=asyncio.Queue, init=False)
    _since: str | None = field(default=None, init=False)
    _terms: Terms = field(default=Terms(is_live=False), init=False)
    """How what maubot was told of the time before the start is to be taken."""
    _began_at: int | None = field(default=None, init=False)
    """When the time before the start was over, as the homeserver has it."""
    _is_closed: bool = field(default=False, init=False)
    _is_settled: bool = field(default=False, init=False)
    _last_response_at: int | None = field(default=None, init=False)
    _maubot_heard_at: float = field(default_factory=time.monotonic, init=False)

    @property
    def waiting(self) -> int:
        """Responses that came in and are not taken in yet."""
        return self._line.qsize()

    @property
    def last_response_at(self) -> int | None:
        """When the last response came, in milliseconds since 1970."""
        return self._last_response_at

    @property
    def passed_over(self) -> int:
        """How many messages were too old to be answered, since the start."""
        return self.old_messages.passed_over

    @property
    def not_before(self) -> int:
        """What is older than this is not caught up with."""
        assert self._terms.not_before is not None
        return self._terms.not_before

    def put(self, response: object, *, is_live: bool) -> None:
        """A response of maubot's sync loop; never waits."""
        if self._is_closed:
            return
        self._last_response_at = self.homeserver.clock.now()
        self._maubot_heard_at = time.monotonic()
        if not is_live or any(map(timeline_of, joined_in(response).values())):
            self.maubot_told_at = now()
        self._line.put_nowait((response, is_live))

    def close(self) -> None:
        """Take in nothing more. maubot goes on bringing responses until the instance stops."""
        self._is_closed = True

    async def listen_for_ourselves(self) -> None:
        """While maubot's sync loop brings nothing, as a hanging request keeps it, ask for news."""
        while True:
            await asyncio.sleep(PROBE_EVERY)
            silent_for = time.monotonic() - self._maubot_heard_at
            is_asked = silent_for >= SILENT_AFTER and self.keeps_position and not self._is_closed
            if self._since is None or not is_asked:
                continue
            try:
                async with timeout(PROBE_WITHIN):
                    response = await self.homeserver.sync_since(self._since)
            except (HomeserverError, asyncio.TimeoutError) as e:
                self.log.warning(
                    "maubot's sync has brought nothing for %d s, nor does the homeserver answer"
                    " now: %s",
                    silent_for,
                    e or type(e).__name__,
                )
                continue
            self._last_response_at = self.homeserver.clock.now()
            self._line.put_nowait((response, True))

    def begin(self, *, since: str | None, since_at: int | None) -> Terms:
        """What happened before this moment is caught up with from a position."""
        max_age = self.settings().catch_up_max_age * 1000
        self._since = since
        self._began_at = self.homeserver.clock.now()
        self._terms = Terms(
            is_live=False,
            not_before=self._began_at - max_age,
            since=since,
            since_at=None if since_at is None else since_at - self.homeserver.clock.ahead,
        )
        return self._terms

    async def run(self) -> None:
        """Take in what maubot's sync loop brings, for ever."""
        while True:
            response, is_live = await self._line.get()
            await self.take(response, terms=self._terms_of(response, is_live=is_live))
            if not is_live and is_initial(response):
                # maubot has lost its place: what was said meanwhile only the chats tell.
                reading = partial(self.read_again, since=now() - READ_LIVE_BACK)
                self.background.start(self._until_read(reading), name="reading the chats")

    def _terms_of(self, response: object, *, is_live: bool) -> Terms:
        """How a response of maubot's is to be taken.

        The first after a start may be an old answer that the homeserver repeats, and then it is
        the second that tells of the time before the start.
        """
        if not is_live:
            self._is_settled = False
            terms = replace(self._terms, since_at=None, is_maubots=True)
            return replace(terms, has_questions=not is_initial(response))
        was_settled, self._is_settled = self._is_settled, True
        if was_settled or self._terms.not_before is None:
            return replace(LIVE, since=self._since)
        return replace(LIVE, since=self._since, not_before=self._terms.not_before)

    async def take_first(self, response: object) -> None:
        """Take in what maubot was told first."""
        await self.take(response, terms=self._terms_of(response, is_live=False))

    async def since(self, position: str, *, since_at: int | None) -> bool:
        """Take in what happened since a position; False: it is not to be had from there."""
        terms = self.begin(since=position, since_at=since_at)
        try:
            response = await self._keep_trying(
                lambda: self.homeserver.sync_since(position), is_final=_is_meaningless
            )
        except (Refused, TooLarge) as e:
            self.log.warning("Cannot catch up from the position %s: %s", position[:100], e)
            return False
        await self.take(response, terms=terms)
        return True

    async def changed_since(self, position: str) -> frozenset[RoomID]:
        """The rooms of which something was said since a position; nothing is taken in.

        Raises:
            HomeserverError: it is not to be had.
        """
        response = await self.homeserver.sync_since(position)
        return rooms_to_rescan(
            response,
            bot=self.homeserver.bot,
            is_ours=self._is_ours,
        )

    def _is_ours(self, room_id: RoomID) -> bool:
        return self.routes.owner_of(room_id) is not None

    async def unanswered(self) -> None:
        """Take in what the chats' own timelines show as not answered yet.

        For a start without a position, when nothing else tells what was said while the bot was
        away: it costs as much as was said lately.
        """
        await self._until_read(self._take_recent)

    async def _until_read(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._keep_trying(read)
        except (Refused, TooLarge) as e:
            self.log.warning("What was said meanwhile is not to be had: %s", e)

    async def _take_recent(self) -> None:
        terms = self.begin(since=None, since_at=None)
        await self._take_timelines(terms, not_before=self.not_before)

    async def _take_timelines(self, terms: Terms, *, not_before: int) -> None:
        chats = self.routes.chat_rooms()
        async for response in recent_timelines(self.homeserver, chats, not_before=not_before):
            await self.take(response, terms=terms)

    async def read_again(self, *, since: int) -> None:
        """Take in what the chats' own timelines show, while nothing else may tell of it.

        What was said `since` is not too old, whatever `catch_up.max_age` is.

        Raises:
            HomeserverError: it is not to be had.
        """
        max_age = self.settings().catch_up_max_age * 1000
        since = min(self.homeserver.clock.now() - max_age, since)
        await self._take_timelines(Terms(is_live=False, not_before=since), not_before=since)

    async def take(
        self, response: object, *, terms: Terms, rescanned: frozenset[RoomID] = frozenset()
    ) -> None:
        """Take in one response.

        Args:
            rescanned: rooms that were scanned since the homeserver answered it.
        """
        work = self.inbox.begin(next_batch(response) if self.keeps_position else None)
        try:
            for some in slices(response):
                self._take_some(some, work=work, terms=terms, rescanned=rescanned)
                await asyncio.sleep(0)
        except Exception:
            self.log.exception("Error while taking in a response")
        self._since = next_batch(response) or self._since
        self.inbox.finish(work)

    def _take_some(
        self,
        response: dict[str, Any],
        *,
        work: Hashable,
        terms: Terms,
        rescanned: frozenset[RoomID],
    ) -> None:
        self.homeserver.synced(response, is_ours=self._is_ours)
        self.state_writes.take_in(response, is_ours=self._is_ours, work=work)
        self.checkpoint_state.note_made(rooms_made_by_the_bot(response, bot=self.homeserver.bot))
        rooms = joined_in(response)
        told_again = {
            room_id
            for room_id, entry in rooms.items()
            if terms.is_maubots and self._is_told_again(room_id, entry, terms)
        }
        gaps = {
            room_id: token
            for room_id, token in timeline_gaps(response).items()
            if terms.has_questions and self.routes.chat(room_id) is not None
        }
        changed = (
            rooms_with_other_members(response) if self.encryption.is_possible else frozenset()
        )
        later = {
            room_id
            for room_id in rooms
            if room_id in gaps
            or room_id in told_again
            or room_id in changed
            or self.lanes.is_busy(room_id)
        }
        leave_out: set[EventID] = set()
        for room_id in rooms.keys() - later:
            its_terms = self._terms_in(room_id, rooms[room_id], terms)
            leave_out |= self._left_out(room_id, timeline_of(rooms[room_id]), terms=its_terms)
            self._note_seen(room_id, timeline_of(rooms[room_id]))
        self.take_in(
            response,
            work=work,
            leave_out=frozenset(leave_out),
            later=frozenset(later),
            is_live=terms.is_live,
            rescanned=rescanned,
            only_messages=False,
        )
        for room_id in later:
            self._put_in_lane(
                room_id,
                rooms[room_id],
                work=work,
                terms=self._terms_in(room_id, rooms[room_id], terms),
                gap=gaps.get(room_id),
                is_told_again=room_id in told_again,
                has_other_members=room_id in changed,
            )

    def _is_told_again(self, room_id: RoomID, entry: dict[str, Any], terms: Terms) -> bool:
        """Whether a chat has to be read to know what is new in a response of maubot's.

        Synapse gives its old answers once more for two minutes, and so tells a maubot that has
        lost its place, one by one, what was answered before the start. A homeserver that was
        restored from a backup leaves out what was said first.
        """
        before = self._began_at if self.keeps_position else sys.maxsize
        if before is None or not terms.has_questions or self.routes.chat(room_id) is None:
            return False
        events, bot = timeline_of(entry), self.homeserver.bot
        unknown = set(filterfalse(self.inbox.has, asked_before(before, events, bot=bot)))
        if unknown and not terms.is_live:
            unknown -= answers_in(room_id, events, bot=bot).given
        return bool(unknown)

    def _terms_in(self, room_id: RoomID, entry: dict[str, Any], terms: Terms) -> Terms:
        """A room that is told from its beginning on is no news of this moment.

        A homeserver that does not know a position (any more) may answer in that way.
        """
        if terms.is_live and self._is_ours(room_id) and is_told_whole(entry):
            return replace(terms, is_live=False, not_before=self._read_back_to(terms))
        return terms

    def _put_in_lane(
        self,
        room_id: RoomID,
        entry: dict[str, Any],
        *,
        work: Hashable,
        terms: Terms,
        gap: str | None,
        is_told_again: bool,
        has_other_members: bool,
    ) -> None:
        read_back_to = self._read_back_to(terms)
        if is_told_again:
            terms = replace(terms, is_live=False, not_before=self._terms.not_before)
        part_work = (work, room_id)
        self.inbox.add(work, [part_work])
        part = Part(
            room_id=room_id,
            events=timeline_of(entry) if terms.has_questions else [],
            work=(part_work,),
            gap=gap,
            is_told_again=is_told_again,
            since=terms.since if self.keeps_position else None,
            since_at=terms.since_at,
            not_before=terms.not_before,
            read_back_to=read_back_to,
            is_live=terms.is_live,
            has_other_members=has_other_members,
        )
        self.lanes.put(part, deliver=self.deliver)

    def _read_back_to(self, terms: Terms) -> int:
        """How far back what was left out is looked for, in milliseconds since 1970."""
        if not terms.is_live and terms.not_before is not None:
            return terms.not_before
        now = self.homeserver.clock.now()
        return now - max(self.settings().catch_up_max_age * 1000, READ_LIVE_BACK)

    def deliver(self, part: Part, older: list[Any]) -> None:
        """Take in a part that has waited in a lane, and the older events before it."""
        told = without(part.events, event_ids(older))
        events = [*older, *told]
        self.homeserver.told.redacted(part.room_id, redacted_in(older))
        terms = Terms(
            is_live=part.is_live and not older,
            not_before=part.not_before,
            since_at=part.since_at,
        )
        leave_out = self._left_out(part.room_id, events, terms=terms)
        self._note_seen(part.room_id, events)
        for some, only_messages in ((older, False), (told, True)):
            self.take_in(
                with_timelines({part.room_id: some}),
                work=next(iter(part.work), None),
                leave_out=leave_out,
                later=frozenset(),
                is_live=part.is_live,
                rescanned=frozenset(),
                only_messages=only_messages,
            )

    def _left_out(self, room_id: RoomID, events: list[Any], *, terms: Terms) -> frozenset[EventID]:
        """Those of a timeline's events that are not to be answered (any more)."""
        bot = self.homeserver.bot
        if not terms.has_questions:
            return event_ids(event for event in events if as_dict(event).get("sender") != bot)
        left_out: set[EventID] = set()
        if not terms.is_live:
            answers = answers_in(room_id, events, bot=bot)
            self.found(answers.open, answers.given)
            left_out |= answers.given
        if terms.not_before is not None:
            old = too_old(
                events,
                terms.not_before,
                server=self.homeserver.server_name,
                none_before=terms.since_at,
            )
            said = [e for e in old if e.get("type") in SAID and e.get("sender") != bot]
            self.old_messages.pass_over(room_id, event_ids(said))
            left_out |= event_ids(old)
        return frozenset(left_out)

    def _note_seen(self, room_id: RoomID, events: list[Any]) -> None:
        if events and self.routes.chat(room_id) is not None:
            self.lanes.note_seen(room_id, events[-1])

    async def _keep_trying(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        is_final: Callable[[Refused], bool] = lambda _: True,
    ) -> T:
        """Read until it works; only a definite no, and what is too large, is an error."""

        async def once() -> T:
            try:
                return await read()
            except Refused as e:
                if is_final(e):
                    raise
                raise _MayPass(str(e)) from e

        def failed(error: Exception, seconds: float) -> None:
            self.log.warning("Could not catch up: %s; trying again in %d s", error, seconds)

        return await retry(
            once,
            policy=READ_AGAIN,
            on=(HomeserverError,),
            unless=(Refused, TooLarge),
            failed=failed,
        )


class _MayPass(HomeserverError):
    """A refusal that is not about what was asked."""


def _is_meaningless(refusal: Refused) -> bool:
    """Whether it is the sync position that is refused; whatever else there is may pass."""
    return refusal.status == 400
