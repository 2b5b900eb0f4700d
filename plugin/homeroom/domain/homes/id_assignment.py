"""Which chat gets which ids.

A chat asks for what its marker says, then for what its row says; where two ask for the same, the
older keeps it and the younger goes on to its next source. Who is left without gets the owner's
next free `chat_id`, and the `platform_chat_id` derived from its room (of an upgraded room: from
the first one) for its conversation; one that is the key of another conversation does not count.
Ids held by a row whose room could not be read are not given away: unknown is not absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

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
    chats: Iterable[Claim], *, held_back: Iterable[Chat], retired: Iterable[Chat]
) -> Numbering:
    """Give every chat its ids.

    Args:
        chats: the current chats, the older first.
        held_back: rows that keep what they have, because nothing is known of their rooms.
        retired: rows that are not routed; their chat ids are not used again for new chats.
    """
    registry = _Registry(held_back)
    chats = list(chats)
    for claim in chats:
        registry.ask(claim, claim.marked)
    for claim in chats:
        registry.ask(claim, claim.stored)
    registry.reserve(retired)
    return Numbering(
        of_room={claim.room.room_id: registry.ids(claim) for claim in chats},
        contested=frozenset(registry.contested),
        findings=tuple(registry.findings),
    )


class _Ledger(Generic[Key]):
    """Who holds which id: first come, first served, one id a room."""

    def __init__(self) -> None:
        self.holders: dict[Key, RoomID] = {}
        self.of_room: dict[RoomID, Key] = {}

    def ask(self, key: Key, room_id: RoomID) -> RoomID | None:
        """Give the id to the room unless it has one already; returns who else holds it."""
        if room_id in self.of_room:
            return None
        holder = self.holders.setdefault(key, room_id)
        if holder != room_id:
            return holder
        self.of_room[room_id] = key
        return None


class _Registry:
    """Collects what chats ask for, and gives out each id once."""

    def __init__(self, held_back: Iterable[Chat]) -> None:
        self.findings: list[Finding] = []
        self.contested: set[RoomID] = set()
        self._numbers: _Ledger[tuple[UserID, ChatID]] = _Ledger()
        self._keys: _Ledger[PlatformChatID] = _Ledger()
        self._used: dict[UserID, set[ChatID]] = {}
        self._held_back = {row.room_id for row in held_back}
        for row in held_back:
            if row.chat_id:
                self._numbers.ask((row.matrix_user_id, row.chat_id), row.room_id)
            if row.platform_chat_id:
                self._keys.ask(row.platform_chat_id, row.room_id)

    def ask(self, claim: Claim, requested: RequestedIds) -> None:
        room_id = claim.room.room_id
        if requested.chat_id and chat_number(requested.chat_id):
            holder = self._numbers.ask((claim.owner, requested.chat_id), room_id)
            self._note_loss(claim, FindingKind.DUPLICATE_CHAT_ID, requested.chat_id, holder)
            self._note_contest(claim, requested, holder)
        if (
            requested.platform_chat_id
            and is_platform_chat_id(requested.platform_chat_id)
            and requested.conversation == claim.conversation
        ):
            holder = self._keys.ask(requested.platform_chat_id, room_id)
            kind = FindingKind.DUPLICATE_PLATFORM_CHAT_ID
            self._note_loss(claim, kind, requested.platform_chat_id, holder)
            self._note_contest(claim, requested, holder)

    def reserve(self, retired: Iterable[Chat]) -> None:
        """From here on new chat ids are given out, and none that was ever used."""
        for owner, chat_id in self._numbers.holders:
            self._used.setdefault(owner, set()).add(chat_id)
        for row in retired:
            if row.chat_id:
                self._used.setdefault(row.matrix_user_id, set()).add(row.chat_id)

    def ids(self, claim: Claim) -> Ids:
        room_id = claim.room.room_id
        if room_id not in self._numbers.of_room:
            used = self._used.setdefault(claim.owner, set())
            chat_id = next_chat_id(used)
            used.add(chat_id)
            self._numbers.ask((claim.owner, chat_id), room_id)
        if room_id not in self._keys.of_room:
            key = derive_platform_chat_id(
                claim.origin, conversation=claim.conversation, taken=self._keys.holders
            )
            self._keys.ask(key, room_id)
        return Ids(self._numbers.of_room[room_id][1], self._keys.of_room[room_id])

    def _note_contest(self, claim: Claim, requested: RequestedIds, holder: RoomID | None) -> None:
        if requested is claim.marked and holder in self._held_back:
            self.contested.add(claim.room.room_id)

    def _note_loss(
        self, claim: Claim, kind: FindingKind, requested: str, holder: RoomID | None
    ) -> None:
        if holder is None:
            return
        self.findings.append(
            Finding(
                kind=kind,
                room_id=claim.room.room_id,
                user_id=claim.owner,
                detail=f"{requested} belongs to {holder}",
            )
        )
