"""The directory of the bot's own server: names of rooms, each of one room.

https://spec.matrix.org/latest/client-server-api/#room-aliases
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mautrix.api import Method, Path
from mautrix.types import RoomID

from ..domain.json_shapes import as_dict, as_list
from .errors import Refused, Unavailable
from .retrying_api import PatientAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class Aliases:
    """Raises `Refused` or `Unavailable`, as `Homeserver` does."""

    reading: PatientAPI
    writing: PatientAPI

    async def room(self, alias: str) -> RoomID | None:
        """The room that an alias names, whether the bot is in it or not; None: there is none."""
        answer = await _found(self.reading, Method.GET, Path.v3.directory.room[alias])
        if answer is None:
            return None
        room_id = as_dict(answer).get("room_id")
        if not isinstance(room_id, str):
            raise Unavailable(f"{alias}: the answer has no room_id")
        return RoomID(room_id)

    async def of_room(self, room_id: RoomID) -> list[str]:
        """The aliases of a room that the bot is in."""
        answer = await _found(self.reading, Method.GET, Path.v3.rooms[room_id].aliases)
        aliases = as_list(as_dict(answer).get("aliases"))
        return [alias for alias in aliases if isinstance(alias, str)]

    async def delete(self, alias: str) -> None:
        """Take an alias away; one that does not exist is fine."""
        await _found(self.writing, Method.DELETE, Path.v3.directory.room[alias])


async def _found(api: PatientAPI, method: Method, path: Any) -> Any:
    """What is answered; None: the homeserver says that it does not exist."""
    try:
        return await api.request(method, path)
    except Refused as e:
        if e.errcode == "M_NOT_FOUND":
            return None
        raise
