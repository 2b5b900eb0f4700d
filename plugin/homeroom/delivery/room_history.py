"""The conversation of a chat, from its room: what a platform that remembers nothing is told.

The room is the truth. What was read of it is kept in memory (`history_memory.py`), never in the
database, so a restart, or a lost database, changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.conversation.history import Line, conversation, latest, read_lines
from ..domain.conversation.turn import Turn, Utterance
from ..domain.homes.model import Chat
from ..domain.homes.room_state import read_predecessor
from ..domain.newest import put_newest
from ..homes.routes import Routes
from ..matrix.encryption import Opened, Unreadable
from ..matrix.errors import Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..storage import StoreError
from .history_memory import HistoryMemory, Memory, Scope

PAGES_AT_MOST: Final = 20
"""Pages of `/messages`, 100 events each, that are read for one turn."""
TRY_AGAIN_AFTER: Final = 10 * 60.0
"""Seconds after which it is tried again to open an event whose key was not there."""
UNREADABLE_AT_MOST: Final = 10_000

Decrypt = Callable[[RoomID, dict[str, Any]], Awaitable[Opened]]
"""`Encryption.decrypt`."""


@dataclass(slots=True, kw_only=True)
class RoomHistory:
    """The `History` of every chat.

    Args:
        decrypt: opens one raw event; what it cannot open is left out.
        on_lost_keys: told of rooms in which the bot cannot read what it said itself.
    """

    homeserver: Homeserver
    memory: HistoryMemory
    routes: Routes
    decrypt: Decrypt
    on_lost_keys: Callable[[RoomID], object]
    settings: Callable[[], Settings]
    log: TraceLogger
    _unreadable: dict[Any, float] = field(default_factory=dict, init=False)
    """Event IDs, and when it was tried to open them."""

    # What a platform asks

    async def before(self, turn: Turn) -> Sequence[Utterance]:
        """The conversation up to this turn, within the bounds of the settings.

        Raises:
            Unavailable: the room, or a key of it, cannot be read now.
        """
        chat = self.routes.chat(turn.room_id)
        scope = self._scope(chat) if chat else None
        if scope is None or not scope.messages or not scope.characters:
            return []
        memory = self.memory.find(
            turn.room_id, scope=scope, asked=turn.event_id, text=turn.text
        ) or await self._read(turn, scope)
        return self._told(list(memory.lines.values()), scope, turn)[0]

    def _scope(self, chat: Chat) -> Scope:
        settings = self.settings()
        return Scope(
            owner=chat.matrix_user_id,
            members=settings.hears_members(chat),
            since=chat.conversation.since if chat.conversation else None,
            messages=settings.platform.openai.history_messages,
            characters=settings.platform.openai.history_characters,
        )

    def _told(
        self, lines: Sequence[Line], scope: Scope, turn: Turn
    ) -> tuple[list[Utterance], bool]:
        said = conversation(
            lines,
            bot=self.homeserver.bot,
            owner=scope.owner,
            before=turn.event_id,
            since=scope.since,
        )
        return latest(said, messages=scope.messages, characters=scope.characters)

    # The room itself

    async def _read(self, turn: Turn, scope: Scope) -> Memory:
        """Read the room; what is heard and said meanwhile is added to what was read."""
        meanwhile = self.memory.begin(turn.room_id, scope=scope)
        try:
            lines = await self._read_back(turn, scope)
        except BaseException:
            self.memory.forget_if(turn.room_id, meanwhile)
            raise
        return self.memory.complete(turn.room_id, meanwhile, lines)

    async def _read_back(self, turn: Turn, scope: Scope) -> list[Line]:
        """Read until there is enough, back through the rooms that this one replaced."""
        events: list[Any] = []
        lines: list[Line] = []
        room_id, begin, pages = turn.room_id, 0, PAGES_AT_MOST
        try:
            while pages:
                async for page, older in self.homeserver.pages_back(room_id, at_most=pages):
                    pages -= 1
                    events += await self._open_all(room_id, page, scope)
                    lines = self._lines(room_id, events, scope)
                    _, is_enough = self._told(lines, scope, turn)
                    if is_enough or any(line.event_id == scope.since for line in lines):
                        return lines
                    if older is None:
                        predecessor = self._predecessor(room_id, events[begin:])
                        if predecessor is None:
                            return lines
                        room_id, begin = predecessor, len(events)
        except Refused as e:
            if room_id == turn.room_id:
                raise Unavailable(f"the history of {room_id}: {e}") from e
            self.log.info("The history of %s is not to be had any further: %s", room_id, e)
            return lines
        self.log.info("Read %d events of %s, and no further", len(events), turn.room_id)
        return lines

    def _lines(self, room_id: RoomID, events: Sequence[Any], scope: Scope) -> list[Line]:
        """The lines of these events, the latest of which comes first."""
        bot = self.homeserver.bot
        return [
            line if scope.hears(line.sender, bot=bot) else replace(line, text=None)
            for line in read_lines(room_id, reversed(events), bot=bot)
        ]

    async def _open_all(self, room_id: RoomID, page: Sequence[Any], scope: Scope) -> list[Any]:
        """A page in the clear. The oldest is opened first, as it was said before its copies."""
        opened = [await self._open(room_id, event, scope) for event in reversed(page)]
        return opened[::-1]

    async def _open(self, room_id: RoomID, event: Any, scope: Scope) -> Any:
        """The event in the clear; without content if it cannot be read, or is not heard."""
        if not isinstance(event, dict) or event.get("type") != "m.room.encrypted":
            return event
        event_id, sender, bot = event.get("event_id"), event.get("sender"), self.homeserver.bot
        closed = {**event, "content": {}}
        if not isinstance(sender, str) or not scope.hears(UserID(sender), bot=bot):
            return closed
        if time.monotonic() - self._unreadable.get(event_id, -math.inf) < TRY_AGAIN_AFTER:
            return closed
        try:
            return (await self.decrypt(room_id, event)).event
        except Unreadable as e:
            put_newest(self._unreadable, event_id, time.monotonic(), at_most=UNREADABLE_AT_MOST)
            if sender == bot and e.cause.is_missing:
                self.on_lost_keys(room_id)
            return closed
        except StoreError as e:
            raise Unavailable(str(e)) from e

    def _predecessor(self, room_id: RoomID, events: Sequence[Any]) -> RoomID | None:
        """The room that this one replaced, if that was the same owner's chat."""
        owner = self.routes.owner_of(room_id)
        for event in events:
            if isinstance(event, dict) and event.get("type") == "m.room.create":
                content = event.get("content")
                predecessor = read_predecessor(content if isinstance(content, dict) else {})
                if predecessor is not None and self.routes.owner_of(predecessor) == owner:
                    return predecessor
        return None
