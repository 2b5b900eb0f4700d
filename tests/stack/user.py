"""A person with a Matrix client.

A background task long-polls `/sync`, as a client does; every `wait_for` is answered by what that
brings, never by sleeping. What the person sees (`rooms`, `invites`, `messages`) is what /sync
has told so far; `state` asks the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from typing_extensions import Self

from .http import ApiError, Json, JsonApi
from .synapse import Account

T = TypeVar("T")
Event = dict[str, Any]
StateKey = tuple[str, str]

_CLIENT = "/_matrix/client/v3"
_FILTER = json.dumps({"room": {"timeline": {"limit": 1000}}, "presence": {"types": []}})
_POLL_MILLISECONDS = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as a client shows it: `body` is that of its last edit."""

    event_id: str
    sender: str
    msgtype: str
    body: str
    edited: bool = False
    html: str | None = None
    """None: it has no formatting."""


@dataclass(slots=True)
class _Room:
    state: dict[StateKey, Event] = field(default_factory=dict)
    timeline: dict[str, Event] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)


class MatrixUser:
    """A logged-in person; `async with` starts and ends their client."""

    def __init__(self, account: Account, *, homeserver: str) -> None:
        self.account = account
        self.user_id = account.user_id
        self.api = JsonApi(base_url=homeserver, token=account.access_token)
        self._rooms: dict[str, _Room] = {}
        self._invites: dict[str, dict[StateKey, Event]] = {}
        self._since: str | None = None
        self._news = asyncio.Event()
        self._transactions = itertools.count()
        self._syncing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"MatrixUser({self.user_id})"

    async def __aenter__(self) -> Self:
        await self._sync_once(timeout=0)
        self._syncing = asyncio.create_task(self._sync_forever(), name=f"sync {self.user_id}")
        # Whoever waits for news must learn that there will be none.
        self._syncing.add_done_callback(lambda _: self._news.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing

    # What the person sees

    def rooms(self) -> set[str]:
        """Return the rooms the person is in, Spaces among them."""
        return set(self._rooms)

    def invites(self) -> dict[str, dict[StateKey, Event]]:
        """Return the pending invites by room ID, with what they show of the room."""
        return dict(self._invites)

    def invites_by_name(self) -> dict[str, str]:
        """Return the room IDs of pending invites by the name that they show."""
        return {_name(state): room_id for room_id, state in self._invites.items()}

    def timeline(self, room_id: str) -> list[Event]:
        """Return the raw events of a room that came since the client started."""
        return list(self._room(room_id).timeline.values())

    def typing(self, room_id: str) -> list[str]:
        """Return who is typing in a room."""
        return list(self._room(room_id).typing)

    def messages(
        self, room_id: str, *, sender: str | None = None, after: str | None = None
    ) -> list[Message]:
        """Return a room's messages, of one sender, after one event; edits are applied."""
        events = self.timeline(room_id)
        if after is not None:
            ids = [event["event_id"] for event in events]
            events = events[ids.index(after) + 1 :] if after in ids else []
        messages = _messages(events)
        return [message for message in messages if sender in (None, message.sender)]

    async def state(self, room_id: str) -> dict[StateKey, Event]:
        """Ask the server for a room's state, whole events by type and state key."""
        events = await self.api.request("GET", f"{_CLIENT}/rooms/{quote(room_id)}/state")
        return {(event["type"], event["state_key"]): event for event in events}

    async def space_children(self, space_id: str) -> list[str]:
        """Ask the server for a Space's children, in the order that clients show them."""
        state = await self.state(space_id)
        links = [
            (event["content"].get("order", "~"), event["origin_server_ts"], key)
            for (type_, key), event in state.items()
            if type_ == "m.space.child" and event["content"].get("via")
        ]
        return [room_id for _, _, room_id in sorted(links)]

    async def joined_rooms(self) -> set[str]:
        """Ask the server for the rooms the person is in."""
        return set((await self.api.request("GET", f"{_CLIENT}/joined_rooms"))["joined_rooms"])

    async def joined_members(self, room_id: str) -> set[str]:
        """Ask the server for the members of a room."""
        path = f"{_CLIENT}/rooms/{quote(room_id)}/joined_members"
        return set((await self.api.request("GET", path))["joined"])

    # What the person does

    async def start_dm(self, user_id: str, *, name: str | None = None) -> str:
        """Open a direct room with somebody, who is invited to it."""
        content = {"preset": "trusted_private_chat", "is_direct": True, "invite": [user_id]}
        return await self.create_room(**content, **({"name": name} if name else {}))

    async def create_room(self, **content: Any) -> str:
        """Create a room (the body of `createRoom`) and wait until the client shows it."""
        answer = await self.api.request("POST", f"{_CLIENT}/createRoom", content)
        room_id: str = answer["room_id"]
        await self.wait_for_room(room_id)
        return room_id

    async def join(self, room_id: str) -> None:
        """Join a room and wait until the client shows it."""
        await self.api.request("POST", f"{_CLIENT}/join/{quote(room_id)}", {})
        await self.wait_for_room(room_id)

    async def leave(self, room_id: str) -> None:
        """Leave a room, or decline an invite."""
        await self._in_room(room_id, "leave", {})
        await self.wait_for(
            f"{room_id} is gone",
            lambda: room_id not in self._rooms and room_id not in self._invites,
        )

    async def forget(self, room_id: str) -> None:
        await self._in_room(room_id, "forget", {})

    async def invite(self, room_id: str, user_id: str) -> None:
        await self._in_room(room_id, "invite", {"user_id": user_id})

    async def kick(self, room_id: str, user_id: str, *, reason: str = "") -> None:
        await self._in_room(room_id, "kick", {"user_id": user_id, "reason": reason})

    async def upgrade_room(self, room_id: str, *, version: str) -> str:
        """Upgrade a room, return the one that replaces it."""
        answer = await self._in_room(room_id, "upgrade", {"new_version": version})
        replacement: str = answer["replacement_room"]
        return replacement

    async def send_text(self, room_id: str, text: str, **content: Any) -> str:
        """Send a text message, return its event ID."""
        return await self.send(room_id, {"msgtype": "m.text", "body": text, **content})

    async def edit(self, room_id: str, event_id: str, text: str) -> str:
        """Replace the text of a message that was sent before."""
        new = {"msgtype": "m.text", "body": text}
        relation = {"rel_type": "m.replace", "event_id": event_id}
        content = {**new, "body": f"* {text}", "m.new_content": new, "m.relates_to": relation}
        return await self.send(room_id, content)

    async def send(
        self, room_id: str, content: Json, *, event_type: str = "m.room.message"
    ) -> str:
        """Send an event of any type, return its event ID."""
        transaction = f"{self.account.device_id}-{id(self)}-{next(self._transactions)}"
        answer = await self._in_room(
            room_id, f"send/{event_type}/{transaction}", content, method="PUT"
        )
        event_id: str = answer["event_id"]
        return event_id

    async def redact(self, room_id: str, event_id: str) -> None:
        transaction = f"{id(self)}-{next(self._transactions)}"
        await self._in_room(room_id, f"redact/{quote(event_id)}/{transaction}", {}, method="PUT")

    async def set_state(
        self, room_id: str, event_type: str, content: Json, *, state_key: str = ""
    ) -> str:
        """Write a state event, return its event ID."""
        path = f"state/{quote(event_type)}/{quote(state_key)}"
        answer = await self._in_room(room_id, path, content, method="PUT")
        event_id: str = answer["event_id"]
        return event_id

    # What the person waits for

    async def wait_for(
        self, what: str, found: Callable[[], T | None], *, timeout: float = 45
    ) -> T:
        """Wait until the function finds something (that is true) in what the client shows."""

        async def look() -> T:
            while not (result := found()):
                await self._next_news()
            return result

        try:
            return await asyncio.wait_for(look(), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"{self.user_id} waited {timeout:g} s for: {what}\n{self._report()}"
            ) from None

    async def wait_for_room(self, room_id: str, *, timeout: float = 45) -> None:
        """Wait until the client shows that the person is in a room."""
        await self.wait_for(f"being in {room_id}", lambda: room_id in self._rooms, timeout=timeout)

    async def wait_for_member(self, room_id: str, user_id: str, *, timeout: float = 45) -> None:
        """Wait until the client shows somebody as a member of a room."""
        key = ("m.room.member", user_id)

        def joined() -> bool:
            member = self._room(room_id).state.get(key, {"content": {}})
            return bool(member["content"].get("membership") == "join")

        await self.wait_for(f"{user_id} in {room_id}", joined, timeout=timeout)

    async def wait_for_invite(
        self, *, name: str | None = None, space: bool | None = None, timeout: float = 45
    ) -> str:
        """Wait for an invite to a room of that name, or to (anything but) a Space."""

        def found() -> str | None:
            for room_id, state in self._invites.items():
                if name in (None, _name(state)) and space in (None, _is_space(state)):
                    return room_id
            return None

        kind = {None: "a room", True: "a Space", False: "a room that is no Space"}[space]
        what = f"an invite to {kind}" + (f" called {name!r}" if name else "")
        return await self.wait_for(what, found, timeout=timeout)

    async def wait_for_message(
        self,
        room_id: str,
        *,
        sender: str | None = None,
        body: Callable[[str], bool] | str | None = None,
        after: str | None = None,
        timeout: float = 45,
    ) -> Message:
        """Wait for a message: its body is tested, or holds the given text."""

        def matches(message: Message) -> bool:
            if callable(body):
                return body(message.body)
            return body is None or body in message.body

        def found() -> Message | None:
            messages = self.messages(room_id, sender=sender, after=after)
            return next((message for message in messages if matches(message)), None)

        what = f"a message in {room_id} from {sender or 'anybody'}"
        what += f" with {body!r}" if isinstance(body, str) else ""
        return await self.wait_for(what, found, timeout=timeout)

    # The client

    def _room(self, room_id: str) -> _Room:
        return self._rooms.get(room_id) or _Room()

    async def _in_room(
        self, room_id: str, path: str, content: Json, *, method: str = "POST"
    ) -> Json:
        full = f"{_CLIENT}/rooms/{quote(room_id)}/{path}"
        return await self.api.request(method, full, content)

    async def _next_news(self) -> None:
        if self._syncing is None or self._syncing.done():
            raise RuntimeError(f"The client of {self.user_id} does not sync: {self._syncing}")
        self._news.clear()
        await self._news.wait()

    async def _sync_forever(self) -> None:
        while True:
            try:
                await self._sync_once(timeout=_POLL_MILLISECONDS)
            except (ApiError, aiohttp.ClientError, asyncio.TimeoutError, OSError):  # noqa: PERF203
                # The server restarts; a client goes on trying.
                await asyncio.sleep(0.1)

    async def _sync_once(self, *, timeout: int) -> None:
        query = {"timeout": str(timeout), "filter": _FILTER}
        if self._since is not None:
            query["since"] = self._since
        answer = await self.api.request("GET", f"{_CLIENT}/sync", query=query)
        self._since = answer["next_batch"]
        await self._read(answer)
        rooms = answer.get("rooms", {})
        for room_id, data in rooms.get("invite", {}).items():
            self._invites[room_id] = _by_key(data["invite_state"]["events"])
        for room_id, data in rooms.get("join", {}).items():
            self._invites.pop(room_id, None)
            self._take(self._rooms.setdefault(room_id, _Room()), data)
        for room_id in rooms.get("leave", {}):
            self._invites.pop(room_id, None)
            self._rooms.pop(room_id, None)
        self._news.set()

    async def _read(self, answer: Json) -> None:
        """Called with every response before it is shown."""

    @staticmethod
    def _take(room: _Room, data: Json) -> None:
        timeline = data["timeline"]["events"]
        room.state |= _by_key(data.get("state", {}).get("events", ()))
        room.state |= _by_key(event for event in timeline if "state_key" in event)
        room.timeline |= {event["event_id"]: event for event in timeline}
        for event in data.get("ephemeral", {}).get("events", ()):
            if event["type"] == "m.typing":
                room.typing = event["content"]["user_ids"]

    def _report(self) -> str:
        """Describe what the client shows, for the message of an error."""
        lines = [f"  invite {room} {_name(state)!r}" for room, state in self._invites.items()]
        for room_id, room in self._rooms.items():
            lines.append(f"  in {room_id} {_name(room.state)!r}")
            shown = _messages(room.timeline.values())[-5:]
            lines += [f"    {message.sender}: {message.body[:200]!r}" for message in shown]
        return "It saw:\n" + ("\n".join(lines) or "  nothing")


def _by_key(events: Iterable[Event]) -> dict[StateKey, Event]:
    return {(event["type"], event["state_key"]): event for event in events}


def _content(state: dict[StateKey, Event], type_: str) -> dict[str, Any]:
    content: dict[str, Any] = state.get((type_, ""), {}).get("content", {})
    return content


def _name(state: dict[StateKey, Event]) -> str:
    return str(_content(state, "m.room.name").get("name", ""))


def _is_space(state: dict[StateKey, Event]) -> bool:
    return _content(state, "m.room.create").get("type") == "m.space"


def _messages(events: Iterable[Event]) -> list[Message]:
    messages: dict[str, Message] = {}
    for event in events:
        content = event["content"]
        if event["type"] != "m.room.message" or "body" not in content:
            continue
        relation = content.get("m.relates_to") or {}
        original = messages.get(relation.get("event_id", ""))
        edits = relation.get("rel_type") == "m.replace" and original is not None
        if edits and original is not None and original.sender == event["sender"]:
            shown, event_id = content["m.new_content"], original.event_id
        else:
            shown, event_id = content, event["event_id"]
        messages[event_id] = Message(
            event_id=event_id,
            sender=event["sender"],
            msgtype=shown.get("msgtype", ""),
            body=shown["body"],
            edited=edits,
            html=shown.get("formatted_body"),
        )
    return list(messages.values())
