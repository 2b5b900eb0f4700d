"""Which chat gets which ids.

A chat asks for what its marker says, then for what its row says; where two ask for the same, the
older keeps it and the younger goes on to its next source. Who is left without gets the owner's
next free `chat_id`, and the `platform_chat_id` derived from its room (of an upgraded room: from
the first one) for its conversation; one that is the key of another conversation does not count.
Ids held by a row whose room could not be read are not given away: unknown is not absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from mautrix.types import RoomID, UserID

from .ids import chat_number, derive_platform_chat_id, is_platform_chat_id, next_chat_id
from .model import Chat, ChatID, PlatformChatID
from .ownership import Claim, RequestedIds
from .plan import Finding, FindingKind

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids that a chat gets."""

    chat_id: ChatID
    platform_chat_id: PlatformChatID


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbering:
    """The ids of every current chat."""

    of_room: dict[RoomID, Ids]
    contested: frozenset[RoomID]
    """Chats whose marker lost an id to a row that could not be checked: their markers stay."""
    findings: tuple[Finding, ...]


def assign_ids(
    chats: Sequence[Claim], *, held_back: Sequence[Chat], retired: Iterable[Chat]
) -> Numbering:
    """Give every chat its ids.

    Args:
        chats: the current chats, the older first.
        held_back: rows that keep what they have, because nothing is known of their rooms.
        retired: rows that are not routed; their chat ids are not used again for new chats.
    """
    numbers = _first_come(
        _asks_for_numbers(chats),
        held=(
            ((row.matrix_user_id, row.chat_id), row.room_id) for row in held_back if row.chat_id
        ),
    )
    keys = _first_come(
        _asks_for_keys(chats),
        held=((row.platform_chat_id, row.room_id) for row in held_back if row.platform_chat_id),
    )
    refusals: list[_Ask[Any]] = [*numbers.refusals, *keys.refusals]
    unchecked = {row.room_id for row in held_back}
    return Numbering(
        of_room=_with_new_ids(chats, numbers=numbers, keys=keys, retired=retired),
        contested=frozenset(
            ask.claim.room.room_id for ask in refusals if ask.is_marked and ask.holder in unchecked
        ),
        findings=(
            *(
                _duplicate(FindingKind.DUPLICATE_CHAT_ID, ask, ask.key[1])
                for ask in numbers.refusals
            ),
            *(
                _duplicate(FindingKind.DUPLICATE_PLATFORM_CHAT_ID, ask, ask.key)
                for ask in keys.refusals
            ),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask(Generic[Key]):
    """A chat asks for an id, because of its marker or because of its row."""

    claim: Claim
    key: Key
    is_marked: bool
    holder: RoomID | None = None
    """Who has it already, where it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given(Generic[Key]):
    """Who holds which id: one id a room, one room an id."""

    holders: dict[Key, RoomID]
    of_room: dict[RoomID, Key]
    """Of the chats that asked."""
    refusals: tuple[_Ask[Key], ...]


def _asks_for_numbers(chats: Iterable[Claim]) -> Iterator[_Ask[tuple[UserID, ChatID]]]:
    for claim, ids, is_marked in _sources(chats):
        if ids.chat_id and chat_number(ids.chat_id):
            yield _Ask(claim=claim, key=(claim.owner, ids.chat_id), is_marked=is_marked)


def _asks_for_keys(chats: Iterable[Claim]) -> Iterator[_Ask[PlatformChatID]]:
    for claim, ids, is_marked in _sources(chats):
        if (
            ids.platform_chat_id
            and is_platform_chat_id(ids.platform_chat_id)
            and ids.conversation == claim.conversation
        ):
            yield _Ask(claim=claim, key=ids.platform_chat_id, is_marked=is_marked)


def _sources(chats: Iterable[Claim]) -> Iterator[tuple[Claim, RequestedIds, bool]]:
    """What all markers say, before what any row says."""
    chats = list(chats)
    yield from ((claim, claim.marked, True) for claim in chats)
    yield from ((claim, claim.stored, False) for claim in chats)


def _first_come(asks: Iterable[_Ask[Key]], *, held: Iterable[tuple[Key, RoomID]]) -> _Given[Key]:
    """Give each id to the room that asks first; who has one already asks for nothing."""
    holders: dict[Key, RoomID] = {}
    for key, room_id in held:
        holders.setdefault(key, room_id)
    of_room: dict[RoomID, Key] = {}
    refusals: list[_Ask[Key]] = []
    for ask in asks:
        room_id = ask.claim.room.room_id
        if room_id in of_room:
            continue
        holder = holders.setdefault(ask.key, room_id)
        if holder == room_id:
            of_room[room_id] = ask.key
        else:
            refusals.append(replace(ask, holder=holder))
    return _Given(holders=holders, of_room=of_room, refusals=tuple(refusals))


def _with_new_ids(
    chats: Iterable[Claim],
    *,
    numbers: _Given[tuple[UserID, ChatID]],
    keys: _Given[PlatformChatID],
    retired: Iterable[Chat],
) -> dict[RoomID, Ids]:
    """The ids of every chat; whoever has got none gets one that was never used."""
    used: dict[UserID, set[ChatID]] = {}
    for owner, chat_id in numbers.holders:
        used.setdefault(owner, set()).add(chat_id)
    for row in retired:
        if row.chat_id:
            used.setdefault(row.matrix_user_id, set()).add(row.chat_id)
    taken = set(keys.holders)
    of_room: dict[RoomID, Ids] = {}
    for claim in chats:
        room_id, of_owner = claim.room.room_id, used.setdefault(claim.owner, set())
        if room_id in numbers.of_room:
            _, chat_id = numbers.of_room[room_id]
        else:
            chat_id = next_chat_id(of_owner)
            of_owner.add(chat_id)
        key = keys.of_room.get(room_id) or derive_platform_chat_id(
            claim.origin, conversation=claim.conversation, taken=taken
        )
        taken.add(key)
        of_room[room_id] = Ids(chat_id, key)
    return of_room


def _duplicate(kind: FindingKind, refusal: _Ask[Any], wanted: str) -> Finding:
    return Finding(
        kind=kind,
        room_id=refusal.claim.room.room_id,
        user_id=refusal.claim.owner,
        detail=f"{wanted} belongs to {refusal.holder}",
    )
