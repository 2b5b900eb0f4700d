"""From a room's raw state events to a `Room`.

The events come from the network and partly from hostile members: nothing about their shape is
taken for granted, nothing of theirs is kept that the planner does not need, and text that is
kept is bounded. A state without a usable create event is not a state: it is unreadable.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar

from mautrix.types import RoomID, UserID

from .ids import chat_id_in_order, chat_number
from .marker import MARKER_TYPE, Marker, MarkerError, is_user_id, parse_marker
from .model import ChatID
from .topology import CachedState, ChildLink, Invite, MarkerProblem, Member, Room, Unreadable

LINKED_CHAT_ID: Final = "dev.homeroom.chat_id"
"""In the content of a child link that was taken away: the number of the chat."""
MAX_NAME: Final = 255
MAX_PROBLEMS: Final = 5

STATE_TYPES: Final = (
    "m.room.create",
    "m.room.name",
    "m.room.tombstone",
    "m.room.power_levels",
    "m.room.encryption",
    "m.room.join_rules",
    "m.space.parent",
    "m.space.child",
    MARKER_TYPE,
    "m.room.member",
)
"""The state that an observation needs; everything else may be left out by the server."""
TYPES_WITHOUT_MEMBERS: Final = tuple(kind for kind in STATE_TYPES if kind != "m.room.member")
"""Of rooms that may be anybody's: there can be a great many members."""

Events = dict[str, dict[str, dict[str, Any]]]
"""type -> state key -> event, each with a dict as content and a text as sender."""

T = TypeVar("T")
_NOTHING: Final[frozenset[RoomID]] = frozenset()
_OF_A_STATE_EVENT: Final = (
    "type",
    "state_key",
    "sender",
    "content",
    "event_id",
    "origin_server_ts",
)


class Interner:
    """Values that many rooms have, kept once: names, people, links, sets of rooms.

    One for each scan; a thousand homes have a few hundred different ones.
    """

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def __call__(self, value: T) -> T:
        """The value that is kept and equal to this hashable one."""
        kept: T = self._values.setdefault(value, value)
        return kept


def read_room(
    room_id: RoomID, events: Iterable[object], *, bot: UserID, interner: Interner | None = None
) -> Room | Unreadable:
    """Reduce a room's current state to a `Room`.

    Events of types that are not in `STATE_TYPES`, and events without type, sender, state key or
    content, are passed over; if an event comes twice the last one counts.
    """
    interner = interner or Interner()
    state = _index(events)
    create = state["m.room.create"].get("")
    if create is None:
        return Unreadable(room_id=room_id, reason="the state has no m.room.create event")
    created_at = create.get("origin_server_ts")
    if type(created_at) is not int or created_at < 0:
        created_at = 0
    content = create["content"]
    markers = state[MARKER_TYPE]
    marker, problems = _read_markers(markers, bot=bot)
    tombstone = state["m.room.tombstone"].get("")
    name = state["m.room.name"].get("", {}).get("content", {}).get("name")
    room = Room(
        room_id=room_id,
        creator=interner(UserID(create["sender"])),
        created_at=created_at,
        is_space=content.get("type") == "m.space",
        room_version=interner(_text(content.get("room_version")) or "1"),
        name=interner(_text(name)),
        predecessor=read_predecessor(content),
        is_tombstoned=tombstone is not None,
        replacement=_room_id(tombstone["content"].get("replacement_room")) if tombstone else None,
        marker=marker,
        marker_problems=problems,
    )
    if room.creator != bot and not markers and room.predecessor is None:
        return room
    return _with_details(room, state, bot=bot, interner=interner)


def _with_details(room: Room, state: Events, *, bot: UserID, interner: Interner) -> Room:
    """Add what is only needed of rooms that may be Homeroom's."""
    power_levels = state["m.room.power_levels"].get("")
    encryption = state["m.room.encryption"].get("")
    join_rules = state["m.room.join_rules"].get("")
    about_parents = frozenset(RoomID(key) for key in state["m.space.parent"] if _room_id(key))
    parents = frozenset(
        key
        for key in about_parents
        if (event := state["m.space.parent"][key])["sender"] == bot and _has_via(event["content"])
    )
    create = state["m.room.create"][""]
    return replace(
        room,
        parents=interner(parents),
        other_parents=interner(about_parents - parents),
        admits=interner(read_admitted(join_rules["content"]) if join_rules else _NOTHING),
        children={
            RoomID(key): interner(
                ChildLink(
                    sender=interner(UserID(event["sender"])),
                    linked=_has_via(event["content"]),
                    chat_id=interner(_linked_chat_id(event, bot=bot)),
                )
            )
            for key, event in state["m.space.child"].items()
            if room.is_space and _room_id(key)
        },
        members=_members(state, interner=interner),
        cached_state=CachedState(
            create=_json({key: create[key] for key in _OF_A_STATE_EVENT if key in create}) or "{}",
            power_levels=interner(_json(power_levels["content"])) if power_levels else None,
            encryption=interner(_json(encryption["content"])) if encryption else None,
        ),
    )


