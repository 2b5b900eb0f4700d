"""The checkpoint as the bot's account data holds it: one head, and shards of rows.

    dev.homeroom.checkpoint      the head: up to which sync position these rows are the whole
                                 truth, their digest, and slot and checksum of every shard
    dev.homeroom.checkpoint.N.S  a shard in its slot, 0 or 1: the rows of some owners

An owner is always in the same shard, so that what one person does rewrites one shard. The number
of shards grows with the rows; then everything is written again, as another generation. A shard is
written to the slot that the head does not name, and the head last: whatever ends that in between
leaves the old checkpoint.

Only the bot can write its account data, but other software of the same account can, too. So
nothing is taken for granted: sizes are bounded, every value is checked, and what is wrong is a
`Damaged` with the reason. Each event carries its data as one text, so that a checksum is that of
the text, whatever a homeserver does to the order of keys. A row says nothing that the marker of
its room, or the room itself, does not say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final, TypeVar

from mautrix.types import RoomID, SyncToken, UserID

from .ids import chat_number, is_platform_chat_id, read_conversation
from .model import Chat, ChatID, Home, PlatformChatID, Records, RoomType, Status
from .place import Place

HEAD_TYPE: Final = "dev.homeroom.checkpoint"
VERSION: Final = 1
ROWS_IN_SHARD: Final = 256
"""On average, at most. That is some 50 kB: small enough for any proxy, and few requests."""
MAX_SHARDS: Final = 4096
SLOTS: Final = (0, 1)
MAX_TEXT: Final = 1024 * 1024
"""Characters of one event's data."""
MAX_REASON: Final = 200
"""Characters of why a room is parked."""
MAX_LENGTH: Final = 65536
"""Characters of one text in a row; no event is larger."""
_CHECKSUM_SIZE: Final = 16

Content = dict[str, Any]
"""The content of an account data event."""
Write = tuple[str, Content]
"""Type and content of an account data event that is to be written."""
T = TypeVar("T")
Row = TypeVar("Row", Home, Chat)


