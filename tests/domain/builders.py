"""Small words for observed rooms and stored rows, so that a scenario reads like its rule.

Everything has a harmless default: a home of Anna's, made by the bot, marked, with Anna in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mautrix.types import EventID, RoomID, UserID

from homeroom.domain.homes.ids import child_order, derive_platform_chat_id
from homeroom.domain.homes.marker import Marker, chat_marker
from homeroom.domain.homes.model import (
    Chat,
    ChatID,
    Conversation,
    Home,
    PlatformChatID,
    Records,
    RoomType,
    Status,
)
from homeroom.domain.homes.plan import (
    Change,
    Finding,
    FindingKind,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Plan,
    Repair,
    SetChat,
    SetHome,
    StampMarker,
    UnlinkChild,
)
from homeroom.domain.homes.topology import (
    ChildLink,
    Invite,
    MarkerProblem,
    Member,
    Room,
    Topology,
    Unreadable,
)

BOT = UserID("@bot:example.org")
ANNA = UserID("@anna:example.org")
BERT = UserID("@bert:example.org")
MALLORY = UserID("@mallory:evil.example")

HOME = RoomID("!home:example.org")
OTHER_HOME = RoomID("!other-home:example.org")
WORK = RoomID("!work:example.org")
PLAY = RoomID("!play:example.org")
NEW = RoomID("!new:example.org")
NEWER = RoomID("!newer:example.org")
ELSEWHERE = RoomID("!elsewhere:example.org")


def key(text: str) -> PlatformChatID:
    return PlatformChatID(text)


def derived(room_id: RoomID, conversation: Conversation | None = None) -> PlatformChatID:
    return derive_platform_chat_id(room_id, conversation=conversation)


def later(number: int = 1) -> Conversation:
    """The conversation after so many `!chat clear`."""
    return Conversation(number=number, since=EventID(f"$clear{number}"))


# What is observed


def members(**membership: str) -> dict[UserID, Member]:
    """`members(anna="join")`; the bot has always joined."""
    names = {"anna": ANNA, "bert": BERT, "mallory": MALLORY}
    return {
        BOT: Member(membership="join"),
        **{names[name]: Member(membership=value) for name, value in membership.items()},
    }


def link(*, sender: UserID = BOT, chat_id: str | None = None) -> ChildLink:
    return ChildLink(sender=sender, linked=True, chat_id=ChatID(chat_id) if chat_id else None)


def removed(*, sender: UserID = ANNA, chat_id: str | None = None) -> ChildLink:
    return replace(link(sender=sender, chat_id=chat_id), linked=False)


def space(
    room_id: RoomID = HOME,
    *,
    owner: UserID = ANNA,
    links: Iterable[RoomID] | Mapping[RoomID, ChildLink] = (),
    marked: bool = True,
    initial_chats: tuple[str, ...] = (),
    created_at: int = 100,
    creator: UserID = BOT,
    people: Mapping[UserID, Member] | None = None,
) -> Room:
    """A Space with its marker; `links` are the chats that the bot linked, or whole links."""
    marker = Marker(room_type=RoomType.SPACE, user_id=owner, initial_chats=initial_chats)
    return Room(
        room_id=room_id,
        creator=creator,
        created_at=created_at,
        is_space=True,
        marker=marker if marked else None,
        children=links if isinstance(links, Mapping) else dict.fromkeys(links, link()),
        members=_people(owner) if people is None else people,
    )


def chat(
    room_id: RoomID = WORK,
    *,
    owner: UserID = ANNA,
    chat_id: str | None = "C1",
    key: str | None = "",
    archived: bool = False,
    conversation: Conversation | None = None,
    marked: bool = True,
    name: str | None = None,
    parents: Iterable[RoomID] = (HOME,),
    admits: Iterable[RoomID] = (),
    created_at: int = 200,
    creator: UserID = BOT,
    people: Mapping[UserID, Member] | None = None,
) -> Room:
    """A chat with its marker; the key is the derived one unless said otherwise."""
    marker = Marker(
        room_type=RoomType.CHAT,
        user_id=owner,
        chat_id=ChatID(chat_id) if chat_id else None,
        platform_chat_id=_key(key, room_id, conversation),
        archived=archived,
        conversation=conversation,
    )
    return Room(
        room_id=room_id,
        creator=creator,
        created_at=created_at,
        name=name,
        marker=marker if marked else None,
        parents=frozenset(parents),
        admits=frozenset(admits),
        members=_people(owner) if people is None else people,
    )


def legacy_space(
    room_id: RoomID = HOME, *, links: Iterable[RoomID] = (WORK,), owner: UserID = ANNA
) -> Room:
    """A Space from before markers."""
    return space(room_id, owner=owner, links=links, marked=False)


def legacy_chat(room_id: RoomID = WORK, *, owner: UserID = ANNA, created_at: int = 200) -> Room:
    """A chat from before markers, which also named no parents."""
    return chat(room_id, owner=owner, marked=False, parents=(), created_at=created_at)


def foreign(
    room_id: RoomID = ELSEWHERE, *, creator: UserID = MALLORY, is_space: bool = False
) -> Room:
    """A room that somebody else made, as bare as an observation leaves it."""
    return Room(room_id=room_id, creator=creator, created_at=50, is_space=is_space)


def closed(room: Room, *, to: RoomID | None = None) -> Room:
    """The room with a tombstone in it."""
    return replace(room, is_tombstoned=True, replacement=to)


def successor(
    of: Room, room_id: RoomID = NEW, *, creator: UserID = ANNA, created_at: int = 300
) -> Room:
    """What an upgrade by `creator` makes of a room: the same people, no marker, no parents."""
    return replace(
        of,
        room_id=room_id,
        creator=creator,
        created_at=created_at,
        predecessor=of.room_id,
        is_tombstoned=False,
        replacement=None,
        marker=None,
        parents=frozenset(),
        other_parents=frozenset(),
        children={
            child: replace(link, sender=creator)
            for child, link in of.children.items()
            if link.linked
        },
    )


def with_bad_marker(room: Room, *, own: bool = True, reason: str = "broken") -> Room:
    return replace(room, marker=None, marker_problems=(MarkerProblem(reason=reason, own=own),))


def unreadable(room_id: RoomID) -> Unreadable:
    return Unreadable(room_id=room_id, reason="timed out")


def topology(*rooms: Room | Unreadable, invites: tuple[Invite, ...] = ()) -> Topology:
    return Topology(bot=BOT, rooms={room.room_id: room for room in rooms}, invites=invites)


def whole(*rooms: Room | Unreadable) -> Topology:
    """A look at every room that the bot is in."""
    return replace(topology(*rooms), is_whole=True)


# What is stored


def home_row(
    owner: UserID = ANNA,
    space_id: RoomID = HOME,
    *,
    status: Status | None = Status.ACTIVE,
    initial_chats: tuple[str, ...] = (),
) -> Home:
    return Home(
        matrix_user_id=owner, space_id=space_id, status=status, initial_chats=initial_chats
    )


def chat_row(
    room_id: RoomID = WORK,
    *,
    owner: UserID = ANNA,
    space_id: RoomID | None = HOME,
    chat_id: str | None = "C1",
    key: str | None = "",
    name: str | None = None,
    status: Status | None = Status.ACTIVE,
    conversation: Conversation | None = None,
) -> Chat:
    return Chat(
        room_id=room_id,
        matrix_user_id=owner,
        space_id=space_id,
        chat_id=ChatID(chat_id) if chat_id else None,
        platform_chat_id=_key(key, room_id, conversation),
        name=name,
        status=status,
        conversation=conversation,
    )


def records(*rows: Home | Chat) -> Records:
    return Records(
        homes={row.matrix_user_id: row for row in rows if isinstance(row, Home)},
        chats={row.room_id: row for row in rows if isinstance(row, Chat)},
    )


# What is planned


def added(row: Home | Chat) -> Change:
    return SetHome(before=None, after=row) if isinstance(row, Home) else _set_chat(None, row)


def changed(before: Home | Chat, after: Home | Chat) -> Change:
    if isinstance(before, Home):
        assert isinstance(after, Home)
        return SetHome(before=before, after=after)
    assert isinstance(after, Chat)
    return _set_chat(before, after)


def stamped(row: Home | Chat) -> Repair:
    """The stamp that writes what a row says into its room."""
    if isinstance(row, Chat):
        return StampMarker(room_id=row.room_id, marker=chat_marker(row))
    marker = Marker(
        room_type=RoomType.SPACE, user_id=row.matrix_user_id, initial_chats=row.initial_chats
    )
    return StampMarker(room_id=row.space_id, marker=marker)


def linked(room_id: RoomID, *, space_id: RoomID = HOME, chat_id: str = "C1") -> Repair:
    return LinkChild(space_id=space_id, room_id=room_id, order=child_order(ChatID(chat_id)))


def unlinked(room_id: RoomID, *, space_id: RoomID = HOME) -> Repair:
    return UnlinkChild(space_id=space_id, room_id=room_id)


def moved(room_id: RoomID, *, space_id: RoomID = HOME, former: tuple[RoomID, ...] = ()) -> Repair:
    return MoveToSpace(room_id=room_id, space_id=space_id, former=former)


def followed(room_id: RoomID, to: RoomID, *, owner: UserID = ANNA) -> Repair:
    return JoinReplacement(room_id=room_id, replacement=to, user_id=owner)


def finding(
    kind: FindingKind, room_id: RoomID, *, owner: UserID | None = ANNA, detail: str = ""
) -> Finding:
    return Finding(kind=kind, room_id=room_id, user_id=owner, detail=detail)


def plan(
    observed: Topology,
    *,
    changes: tuple[Change, ...] = (),
    repairs: tuple[Repair, ...] = (),
    findings: tuple[Finding, ...] = (),
) -> Plan:
    return Plan(
        rooms=len(observed.rooms),
        changes=changes,
        repairs=repairs,
        findings=findings,
        unreadable=observed.unreadable,
    )


def _set_chat(before: Chat | None, after: Chat) -> SetChat:
    return SetChat(before=before, after=after)


def _people(owner: UserID) -> dict[UserID, Member]:
    return {BOT: Member(membership="join"), owner: Member(membership="join")}


def _key(
    key: str | None, room_id: RoomID, conversation: Conversation | None
) -> PlatformChatID | None:
    if key is None:
        return None
    return PlatformChatID(key) if key else derived(room_id, conversation)