def read_predecessor(create: dict[str, Any]) -> RoomID | None:
    """The room that a room replaces, as the content of its create event says."""
    predecessor = create.get("predecessor")
    return _room_id(predecessor.get("room_id")) if isinstance(predecessor, dict) else None


def read_admitted(join_rules: dict[str, Any]) -> frozenset[RoomID]:
    """The rooms whose members may join, as the content of `m.room.join_rules` says."""
    if join_rules.get("join_rule") not in ("restricted", "knock_restricted"):
        return frozenset()
    conditions = join_rules.get("allow")
    return frozenset(
        room_id
        for condition in (conditions if isinstance(conditions, list) else ())
        if isinstance(condition, dict)
        and condition.get("type") == "m.room_membership"
        and (room_id := _room_id(condition.get("room_id")))
    )


def add_members(room: Room, events: Iterable[object], *, interner: Interner | None = None) -> Room:
    """The same room with the members that these `m.room.member` events tell of."""
    return replace(room, members=_members(_index(events), interner=interner or Interner()))


def read_invite(room_id: RoomID, events: object, *, bot: UserID) -> Invite | None:
    """Read the stripped state of a pending invite; None if it does not say who invited."""
    state = _index(events if isinstance(events, list) else ())
    invite = state["m.room.member"].get(bot)
    if invite is None or invite["content"].get("membership") != "invite":
        return None
    if not is_user_id(invite["sender"]):
        return None
    create = state["m.room.create"].get("", {}).get("content", {})
    return Invite(
        room_id=room_id,
        inviter=UserID(invite["sender"]),
        is_space=create.get("type") == "m.space",
        predecessor=read_predecessor(create),
    )


def _index(events: Iterable[object]) -> Events:
    state: Events = defaultdict(dict)
    for event in events:
        if not isinstance(event, dict):
            continue
        kind, key, sender = event.get("type"), event.get("state_key"), event.get("sender")
        if (
            kind in STATE_TYPES
            and isinstance(key, str)
            and isinstance(event.get("content"), dict)
            and isinstance(sender, str)
        ):
            state[kind][key] = event
    return state


def _read_markers(
    markers: dict[str, dict[str, Any]], *, bot: UserID
) -> tuple[Marker | None, tuple[MarkerProblem, ...]]:
    """The trusted marker, if there is one, and what is wrong with all the others."""
    trusted = None
    problems = []
    foreign = 0
    for key, event in sorted(markers.items()):
        if not event["content"]:  # a redacted marker is no marker
            continue
        if key != bot or event["sender"] != bot:
            foreign += 1
            continue
        try:
            trusted = parse_marker(event["content"])
        except MarkerError as e:
            problems.append(MarkerProblem(reason=str(e), own=True))
    if foreign:
        problems.append(
            MarkerProblem(reason=f"{foreign} under a state key that is not the bot's", own=False)
        )
    return trusted, tuple(problems[:MAX_PROBLEMS])


def _members(state: Events, *, interner: Interner) -> dict[UserID, Member]:
    return {
        interner(UserID(key)): interner(member)
        for key, event in state["m.room.member"].items()
        if is_user_id(key) and (member := read_member(event, user_id=key))
    }


def read_member(event: dict[str, Any], *, user_id: str) -> Member | None:
    """What a member event says of a user; None: nothing that can be."""
    content = event["content"]
    membership = content.get("membership")
    if membership not in ("join", "invite", "leave", "ban", "knock"):  # it may be unhashable
        return None
    return Member(
        membership=membership,
        was_removed=membership in ("leave", "ban") and event.get("sender") != user_id,
        displayname=_text(content.get("displayname")),
        avatar_url=_text(content.get("avatar_url")),
    )


def _json(value: object) -> str | None:
    """As a text; None if it is nested too deep to be one."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return None


def _text(value: object) -> str | None:
    """Bounded text that any database takes; None if there is none.

    PostgreSQL refuses NUL, and lone surrogates cannot be written as UTF-8: one room's name must
    not make the whole transaction fail.
    """
    if not isinstance(value, str):
        return None
    return value[:MAX_NAME].replace("\0", "").encode("utf-8", "replace").decode() or None


def _has_via(content: dict[str, Any]) -> bool:
    via = content.get("via")
    return isinstance(via, list) and any(isinstance(server, str) and server for server in via)


def _linked_chat_id(event: dict[str, Any], *, bot: UserID) -> ChatID | None:
    content = event["content"]
    chat_id = content.get(LINKED_CHAT_ID)
    if isinstance(chat_id, str) and chat_number(ChatID(chat_id)) is not None:
        return ChatID(chat_id)
    return chat_id_in_order(content.get("order")) if event["sender"] == bot else None


def _room_id(value: object) -> RoomID | None:
    if (
        isinstance(value, str)
        and value.startswith("!")
        and 2 <= len(value.encode("utf-8", "replace")) <= 255
        and value.isprintable()
        and " " not in value
    ):
        return RoomID(value)
    return None
