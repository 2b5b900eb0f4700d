"""The newest question of a chat, read from the room, for whoever wants it answered once more.

What counts is what was said before the event that asks for that, so that the same question is
found however often it is looked for, also after a crash, whatever was said since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..domain.commands import parse_command
from ..domain.content_keys import ANSWERS
from ..domain.conversation.asked_again import Answered, answer_to, as_edited
from ..domain.json_shapes import as_dict
from ..domain.sync.news import Edited, Message, read_encrypted, read_message
from ..domain.sync.timeline import sent_at
from ..matrix.encryption import Opened, Unreadable
from ..matrix.errors import Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..runtime.retry import RetryPolicy, retry

PAGES_AT_MOST: Final = 10
"""Pages of `/messages`, 100 events each, that are read to find it."""
THERE_SOON: Final = RetryPolicy(pauses=(0.5, 1, 2), within=3)
"""A worker of the homeserver may hear of an event later than `/sync` told of it."""


class _NotThereError(Exception):
    """The event is not in what was read of the timeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A question that was asked before, as it is now, and its answer."""

    message: Message
    answered: Answered

    def is_about(self, event_id: EventID) -> bool:
        """Whether this is the question, or a message of its answer."""
        return event_id in (self.message.event_id, *self.answered.messages)


@dataclass(slots=True, kw_only=True)
class EarlierQuestions:
    """Finds the question that is to be answered once more.

    Args:
        decrypt: opens one raw event.
    """

    homeserver: Homeserver
    decrypt: Callable[[RoomID, dict[str, Any]], Awaitable[Opened]]
    log: TraceLogger

    async def newest(
        self,
        room_id: RoomID,
        *,
        before: EventID,
        since: EventID | None,
        hears: Callable[[UserID], bool],
    ) -> Earlier | None:
        """The newest question before an event; None: there is none (any more) that can be read.

        Args:
            before: an edit of the question counts, too, if it is this event.
            since: where the conversation begins.

        Where the room does not tell of that event, after a moment either, there is none.

        Raises:
            Unavailable: the room cannot be read now.
        """
        try:
            return await retry(
                lambda: self._newest(room_id, before=before, since=since, hears=hears),
                policy=THERE_SOON,
                on=(_NotThereError,),
                failed=lambda _, seconds: self.log.debug(
                    "Looking for %s in %s s", before, seconds
                ),
            )
        except _NotThereError:
            self.log.info("%s is not in the timeline of %s", before, room_id)
            return None
        except Refused as e:
            raise Unavailable(f"the timeline of {room_id}: {e}") from e

    async def _newest(
        self,
        room_id: RoomID,
        *,
        before: EventID,
        since: EventID | None,
        hears: Callable[[UserID], bool],
    ) -> Earlier | None:
        events: list[dict[str, Any]] = []
        """The latest first."""
        answered: set[object] = set()
        begin: int | None = None
        async for page, _ in self.homeserver.pages_back(room_id, at_most=PAGES_AT_MOST):
            for event in map(as_dict, page):
                events.append(event)
                answered.add(as_dict(event.get("content")).get(ANSWERS))
                is_gone = not event.get("content") and event.get("event_id") in answered
                if event.get("event_id") == since or is_gone:
                    return None
                if event.get("event_id") == before:
                    begin = len(events) - 1
                elif begin is not None and (asked := await self._read(room_id, event, hears)):
                    return await self._complete(asked, event, events, begin)
        if begin is None:
            raise _NotThereError
        return None

    async def _read(
        self, room_id: RoomID, event: dict[str, Any], hears: Callable[[UserID], bool]
    ) -> Message | None:
        """The question that an event is; None: it is none."""
        bot = self.homeserver.bot
        sealed = read_encrypted(room_id, event, bot=bot)
        said = sealed or read_message(room_id, event, bot=bot)
        if said is None or not hears(said.sender):
            return None
        clear = await self._open(room_id, event) if sealed else event
        message = read_message(room_id, clear, bot=bot) if clear else None
        if message is None or not message.is_text or parse_command(message.text) is not None:
            return None
        return message

    async def _open(self, room_id: RoomID, event: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return (await self.decrypt(room_id, event)).event
        except Unreadable as e:
            self.log.info("Passed over %s: %s", event.get("event_id"), e)
            return None

    async def _complete(
        self,
        message: Message,
        event: dict[str, Any],
        events: Sequence[dict[str, Any]],
        begin: int,
    ) -> Earlier:
        """The question as its newest edit before `begin` has it."""
        answered = answer_to(message.event_id, reversed(events), bot=self.homeserver.bot)
        for later in events[begin:]:
            relation = as_dict(as_dict(later.get("content")).get("m.relates_to"))
            if (
                relation.get("rel_type") != "m.replace"
                or relation.get("event_id") != message.event_id
                or later.get("sender") != message.sender
            ):
                continue
            is_sealed = later.get("type") == "m.room.encrypted"
            if not is_sealed and event.get("type") == "m.room.encrypted":
                continue  # what was said in secret is not replaced in the clear
            clear = await self._open(message.room_id, later) if is_sealed else later
            edit = Edited(
                room_id=message.room_id,
                event_id=message.event_id,
                sender=message.sender,
                edit_id=EventID(str(later["event_id"])),
                sent_at=sent_at(later) or 0,
            )
            now = as_edited(message, edit, clear or {})
            if now.version is not None:
                return Earlier(message=now, answered=answered)
        return Earlier(message=message, answered=answered)
