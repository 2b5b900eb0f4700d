"""The conversation of a chat, from its room: what a platform that remembers nothing is told.

The room is the truth. What was read of it is kept in memory and goes on with what is heard and
said; whatever cannot simply be added (an edit, a redaction, a gap, a new conversation) drops the
memory of that room, and the next turn reads it again. There is never a copy in the database, so a
restart, or a lost database, changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.conversation.history import Edit, Line, conversation, latest, read_event, read_lines
from ..domain.homes.model import Chat
from ..domain.homes.room_state import read_predecessor
from ..domain.sync.news import Encrypted, Message
from ..homes.routes import Routes
from ..matrix.encryption import KeyMissing, Undecryptable
from ..matrix.errors import Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..platforms import Turn, Utterance
from ..storage import StoreError

PAGES_AT_MOST: Final = 20
"""Pages of `/messages`, 100 events each, that are read for one turn."""
LINES_AT_MOST: Final = 5_000
"""Of one room in memory; one that grows beyond is read again."""
CHARACTERS_AT_MOST: Final = 20_000_000
"""Of all rooms in memory; beyond that, the room that was used longest ago is forgotten."""

Decrypt = Callable[[RoomID, dict[str, Any]], Awaitable[dict[str, Any]]]
"""`Encryption.decrypt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What decides what the conversation is; when it changes, the room is read again."""

    owner: UserID
    members: bool
    """Whether other people's words count."""
    since: EventID | None
    messages: int
    characters: int

    def hears(self, sender: UserID, *, bot: UserID) -> bool:
        return self.members or sender in {self.owner, bot}


class _Memory:
    """The lines of one room, oldest first."""

    def __init__(self, scope: _Scope) -> None:
        self.scope = scope
        self.lines: dict[EventID, Line] = {}
        self.characters = 0
        self.is_read = False
        self._latest = 0

    def is_whole_before(self, event_id: EventID) -> bool:
        """Whether the event is known, and everything before it read and decrypted."""
        for line in self.lines.values() if self.is_read else ():
            if line.event_id == event_id:
                return True
            if line.is_sealed:
                break
        return False

    def fits(self, line: Line) -> bool:
        """Whether the line comes after all the others, as far as anybody can tell."""
        return line.sent_at == 0 or line.sent_at >= self._latest

    def add(self, line: Line, *, bot: UserID) -> None:
        if not self.scope.hears(line.sender, bot=bot):
            line = replace(line, text=None, is_sealed=False)
        before = self.lines.get(line.event_id)
        self.lines[line.event_id] = line
        self.characters += len(line.text or "") - (len(before.text or "") if before else 0)
        self._latest = max(self._latest, line.sent_at)


class RoomHistory:
    """The `History` of every chat.

    Args:
        decrypt: opens one raw event; what it cannot open is left out.
    """

    def __init__(
        self,
        *,
        homeserver: Homeserver,
        routes: Routes,
        decrypt: Decrypt,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._homeserver = homeserver
        self._routes = routes
        self._decrypt = decrypt
        self._settings = settings
        self._log = log
        self._memories: OrderedDict[RoomID, _Memory] = OrderedDict()
        self._characters = 0

    # What a platform asks

    async def before(self, turn: Turn) -> Sequence[Utterance]:
        """The conversation up to this turn, within the bounds of the settings.

        Raises:
            Unavailable: the room, or a key of it, cannot be read now.
        """
        chat = self._routes.chat(turn.room_id)
        scope = self._scope(chat) if chat else None
        if scope is None or not scope.messages or not scope.characters:
            return []
        memory = self._remembered(turn, scope) or await self._read(turn, scope)
        return self._told(list(memory.lines.values()), scope, turn)[0]

    def _scope(self, chat: Chat) -> _Scope:
        settings = self._settings()
        return _Scope(
            owner=chat.matrix_user_id,
            members=settings.answer_members,
            since=chat.conversation.since if chat.conversation else None,
            messages=settings.platform.openai.history_messages,
            characters=settings.platform.openai.history_characters,
        )

    def _told(
        self, lines: Sequence[Line], scope: _Scope, turn: Turn
    ) -> tuple[list[Utterance], bool]:
        on_sent = conversation(
            lines,
            bot=self._homeserver.bot,
            owner=scope.owner,
            before=turn.event_id,
            since=scope.since,
        )
        return latest(on_sent, messages=scope.messages, characters=scope.characters)

    def _remembered(self, turn: Turn, scope: _Scope) -> _Memory | None:
        """What is remembered of the room, if nothing before the turn is missing in it."""
        memory = self._memories.get(turn.room_id)
        if memory is None or memory.scope != scope or not memory.is_whole_before(turn.event_id):
            return None
        self._memories.move_to_end(turn.room_id)
        asked = memory.lines[turn.event_id]
        if asked.is_sealed:
            # A turn has been decrypted; for later turns it is part of what was before.
            self._add(turn.room_id, memory, replace(asked, text=turn.text, is_sealed=False))
        return memory

    # What is heard and said meanwhile

    def on_message(self, message: Message | Encrypted) -> None:
        """Somebody said something in a room."""
        memory = self._memories.get(message.room_id)
        if memory is None or message.event_id in memory.lines:
            return
        line = Line(
            event_id=message.event_id,
            sender=message.sender,
            sent_at=message.sent_at,
            text=message.text if isinstance(message, Message) else None,
            is_sealed=isinstance(message, Encrypted),
        )
        if memory.fits(line):
            self._add(message.room_id, memory, line)
        else:
            self.forget(message.room_id)

    def on_sent(
        self, room_id: RoomID, event_id: EventID | None, content: Mapping[str, Any]
    ) -> None:
        """The bot said something in a room. No event ID: nobody knows whether it did."""
        memory = self._memories.get(room_id)
        if memory is None:
            return
        bot = self._homeserver.bot
        event = {
            "type": "m.room.message",
            "event_id": event_id,
            "sender": bot,
            "content": content,
        }
        match read_event(room_id, event, bot=bot):
            case Line() as line:
                self._add(room_id, memory, line)
            case Edit() as edit if edit.event_id in memory.lines:
                self._add(room_id, memory, edit.apply(memory.lines[edit.event_id]))
            case _:
                self.forget(room_id)

    def forget(self, room_id: RoomID) -> None:
        """The room is not what it was: the next turn reads it again."""
        memory = self._memories.pop(room_id, None)
        if memory is not None:
            self._characters -= memory.characters

    def _add(self, room_id: RoomID, memory: _Memory, line: Line) -> None:
        before = memory.characters
        memory.add(line, bot=self._homeserver.bot)
        self._characters += memory.characters - before
        if len(memory.lines) > LINES_AT_MOST:
            self.forget(room_id)
        self._make_room()

    def _make_room(self) -> None:
        while self._characters > CHARACTERS_AT_MOST:
            self.forget(next(iter(self._memories)))

    # The room itself

    async def _read(self, turn: Turn, scope: _Scope) -> _Memory:
        """Read the room; what is heard and said meanwhile is added to what was read."""
        self.forget(turn.room_id)
        meanwhile = self._memories[turn.room_id] = _Memory(scope)
        try:
            lines = await self._read_back(turn, scope)
        except BaseException:
            self._forget_if(turn.room_id, meanwhile)
            raise
        memory = _Memory(scope)
        for line in lines:
            memory.add(line, bot=self._homeserver.bot)
        for line in meanwhile.lines.values():
            if line.event_id not in memory.lines:
                memory.add(line, bot=self._homeserver.bot)
        memory.is_read = True
        if self._forget_if(turn.room_id, meanwhile):
            self._memories[turn.room_id] = memory
            self._characters += memory.characters
            self._make_room()
        return memory

    def _forget_if(self, room_id: RoomID, memory: _Memory) -> bool:
        """Forget the room if this is still what is remembered of it; whether it was."""
        is_it = self._memories.get(room_id) is memory
        if is_it:
            self.forget(room_id)
        return is_it

    async def _read_back(self, turn: Turn, scope: _Scope) -> list[Line]:
        """Read until there is enough, back through the rooms that this one replaced."""
        events: list[Any] = []
        room_id, token, begin = turn.room_id, None, 0
        for _ in range(PAGES_AT_MOST):
            page, token = await self._page(room_id, token, is_needed=room_id == turn.room_id)
            events += [await self._open(room_id, event) for event in page]
            lines = self._lines(room_id, events, scope)
            _, is_enough = self._told(lines, scope, turn)
            if is_enough or any(line.event_id == scope.since for line in lines):
                return lines
            if token is None:
                predecessor = self._predecessor(room_id, events[begin:])
                if predecessor is None:
                    return lines
                room_id, begin = predecessor, len(events)
        self._log.info("Read %d events of %s, and no further", len(events), turn.room_id)
        return lines

    def _lines(self, room_id: RoomID, events: Sequence[Any], scope: _Scope) -> list[Line]:
        """The lines of these events, the latest of which comes first."""
        bot = self._homeserver.bot
        return [
            line if scope.hears(line.sender, bot=bot) else replace(line, text=None)
            for line in read_lines(room_id, reversed(events), bot=bot)
        ]

    async def _page(
        self, room_id: RoomID, token: str | None, *, is_needed: bool
    ) -> tuple[list[Any], str | None]:
        try:
            return await self._homeserver.messages_before(room_id, token, until=None)
        except Refused as e:
            if is_needed:
                raise Unavailable(f"the history of {room_id}: {e}") from e
            self._log.info("The history of %s is not to be had any further: %s", room_id, e)
            return [], None

    async def _open(self, room_id: RoomID, event: Any) -> Any:
        """The event in the clear; without content if it cannot be read."""
        if not isinstance(event, dict) or event.get("type") != "m.room.encrypted":
            return event
        try:
            return await self._decrypt(room_id, event)
        except (KeyMissing, Undecryptable):
            return {**event, "content": {}}
        except StoreError as e:
            raise Unavailable(str(e)) from e

    def _predecessor(self, room_id: RoomID, events: Sequence[Any]) -> RoomID | None:
        """The room that this one replaced, if that was the same owner's chat."""
        owner = self._routes.owner_of(room_id)
        for event in events:
            if isinstance(event, dict) and event.get("type") == "m.room.create":
                content = event.get("content")
                predecessor = read_predecessor(content if isinstance(content, dict) else {})
                if predecessor is not None and self._routes.owner_of(predecessor) == owner:
                    return predecessor
        return None