class Damaged(ValueError):
    """This is not what was written, or not what can be read; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a checkpoint: what it is of, and which shards belong to it."""

    checkpoint: str
    """The text that goes with these rows in the database, too (`checkpoint.py`)."""
    position: SyncToken
    saved_at: int
    """When the position was saved, in milliseconds since 1970."""
    generation: int
    """Which of the divisions into shards this is."""
    shards: tuple[str, ...]
    """The checksum of each."""
    slots: tuple[int, ...]
    """The slot that each is in."""
    parked: tuple[Place, ...] = ()
    """Rooms that go on from a place of their own, not from the position."""

    @property
    def shard_types(self) -> list[str]:
        """Where its shards are."""
        return [shard_type(number, slot=slot) for number, slot in enumerate(self.slots)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the account data holds, as far as it was read."""

    head: Head | None = None
    shards: tuple[str | None, ...] = ()
    """The checksums of the shards as they are; None: damaged or missing."""
    records: Records | None = None
    """The rows in them; None: they were not looked at."""


def shard_type(number: int, *, slot: int) -> str:
    return f"{HEAD_TYPE}.{number}.{slot}"


def shard_of(owner: UserID, count: int) -> int:
    """The number of the shard that this owner's rows are in."""
    digest = blake2b(owner.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count


def shard_count(rows: int, *, before: int = 0) -> int:
    """How many shards so many rows need; as many as `before` unless that is far from it."""
    needed = 1
    while needed * ROWS_IN_SHARD < rows and needed < MAX_SHARDS:
        needed *= 2
    return before if needed <= before <= 8 * needed else needed


# Writing


def writes(
    records: Records,
    *,
    checkpoint: str,
    position: SyncToken,
    saved_at: int,
    parked: Sequence[Place] = (),
    present: Present,
) -> tuple[Head, list[Write]]:
    """What has to be written, in this order, so that account data holds this checkpoint.

    Args:
        checkpoint: the text that goes with these records.
        present: what account data holds now.

    Raises:
        Damaged: a shard, or the head, would be too large to be read again.
    """
    before = 0 if present.head is None else len(present.head.shards)
    count = shard_count(len(records.homes) + len(records.chats), before=before)
    generation = 1
    if present.head is not None:
        generation = present.head.generation + (count != before)
    shards: list[str | None] = [None] * count
    if count == before:
        shards = [*present.shards[:count], *[None] * (count - len(present.shards))]
    slots = [1] * count
    if present.head is not None:
        slots[:before] = present.head.slots[:count]
    wanted = set(range(count))
    if count == before and present.records is not None and None not in shards:
        changed = changed_owners(present.records, records)
        wanted = {shard_of(owner, count) for owner in changed}
    written: list[Write] = []
    for number, text in _shard_texts(records, wanted, count=count, generation=generation).items():
        if checksum(text) != shards[number]:
            shards[number] = checksum(text)
            slots[number] = 1 - slots[number]
            content = _content(text, f"shard {number}")
            written.append((shard_type(number, slot=slots[number]), content))
    head = Head(
        checkpoint=checkpoint,
        position=position,
        saved_at=saved_at,
        generation=generation,
        shards=tuple(shard for shard in shards if shard is not None),
        slots=tuple(slots),
        parked=tuple(replace(place, why=place.why[:MAX_REASON]) for place in parked),
    )
    if head != present.head or written:
        written.append((HEAD_TYPE, _content(_head_text(head), "the head")))
        written += _emptied(range(count, before))
    return head, written


def erasures(shards: int) -> list[Write]:
    """What has to be written so that there is no checkpoint any more: the head goes first."""
    return [(HEAD_TYPE, {}), *_emptied(range(shards))]


def _emptied(numbers: Iterable[int]) -> list[Write]:
    return [(shard_type(number, slot=slot), {}) for number in numbers for slot in SLOTS]


def changed_owners(before: Records, after: Records) -> frozenset[UserID]:
    """Whose rows are not the same."""
    homes = {home.matrix_user_id for home in _different(before.homes, after.homes)}
    chats = {chat.matrix_user_id for chat in _different(before.chats, after.chats)}
    return frozenset(homes | chats)


def _different(before: Mapping[Any, Row], after: Mapping[Any, Row]) -> Iterable[Row]:
    for key, row in after.items():
        old = before.get(key)
        if old is not row and old != row:
            yield row
            if old is not None:
                yield old
    yield from (old for key, old in before.items() if key not in after)


def checksum(text: str) -> str:
    return blake2b(text.encode(), digest_size=_CHECKSUM_SIZE).hexdigest()


def _content(text: str, name: str) -> Content:
    if len(text) > MAX_TEXT:
        raise Damaged(f"{name} would have {len(text)} characters")
    return {"version": VERSION, "checksum": checksum(text), "data": text}


def _head_text(head: Head) -> str:
    return _dump(
        {
            "checkpoint": head.checkpoint,
            "position": head.position,
            "saved_at": head.saved_at,
            "generation": head.generation,
            "shards": head.shards,
            "slots": head.slots,
            "parked": [astuple(place) for place in head.parked],
        }
    )


@dataclass(slots=True)
class _Rows:
    """What a shard has of one owner."""

    home: list[Any] | None = None
    chats: list[list[Any]] = field(default_factory=list)


def _shard_texts(
    records: Records, wanted: set[int], *, count: int, generation: int
) -> dict[int, str]:
    owners: dict[int, dict[UserID, _Rows]] = {number: {} for number in sorted(wanted)}
    places = {owner: shard_of(owner, count) for owner in _owners(records)}

    def place(owner: UserID) -> _Rows | None:
        shard = owners.get(places[owner])
        return None if shard is None else shard.setdefault(owner, _Rows())

    for home in records.homes.values():
        if (rows := place(home.matrix_user_id)) is not None:
            rows.home = _home_values(home)
    for chat in records.chats.values():
        if (rows := place(chat.matrix_user_id)) is not None:
            rows.chats.append(_chat_values(chat))
    return {
        number: _dump(
            {
                "generation": generation,
                "number": number,
                "owners": {
                    owner: [rows.home, sorted(rows.chats)] for owner, rows in shard.items()
                },
            }
        )
        for number, shard in owners.items()
    }


def _owners(records: Records) -> set[UserID]:
    return {
        *records.homes,
        *(home.matrix_user_id for home in records.homes.values()),
        *(chat.matrix_user_id for chat in records.chats.values()),
    }


def _home_values(home: Home) -> list[Any]:
    return [home.space_id, home.status and home.status.value, list(home.initial_chats)]


def _chat_values(chat: Chat) -> list[Any]:
    return [
        chat.room_id,
        chat.space_id,
        chat.chat_id,
        chat.platform_chat_id,
        chat.name,
        chat.status and chat.status.value,
        chat.room_type and chat.room_type.value,
        chat.conversation and chat.conversation.number,
        chat.conversation and chat.conversation.since,
        chat.answer,
    ]


def _dump(value: Any) -> str:
    """ASCII only: a name may have half a surrogate pair in it, which UTF-8 has not."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# Reading


def read_head(content: object) -> Head | None:
    """Read the head; None: there is no checkpoint.

    Raises:
        Damaged: there is one, or was, but this is none.
    """
    if content is None or content == {}:
        return None
    data = _data(content, "the head")
    shards, slots = data.get("shards"), data.get("slots")
    if not isinstance(shards, list) or not 1 <= len(shards) <= MAX_SHARDS:
        raise Damaged("the head has no list of shards")
    if not isinstance(slots, list) or len(slots) != len(shards):
        raise Damaged("the head has no list of slots")
    if any(type(slot) is not int or slot not in SLOTS for slot in slots):
        raise Damaged("the head names a slot that there is not")
    try:
        parked = tuple(_place(*values) for values in data.get("parked", ()))
    except TypeError:
        raise Damaged("the head has no list of parked rooms") from None
    return Head(
        checkpoint=_text(data.get("checkpoint")),
        position=SyncToken(_text(data.get("position"))),
        saved_at=_whole(data.get("saved_at")),
        generation=_whole(data.get("generation")),
        shards=tuple(map(_text, shards)),
        slots=tuple(slots),
        parked=parked,
    )


def shard_checksum(content: object) -> str | None:
    """The checksum of the text that a shard's event holds; None: it holds none."""
    text = content.get("data") if isinstance(content, dict) else None
    if not isinstance(text, str) or len(text) > MAX_TEXT or not text.isascii():
        return None
    return checksum(text)


def read_shard(content: object, *, head: Head, number: int) -> Records:
    """Read the rows of one shard.

    Raises:
        Damaged: it is not the one that the head is about.
    """
    name = f"shard {number}"
    if content is None or content == {}:
        raise Damaged(f"{name} is missing")
    data = _data(content, name)
    if data.get("generation") != head.generation or data.get("number") != number:
        raise Damaged(f"{name} is of another generation or number")
    if shard_checksum(content) != head.shards[number]:
        raise Damaged(f"{name} is not the one that the head was written with")
    owners = data.get("owners")
    if not isinstance(owners, dict):
        raise Damaged(f"{name} has no owners")
    homes: dict[UserID, Home] = {}
    chats: dict[RoomID, Chat] = {}
    try:
        for owner, values in owners.items():
            home, rows = values
            if home is not None:
                homes[UserID(owner)] = _home(UserID(owner), *home)
            for row in rows:
                chat = _chat(UserID(owner), *row)
                chats[chat.room_id] = chat
    except (TypeError, ValueError) as e:
        raise Damaged(f"{name} has a row that cannot be read: {str(e)[:100]}") from e
    return Records(homes=homes, chats=chats)


def joined(shards: Iterable[Records]) -> Records:
    """The rows of all shards."""
    homes: dict[UserID, Home] = {}
    chats: dict[RoomID, Chat] = {}
    for shard in shards:
        homes.update(shard.homes)
        chats.update(shard.chats)
    return Records(homes=homes, chats=chats)


def _data(content: object, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise Damaged(f"{name} is not an object")
    if content.get("version") != VERSION:
        raise Damaged(f"{name} is of version {str(content.get('version'))[:20]}, not {VERSION}")
    text = content.get("data")
    if not isinstance(text, str) or not text.isascii():
        raise Damaged(f"{name} has no data")
    if len(text) > MAX_TEXT:
        raise Damaged(f"{name} has more than {MAX_TEXT} characters")
    if checksum(text) != content.get("checksum"):
        raise Damaged(f"{name} was altered: its checksum is another one")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise Damaged(f"{name} is not JSON") from None
    if not isinstance(data, dict):
        raise Damaged(f"{name} is not an object")
    return data


def _place(room_id: Any, since: Any, why: Any, parked_at: Any) -> Place:
    return Place(
        room_id=RoomID(_text(room_id)),
        since=_optional(_text, since),
        why=_text(why),
        parked_at=_whole(parked_at),
    )


def _home(owner: UserID, space_id: Any, status: Any, initial_chats: Any) -> Home:
    return Home(
        matrix_user_id=UserID(_text(owner)),
        space_id=RoomID(_text(space_id)),
        status=_optional(Status, status),
        initial_chats=tuple(map(_text, initial_chats)),
    )


def _chat(
    owner: UserID,
    room_id: Any,
    space_id: Any,
    chat_id: Any,
    platform_chat_id: Any,
    name: Any,
    status: Any,
    room_type: Any,
    number: Any,
    since: Any,
    answer: Any,
) -> Chat:
    if chat_id is not None and chat_number(ChatID(_text(chat_id))) is None:
        raise Damaged("no chat ID")
    if platform_chat_id is not None and not is_platform_chat_id(_text(platform_chat_id)):
        raise Damaged("no platform chat ID")
    conversation = None if number is None else read_conversation(number, since)
    if number is not None and conversation is None:
        raise Damaged("no conversation")
    if answer not in (None, "members"):
        raise Damaged("nobody whom it answers")
    return Chat(
        room_id=RoomID(_text(room_id)),
        matrix_user_id=UserID(_text(owner)),
        space_id=_optional(lambda value: RoomID(_text(value)), space_id),
        chat_id=_optional(ChatID, chat_id),
        platform_chat_id=_optional(PlatformChatID, platform_chat_id),
        name=name if name == "" else _optional(_text, name),
        status=_optional(Status, status),
        room_type=_optional(RoomType, room_type),
        conversation=conversation,
        answer=answer,
    )


def _optional(read: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else read(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LENGTH:
        raise Damaged("a text is missing, or too long")
    return value


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise Damaged("a number is missing, or too large")
    return value
