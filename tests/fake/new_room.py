"""What a new room is made of: what `createRoom` and an upgrade ask for, as state."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from . import rules
from .errors import bad_request, internal
from .events import Json, StateKey
from .rooms import Room
from .versions import RoomVersion

PRESETS: dict[str, Json] = {
    "private_chat": {"join_rule": "invite", "guests": True, "levels": {"invite": 0}},
    "trusted_private_chat": {"join_rule": "invite", "guests": True, "levels": {"invite": 0}},
    "public_chat": {"join_rule": "public", "guests": False, "levels": {}},
}
_COPIED_ON_UPGRADE = (
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.server_acl",
)


def read_preset(spec: Json) -> tuple[str, Json]:
    public = spec.get("visibility", "private") == "public"
    name = spec.get("preset", "public_chat" if public else "private_chat")
    if name not in PRESETS:
        raise bad_request(f"'{name}' is not a valid preset", "M_BAD_JSON")
    return name, PRESETS[name]


def read_list(spec: Json, name: str) -> list[Any]:
    value = spec.get(name, [])
    if not isinstance(value, list):
        raise internal()  # Synapse stumbles over null here, before anything is made
    return value


def initial_state(spec: Json) -> dict[StateKey, Json]:
    try:
        return {
            (entry["type"], entry.get("state_key", "")): entry["content"]
            for entry in read_list(spec, "initial_state")
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise internal() from error


def named_state(spec: Json) -> dict[StateKey, Json]:
    named: dict[StateKey, Json] = {}
    if "name" in spec:
        named["m.room.name", ""] = {"name": spec["name"]}
    if "topic" in spec:
        text = {"m.text": [{"body": spec["topic"]}]}
        named["m.room.topic", ""] = {"topic": spec["topic"], "m.topic": text}
    return named


def default_levels(version: RoomVersion, creator: str) -> Json:
    return {
        "users": {} if version.creators_have_all_power else {creator: 100},
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            "m.room.tombstone": 150 if version.creators_have_all_power else 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 50,
        "historical": 100,
    }


def upgraded_state(old: Room, new: Room, user_id: str) -> dict[StateKey, Json]:
    state = {(t, ""): old.state[t, ""].content for t in _COPIED_ON_UPGRADE if (t, "") in old.state}
    if old.create.content.get("type") == "m.space":
        state.update(
            {k: e.content for k, e in old.state.items() if k[0] == "m.space.child" and e.content}
        )
    current = old.state.get(("m.room.power_levels", ""))
    levels: Json = copy.deepcopy(current.content) if current else {}
    needed = max(
        int(levels.get("state_default", 50)),
        int(levels.get("ban", 50)),
        *(int(level) for level in levels.get("events", {}).values()),
        0,
    )
    users = levels.setdefault("users", {})
    if users.get(user_id, levels.get("users_default", 0)) < needed:
        users[user_id] = needed
    if new.version.creators_have_all_power:
        levels["users"] = without(users, rules.creators(new.state))
    state["m.room.power_levels", ""] = levels
    return state


def without(content: Json, names: Iterable[str]) -> Json:
    left_out = set(names)
    return {name: value for name, value in content.items() if name not in left_out}
