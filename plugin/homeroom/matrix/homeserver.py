"""The homeserver as Homeroom sees it: the only caller of the Matrix client-server API.

Reads give up after half a minute, so that nobody waits for an outage to end; the state of a room
sooner, because it is read again later, and the other rooms wait. Writes are worth a quarter of an
hour, because that is what default rate limits can ask for. Leaving a room is worth some seconds
of failures only, because there are more rooms to leave. What comes in is plain JSON that was
checked for its outer shape; `domain/room_state.py` reads what is inside.

Raises `Refused`, `Unavailable` or `OutcomeUnknown` (`errors.py`), nothing of mautrix's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from mautrix.api import MediaPath, Method, Path
from mautrix.errors import MatrixError
from mautrix.types import ContentURI, EventID, EventType, RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..domain.homes.room_state import STATE_TYPES
from ..domain.json_shapes import as_dict
from ..domain.sync.changed_rooms import rooms_newly_encrypted
from ..domain.sync.told_state import ToldState
from ..runtime.clock import ServerClock, now
from ..runtime.fair_turns import FairTurns
from ..storage.errors import StoreError
from . import retry_budgets
from .about import About
from .account_data import AccountData
from .aliases import Aliases
from .current_client import CurrentClient, EncryptionGone
from .encrypted_rooms import EncryptedRooms
from .encrypting_api import Sender
from .errors import OutcomeUnknown, RateLimited, Refused, TooLarge, Unavailable
from .mentions import Mentions
from .outgoing import Outgoing, OutgoingFigures, Priority
from .required import checked, text_in
from .retrying_api import Health, PatientAPI, RetryBudget
from .signs import Signs
from .sync_filters import ROOMS_WITHOUT_EVENTS, timelines

SLIDING_SYNC: Final = "_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

NOT_IN_THE_CLEAR: Final = "the room is encrypted, and this bot cannot encrypt"
STATE_AT_MOST: Final = 8 * 1024 * 1024
"""Bytes of one room's whole state; of what is larger, only what matters is asked for."""
PAGE: Final = 100
"""Events of a page of `/messages`."""
EVENTS_OF_EACH_ROOM: Final = (100, 10, 1)
"""How many are asked for, the next where that is too much to take in."""

T = TypeVar("T")

OnSent = Callable[[RoomID, EventID | None, Mapping[str, Any]], None]
"""Told of every message that was sent, in the clear; no event ID: it may have been sent."""


