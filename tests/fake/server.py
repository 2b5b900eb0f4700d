"""The fake homeserver: one world behind one HTTP door on loopback.

    async with FakeHomeserver() as hs:
        alice = hs.user("alice")
        room_id = alice.create_room(name="Home", invite=["@bot:fake.test"])
        …  # the code under test talks to hs.url with hs.user("bot").token
        assert hs.joined("bot") == {room_id}

Tests act through `User` objects or over HTTP, as they like; both go through the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType

from aiohttp import web
from mautrix.types import RoomID, UserID
from typing_extensions import Self

from .call import Service
from .clock import Clock
from .errors import MatrixError
from .events import Event, Json
from .faults import Action, Fault, Faults, Match, Recorded
from .http import Door
from .lag import KINDS, Lag
from .polling import SLIDING_SYNC
from .record import Backup
from .rooms import Room
from .sliding import Connections
from .switches import Switches
from .transactions import Transactions
from .user import User
from .world import World

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class RoomSnapshot:
    """A room as it is now, for comparing with a model."""

    room_id: RoomID
    version: str
    creator: UserID
    created_ts: int
    """Milliseconds."""
    room_type: str | None
    members: Mapping[UserID, str]
    """User to membership, whatever it is."""
    state: Mapping[tuple[str, str], Json]
    """(Type, state key) to content, with the member events."""

    @property
    def joined(self) -> frozenset[UserID]:
        """The joined users."""
        return frozenset(user for user, membership in self.members.items() if membership == "join")


class FakeHomeserver:
    """Starts and stops the server, and is what a test holds in its hand."""

    def __init__(
        self,
        *,
        server_name: str = "fake.test",
        default_room_version: str = "12",
        sliding_sync: bool = True,
        longest_poll: float | None = None,
        remember_syncs: bool = False,
    ) -> None:
        """Make a server with nobody on it; it listens inside `async with`, or after `start`.

        `longest_poll` caps the real seconds of a long poll. `remember_syncs` gives an identical
        `/sync` the same, by then stale, answer, as Synapse does for two minutes.
        """
        self.world = World(server_name, default_room_version=default_room_version)
        self.service = Service(
            self.world,
            unstable_features={"org.matrix.msc2432": True, SLIDING_SYNC: sliding_sync},
            longest_poll=longest_poll,
            remember_syncs=remember_syncs,
        )
        self.world.listeners.append(self._note_change)
        self.faults = Faults()
        self.requests: list[Recorded] = []
        self._runner: web.AppRunner | None = None
        self._port = 0
        self._transactions_then: dict[Backup, dict[tuple[str, ...], Json]] = {}

    def _note_change(self) -> None:
        for lag in self.service.lags:
            lag.note(self.world.stream)

    # Running

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.faults.clear()
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port it had before if there was one."""
        runner = web.AppRunner(
            Door(self.service, self.faults, self.requests).app(),
            access_log=None,
            shutdown_timeout=0,
            handler_cancellation=True,
        )
        await runner.setup()
        site = web.TCPSite(runner, LOOPBACK, self._port)
        await site.start()
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Drop every connection and refuse new ones; what is known stays."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if runner.server is not None:
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await runner.cleanup()

    async def restart(self) -> None:
        """Drop every connection and listen again on the same port, with the same rooms."""
        await self.stop()
        self.service.syncs.clear()
        await self.start()

    @property
    def transactions(self) -> Transactions:
        """What is remembered of transaction IDs."""
        return self.service.transactions

    @property
    def switches(self) -> Switches:
        """How this server differs from Synapse."""
        return self.service.switches

    @property
    def url(self) -> str:
        """The base URL of the client-server API."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def server_name(self) -> str:
        """The part of a user ID after the colon."""
        return self.world.server_name

    @property
    def clock(self) -> Clock:
        """The server's time, which a test may move."""
        return self.world.clock

    def backup(self) -> Backup:
        """Keep what the server knows now; transaction IDs belong to it."""
        backup = self.world.backup()
        self._transactions_then[backup] = dict(self.transactions.answers)
        return backup

    def restore(self, backup: Backup) -> None:
        """Put a backup in place of what the server knows; clients find it so, without a word.

        Positions that they hold may be from the future now: `switches.future_since`.
        """
        self.transactions.answers = dict(self._transactions_then[backup])
        self.service.syncs.clear()
        self.service.connections = Connections()
        self.world.restore(backup)

    def lag(
        self,
        *,
        seconds: float | None = None,
        reads: int | None = None,
        kinds: Iterable[str] = KINDS,
        every: int = 1,
    ) -> Lag:
        """Have reads answered by a worker that hears of changes late: see `lag`."""
        if seconds is not None and reads is not None:
            raise ValueError("late by seconds or by reads, not by both")
        lag = Lag(self.world.stream, seconds, reads, frozenset(kinds), every)
        self.service.lags.append(lag)
        return lag

    def branch(self, room_id: str, *, beside: tuple[str, str]) -> None:
        """Have the next event of a room made at the same time as a piece of its state, not after.

        By `/sync`, in Synapse, too, the room's state is then that of this event, for which the
        other one has not happened. Sliding sync and what asks for the state know both.
        """
        room = self.world.rooms[room_id]
        room.branch = room.state[beside].stream - 1

    def no_lag(self) -> None:
        """Have every worker up to date, from now on."""
        self.service.lags.clear()

    # People and rooms

    def user(self, name: str) -> User:
        """Give a local user, made if need be; the password is `password`."""
        account = self.world.register(name)
        sessions = self.world.sessions.values()
        own = next((s for s in sessions if s.user_id == account.user_id), None)
        return User(self.world, own or self.world.new_session(account))

    def sign_out(self, user: str, *, softly: bool = False) -> None:
        """End all sessions of a user: their tokens are unknown; `user` gives a new one."""
        self.world.sign_out(self.world.user_id(user), softly=softly)

    def refuse(self, user: str, refusal: MatrixError | None) -> None:
        """Refuse whatever this account asks for (`M_USER_LOCKED` …); None is no longer."""
        self.world.accounts[self.world.user_id(user)].refusal = refusal

    @property
    def rooms(self) -> dict[RoomID, RoomSnapshot]:
        """All rooms as they are now, in the order in which they were made."""
        return {RoomID(room_id): _snapshot(room) for room_id, room in self.world.rooms.items()}

    def room(self, room_id: str) -> RoomSnapshot:
        """One room as it is now."""
        return _snapshot(self.world.rooms[room_id])

    def joined(self, user: str) -> set[RoomID]:
        """The rooms a user (ID or local part) is joined to."""
        return self._rooms_with(user, "join")

    def invited(self, user: str) -> set[RoomID]:
        """The rooms a user (ID or local part) is invited to."""
        return self._rooms_with(user, "invite")

    def typing(self, room_id: str) -> set[UserID]:
        """Who is typing."""
        return {UserID(user_id) for user_id in self.world.rooms[room_id].typing}

    def timeline(self, room_id: str) -> list[Event]:
        """Everything that happened in a room, oldest first."""
        return list(self.world.rooms[room_id].timeline)

    def force_state(
        self, room_id: str, type_: str, content: Json, *, sender: str, state_key: str = ""
    ) -> Event:
        """Put a state event into a room past every rule."""
        who = self.world.user_id(sender)
        return self.world.force(room_id, type_, content, sender=who, state_key=state_key)

    def _rooms_with(self, user: str, membership: str) -> set[RoomID]:
        return set(map(RoomID, self.world.rooms_with(self.world.user_id(user), membership)))

    # Faults and records

    def fail(
        self,
        match: Match | str,
        action: Action,
        *,
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """Answer some requests with a fault; a string is a regular expression for the path.

        The first `skip` matching requests are let through, the next `times` (None: all) are not.
        """
        if isinstance(match, str):
            match = Match(path=match)
        fault = Fault(match, action, skip=skip, times=times)
        self.faults.rules.append(fault)
        return fault

    @property
    def writes(self) -> list[Recorded]:
        """The requests so far that could have changed a room."""
        return [request for request in self.requests if request.changes_rooms]


def _snapshot(room: Room) -> RoomSnapshot:
    create = room.create
    return RoomSnapshot(
        room_id=RoomID(room.room_id),
        version=room.version.version,
        creator=UserID(create.sender),
        created_ts=create.origin_server_ts,
        room_type=create.content.get("type"),
        members={
            UserID(key[1]): event.membership
            for key, event in room.state.items()
            if key[0] == "m.room.member"
        },
        state={key: event.content for key, event in room.state.items()},
    )
