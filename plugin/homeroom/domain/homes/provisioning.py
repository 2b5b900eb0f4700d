"""What a home still lacks, and the requests that make its rooms.

Provisioning is a loop of scan, `next_step`, do it: every run begins with what exists, so a run
that died anywhere is finished by the next one. Rooms are born marked, private, and with their
final name; the chat's link from the Space and its full marker are repairs that the reconcile
asks for, the same after a crash as after a birth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from .ids import chat_number, next_chat_id
from .marker import MARKER_TYPE, Marker
from .model import Chat, ChatID, Home, RoomType
from .room_state import LINKED_CHAT_ID
from .topology import Member, Room

OWNER_POWER: Final = 50
"""The owner may rename, invite, remove and sort in their home; what makes it theirs stays."""
BOT_POWER: Final = 100
ALIAS_PREFIX: Final = "homeroom-"
CREATORS_LISTED_UP_TO: Final = 11
"""From room version 12 on the creator has all power and must not be listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSpace:
    """Create the Space of a new home, which is promised these chats."""

    purpose: str
    initial_chats: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateChat:
    """Create a chat with this number and name."""

    purpose: str
    """Whatever is created for it, it is the same chat."""
    chat_id: ChatID
    name: str
    made_for: EventID | None = None
    """The command that asked for it; None: the set-up of the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteOwner:
    """Invite the owner to these rooms of theirs."""

    room_ids: tuple[RoomID, ...]


Step = CreateSpace | CreateChat | InviteOwner


def next_step(
    *,
    owner: UserID,
    home: Home | None,
    chats: Iterable[Chat],
    rooms: Iterable[Room],
    initial_chats: tuple[str, ...],
    reinvite_if_left: bool = False,
) -> Step | None:
    """What to do next so that the owner has a complete home; None if it is complete.

    Args:
        home: the owner's home; None only if it is certain that there is none.
        chats: every chat of the owner that is remembered, whatever its status.
        rooms: the home's Space and chats as they were just observed.
        initial_chats: what a new home is promised; one that exists keeps its own promise.
        reinvite_if_left: the owner asked for their home just now. Only then somebody who left
            or declined is invited again, and never whom somebody else removed. An owner who
            never was invited (a crash left it out) always is.
    """
    if home is None:
        return CreateSpace(purpose=f"home of {owner}", initial_chats=initial_chats)
    chats = tuple(chats)
    # By their numbers: the rooms that a chat had before upgrades are remembered, too.
    made = len({c.chat_id or c.room_id for c in chats if c.space_id == home.space_id})
    if made < len(home.initial_chats):
        return next_chat(
            chats, name=home.initial_chats[made], purpose=f"chat {made} of {home.space_id}"
        )
    missing = tuple(
        room.room_id
        for room in sorted(rooms, key=lambda room: room.age_key)
        if is_to_be_invited(room.members.get(owner), reinvite_if_left=reinvite_if_left)
    )
    return InviteOwner(room_ids=missing) if missing else None


def is_to_be_invited(member: Member | None, *, reinvite_if_left: bool) -> bool:
    """Whether the owner of a room, with this membership, is to be invited to it."""
    if member is None:
        return True
    return reinvite_if_left and member.membership == "leave" and not member.was_removed


def chat_for_command(chats: Iterable[Chat], *, name: str | None, command: EventID) -> CreateChat:
    """One more chat for the owner of these; without a name it is called by its number."""
    chat = next_chat(chats, name=name, purpose=f"command {command}")
    return replace(chat, made_for=command)


def next_chat(chats: Iterable[Chat], *, name: str | None, purpose: str) -> CreateChat:
    chat_id = next_chat_id({chat.chat_id for chat in chats if chat.chat_id})
    name = name or f"Chat {chat_number(chat_id)}"
    return CreateChat(chat_id=chat_id, name=name, purpose=purpose)


def alias_name(purpose: str, *, bot: UserID, generation: int) -> str:
    """The name by which the homeserver knows what was created for a purpose.

    Nobody can read from it whose room it is. A second generation is for an alias that belongs to
    somebody else, or to a room that the bot has left.
    """
    text = "\n".join([bot, purpose, str(generation)])
    return f"{ALIAS_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def with_alias(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The body of `POST /createRoom` for a room with an alias that clients do not show."""
    hidden = {"type": "m.room.canonical_alias", "state_key": "", "content": {}}
    return {
        **request,
        "room_alias_name": name,
        "initial_state": [*request["initial_state"], hidden],
    }


def is_allowed(user_id: UserID, *, allow: tuple[str, ...], bot: UserID) -> bool:
    """Whether this user may have a home. Without globs: the users of the bot's own server."""
    if user_id == bot:
        return False
    if not allow:
        return user_id.split(":", 1)[1] == bot.split(":", 1)[1]
    return any(fnmatchcase(user_id, glob) for glob in allow)


