"""The room directory: which alias names which room, and who made it.

An alias is taken by the first who asks for it, before the room has any event, and is kept when
everybody has left or the room never came to be. A test takes away what it needs: `allowed`
forbids new aliases, `rooms` can be filled with an alias of a room that does not exist.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field

from .errors import MatrixError, bad_request, forbidden, not_found


@dataclass(eq=False)
class Aliases:
    """The aliases of one server."""

    server_name: str
    allowed: bool = True
    """Whether users may make aliases, as `alias_creation_rules` of Synapse decides."""
    rooms: dict[str, str] = field(default_factory=dict)
    creators: dict[str, str] = field(default_factory=dict)

    def check_new(self, name: str) -> str:
        """Give the alias that `createRoom` asks for, if nobody has it."""
        if any(character in name for character in string.whitespace):
            raise bad_request("Invalid characters in room alias")
        if ":" in name:
            raise bad_request("':' is not permitted in the room alias name.")
        alias = f"#{name}:{self.server_name}"
        if alias in self.rooms:
            raise bad_request("Room alias already taken", "M_ROOM_IN_USE")
        return alias

    def add(self, alias: str, room_id: str, creator: str) -> None:
        """Name a room; a name that is taken stays where it is."""
        if not self.allowed:
            raise MatrixError(403, "M_UNKNOWN", "Not allowed to create alias")
        if alias in self.rooms:
            raise MatrixError(409, "M_UNKNOWN", f"Room alias {alias} already exists")
        self.rooms[alias] = room_id
        self.creators[alias] = creator

    def resolve(self, alias: str) -> str:
        """Give the room of an alias."""
        if alias not in self.rooms:
            raise not_found(f"Room alias {alias} not found")
        return self.rooms[alias]

    def remove(self, alias: str, user_id: str, *, is_moderator: bool) -> None:
        """Take an alias away: its creator may, and who may name the room."""
        if alias not in self.rooms:
            raise not_found("Unknown room alias")
        if self.creators.get(alias) != user_id and not is_moderator:
            raise forbidden("You don't have permission to delete the alias.")
        del self.rooms[alias]
        self.creators.pop(alias, None)

    def of_room(self, room_id: str) -> list[str]:
        """List the aliases of a room."""
        return [alias for alias, named in self.rooms.items() if named == room_id]

    def move(self, old: str, new: str) -> None:
        """Give all aliases of a room to another, as an upgrade does."""
        for alias in self.of_room(old):
            self.rooms[alias] = new
