"""Authorization rules: may this event be added to a room whose state is this?

Pure functions from a state and a proposed event to nothing, or a `MatrixError`. They follow
`synapse/event_auth.py` for room versions 10 to 12, as far as one server without guests, knocks,
third-party invites and federation can need them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import bad_request, forbidden
from .events import Json, StateKey, StateMap
from .versions import RoomVersion

CREATOR_POWER = 2**53
RESTRICTED_RULES = ("restricted", "knock_restricted")
_LEVELS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
_LEVEL_MAPS = ("users", "events", "notifications")


@dataclass(frozen=True)
class Proposal:
    """An event that somebody would like to send."""

    room_id: str
    version: RoomVersion
    type: str
    sender: str
    state_key: str | None
    content: Json


def check(state: StateMap, proposal: Proposal) -> None:
    """Raise unless the proposal is allowed in this state."""
    if proposal.type == "m.room.create":
        raise forbidden("Create event has prev events")
    if proposal.type == "m.room.member" and proposal.state_key is not None:
        _check_membership(state, proposal)
        return
    check_joined(state, proposal.sender, room_id=proposal.room_id)
    _check_level(state, proposal)
    _check_state_key(proposal)
    if proposal.type == "m.room.power_levels" and proposal.state_key == "":
        _check_power_levels(state, proposal)


def check_joined(state: StateMap, user_id: str, *, room_id: str) -> None:
    """Raise unless the user is joined."""
    if membership_of(state, user_id) != "join":
        raise forbidden(f"User {user_id} not in room {room_id}")


def membership_of(state: StateMap, user_id: str) -> str | None:
    """Give the user's membership, None when there has never been one."""
    event = state.get(("m.room.member", user_id))
    return event.membership if event else None


def join_rule(state: StateMap) -> str:
    """Give the join rule; without one, a room is for the invited."""
    event = state.get(("m.room.join_rules", ""))
    return str(event.content.get("join_rule", "invite")) if event else "invite"


def allowing_rooms(state: StateMap) -> list[str]:
    """Give the rooms whose members may join a restricted room."""
    event = state.get(("m.room.join_rules", ""))
    allow = event.content.get("allow", []) if event else []
    entries = allow if isinstance(allow, list) else []
    return [
        entry["room_id"]
        for entry in entries
        if isinstance(entry, Mapping)
        and entry.get("type") == "m.room_membership"
        and isinstance(entry.get("room_id"), str)
    ]


def creators(state: StateMap) -> frozenset[str]:
    """Give the room's creators: the sender of the create event and the additional ones."""
    create = state.get(("m.room.create", ""))
    if create is None:
        return frozenset()
    return frozenset((create.sender, *create.content.get("additional_creators", ())))


def power_of(state: StateMap, version: RoomVersion, user_id: str) -> int:
    """Give a user's power level."""
    if version.creators_have_all_power and user_id in creators(state):
        return CREATOR_POWER
    levels = state.get(("m.room.power_levels", ""))
    if levels is None:
        create = state.get(("m.room.create", ""))
        return 100 if create and create.sender == user_id else 0
    level = levels.content.get("users", {}).get(user_id)
    return int(levels.content.get("users_default", 0) if level is None else level)


def named_level(state: StateMap, name: str, default: int) -> int:
    """Give the level needed for an action (`ban`, `invite` …)."""
    levels = state.get(("m.room.power_levels", ""))
    return int(levels.content.get(name, default)) if levels else default


def state_level(state: StateMap, type_: str) -> int:
    """Give the level needed to set a state event."""
    levels = state.get(("m.room.power_levels", ""))
    content = levels.content if levels else {}
    return int(content.get("events", {}).get(type_, content.get("state_default", 50)))


def may_invite(state: StateMap, version: RoomVersion, user_id: str) -> bool:
    """Tell whether a joined user has the power to invite."""
    return membership_of(state, user_id) == "join" and power_of(
        state, version, user_id
    ) >= named_level(state, "invite", 0)


def _check_level(state: StateMap, proposal: Proposal) -> None:
    levels = state.get(("m.room.power_levels", ""))
    content: Mapping[str, Any] = levels.content if levels else {}
    needed = content.get("events", {}).get(proposal.type)
    if needed is None and proposal.state_key is not None:
        needed = content.get("state_default", 50)
    elif needed is None:
        needed = content.get("events_default", 0)
    power = power_of(state, proposal.version, proposal.sender)
    if power < int(needed):
        raise forbidden(
            "You don't have permission to post that to the room. "
            f"user_level ({power}) < send_level ({needed})"
        )


def _check_state_key(proposal: Proposal) -> None:
    key = proposal.state_key
    if key is not None and key.startswith("@") and key != proposal.sender:
        raise forbidden("You are not allowed to set others state")