class Homeserver:
    """Requests in the bot's name.

    Args:
        client: maubot's; address, token, keys and state store are its own.
        concurrency: how many requests may be under way at once, besides joins and messages; asked
            each time, because it may change.
        on_sent: told of every message; None: nobody wants to know.
    """

    def __init__(
        self,
        client: CurrentClient,
        *,
        log: TraceLogger,
        concurrency: Callable[[], int],
        on_sent: OnSent | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        first = client.first
        self.bot: UserID = first.mxid
        self.told = ToldState(self.bot)
        """Lies over every read of memberships and state."""
        self.health = Health()
        self.clock = ServerClock(log=log)
        self._outgoing = Outgoing(sleep=sleep)
        self._on_sent = on_sent
        usual = FairTurns(concurrency)
        talks = FairTurns(lambda: retry_budgets.TALKS_AT_ONCE)
        parsing = asyncio.Lock()

        def api(budget: RetryBudget, slots: FairTurns = usual) -> PatientAPI:
            return PatientAPI(
                lambda: client().api,
                slots=slots,
                budget=budget,
                log=log.getChild("http"),
                health=self.health,
                clock=self.clock,
                outgoing=self._outgoing,
                parsing=parsing,
                sleep=sleep,
            )

        self._reading, self._scanning = api(retry_budgets.READING), api(retry_budgets.SCANNING)
        self._writing, self._leaving = api(retry_budgets.WRITING), api(retry_budgets.LEAVING)
        self._reading_rooms = api(retry_budgets.READING_ROOMS)
        self._joining = api(retry_budgets.JOINING, FairTurns(lambda: retry_budgets.JOINS_AT_ONCE))
        self.account_data = AccountData(
            bot=self.bot,
            reading=api(retry_budgets.ACCOUNT_DATA),
            writing=api(retry_budgets.ACCOUNT_DATA, FairTurns(lambda: 1)),
        )
        self.aliases = Aliases(reading=self._reading, writing=self._writing)
        self.about = About(bot=self.bot, reading=self._reading)
        self.signs = Signs(
            bot=self.bot,
            reading=self._reading,
            writing=self._writing,
            receipts=api(retry_budgets.BEST_EFFORT, FairTurns(lambda: 2)),
            outgoing=self._outgoing,
            on_redacted=lambda room_id: self._tell(room_id, None, {}),
        )
        self._client = client
        self._sender = Sender(
            mxid=first.mxid,
            device_id=first.device_id,
            api=api(retry_budgets.WRITING, talks),
            state_store=first.state_store,
        )
        # A message waits for that, so it does not wait for other reads.
        self._encrypted_rooms = EncryptedRooms(
            first.state_store,
            read=partial(self._state_content, api(retry_budgets.READING, talks), state_key=""),
        )
        self.mentions = Mentions(
            read=partial(self._member_names, api(retry_budgets.MEMBER_NAMES, talks))
        )

    @property
    def outgoing(self) -> OutgoingFigures:
        return self._outgoing.figures

    @property
    def server_name(self) -> str:
        """The bot's own server: the `via` of every room that it makes."""
        return self.bot.split(":", 1)[1]

    # Reading

    async def joined_rooms(self) -> frozenset[RoomID]:
        """The rooms that the bot is in, by the homeserver's list and by what was told."""
        return self.told.over_joined_rooms(await self.listed_rooms(), now=now())

    async def listed_rooms(self) -> frozenset[RoomID]:
        """The rooms that the homeserver lists as joined, which may be late."""
        answer = checked(await self._scanning.request(Method.GET, Path.v3.joined_rooms))
        rooms = answer.get("joined_rooms")
        if not isinstance(rooms, list) or not all(isinstance(room, str) for room in rooms):
            raise Unavailable("joined_rooms: the answer has no list of room IDs")
        return frozenset(RoomID(room) for room in rooms)

    async def room_state(self, room_id: RoomID) -> list[Any]:
        """The current state of a room, as raw events.

        If the bot has left the room this is the state at that moment. `TooLarge`: ask otherwise.
        """
        path = Path.v3.rooms[room_id].state
        answer = await self._reading_rooms.request(Method.GET, path, at_most=STATE_AT_MOST)
        if not isinstance(answer, list):
            raise Unavailable(f"state of {room_id}: the answer is not a list")
        return self.told.over_state(room_id, answer, types=STATE_TYPES, now=now())

    async def state_event(
        self, room_id: RoomID, event_type: str, *, state_key: str = ""
    ) -> dict[str, Any] | None:
        """One state event, whole where the homeserver can (else its content only).

        None: the homeserver says that there is none.
        """
        path = Path.v3.rooms[room_id].state[event_type][state_key]
        told = self.told.event(room_id, (event_type, state_key), now=now())
        return told or await self._find(path, {"format": "event"})

    async def state_content(
        self, room_id: RoomID, event_type: str, *, state_key: str = ""
    ) -> dict[str, Any] | None:
        """The content of one state event; None: the homeserver says that there is none."""
        return await self._state_content(self._reading, room_id, event_type, state_key=state_key)

    async def _state_content(
        self, api: PatientAPI, room_id: RoomID, event_type: str, *, state_key: str
    ) -> dict[str, Any] | None:
        path = Path.v3.rooms[room_id].state[event_type][state_key]
        told = self.told.event(room_id, (event_type, state_key), now=now())
        return checked(told["content"]) if told else await self._find(path, api=api)

    async def _find(
        self, path: Any, query: dict[str, str] | None = None, *, api: PatientAPI | None = None
    ) -> dict[str, Any] | None:
        """What a request finds; None: the homeserver says that there is nothing."""
        api = api or self._reading
        try:
            return checked(await api.request(Method.GET, path, query_params=query or {}))
        except Refused as e:
            if e.errcode == "M_NOT_FOUND":
                return None
            raise

    async def message(self, room_id: RoomID, event_id: EventID) -> dict[str, Any] | None:
        """An event with its latest edit, where it is bundled; None: there is none (any more)."""
        return await self._find(Path.v3.rooms[room_id].event[event_id])

    async def joined_members(self, room_id: RoomID) -> frozenset[UserID]:
        return frozenset(await self._member_names(self._reading, room_id))

    async def _member_names(self, api: PatientAPI, room_id: RoomID) -> dict[UserID, object]:
        """The joined members of a room, and what is in the place of their display names."""
        path = Path.v3.rooms[room_id].joined_members
        members = checked(checked(await api.request(Method.GET, path)).get("joined"))
        return {
            UserID(user_id): as_dict(member).get("display_name")
            for user_id, member in members.items()
        }

    async def ask_who_we_are(self) -> None:
        """Ask something that only needs an account, to see whether there is one."""
        await self._reading.request(Method.GET, Path.v3.account.whoami)

    async def left_rooms(self) -> frozenset[RoomID]:
        """Rooms that the bot is no longer in, and has not forgotten."""
        # One event of each room, because Synapse leaves out rooms that have nothing to tell.
        timeline = {"types": ["m.room.member"], "limit": 1}
        room = {**ROOMS_WITHOUT_EVENTS["room"], "timeline": timeline, "include_leave": True}
        filter_ = {**ROOMS_WITHOUT_EVENTS, "room": room}
        rooms = (await self.sync(filter_=filter_)).get("rooms", {})
        return frozenset(RoomID(room_id) for room_id in checked(checked(rooms).get("leave", {})))

    async def sync(
        self, *, since: str | None = None, filter_: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One `/sync` that does not wait for news.

        No two are the same: Synapse answers a repeated question with the old answer for two
        minutes, and what happened before a restart would be taken for what happened since.
        """
        filter_ = filter_ or {}
        room = {**filter_.get("room", {}), "not_rooms": [f"!{uuid4()}:homeroom.invalid"]}
        query = {
            "timeout": "0",
            "set_presence": "offline",
            "filter": json.dumps({**filter_, "room": room}),
        }
        if since is not None:
            query["since"] = since
        return checked(await self._scanning.request(Method.GET, Path.v3.sync, query_params=query))

    async def sync_since(self, position: str) -> dict[str, Any]:
        """What happened since a position, as much of each timeline as the homeserver gives.

        An answer that is not one must not look as if nothing had happened.

        Raises:
            TooLarge: it is too much, even if next to nothing of each timeline is asked for.
        """
        for limit in EVENTS_OF_EACH_ROOM:
            try:
                answer = await self.sync(since=position, filter_=timelines(limit))
            except TooLarge:
                if limit == EVENTS_OF_EACH_ROOM[-1]:
                    raise
                continue
            text_in(answer, "next_batch")
            checked(answer.get("rooms", {}))
            return answer
        raise AssertionError("there is a last one")

    async def pages_back(
        self,
        room_id: RoomID,
        *,
        at_most: int,
        start: str | None = None,
        until: str | None = None,
    ) -> AsyncIterator[tuple[list[Any], str | None]]:
        """Pages of a room's events, newest first, each with where the next starts; None: no more.

        Args:
            start: None: now.
            until: a hint: there are homeservers that take no notice of it.
        """
        path = Path.v3.rooms[room_id].messages
        for _ in range(at_most):
            query = {"dir": "b", "limit": str(PAGE), "from": start, "to": until}
            told = {key: value for key, value in query.items() if value is not None}
            request = self._reading_rooms.request(Method.GET, path, query_params=told)
            answer = checked(await request)
            events, end = answer.get("chunk"), answer.get("end")
            if not isinstance(events, list):
                raise Unavailable(f"messages of {room_id}: the answer has no list of events")
            start = end if isinstance(end, str) and events and end != start else None
            yield events, start
            if start is None:
                return

    async def sliding_sync(
        self, body: dict[str, Any], *, pos: str | None, read: Callable[[dict[str, Any]], T]
    ) -> T:
        """One request of simplified sliding sync (MSC4186); what `read` makes of the answer.

        `read` is called in a thread. The answer, which may be large, is not kept.
        """
        query = {"timeout": "0"} if pos is None else {"timeout": "0", "pos": pos}
        told: T = await self._scanning.request(
            Method.POST, SLIDING_SYNC, body, query_params=query, read=read
        )
        return told

    async def query_keys(self, user_id: UserID) -> dict[str, Any]:
        """The devices of a user and the keys that sign them, as anybody is told."""
        body: dict[str, Any] = {"device_keys": {user_id: []}}
        return checked(await self._reading.request(Method.POST, Path.v3.keys.query, body))

    # Writing

    async def until_turn(self, priority: Priority) -> None:
        """Wait, without a lock that somebody else may want, until writes are in order."""
        await self._outgoing.until_turn(priority)

    async def create_room(self, request: dict[str, Any]) -> RoomID:
        """Create a room; the request is the body of `POST /createRoom`.

        Raises:
            OutcomeUnknown: there may be a room now. Look before trying again.
        """
        answer = await self._writing.request(Method.POST, Path.v3.createRoom, request)
        try:
            room_id = RoomID(text_in(checked(answer), "room_id"))
        except Unavailable as e:
            raise OutcomeUnknown(f"createRoom: {e}") from e
        self.told.created(room_id, now=now())
        return room_id

    async def put_state(
        self,
        room_id: RoomID,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str = "",
        priority: Priority = Priority.WAITED_FOR,
    ) -> None:
        path, since = Path.v3.rooms[room_id].state[event_type][state_key], now()
        request = self._writing.request(Method.PUT, path, content, priority=priority)
        event_id = checked(await request).get("event_id")
        if isinstance(event_id, str):
            event_id, key = EventID(event_id), (event_type, state_key)
            self.told.wrote(room_id, key, content, event_id=event_id, since=since, now=now())

    async def join(self, room_id: RoomID, *, via: Sequence[str] = ()) -> None:
        # `via` is the name since version 1.12 of the spec; older homeservers know the other.
        query, since = {"via": [*via], "server_name": [*via]}, now()
        await self._joining.request(Method.POST, Path.v3.join[room_id], {}, query_params=query)
        self.told.joined(room_id, since=since, now=now())

    async def leave(
        self, room_id: RoomID, *, reason: str, priority: Priority = Priority.NOTICE
    ) -> None:
        path, since = Path.v3.rooms[room_id].leave, now()
        await self._leaving.request(Method.POST, path, {"reason": reason}, priority=priority)
        self.told.left(room_id, since=since, now=now())

    async def forget(self, room_id: RoomID) -> None:
        """Take a room that was left out of the bot's own view of the server."""
        await self._leaving.request(Method.POST, Path.v3.rooms[room_id].forget, {})

    async def upload(self, text: str, *, filename: str) -> ContentURI:
        """Upload a text file, as it is: for rooms that are not encrypted."""
        answer = await self._writing.request(
            Method.POST,
            MediaPath.v3.upload,
            text.encode(),
            headers={"Content-Type": "text/plain; charset=utf-8"},
            query_params={"filename": filename},
        )
        return ContentURI(text_in(checked(answer), "content_uri"))

    async def is_encrypted(self, room_id: RoomID) -> bool:
        """Whether the room is encrypted; whether the bot could encrypt says nothing about it."""
        return await self._encrypted_rooms.has(room_id)

    async def seems_encrypted(self, room_id: RoomID) -> bool:
        """The same, cheaper: how long a message may be hangs on it. What is sent asks for sure."""
        return await self._encrypted_rooms.seems_to_have(room_id)

    def synced(self, response: object, *, is_ours: Callable[[RoomID], bool]) -> None:
        """Take note of a response of `/sync`; they come in their order."""
        self.told.synced(response, is_ours=is_ours, now=now())
        self.mentions.synced(response)
        self._encrypted_rooms.forget_plain(rooms_newly_encrypted(response))

    async def invite(self, room_id: RoomID, user_id: UserID) -> None:
        """Invite a user; one who is invited or joined already is fine."""
        path, since = Path.v3.rooms[room_id].invite, now()
        try:
            await self._writing.request(Method.POST, path, {"user_id": user_id})
        except Refused as e:
            if e.status != 403 or not await self._is_in(room_id, user_id):
                raise
        self.told.invited(room_id, user_id, since=since, now=now())

    async def send(
        self,
        room_id: RoomID,
        content: Mapping[str, Any],
        *,
        txn_id: str,
        priority: Priority = Priority.NOTICE,
        best_effort: bool = False,
        fixed_words: bool = False,
    ) -> EventID:
        """Send a message, encrypted where the room is.

        The same `txn_id` sent twice makes one event, as long as the homeserver remembers it.
        A `best_effort` one is tried once. `fixed_words` are the same for everybody: a bot that
        never could encrypt says them in an encrypted room, because nobody would know otherwise.

        Raises:
            RateLimited: it was `best_effort`, and can be sent later.
            EncryptionGone: the room is encrypted, and the bot cannot encrypt now.
        """
        try:
            event_id = await self._send(
                room_id,
                content,
                fixed_words=fixed_words,
                txn_id=txn_id,
                priority=priority,
                budget=retry_budgets.BEST_EFFORT if best_effort else None,
            )
        except (RateLimited, Refused, EncryptionGone):
            raise  # nothing was sent
        except BaseException:
            self._tell(room_id, None, content)
            raise
        self._tell(room_id, event_id, content)
        return event_id

    async def _send(
        self,
        room_id: RoomID,
        content: Mapping[str, Any],
        *,
        fixed_words: bool,
        **how: Any,
    ) -> EventID:
        try:
            if await self.is_encrypted(room_id):
                if (machine := self._client.machine()) is not None:
                    self._sender.crypto = machine
                    return await self._sender.send_encrypted(room_id, content, **how)
                if not fixed_words:
                    raise Refused(status=0, errcode="NO_ENCRYPTION", message=NOT_IN_THE_CLEAR)
            return await self._sender.send_message_event(
                room_id,
                EventType.ROOM_MESSAGE,
                cast("Any", content),
                disable_encryption=True,
                **how,
            )
        except (MatrixError, StoreError) as e:
            # mautrix's own: no event ID in the answer, or no encryption
            raise Unavailable(f"send to {room_id}: {type(e).__name__}: {e}") from e

    def _tell(
        self,
        room_id: RoomID,
        event_id: EventID | None,
        content: Mapping[str, Any],
    ) -> None:
        if self._on_sent is not None:
            self._on_sent(room_id, event_id, content)

    async def _is_in(self, room_id: RoomID, user_id: UserID) -> bool:
        try:
            member = await self.state_content(room_id, "m.room.member", state_key=user_id)
        except Refused:
            return False
        return member is not None and member.get("membership") in {"join", "invite"}
