"""What the bot was told: what its own requests did, and what `/sync` said.

A homeserver with workers may answer a read from a worker that has not heard of it yet. So what
was told lies over every read (DESIGN.md §3, rule 8), from all ways of reading, until something
newer is told, or for `TRUSTED_FOR`. Not only until one read contains it: the next one may come
from another worker. A read that has the same event (by its ID) wins, because the event may have
been redacted since.

`/sync` may lag behind as well. What an own request did stands against older news, until `/sync`
has told it, too; and it may have done so before the request is answered.

Kept: the bot's own memberships, and of Homeroom's rooms the state that a scan looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from ..homes.room_state import STATE_TYPES
from ..json_shapes import as_dict
from ..newest import keep_newest, put_newest
from .timeline import event_id_of, events_in, has_gap, news_in, redacted_in

TRUSTED_FOR: Final = 10 * 60 * 1000
"""Milliseconds for which what was told outranks what is read: longer than workers lag."""
MAX_ROOMS: Final = 10_000
MAX_EVENTS: Final = 1_000
"""State events of one room that are kept; the newest."""
MAX_OWN: Final = 1_000
"""Own state events of which it is kept that `/sync` told them: more than are ever under way."""

StateKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Membership:
    """The bot's own membership of a room, as it was told."""

    joined: bool
    told_at: int
    by_request: bool
    """True until `/sync` has told it, too."""
    created: bool = False
    """Whether the bot created the room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """A state event that was told."""

    event: dict[str, Any]
    told_at: int
    by_request: bool


class ToldState:
    """Times are in milliseconds since 1970. Reads may come from any thread, writes from one."""

    def __init__(self, bot: UserID) -> None:
        self._bot = bot
        self._memberships: dict[RoomID, _Membership] = {}
        self._rooms: dict[RoomID, Mapping[StateKey, _Event]] = {}
        """Each mapping is replaced, never changed."""
        self._own: dict[EventID, int] = {}
        """When `/sync` told own state events."""

    # What own requests did; `since` is when they were made

    def created(self, room_id: RoomID, *, now: int) -> None:
        """The bot created a room: there are no older news of it."""
        news = _Membership(joined=True, told_at=now, by_request=False, created=True)
        put_newest(self._memberships, room_id, news, at_most=MAX_ROOMS)

    def joined(self, room_id: RoomID, *, since: int, now: int) -> None:
        """The bot joined a room."""
        self._moved(room_id, joined=True, since=since, now=now)

    def left(self, room_id: RoomID, *, since: int, now: int) -> None:
        """The bot left a room."""
        self._moved(room_id, joined=False, since=since, now=now)

    def _moved(self, room_id: RoomID, *, joined: bool, since: int, now: int) -> None:
        known = self._memberships.get(room_id)
        is_told = (
            known is not None
            and known.joined is joined
            and known.told_at >= since
            and not known.by_request
        )
        self._put(room_id, joined=joined, now=now, by_request=not is_told)

    def invited(self, room_id: RoomID, user_id: UserID, *, since: int, now: int) -> None:
        """The bot invited somebody."""
        key: StateKey = ("m.room.member", user_id)
        event = _membership_event(user_id, "invite", sender=self._bot)
        known = self._rooms.get(room_id, {}).get(key)
        if known is None or known.told_at < since or not _says_the_same(known.event, event):
            news = {key: _Event(event=event, told_at=now, by_request=False)}
            self._update(room_id, news, now=now)

    def wrote(
        self,
        room_id: RoomID,
        key: StateKey,
        content: Mapping[str, Any],
        *,
        event_id: EventID,
        since: int,
        now: int,
    ) -> None:
        """The bot put a state event; or the same again, then it is the event that was there."""
        is_told = event_id in self._own
        was_told = self._own.get(event_id, since) < since
        known = self._rooms.get(room_id, {}).get(key)
        is_older = known is not None and (known.by_request or (was_told and known.told_at < since))
        if is_told and room_id in self._rooms and not is_older:
            return  # what is known is this event, or what came after it
        event = {
            "type": key[0],
            "state_key": key[1],
            "sender": self._bot,
            "content": dict(content),
            "event_id": event_id,
        }
        news = {key: _Event(event=event, told_at=now, by_request=not is_told)}
        self._update(room_id, news, now=now)

    # What `/sync` said

    def synced(self, response: object, *, is_ours: Callable[[RoomID], bool], now: int) -> None:
        """Take note of a response of `/sync`; responses come in their order."""
        rooms = as_dict(as_dict(response).get("rooms"))
        for key, entry in as_dict(rooms.get("join")).items():
            room_id = RoomID(key)
            events = _state_events(entry)
            self._synced_join(room_id, events, now=now)
            self._synced_own(entry, now=now)
            self.redacted(room_id, redacted_in(events_in(entry)))
            if events and (is_ours(room_id) or room_id in self._rooms):
                self._synced_state(room_id, events, entry, now=now)
        for key, entry in as_dict(rooms.get("leave")).items():
            self._synced_leave(RoomID(key), entry, now=now)

    def _synced_join(
        self, room_id: RoomID, events: Mapping[StateKey, dict[str, Any]], *, now: int
    ) -> None:
        known = self._memberships.get(room_id)
        if known is not None and known.by_request:
            if known.joined:
                self._memberships[room_id] = replace(known, by_request=False)
        elif known is not None and known.created:
            pass  # there is nothing new in that the bot is in it
        elif _membership(events.get(("m.room.member", self._bot))) == "join":
            self._put(room_id, joined=True, now=now, by_request=False)

    def _synced_leave(self, room_id: RoomID, entry: object, *, now: int) -> None:
        """Not if it is from before the bot joined by a request."""
        known = self._memberships.get(room_id)
        is_older = known is not None and known.by_request and known.joined
        if not is_older or any(_is_join(event, self._bot) for event in events_in(entry)):
            self._put(room_id, joined=False, now=now, by_request=False)

    def _synced_own(self, entry: object, *, now: int) -> None:
        for event in news_in(entry):
            event_id = event_id_of(event)
            if _key(event)[0] and event.get("sender") == self._bot and event_id is not None:
                self._own.setdefault(event_id, now)
        keep_newest(self._own, at_most=MAX_OWN)

    def _synced_state(
        self,
        room_id: RoomID,
        events: Mapping[StateKey, dict[str, Any]],
        entry: object,
        *,
        now: int,
    ) -> None:
        """Not what is older than an own event that the response does not tell of.

        Unless the timeline has a gap: somebody else may have replaced that one within it. An event
        of the bot's own does not show that: it may be older (the first news of a new room have a
        gap), and if it is newer, the answer to its request is still to come.
        """
        may_be_newer = has_gap(entry)
        told_ids = {event.get("event_id") for event in events_in(entry)}
        waiting = {
            key
            for key, known in self._rooms.get(room_id, {}).items()
            if known.by_request
            and _is_recent(known.told_at, now)
            and known.event.get("event_id") not in told_ids
        }
        news = {
            key: _Event(event=event, told_at=now, by_request=False)
            for key, event in events.items()
            if key not in waiting or (may_be_newer and event["sender"] != self._bot)
        }
        self._update(room_id, news, now=now)

    def redacted(self, room_id: RoomID, event_ids: Iterable[EventID]) -> None:
        """Forget what these events said: what they say now, only a read tells."""
        gone = frozenset(event_ids)
        if gone and (known := self._rooms.get(room_id)):
            self._rooms[room_id] = {
                key: told for key, told in known.items() if told.event.get("event_id") not in gone
            }

    def forget(self) -> None:
        """The homeserver has gone back in time: nothing that it told is so any more."""
        self._memberships.clear()
        self._rooms.clear()
        self._own.clear()

    # What lies over reads

    def over_joined_rooms(self, listed: Iterable[RoomID], *, now: int) -> frozenset[RoomID]:
        """The rooms that the bot is in, by a list of the homeserver's and what was told."""
        joined: set[RoomID] = set()
        left: set[RoomID] = set()
        for room_id, membership in self._memberships.items():
            if _is_recent(membership.told_at, now):
                (joined if membership.joined else left).add(room_id)
        return frozenset(listed).union(joined).difference(left)

    def is_joined(self, room_id: RoomID, *, now: int) -> bool | None:
        """Whether the bot is in a room, as it was told; None: nothing was told lately."""
        membership = self._memberships.get(room_id)
        if membership is None or not _is_recent(membership.told_at, now):
            return None
        return membership.joined

    def is_created(self, room_id: RoomID, *, now: int) -> bool:
        """Whether the bot has just created a room, and is in it."""
        membership = self._memberships.get(room_id)
        return (
            membership is not None and membership.created and _is_recent(membership.told_at, now)
        )

    def over_state(
        self, room_id: RoomID, events: list[Any], *, types: Iterable[str], now: int
    ) -> list[Any]:
        """The state of a room, by a read of these types and what was told."""
        types = frozenset(types)
        told = {
            key: known.event
            for key, known in self._rooms.get(room_id, {}).items()
            if key[0] in types and _is_recent(known.told_at, now)
        }
        member = ("m.room.member", self._bot)
        if member[0] in types and member not in told and self.is_joined(room_id, now=now):
            told[member] = _membership_event(self._bot, "join", sender=self._bot)
        if not told:
            return events
        read = []
        for event in events:
            newer = told.get(_key(event))
            if newer is None:
                read.append(event)
            elif _says_the_same(event, newer):
                del told[_key(event)]
                read.append(event)
        return [*read, *told.values()]

    def event(self, room_id: RoomID, key: StateKey, *, now: int) -> dict[str, Any] | None:
        """One state event as it was told; None: nothing was told of it lately."""
        known = self._rooms.get(room_id, {}).get(key)
        return known.event if known and _is_recent(known.told_at, now) else None

    def _put(self, room_id: RoomID, *, joined: bool, now: int, by_request: bool) -> None:
        news = _Membership(joined=joined, told_at=now, by_request=by_request)
        put_newest(self._memberships, room_id, news, at_most=MAX_ROOMS)
        if not joined:
            self._rooms.pop(room_id, None)

    def _update(self, room_id: RoomID, news: Mapping[StateKey, _Event], *, now: int) -> None:
        """Replace what is known of a room, the newest last; forget what is too old or too much."""
        kept = {
            key: known
            for key, known in self._rooms.pop(room_id, {}).items()
            if key not in news and _is_recent(known.told_at, now)
        }
        events = dict(list({**kept, **news}.items())[-MAX_EVENTS:])
        put_newest(self._rooms, room_id, events, at_most=MAX_ROOMS)