def _check_membership(state: StateMap, proposal: Proposal) -> None:
    match proposal.content["membership"]:
        case "join":
            _check_join(state, proposal)
        case "invite":
            _check_invite(state, proposal)
        case "leave":
            _check_leave(state, proposal)
        case "ban":
            _check_ban(state, proposal)
        case _:
            raise forbidden("You don't have permission to knock")


def _check_join(state: StateMap, proposal: Proposal) -> None:
    if proposal.sender != proposal.state_key:
        raise forbidden("Cannot force another user to join.")
    membership = membership_of(state, proposal.sender)
    if membership == "ban":
        raise forbidden("You are banned from this room")
    rule = join_rule(state)
    if rule == "public" or membership in ("join", "invite"):
        return
    if rule in RESTRICTED_RULES:
        authoriser = proposal.content.get("join_authorised_via_users_server")
        if authoriser is None:
            raise forbidden("Join event is missing authorising user.")
        if not may_invite(state, proposal.version, authoriser):
            raise forbidden("Join event authorised by invalid server.")
        return
    if rule in ("invite", "knock"):
        raise forbidden("You are not invited to this room.")
    raise forbidden("You are not allowed to join this room")


def _check_caller(state: StateMap, proposal: Proposal) -> None:
    if membership_of(state, proposal.sender) != "join":
        raise forbidden(f"{proposal.sender} not in room {proposal.room_id}.")


def _check_invite(state: StateMap, proposal: Proposal) -> None:
    _check_caller(state, proposal)
    target = membership_of(state, proposal.state_key or "")
    if target == "ban":
        raise forbidden(f"{proposal.state_key} is banned from the room")
    if target == "join":
        raise forbidden(f"{proposal.state_key} is already in the room.")
    if not may_invite(state, proposal.version, proposal.sender):
        raise forbidden("You don't have permission to invite users")


def _check_leave(state: StateMap, proposal: Proposal) -> None:
    target = proposal.state_key or ""
    own = target == proposal.sender
    if own and membership_of(state, target) == "invite":
        return
    _check_caller(state, proposal)
    power = power_of(state, proposal.version, proposal.sender)
    if membership_of(state, target) == "ban" and power < named_level(state, "ban", 50):
        raise forbidden(f"You cannot unban user {target}.")
    if not own and (
        power < named_level(state, "kick", 50)
        or power <= power_of(state, proposal.version, target)
    ):
        raise forbidden(f"You cannot kick user {target}.")


def _check_ban(state: StateMap, proposal: Proposal) -> None:
    _check_caller(state, proposal)
    power = power_of(state, proposal.version, proposal.sender)
    if power < named_level(state, "ban", 50):
        raise forbidden("You don't have permission to ban")
    if power <= power_of(state, proposal.version, proposal.state_key or ""):
        raise forbidden("You don't have permission to ban this user")


def _check_power_levels(state: StateMap, proposal: Proposal) -> None:
    content = proposal.content
    _check_levels_are_integers(content)
    if proposal.version.creators_have_all_power:
        listed = creators(state) & set(content.get("users", {}))
        create = state[("m.room.create", "")]
        if create.sender in listed:
            raise bad_request(f"Creator user {create.sender} must not appear in content.users")
        if listed:
            raise bad_request("Additional creators users must not appear in content.users")
    current = state.get(("m.room.power_levels", ""))
    if current is None:
        return
    power = power_of(state, proposal.version, proposal.sender)
    before, after = _flat(current.content), _flat(content)
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if name[0] == "users" and name[1] != proposal.sender and old == power:
            raise forbidden("You don't have permission to remove ops level equal to your own")
        if (old is not None and old > power) or (new is not None and new > power):
            raise forbidden("You don't have permission to add ops level greater than your own")


def _check_levels_are_integers(content: Json) -> None:
    for name in _LEVELS:
        value = content.get(name, 0)
        if type(value) is not int:
            raise bad_request(f"\"{name}\": {value!r} is not of type 'integer'", "M_BAD_JSON")
    for name in _LEVEL_MAPS:
        value = content.get(name, {})
        if not isinstance(value, Mapping) or any(
            type(level) is not int for level in value.values()
        ):
            raise bad_request(f"\"{name}\": {value!r} is not of type 'object'", "M_BAD_JSON")
    for user_id in content.get("users", {}):
        if not (user_id.startswith("@") and ":" in user_id):
            raise bad_request(f"Not a valid user_id: {user_id}")


def _flat(content: Json) -> dict[StateKey, int]:
    single = {("", name): content[name] for name in _LEVELS if name in content}
    mapped = {(m, name): level for m in _LEVEL_MAPS for name, level in content.get(m, {}).items()}
    return {**single, **mapped}
