"""What is remembered of the chats' conversations, and what is said in them meanwhile.

It goes on with what is heard and said; whatever cannot simply be added (an edit, a redaction, a
gap) drops the memory of that room, and the next turn reads the room again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID

from ..domain.conversation.history import Edit, Line, read_event
from ..domain.sync.news import Encrypted, Message

LINES_AT_MOST: Final = 5_000
"""Of one room in memory; one that grows beyond is read again."""
CHARACTERS_AT_MOST: Final = 20_000_000
"""Of all rooms in memory; beyond that, the room that was used longest ago is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What decides what the conversation is; when it changes, the room is read again."""

    owner: UserID
    members: bool
    """Whether other people's words count."""
    since: EventID | None
    messages: int
    characters: int

    def hears(self, sender: UserID, *, bot: UserID) -> bool:
        return self.members or sender in {self.owner, bot}


class Memory:
    """The lines of one room, oldest first."""

    def __init__(self, scope: Scope) -> None:
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


class HistoryMemory:
    """The conversations that were read, each going on as long as nothing contradicts it."""

    def __init__(self, *, bot: UserID) -> None:
        self._bot = bot
        self._memories: OrderedDict[RoomID, Memory] = OrderedDict()
        self._characters = 0

    def find(self, room_id: RoomID, *, scope: Scope, asked: EventID, text: str) -> Memory | None:
        """What is remembered of the room, if nothing before the turn is missing in it.

        Args:
            asked: the turn's message.
            text: what it says.
        """
        memory = self._memories.get(room_id)
        if memory is None or memory.scope != scope or not memory.is_whole_before(asked):
            return None
        self._memories.move_to_end(room_id)
        line = memory.lines[asked]
        if line.is_sealed:
            # A turn has been decrypted; for later turns it is part of what was before.
            self._add(room_id, memory, replace(line, text=text, is_sealed=False))
        return memory

    def begin(self, room_id: RoomID, *, scope: Scope) -> Memory:
        """Collect what is heard and said in a room while it is read."""
        self.forget(room_id)
        memory = self._memories[room_id] = Memory(scope)
        return memory

    def complete(self, room_id: RoomID, meanwhile: Memory, lines: Iterable[Line]) -> Memory:
        """Put what was read before what came `meanwhile`; kept unless the room changed by then."""
        memory = Memory(meanwhile.scope)
        for line in lines:
            memory.add(line, bot=self._bot)
        for line in meanwhile.lines.values():
            if line.event_id not in memory.lines:
                memory.add(line, bot=self._bot)
        memory.is_read = True
        if self.forget_if(room_id, meanwhile):
            self._memories[room_id] = memory
            self._characters += memory.characters
            self._make_room()
        return memory

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
        event = {
            "type": "m.room.message",
            "event_id": event_id,
            "sender": self._bot,
            "content": content,
        }
        match read_event(room_id, event, bot=self._bot):
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

    def _add(self, room_id: RoomID, memory: Memory, line: Line) -> None:
        before = memory.characters
        memory.add(line, bot=self._bot)
        self._characters += memory.characters - before
        if len(memory.lines) > LINES_AT_MOST:
            self.forget(room_id)
        self._make_room()

    def _make_room(self) -> None:
        while self._characters > CHARACTERS_AT_MOST:
            self.forget(next(iter(self._memories)))

    def forget_if(self, room_id: RoomID, memory: Memory) -> bool:
        """Forget the room if this is still what is remembered of it; whether it was."""
        is_it = self._memories.get(room_id) is memory
        if is_it:
            self.forget(room_id)
        return is_it