def space_request(
    *,
    bot: UserID,
    owner: UserID,
    name: str,
    topic: str,
    initial_chats: tuple[str, ...],
    version: str | None,
    avatar: str | None = None,
) -> dict[str, Any]:
    """The body of `POST /createRoom` for a home. `avatar` is an `mxc://` URL."""
    marker = Marker(room_type=RoomType.SPACE, user_id=owner, initial_chats=initial_chats)
    request = _room_request(
        bot=bot, owner=owner, name=name, version=version, marker=marker, avatar=avatar
    )
    request["topic"] = topic
    request["creation_content"] = {"type": "m.space"}
    request["power_level_content_override"]["events_default"] = (
        BOT_POWER  # nobody talks in a Space
    )
    return request


def chat_request(
    *,
    bot: UserID,
    owner: UserID,
    space_id: RoomID,
    step: CreateChat,
    version: str | None,
    encrypted: bool,
    avatar: str | None = None,
) -> dict[str, Any]:
    """The body of `POST /createRoom` for a chat: whoever is in the Space may join it.

    It gets no topic, because a chat's topic is what its owner tells the agent to be.
    """
    marker = Marker(
        room_type=RoomType.CHAT, user_id=owner, chat_id=step.chat_id, made_for=step.made_for
    )
    request = _room_request(
        bot=bot, owner=owner, name=step.name, version=version, marker=marker, avatar=avatar
    )
    request["initial_state"] += [
        {
            "type": "m.space.parent",
            "state_key": space_id,
            "content": parent_content(bot=bot),
        },
        {
            "type": "m.room.join_rules",
            "state_key": "",
            "content": {
                "join_rule": "restricted",
                "allow": [{"type": "m.room_membership", "room_id": space_id}],
            },
        },
    ]
    if encrypted:
        request["initial_state"].append(
            {
                "type": "m.room.encryption",
                "state_key": "",
                "content": {"algorithm": "m.megolm.v1.aes-sha2"},
            }
        )
    return request


def child_content(*, bot: UserID, order: str) -> dict[str, Any]:
    """The content of the `m.space.child` event that links a chat from its Space."""
    return {"via": [_server(bot)], "order": order, "suggested": True}


def removed_child_content(chat_id: ChatID | None) -> dict[str, Any]:
    """The content that takes a chat out of its Space's list, and remembers which one it was.

    So its number is not used again, also not when the bot has left it and the database is lost.
    """
    return {LINKED_CHAT_ID: chat_id} if chat_id else {}


def parent_content(*, bot: UserID) -> dict[str, Any]:
    """The content of the `m.space.parent` event by which a chat names its Space."""
    return {"via": [_server(bot)], "canonical": True}


def join_rules_content(
    content: Mapping[str, Any], *, space_id: RoomID, instead_of: Container[RoomID]
) -> dict[str, Any]:
    """Restricted join rules that admit the Space's members, not those of the former Spaces.

    Whatever else a person has added to the rules stays.
    """
    former = [
        condition
        for condition in content.get("allow", ())
        if isinstance(condition, dict) and condition.get("room_id") in instead_of
    ]
    if not former:
        return dict(content)
    admission = {"type": "m.room_membership", "room_id": space_id}
    others = [
        condition
        for condition in content["allow"]
        if condition not in former and condition != admission
    ]
    return {**content, "allow": [admission, *others]}


def _room_request(
    *,
    bot: UserID,
    owner: UserID,
    name: str,
    version: str | None,
    marker: Marker,
    avatar: str | None,
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "preset": "private_chat",
        "visibility": "private",
        "name": name,
        "invite": [owner],
        "initial_state": [
            {"type": MARKER_TYPE, "state_key": bot, "content": marker.to_content()},
            {
                "type": "m.room.guest_access",
                "state_key": "",
                "content": {"guest_access": "forbidden"},
            },
        ],
        "power_level_content_override": {},
    }
    if avatar:
        picture = {"type": "m.room.avatar", "state_key": "", "content": {"url": avatar}}
        request["initial_state"].append(picture)
    if version is not None:
        # Where the version is not known, nobody can say whether the bot must be listed or must
        # not; then the owner has no power of their own.
        users = {owner: OWNER_POWER}
        if _lists_creators(version):
            users[bot] = BOT_POWER
        request["power_level_content_override"]["users"] = users
        request["room_version"] = version
    return request


def _lists_creators(version: str) -> bool:
    is_number = version.isascii() and version.isdigit()
    return is_number and int(version) <= CREATORS_LISTED_UP_TO


def _server(user_id: UserID) -> str:
    return user_id.split(":", 1)[1]
