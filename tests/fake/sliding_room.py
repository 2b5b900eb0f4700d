"""One room in a response of sliding sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .accounts import Session
from .events import Event, Json, StateKey, stripped, sync_view
from .rooms import Room
from .tokens import room_token, stream_token
from .world import World

_BUMPS = (
    "m.room.create",
    "m.room.message",
    "m.room.encrypted",
    "m.sticker",
    "m.call.invite",
    "m.poll.start",
    "m.beacon_info",
)
_HEROES = 5


@dataclass(frozen=True)
class Wanted:
    """What to tell about a room."""

    timeline_limit: int
    state: frozenset[StateKey]

    def __or__(self, other: Wanted) -> Wanted:
        limit = max(self.timeline_limit, other.timeline_limit)
        return Wanted(limit, self.state | other.state)

    def matches(self, key: StateKey, *, me: str) -> bool:
        """Tell whether a state event is asked for; `$LAZY` is looked after elsewhere."""
        type_, state_key = key
        for wanted_type, wanted_key in self.state:
            if wanted_type == "*":
                return True  # whatever the key: Synapse cannot filter by key alone
            if wanted_type == type_ and wanted_key in ("*", state_key):
                return True
            if wanted_type == type_ and wanted_key == "$ME" and state_key == me:
                return True
        return False


def direct_rooms(world: World, user_id: str) -> set[str]:
    content, _ = world.accounts[user_id].account_data.get("m.direct", ({}, 0))
    return {room_id for rooms in content.values() for room_id in rooms}


@dataclass
class RoomView:
    world: World
    session: Session
    room: Room
    wanted: Wanted
    after: int | None
    since: int | None
    known: Wanted | None

    def view(self) -> Json | None:
        view: Json = {"notification_count": 0, "highlight_count": 0}
        timeline, part = self._timeline()
        required = self._required_state(timeline)
        info = self._info()
        if not (self.after is None or info or required or timeline or self.invited):
            return None
        bump = self._bump(timeline, always="limited" not in part or part["limited"])
        if bump is not None:
            view["bump_stamp"] = bump
        view.update(info)
        if self.after is None:
            view["initial"] = True
        if self._expands:
            view["unstable_expanded_timeline"] = True
        if required:
            view["required_state"] = [self._event(event) for event in required]
        view.update(part)
        if self.room.room_id in direct_rooms(self.world, self.me):
            view["is_dm"] = True
        if self.invited:
            view["invite_state"] = [*self.member.invite_room_state, stripped(self.member)]
        return view

    @property
    def me(self) -> str:
        return self.session.user_id

    @property
    def member(self) -> Event:
        return self.room.state["m.room.member", self.me]

    @property
    def invited(self) -> bool:
        return self.member.membership == "invite"

    @property
    def end(self) -> int:
        """How far the user may see."""
        return self.world.stream if self.member.membership == "join" else self.member.stream

    @property
    def _expands(self) -> bool:
        """Whether more timeline is asked for than before."""
        return (
            self.since is not None
            and self.known is not None
            and self.known.timeline_limit < self.wanted.timeline_limit
        )

    def _changed(self) -> list[Event]:
        """Give the newest event of each state key changed since it was last told."""
        if self.after is None or self.invited:
            return []
        events = self.room.between(self.after, self.end)
        return list({e.key: e for e in events if e.state_key is not None}.values())

    def _timeline(self) -> tuple[list[Event], Json]:
        limit = self.wanted.timeline_limit
        if limit <= 0 or self.invited:
            return [], {}
        floor = 0 if self.after is None or self._expands else self.after
        events = self.room.between(floor, self.end)
        limited = len(events) > limit
        events = events[-limit:]
        first = events[0] if events else None
        prev = room_token(first.depth - 1, first.stream - 1) if first else stream_token(self.end)
        away = self.member.membership != "join"
        shown = [e for e in events if self.room.visible_to(self.me, e, peeking=away)]
        live = 0 if self.since is None else sum(event.stream > self.since for event in shown)
        part: Json = {"limited": limited, "prev_batch": prev, "num_live": live}
        if shown:
            part = {"timeline": [self._timeline_event(event) for event in shown], **part}
        return shown, part

    def _required_state(self, timeline: list[Event]) -> list[Event]:
        if self.invited:
            return []
        state = self.room.state_at(self.end)
        lazy = self._lazy_members(timeline)
        asked = [
            event
            for key, event in state.items()
            if self.wanted.matches(key, me=self.me) or key in lazy
        ]
        if self.after is None:
            return asked
        changed = set(self._changed())
        known = self.known
        return [
            event
            for event in asked
            if event in changed or (known is not None and not self._was_asked(known, event))
        ]

    def _was_asked(self, known: Wanted, event: Event) -> bool:
        lazy = ("m.room.member", "$LAZY") in known.state and event.type == "m.room.member"
        return lazy or known.matches(event.key, me=self.me)

    def _lazy_members(self, timeline: list[Event]) -> set[StateKey]:
        if ("m.room.member", "$LAZY") not in self.wanted.state:
            return set()
        people = {event.sender for event in timeline}
        people |= {e.state_key for e in timeline if e.type == "m.room.member" and e.state_key}
        people |= {
            e.state_key for e in self._changed() if e.type == "m.room.member" and e.state_key
        }
        return {("m.room.member", user_id) for user_id in people}

    def _info(self) -> Json:
        """Tell name, avatar, heroes and counts where they are new."""
        changed = {event.key for event in self._changed()}
        first = self.after is None
        people = first or any(type_ == "m.room.member" for type_, _ in changed)
        state = self.room.state_at(self.end)
        info: Json = {}
        if people and self.member.membership == "join":
            info["joined_count"] = self._count(state, "join")
            info["invited_count"] = self._count(state, "invite")
        name = state.get(("m.room.name", ""))
        named = name.content.get("name") if name else None
        if named and (first or ("m.room.name", "") in changed):
            info["name"] = named
        avatar = state.get(("m.room.avatar", ""))
        if avatar and avatar.content.get("url") and (first or avatar.key in changed):
            info["avatar"] = avatar.content["url"]
        if people and "name" not in info and self.member.membership == "join":
            heroes = self._heroes(state)
            if heroes:
                info["heroes"] = heroes
        return info

    def _heroes(self, state: Mapping[StateKey, Event]) -> list[Json]:
        members = [e for k, e in state.items() if k[0] == "m.room.member" and k[1] != self.me]
        for wanted in (("join", "invite"), ("leave", "ban")):
            found = [e for membership in wanted for e in members if e.membership == membership]
            if found:
                return [self._hero(event) for event in found[:_HEROES]]
        return []

    @staticmethod
    def _hero(event: Event) -> Json:
        hero: Json = {"user_id": event.state_key}
        for name in ("displayname", "avatar_url"):
            if isinstance(event.content.get(name), str):
                hero[name] = event.content[name]
        return hero

    @staticmethod
    def _count(state: Mapping[StateKey, Event], membership: str) -> int:
        return sum(
            k[0] == "m.room.member" and e.membership == membership for k, e in state.items()
        )

    def _bump(self, timeline: list[Event], *, always: Any) -> int | None:
        if self.member.membership != "join":
            return self.member.stream
        always = always or self.after is None
        events = self.room.timeline if always else timeline
        found = [event.stream for event in events if event.type in _BUMPS]
        if found:
            return found[-1]
        return self.member.stream if always else None

    def _event(self, event: Event) -> Json:
        return sync_view(event, now=self.world.clock.read(), viewer=self.session.viewer)

    def _timeline_event(self, event: Event) -> Json:
        return sync_view(
            event,
            now=self.world.clock.read(),
            viewer=self.session.viewer,
            membership=self.room.membership(self.me, at=event.stream) or "leave",
        )
