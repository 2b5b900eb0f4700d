"""What the content of an event may be, and what is left of it for others."""

from __future__ import annotations

from .errors import bad_request
from .events import Event, Json, stripped
from .rooms import Room

_INVITE_STATE = (
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
)
_KEPT_BY_REDACTION: dict[str, tuple[str, ...]] = {
    "m.room.member": ("membership", "join_authorised_via_users_server"),
    "m.room.join_rules": ("join_rule", "allow"),
    "m.room.history_visibility": ("history_visibility",),
    "m.room.power_levels": (
        "ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users",
        "users_default",
    ),
}  # fmt: skip
_STRINGS = {
    "m.room.message": ("body", "msgtype"),
    "m.room.name": ("name",),
    "m.room.topic": ("topic",),
}


def shown_with_invite(room: Room, inviter: str) -> list[Json]:
    keys = [*((type_, "") for type_ in _INVITE_STATE), ("m.room.member", inviter)]
    return [stripped(room.state[key]) for key in keys if key in room.state]


def pruned(event: Event) -> Json:
    if event.type == "m.room.create":
        return event.content
    kept = _KEPT_BY_REDACTION.get(event.type, ())
    return {name: value for name, value in event.content.items() if name in kept}


def check_form(type_: str, content: Json, room_id: str) -> None:
    """Check the few types whose content Synapse looks at."""
    for name in _STRINGS.get(type_, ()):
        if name not in content:
            raise bad_request(f"'{name}' not in content")
        if not isinstance(content[name], str):
            raise bad_request(f"'{name}' not a string type")
    if type_ == "m.room.member" and content.get("membership") not in (
        "join",
        "invite",
        "leave",
        "ban",
        "knock",
    ):
        raise bad_request("Invalid membership key")
    if type_ == "m.room.tombstone":
        if "replacement_room" not in content:
            raise bad_request("Content has no replacement_room key")
        if content["replacement_room"] == room_id:
            raise bad_request("Tombstone cannot reference the room it was sent in")