def _is_recent(told_at: int, now: int) -> bool:
    return abs(now - told_at) < TRUSTED_FOR


def _state_events(entry: object) -> dict[StateKey, dict[str, Any]]:
    """The newest event that a response tells of each piece of a room's state."""
    events: dict[StateKey, dict[str, Any]] = {}
    for event in news_in(entry):
        key = _key(event)
        if (
            key[0] in STATE_TYPES
            and isinstance(event.get("event_id"), str)
            and isinstance(event.get("sender"), str)
            and isinstance(event.get("content"), dict)
        ):
            events[key] = event
    return events


def _key(event: object) -> StateKey:
    """What an event is the state of; ("", "") if of nothing."""
    event = as_dict(event)
    kind, state_key = event.get("type"), event.get("state_key")
    if isinstance(kind, str) and isinstance(state_key, str):
        return kind, state_key
    return "", ""


def _says_the_same(read: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether a read contains what was told: the event, or, where its ID is not known, more."""
    if "event_id" in told:
        return bool(read.get("event_id") == told["event_id"])
    after = ("join",) if _membership(told) == "join" else ("invite", "join", "ban")
    return _membership(read) in after


def _membership(event: object) -> object:
    return as_dict(as_dict(event).get("content")).get("membership")


def _is_join(event: dict[str, Any], bot: UserID) -> bool:
    return _key(event) == ("m.room.member", bot) and _membership(event) == "join"


def _membership_event(user_id: UserID, membership: str, *, sender: UserID) -> dict[str, Any]:
    return {
        "type": "m.room.member",
        "state_key": user_id,
        "sender": sender,
        "content": {"membership": membership},
    }
