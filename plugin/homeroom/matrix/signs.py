"""Small signs to the people in a room: the bot types, has read something, reacts, takes back.

https://spec.matrix.org/latest/client-server-api/#typing-notifications, `#receipts` and
`#event-annotations-and-reactions`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mautrix.api import Method, Path
from mautrix.types import EventID, RoomID, UserID

from .errors import RateLimited
from .outgoing import Outgoing, Priority
from .retrying_api import PatientAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Raises `Refused` or `Unavailable`, as `Homeserver` does."""

    bot: UserID
    reading: PatientAPI
    writing: PatientAPI
    receipts: PatientAPI
    outgoing: Outgoing
    on_redacted: Callable[[RoomID], None]
    """Told of every room in which something was, or may have been, taken back."""

    async def set_typing(self, room_id: RoomID, *, milliseconds: int) -> None:
        """Show the bot as typing for a while; 0 stops it."""
        path = Path.v3.rooms[room_id].typing[self.bot]
        body: dict[str, Any] = {"typing": milliseconds > 0}
        if milliseconds > 0:
            body["timeout"] = milliseconds
        await self.reading.request(Method.PUT, path, body)

    async def mark_read(self, room_id: RoomID, event_id: EventID) -> None:
        """Show that the bot has read up to an event; `RateLimited` while writes have to wait."""
        if (seconds := self.outgoing.seconds_until(Priority.RECEIPT)) > 0:
            raise RateLimited(f"receipt in {room_id}: others wait", seconds=seconds)
        path = Path.v3.rooms[room_id].receipt["m.read"][event_id]
        await self.receipts.request(Method.POST, path, {})

    async def react(self, room_id: RoomID, content: Mapping[str, Any], *, txn_id: str) -> None:
        """Send a reaction, which is in the clear everywhere."""
        path = Path.v3.rooms[room_id].send["m.reaction"][txn_id]
        await self.writing.request(Method.PUT, path, dict(content), priority=Priority.NOTICE)

    async def redact(self, room_id: RoomID, event_id: EventID, *, txn_id: str) -> None:
        """Take back a message of our own, as urgently as an answer is sent."""
        path = Path.v3.rooms[room_id].redact[event_id][txn_id]
        try:
            await self.writing.request(Method.PUT, path, {}, priority=Priority.ANSWER)
        finally:
            self.on_redacted(room_id)
