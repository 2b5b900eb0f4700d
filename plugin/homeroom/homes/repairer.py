"""Finishing in Matrix what was left undone: by the bot that died, or by whoever upgraded a room.

Repairs come from a plan and are carried out at the pace that the homeserver allows, long after
the plan was made if need be. So each is checked once more, under the owner's lock, against the
routes and against the room itself, before anything is written. A failed one is logged; the next
reconcile asks for it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.homes.marker import MARKER_TYPE, Marker, chat_marker, is_newborn
from ..domain.homes.model import RoomType, Status
from ..domain.homes.plan import (
    InviteToReplacement,
    JoinReplacement,
    LinkChild,
    MoveToSpace,
    Repair,
    StampMarker,
    UnlinkChild,
)
from ..domain.homes.provisioning import child_content, join_rules_content, parent_content
from ..domain.never import assert_never
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.outgoing import Priority
from ..runtime.batches import batches
from ..storage import StoreError
from .checkpoint_state import CheckpointState
from .owner_locks import OwnerLocks
from .reconciler import Reconciler
from .routes import Routes

LOOKS_AT_ONCE: Final = 100
"""Repaired rooms that are scanned together."""


@dataclass(slots=True, kw_only=True)
class Repairer:
    """Carries out the repairs of a plan, each checked once more before it is written."""

    homeserver: Homeserver
    reconciler: Reconciler
    routes: Routes
    checkpoint_state: CheckpointState
    locks: OwnerLocks
    speaker: Speaker
    settings: Callable[[], Settings]
    log: TraceLogger

    async def run(self, repairs: Iterable[Repair]) -> None:
        """Carry out the repairs, one after the other, each under its owner's lock.

        Then scan the rooms, so that it is known whether anything is left to do.
        """
        repaired: set[RoomID] = set()
        for repair in repairs:
            owner = self._owner(repair)
            if owner is not None:
                await self.homeserver.until_turn(Priority.REPAIR)
                async with self.locks.of(owner):
                    await self.run_locked([repair], owner=owner)
                repaired.add(repair.room_id)
        try:
            for some in batches(sorted(repaired), LOOKS_AT_ONCE):
                await self.reconciler.rescan(some)
        except (HomeserverError, StoreError) as e:
            self.log.debug("Could not scan what was repaired: %s", e)

    async def run_locked(self, repairs: Iterable[Repair], *, owner: UserID) -> None:
        """Carry out this owner's repairs; the caller holds the owner's lock."""
        for repair in repairs:
            if self._owner(repair) != owner or not self._is_due(repair):
                continue
            try:
                await self._carry_out(repair, owner=owner)
            except HomeserverError as e:
                self.log.warning("%s of %s failed: %s", type(repair).__name__, repair.room_id, e)
                if isinstance(e, Refused):
                    self.checkpoint_state.note_refused(repair.room_id)

    def _owner(self, repair: Repair) -> UserID | None:
        if isinstance(repair, StampMarker):
            return repair.marker.user_id
        if isinstance(repair, JoinReplacement):
            return repair.user_id
        return self.routes.owner_of(repair.room_id)

    def _is_due(self, repair: Repair) -> bool:
        match repair:
            case StampMarker(room_id=room_id, marker=marker):
                if marker.room_type is RoomType.SPACE:
                    return self.routes.home(marker.user_id) is not None
                chat = self.routes.chat(room_id)
                return chat is not None and chat_marker(chat, before=marker) == marker
            case LinkChild(space_id=space_id, room_id=room_id):
                chat = self.routes.chat(room_id)
                return (
                    chat is not None and chat.status is Status.ACTIVE and chat.space_id == space_id
                )
            case UnlinkChild(room_id=room_id):
                return self.routes.chat(room_id) is None
            case MoveToSpace(room_id=room_id, space_id=space_id):
                chat = self.routes.chat(room_id)
                return chat is not None and chat.space_id == space_id
            case JoinReplacement() | InviteToReplacement():
                return True
            case _:
                assert_never(repair)

    async def _carry_out(self, repair: Repair, *, owner: UserID) -> None:
        bot = self.homeserver.bot
        match repair:
            case StampMarker(room_id=room_id, marker=marker):
                now = await self.homeserver.state_content(room_id, MARKER_TYPE, state_key=bot)
                if now is not None and is_newborn(now):
                    await self._greet(room_id, marker)
                content = marker.keeping(now).to_content()
                if now != content:
                    await self.homeserver.put_state(room_id, MARKER_TYPE, content, state_key=bot)
            case LinkChild(space_id=space_id, room_id=room_id, order=order):
                kind = "m.space.child"
                if await self.homeserver.state_content(space_id, kind, state_key=room_id) is None:
                    content = child_content(bot=bot, order=order)
                    await self.homeserver.put_state(space_id, kind, content, state_key=room_id)
            case UnlinkChild(space_id=space_id, room_id=room_id):
                await self._empty(space_id, "m.space.child", state_key=room_id)
            case MoveToSpace():
                await self._move(repair)
            case InviteToReplacement(room_id=room_id, user_id=user_id):
                kind = "m.room.member"
                if await self.homeserver.state_content(room_id, kind, state_key=user_id) is None:
                    await self.homeserver.invite(room_id, user_id)
            case JoinReplacement(room_id=room_id, replacement=replacement):
                await self.homeserver.join(replacement, via=_servers(bot, room_id, replacement))
                seen = await self.reconciler.rescan({room_id, replacement})
                # The chat has moved: its new room is to be marked and linked.
                more = [other for other in seen.plan.repairs if other != repair]
                await self.run_locked(more, owner=owner)
            case _:
                assert_never(repair)

    async def _greet(self, room_id: RoomID, marker: Marker) -> None:
        """Say the first words in a new chat, before its marker says that it is complete.

        So the room itself tells whether it was greeted, and a greeting that a crash left out, or
        left in doubt, is sent with the same transaction ID.
        """
        text = replies.greeting(self.settings().welcome, chat_id=marker.chat_id)
        if text:
            await self.speaker.notice(room_id, text, about=f"greeting {room_id}")

    async def _move(self, repair: MoveToSpace) -> None:
        room_id, space_id = repair.room_id, repair.space_id
        kind = "m.space.parent"
        if await self.homeserver.state_content(room_id, kind, state_key=space_id) is None:
            content = parent_content(bot=self.homeserver.bot)
            await self.homeserver.put_state(room_id, kind, content, state_key=space_id)
        for former in repair.former:
            await self._empty(room_id, kind, state_key=former)
        rules = await self.homeserver.state_content(room_id, "m.room.join_rules") or {}
        content = join_rules_content(rules, space_id=space_id, instead_of=repair.former)
        if content != rules:
            await self.homeserver.put_state(room_id, "m.room.join_rules", content)

    async def _empty(self, room_id: RoomID, event_type: str, *, state_key: str) -> None:
        """Write a state event without content, which is how Matrix removes one."""
        if await self.homeserver.state_content(room_id, event_type, state_key=state_key):
            await self.homeserver.put_state(room_id, event_type, {}, state_key=state_key)


def _servers(bot: UserID, *room_ids: RoomID) -> list[str]:
    """Servers to join through: those in the room IDs (none from room version 12 on), our own."""
    named = [room_id.split(":", 1)[1] for room_id in room_ids if ":" in room_id]
    return [*reversed(named), bot.split(":", 1)[1]]
