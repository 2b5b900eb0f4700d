"""Saying things in rooms.

Everything that is said answers something: an event, or an occasion. The transaction ID is made
from that, so saying it a second time after an unknown outcome does not show it twice.
"""

from __future__ import annotations

import hashlib
from typing import Final

from maubot.matrix import parse_formatted
from mautrix.types import EventID, Format, MessageType, RoomID, TextMessageEventContent

from .adapters.homeserver import Homeserver

MAX_TEXT: Final = 15_000
"""Characters in one event: with its HTML and in the worst encoding below the limit of 65,536
bytes (https://spec.matrix.org/latest/client-server-api/#size-limits)."""


class Speaker:
    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver

    async def notice(
        self, room_id: RoomID, markdown: str, *, about: str, thread_root: EventID | None = None
    ) -> None:
        """Say something of Homeroom's own, as a notice."""
        await self._say(room_id, markdown, MessageType.NOTICE, about, thread_root)

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
    ) -> None:
        for number, part in enumerate(split(markdown, limit=MAX_TEXT)):
            body, html = await parse_formatted(part)
            content = TextMessageEventContent(
                msgtype=msgtype, body=body, format=Format.HTML, formatted_body=html
            )
            if thread_root is not None:
                content.set_thread_parent(thread_root, disable_reply_fallback=True)
            await self._homeserver.send(room_id, content, txn_id=_txn_id(about, number))


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
