"""The model: everything the fake homeserver knows, and every way to change it.

Synchronous and without a network. What comes in is what a request says, what goes out is what
Synapse answers, or a `MatrixError`. Deterministic: IDs and times depend only on what happened
before. The HTTP endpoints and the test's own `User` objects go through the same methods.

Limits: one server; no guests, knocks, third-party invites, peeking or end-to-end keys; presence
is stored but not sent; users of other servers can be invited and banned but never act.
"""

from __future__ import annotations

import copy

from . import rules
from .acting import RoomActions, is_user_id
from .errors import bad_request, missing_params, not_found
from .events import Event, Json, StateKey
from .new_room import (
    PRESETS,
    default_levels,
    initial_state,
    named_state,
    read_list,
    read_preset,
    upgraded_state,
    without,
)
from .rooms import Room
from .versions import RoomVersion, room_version

_UPGRADE_REMEMBERED_MS = 5 * 60_000


class World(RoomActions):
    """All of it; here, how rooms are made and replaced."""

    def create_room(self, user_id: str, spec: Json) -> Room:
        """Create a room as `POST createRoom` does.

        As in Synapse this is not atomic: the create event and the creator's membership are there
        before the rest is checked, and the invites come last, each for itself. A refusal at that
        point leaves the room behind with its creator in it.
        """
        version = room_version(spec.get("room_version", self.default_room_version))
        preset_name, preset = read_preset(spec)
        invites = read_list(spec, "invite")
        name = spec.get("room_alias_name")
        alias = None if name is None else self.aliases.check_new(name)
        for invited in invites:
            if not is_user_id(invited):
                raise bad_request(f"Invalid user_id: {invited}")
        override = spec.get("power_level_content_override") or {}
        if not version.creators_have_all_power and user_id not in override.get("users", [user_id]):
            raise bad_request(
                f"Not a valid power_level_content_override: 'users' did not contain {user_id}"
            )
        creation: Json = {**spec.get("creation_content", {}), "room_version": version.version}
        trusted = preset_name == "trusted_private_chat"
        if trusted and invites and version.creators_have_all_power:
            extra = creation.get("additional_creators", [])
            creation["additional_creators"] = sorted({*extra, *invites})
        initial = initial_state(spec)
        if ("m.room.power_levels", "") not in initial:
            levels = default_levels(version, user_id)
            if trusted and not version.creators_have_all_power:
                levels["users"].update(dict.fromkeys(invites, 100))
            initial[("m.room.power_levels", "")] = {**levels, **preset["levels"], **override}
        room_id, create_id = self._new_room_id(version)
        if alias:
            self.aliases.add(alias, room_id, user_id)
        room = self._new_room(user_id, version, creation, room_id=room_id, create_id=create_id)
        if alias:
            initial.setdefault(("m.room.canonical_alias", ""), {"alias": alias})
        self._fill_room(room, user_id, preset, initial, named_state(spec))
        for invited in invites:
            direct = {"is_direct": True} if spec.get("is_direct") else {}
            self.change_membership(user_id, room.room_id, invited, "invite", direct)
        return room

    def _new_room_id(self, version: RoomVersion) -> tuple[str, str]:
        """Give the IDs of a room to come and of its create event."""
        create_id = self._new_event_id()
        if version.room_id_is_create_event:
            return "!" + create_id[1:], create_id
        return f"!{self._new_id(18)}:{self.server_name}", create_id

    def _new_room(
        self, user_id: str, version: RoomVersion, creation: Json, *, room_id: str, create_id: str
    ) -> Room:
        """Make a room with its create event and its creator in it."""
        if version.creator_in_content:
            creation = {**creation, "creator": user_id}
        room = Room(room_id, version)
        create = self._draft(room, {}, user_id, "m.room.create", creation, "")
        create.event_id = create_id
        self.rooms[room_id] = room
        self._commit(room, create)
        content = {"membership": "join", **self._profile(user_id)}
        join = self._draft(room, None, user_id, "m.room.member", content, user_id)
        self._commit(room, join)
        return room

    def _fill_room(
        self,
        room: Room,
        user_id: str,
        preset: Json,
        initial: dict[StateKey, Json],
        named: dict[StateKey, Json],
    ) -> None:
        """Add the rest of a new room's state: all of it, or none."""
        content = dict(initial)
        levels = ("m.room.power_levels", "")
        order: dict[StateKey, Json] = {levels: content.pop(levels)}
        alias = content.pop(("m.room.canonical_alias", ""), None)
        if alias is not None:
            order["m.room.canonical_alias", ""] = alias
        defaults = {
            "m.room.join_rules": {"join_rule": preset["join_rule"]},
            "m.room.history_visibility": {"history_visibility": "shared"},
        }
        if preset["guests"]:
            defaults["m.room.guest_access"] = {"guest_access": "can_join"}
        order.update({(t, ""): c for t, c in defaults.items() if (t, "") not in content})
        order.update(content)
        state = dict(room.state)
        drafts: list[Event] = []
        for (type_, state_key), value in [*order.items(), *named.items()]:
            draft = self._draft(room, state, user_id, type_, value, state_key)
            state[draft.key] = draft
            drafts.append(draft)
        for draft in drafts:
            self._commit(room, draft)

    def upgrade(self, user_id: str, room_id: str, spec: Json) -> Room:
        """Replace a room by one of another version, as `POST upgrade` does.

        Members are not moved; asking again within five minutes gives the same room.
        """
        if "new_version" not in spec:
            raise missing_params("new_version")
        version = room_version(spec["new_version"])
        if room_id not in self.rooms:
            raise not_found(f"Unknown room id {room_id}")
        old = self._room_for(user_id, room_id)
        known, since = self._upgrades.get((room_id, user_id), ("", 0))
        if known and self.clock.read() - since < _UPGRADE_REMEMBERED_MS:
            return self.rooms[known]
        probe = {"body": "This room has been replaced", "replacement_room": "!new"}
        tombstone = self._draft(old, old.state, user_id, "m.room.tombstone", probe, "")
        creation: Json = {"room_version": version.version, "predecessor": {"room_id": room_id}}
        if not version.room_id_is_create_event:
            creation["predecessor"]["event_id"] = tombstone.event_id
        for copied in ("type", "m.federate"):
            if copied in old.create.content:
                creation[copied] = old.create.content[copied]
        if version.creators_have_all_power and "additional_creators" in spec:
            creation["additional_creators"] = spec["additional_creators"]
        room_id, create_id = self._new_room_id(version)
        new = self._new_room(user_id, version, creation, room_id=room_id, create_id=create_id)
        initial = upgraded_state(old, new, user_id)
        self._fill_room(new, user_id, PRESETS["private_chat"], initial, {})
        for (type_, state_key), event in list(old.state.items()):
            if type_ == "m.room.member" and event.membership == "ban":
                self.change_membership(user_id, new.room_id, state_key, "ban")
        tombstone.content["replacement_room"] = new.room_id
        self._commit(old, tombstone)
        self._move_aliases(old, new, user_id)
        self._close_upgraded(old, new, user_id)
        self._upgrades[old.room_id, user_id] = (new.room_id, self.clock.read())
        return new

    def _move_aliases(self, old: Room, new: Room, user_id: str) -> None:
        """Give the new room the old one's aliases, and its canonical one."""
        self.aliases.move(old.room_id, new.room_id)
        canonical = old.state.get(("m.room.canonical_alias", ""))
        if canonical is None:
            return
        type_, alias = canonical.type, canonical.content.get("alias")
        rest = without(canonical.content, ["alias"])
        self.set_state(user_id, old.room_id, type_, rest)
        self.set_state(user_id, new.room_id, type_, {"alias": alias} if alias else {})

    def _close_upgraded(self, old: Room, new: Room, user_id: str) -> None:
        """Quieten the old room, and give the new one the old one's power levels."""
        levels = old.state.get(("m.room.power_levels", ""))
        if levels is None:
            return
        before = copy.deepcopy(levels.content)
        floor = max(int(before.get("users_default", 0)) + 1, 50)
        quiet = {
            name: floor for name in ("invite", "events_default") if before.get(name, 0) < floor
        }
        if quiet:
            content = {**before, **quiet}
            self.set_state(user_id, old.room_id, "m.room.power_levels", content)
        if new.version.creators_have_all_power:
            before["users"] = without(before.get("users", {}), rules.creators(new.state))
        self.set_state(user_id, new.room_id, "m.room.power_levels", before)
