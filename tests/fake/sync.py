"""`GET /sync`: what changed for a user since a position, as Synapse 1.163 says it.

Follows `synapse/handlers/sync.py`, its surprises included: a room without anything to say is
left out even from a first sync; rooms the user was kicked or banned from are always listed there;
a state change that the timeline filter drops is lost unless the timeline is `limited` or another
event of the room passes; `limit: 0` gives one event in an incremental sync.

Not here: presence, to-device messages, device lists, push rules, unread counts, lazy loading.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .accounts import Session
from .events import Event, Json, StateKey, stripped, sync_view
from .filters import SyncFilter
from .rooms import Room
from .tokens import stream_token
from .world import World

_MAX_LOADS = 5
_MIN_LOAD = 10


@dataclass(frozen=True)
class Answer:
    """A sync response, and whether it says anything at all."""

    body: Json
    has_news: bool


@dataclass(frozen=True)
class _Batch:
    """A piece of a timeline."""

    events: list[Event]
    limited: bool
    start: int
    """The stream position before the first event."""


@dataclass
class _Entry:
    """A joined or left room that may have to be reported."""

    room: Room
    joined: bool
    full: bool
    since: int | None
    upto: int
    """Where to look for more events, backwards."""
    end: int
    events: list[Event] | None
    """What happened since; None is unknown."""
    newly_joined: bool = False


@dataclass
class _Rooms:
    entries: list[_Entry] = field(default_factory=list)
    invited: list[Event] = field(default_factory=list)


def sync(
    world: World,
    session: Session,
    filter_: SyncFilter,
    *,
    since: int | None = None,
    full_state: bool = False,
) -> Answer:
    """Build the response from `since` (None is the beginning) up to now."""
    builder = _Builder(world, session, filter_, since, full_state)
    return builder.answer()


@dataclass
class _Builder:
    world: World
    session: Session
    filter: SyncFilter
    since: int | None
    full_state: bool

    def answer(self) -> Answer:
        body: Json = {
            "next_batch": stream_token(self.world.stream),
            "device_one_time_keys_count": {"signed_curve25519": 0},
            "device_unused_fallback_key_types": [],
        }
        account_data = self._account_data()
        if account_data:
            body["account_data"] = {"events": account_data}
        rooms = {} if self.filter.rooms.blocks_all else self._rooms()
        if rooms:
            body["rooms"] = rooms
        return Answer(body, bool(account_data or rooms))

    def _rooms(self) -> Json:
        found = self._all_rooms() if self.since is None else self._changed_rooms(self.since)
        join: Json = {}
        leave: Json = {}
        for entry in found.entries:
            report = self._report(entry)
            if report is not None:
                (join if entry.joined else leave)[entry.room.room_id] = report
        invite = {
            event.room_id: {
                "invite_state": {"events": [*event.invite_room_state, stripped(event)]}
            }
            for event in found.invited
        }
        sections = {"join": join, "invite": invite, "leave": leave}
        return {name: section for name, section in sections.items() if section}

    def _all_rooms(self) -> _Rooms:
        now = self.world.stream
        found = _Rooms()
        me = self.session.user_id
        for room_id, member in self.world.listed_memberships(me).items():
            room = self.world.rooms[room_id]
            if member.membership == "join":
                found.entries.append(_Entry(room, True, True, None, now, now, None))
            elif member.membership == "invite":
                found.invited.append(member)
            elif member.membership == "ban" or member.sender != me or self.filter.include_leave:
                end = member.stream
                found.entries.append(_Entry(room, False, True, None, end, end, None))
        return found

    def _changed_rooms(self, since: int) -> _Rooms:
        found = _Rooms()
        me = self.session.user_id
        for room_id, member in self.world.memberships.get(me, {}).items():
            room = self.world.rooms[room_id]
            joined = member.membership == "join"
            newly_joined = False
            if member.stream > since:
                newly_joined = self._membership_changes(room, since, found)
            if joined:
                found.entries.append(self._joined_entry(room, since, newly_joined=newly_joined))
        return found

    def _membership_changes(self, room: Room, since: int, found: _Rooms) -> bool:
        """File the user's own comings and goings; tell whether they have newly joined."""
        me = self.session.user_id
        history = room.history["m.room.member", me]
        changes = [event for event in history if event.stream > since]
        away = [event for event in changes if event.membership != "join"]
        joined = changes[-1].membership == "join"
        if joined and away:
            return True
        was_joined = room.membership(me, at=since) == "join"
        newly_joined = not was_joined and len(away) < len(changes)
        if joined:
            return newly_joined
        if away[-1].membership == "invite":
            found.invited.append(away[-1])
        leaves = [event for event in away if event.membership in ("leave", "ban")]
        if leaves:
            end = leaves[-1].stream
            found.entries.append(
                _Entry(room, False, newly_joined, since, end, end, None, newly_joined)
            )
        return False

    def _joined_entry(self, room: Room, since: int, *, newly_joined: bool) -> _Entry:
        now = self.world.stream
        events = room.between(since, now)[-(self.filter.timeline.limit + 1) :]
        upto = events[0].stream - 1 if events else since
        start = None if newly_joined and events else since
        return _Entry(room, True, newly_joined, start, upto, now, events, newly_joined)

    def _report(self, entry: _Entry) -> Json | None:
        """Say what there is to say about a room; None is nothing."""
        full = entry.full or self.full_state
        account_data = self._room_account_data(entry.room, full=full)
        ephemeral = self._ephemeral(entry.room, full=full) if entry.joined else []
        something = bool(self.full_state or account_data or ephemeral)
        if not something and not full and entry.events == []:
            return None
        batch = self._load(entry)
        if not something and not full and not batch.events:
            return None
        state = self.filter.keep_state(self._state(entry, batch, full=full))
        if not (something or batch.events or state):
            return None
        report: Json = {
            "timeline": {
                "events": [self._timeline_event(entry.room, event) for event in batch.events],
                "prev_batch": stream_token(batch.start),
                "limited": batch.limited,
            },
            "state": {"events": [self._event(event) for event in state]},
            "account_data": {"events": account_data},
        }
        if entry.joined:
            report["ephemeral"] = {"events": ephemeral}
            report["unread_notifications"] = {"notification_count": 0, "highlight_count": 0}
            report["summary"] = {}
        return report

    def _load(self, entry: _Entry) -> _Batch:
        """Collect the timeline: what happened since, or else the newest events that pass."""
        limit = self.filter.timeline.limit
        limited = entry.events is None or entry.newly_joined or limit < len(entry.events)
        events = self._shown(entry.room, entry.events or [])
        if not limited or self.filter.timeline.blocks_all:
            start = events[0].stream - 1 if events else entry.upto
            return _Batch(events, limited=False, start=start)
        floor = 0 if entry.since is None or entry.newly_joined else entry.since
        chunk = max(2 * limit, _MIN_LOAD)
        upto = entry.upto
        for _ in range(_MAX_LOADS):
            if not limited or len(events) >= limit:
                break
            older = entry.room.between(floor, upto)
            limited = len(older) > chunk
            older = older[-chunk:]
            upto = older[0].stream - 1 if older else upto
            events = self._shown(entry.room, older) + events
        if len(events) > limit:
            limited = True
            events = events[-limit:]  # with a limit of 0 these are all of them, as in Synapse
            upto = events[0].stream - 1
        return _Batch(events, limited=limited or entry.newly_joined, start=upto)

    def _shown(self, room: Room, events: list[Event]) -> list[Event]:
        me = self.session.user_id
        return [
            event
            for event in self.filter.keep_timeline(events)
            if room.visible_to(me, event) or self._is_current(room, event)
        ]

    @staticmethod
    def _is_current(room: Room, event: Event) -> bool:
        return event.state_key is not None and room.state.get(event.key) is event

    def _state(self, entry: _Entry, batch: _Batch, *, full: bool) -> list[Event]:
        """Give the state that the timeline does not tell."""
        room = entry.room
        since = entry.since
        before: dict[StateKey, Event] = {}
        if not full:
            assert since is not None
            if not batch.limited and self._is_gapless(room, since, batch):
                return []
            before = room.state_by(since)
        told = {e.key: e for e in batch.events if e.state_key is not None}
        start = batch.events[0].stream if batch.events else entry.end
        known = {*before.values(), *told.values()}
        at_start = room.state_by(start)
        at_end = room.state_by(entry.end)
        found = {e.event_id: e for e in (*at_start.values(), *at_end.values()) if e not in known}
        return list(found.values())

    @staticmethod
    def _is_gapless(room: Room, since: int, batch: _Batch) -> bool:
        """Tell whether each event of the batch follows the one before it, from `since` on."""
        depth = len(room.timeline) - len(room.between(since, room.last_stream))
        expected = range(depth + 1, depth + 1 + len(batch.events))
        return [event.depth for event in batch.events] == list(expected) and not any(
            event.branch for event in batch.events
        )

    def _event(self, event: Event) -> Json:
        return sync_view(event, now=self.world.clock.read(), viewer=self.session.viewer)

    def _timeline_event(self, room: Room, event: Event) -> Json:
        membership = room.membership(self.session.user_id, at=event.stream) or "leave"
        return sync_view(
            event,
            now=self.world.clock.read(),
            viewer=self.session.viewer,
            membership=membership,
        )

    def _account_data(self) -> list[Json]:
        account = self.world.accounts[self.session.user_id]
        since = 0 if self.since is None or self.full_state else self.since
        return [
            {"type": type_, "content": content}
            for type_, (content, stream) in account.account_data.items()
            if stream > since and self.filter.account_data.passes(type_=type_)
        ]

    def _room_account_data(self, room: Room, *, full: bool) -> list[Json]:
        account = self.world.accounts[self.session.user_id]
        since = 0 if self.since is None or full else self.since
        return [
            {"type": type_, "content": content}
            for type_, (content, stream) in account.room_account_data.get(room.room_id, {}).items()
            if stream > since
            and self.filter.rooms.passes(type_=type_, room_id=room.room_id)
            and self.filter.room_account_data.passes(type_=type_, room_id=room.room_id)
        ]

    def _ephemeral(self, room: Room, *, full: bool) -> list[Json]:
        since = 0 if self.since is None or full else self.since
        found: list[Json] = []
        if room.typing_stream > since and (room.typing or since):
            found.append({"type": "m.typing", "content": {"user_ids": sorted(room.typing)}})
        receipts: Json = {}
        for (user_id, kind), (event_id, ts, stream) in room.receipts.items():
            if stream > since:
                receipts.setdefault(event_id, {}).setdefault(kind, {})[user_id] = {"ts": ts}
        if receipts:
            found.append({"type": "m.receipt", "content": receipts})
        return [
            edu
            for edu in found
            if self.filter.rooms.passes(type_=edu["type"], room_id=room.room_id)
            and self.filter.ephemeral.passes(type_=edu["type"], room_id=room.room_id)
        ]
