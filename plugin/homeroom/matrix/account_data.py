"""The bot's own account data: what only the bot can read and write, kept by the homeserver.

https://spec.matrix.org/latest/client-server-api/#client-config
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mautrix.api import Method, Path
from mautrix.types import RoomID, UserID

from .errors import Refused
from .retrying_api import PatientAPI


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountData:
    """Reads and writes the bot's account data.

    Args:
        writing: one request at a time, behind everything else.
    """

    bot: UserID
    reading: PatientAPI
    writing: PatientAPI

    async def get(self, kind: str, *, room_id: RoomID | None = None) -> Any:
        """The content of a type; None: the homeserver says that there is none."""
        path = self._path(kind, room_id)
        try:
            return await self.reading.request(Method.GET, path)
        except Refused as e:
            if e.errcode == "M_NOT_FOUND":
                return None
            raise

    async def set(
        self, kind: str, content: dict[str, Any], *, room_id: RoomID | None = None
    ) -> None:
        await self.writing.request(Method.PUT, self._path(kind, room_id), content)

    def _path(self, kind: str, room_id: RoomID | None) -> Any:
        path = Path.v3.user[self.bot]
        return (path if room_id is None else path.rooms[room_id]).account_data[kind]
