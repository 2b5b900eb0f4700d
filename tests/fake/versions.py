"""The room versions the fake homeserver knows, and what differs between them for a client."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import MatrixError


@dataclass(frozen=True)
class RoomVersion:
    """What a room version changes, as far as a bot can see it."""

    version: str
    creator_in_content: bool
    """The create event's content names its sender (up to version 10)."""
    redacts_in_content: bool
    """A redaction names its target in the content (from version 11)."""
    creators_have_all_power: bool
    """Creators stand above the power levels and are not in them (version 12)."""
    room_id_is_create_event: bool
    """The room ID is the create event's ID and has no server part (version 12)."""


ROOM_VERSIONS = {
    version.version: version
    for version in (
        RoomVersion("10", True, False, False, False),
        RoomVersion("11", False, True, False, False),
        RoomVersion("12", False, True, True, True),
    )
}


def room_version(version: object) -> RoomVersion:
    """Look a version up, or refuse it as Synapse does."""
    if not isinstance(version, str):
        raise MatrixError(400, "M_BAD_JSON", "room_version must be a string")
    if version not in ROOM_VERSIONS:
        raise MatrixError(
            400,
            "M_UNSUPPORTED_ROOM_VERSION",
            "Your homeserver does not support this room version",
        )
    return ROOM_VERSIONS[version]
