"""Saying things in rooms.

Everything that is said answers something: an event, or an occasion. The transaction ID is made
from that, so saying it a second time after an unknown outcome does not show it twice. What answers
an event also names it, so that the room itself tells what was answered, whatever else is lost.
"""

from __future__ import annotations

import hashlib
from typing import Final

from maubot.matrix import parse_formatted
from mautrix.types import (
    EventID,
    FileInfo,
    Format,
    MediaMessageEventContent,
    MessageType,
    RoomID,
    TextMessageEventContent,
)

from .adapters.homeserver import Homeserver
from .domain.events import ANSWERS, MORE_TO_COME, Message

MAX_TEXT: Final = 15_000
"""Characters in one event: with its HTML and in the worst encoding below the limit of 65,536
bytes (https://spec.matrix.org/latest/client-server-api/#size-limits)."""


class Speaker:
    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver

    async def notice(
        self, room_id: RoomID, markdown: str, *, about: str, thread_root: EventID | None = None
    ) -> EventID:
        """Say something of Homeroom's own, as a notice. Returns the (first) event."""
        return await self._say(room_id, markdown, MessageType.NOTICE, about, thread_root)

    async def reply(self, message: Message, markdown: str) -> None:
        """Say something of Homeroom's own about a message, where it was said."""
        await self.notice(
            message.room_id, markdown, about=message.event_id, thread_root=message.thread_root
        )

    async def edit(self, room_id: RoomID, event_id: EventID, markdown: str, *, about: str) -> None:
        """Replace a notice by another text of one event's length."""
        content = await _content(markdown, MessageType.NOTICE)
        content.set_edit(event_id)
        await self._homeserver.send(room_id, content, txn_id=_txn_id(about, 0))

    async def attach(self, room_id: RoomID, filename: str, text: str, *, about: str) -> None:
        """Attach a text file; in encrypted rooms the text is sent as messages instead."""
        if await self._homeserver.is_encrypted(room_id):
            await self.notice(room_id, f"```\n{text}\n```", about=about)
            return
        content = MediaMessageEventContent(
            msgtype=MessageType.FILE,
            body=filename,
            url=await self._homeserver.upload(text, filename=filename),
            info=FileInfo(mimetype="text/plain", size=len(text.encode())),
        )
        await self._homeserver.send(room_id, content, txn_id=_txn_id(about, 0))

    async def answer(
        self, room_id: RoomID, markdown: str, *, about: str, thread_root: EventID | None = None
    ) -> None:
        """Pass on what the platform said."""
        await self._say(room_id, markdown, MessageType.TEXT, about, thread_root)

    async def _say(
        self,
        room_id: RoomID,
        markdown: str,
        msgtype: MessageType,
        about: str,
        thread_root: EventID | None,
    ) -> EventID:
        first = None
        parts = split(markdown, limit=MAX_TEXT)
        for number, part in enumerate(parts):
            content = await _content(part, msgtype)
            if about.startswith("$"):
                content[ANSWERS] = about
                if number < len(parts) - 1:
                    content[MORE_TO_COME] = True
            if thread_root is not None:
                content.set_thread_parent(thread_root, disable_reply_fallback=True)
            sent = await self._homeserver.send(room_id, content, txn_id=_txn_id(about, number))
            first = first or sent
        assert first is not None
        return first


async def _content(markdown: str, msgtype: MessageType) -> TextMessageEventContent:
    body, html = await parse_formatted(markdown)
    return TextMessageEventContent(
        msgtype=msgtype, body=body, format=Format.HTML, formatted_body=html
    )


def split(text: str, *, limit: int) -> list[str]:
    """Divide a text into parts of at most `limit` characters, at paragraph ends where possible.

    Nothing is lost but the blanks at the places where it was divided.
    """
    parts = []
    while len(text) > limit:
        cut = next(
            (
                position
                for separator in ("\n\n", "\n", " ")
                if (position := text.rfind(separator, limit // 2, limit)) > 0
            ),
            limit,
        )
        parts.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*parts, text]


def _txn_id(about: str, part: int) -> str:
    digest = hashlib.sha256(about.encode()).hexdigest()[:32]
    return f"homeroom-{digest}-{part}"
