"""One request on its way through: what an endpoint works on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .accounts import Session
from .errors import MatrixError, bad_request
from .events import Event, Json, StateKey, room_view
from .lag import Lag
from .rooms import Room
from .sliding import Connections
from .switches import Switches
from .transactions import Transactions
from .world import World


@dataclass
class Service:
    """What the endpoints work on."""

    world: World
    unstable_features: dict[str, bool]
    longest_poll: float | None
    """Seconds; None lets a long poll take as long as it asks for."""
    remember_syncs: bool
    connections: Connections = field(default_factory=Connections)
    transactions: Transactions = field(default_factory=Transactions)
    switches: Switches = field(default_factory=Switches)
    lags: list[Lag] = field(default_factory=list)
    syncs: dict[tuple[str, ...], Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request on its way through."""

    service: Service
    params: Mapping[str, str]
    query: Mapping[str, str]
    path: str
    raw_body: bytes
    known_session: Session | None
    token: str | None

    @property
    def world(self) -> World:
        return self.service.world

    @property
    def session(self) -> Session:
        """Give the session; without one the request is refused."""
        return self.known_session or self.world.session(self.token)

    @property
    def me(self) -> str:
        return self.session.user_id

    @property
    def room_id(self) -> str:
        return self.params["room_id"]

    @property
    def transaction(self) -> tuple[str, str]:
        return self.session.device_id, self.params["txn"]

    def as_of(self, kind: str, thing: str, changes: Iterable[Event]) -> int | None:
        """Give the stream position as of which something is read; None is now."""
        lag = next((lag for lag in self.service.lags if lag.takes(kind)), None)
        if lag is None:
            return None
        streams = (event.stream for event in changes)
        return lag.as_of((kind, thing), streams, now=self.world.stream)

    def room_state(self, kind: str) -> Mapping[StateKey, Event]:
        """Give the state of the room that the caller may read, maybe not the newest."""
        room = self.world.rooms.get(self.room_id)
        changes = (e for events in room.history.values() for e in events) if room else ()
        at = self.as_of(kind, self.room_id, changes)
        return self.world.readable_state(self.me, self.room_id, at=at)

    def body(self, *, optional: bool = False) -> Json:
        """Give the JSON object in the body."""
        if not self.raw_body and optional:
            return {}
        try:
            value = json.loads(self.raw_body)
        except ValueError as error:
            raise MatrixError(400, "M_NOT_JSON", "Content not JSON.") from error
        if not isinstance(value, dict):
            raise bad_request("Content must be a JSON object.", "M_BAD_JSON")
        return value

    def number(self, name: str, default: int) -> int:
        """Give an integer of the query."""
        try:
            return int(self.query.get(name, default))
        except ValueError as error:
            text = f"Query parameter b'{name}' must be an integer"
            raise bad_request(text, "M_INVALID_PARAM") from error

    def view(self, event: Event) -> Json:
        """Show a state event as the room endpoints do."""
        return room_view(event, now=self.world.clock.read(), viewer=self.session.viewer)

    def timeline_view(self, room: Room, event: Event) -> Json:
        """Show a timeline event as the room endpoints do."""
        return room_view(
            event,
            now=self.world.clock.read(),
            viewer=self.session.viewer,
            membership=room.membership(self.me, at=event.stream) or "leave",
        )
