"""Saying things in rooms.

Everything that is said answers something: an event, or an occasion. The transaction ID is made
from that, so saying it a second time after an unknown outcome does not show it twice. What answers
an event also names it, so that the room itself tells what was answered, whatever else is lost.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final
from uuid import uuid4

from mautrix.types import (
    EventID,
    FileInfo,
    Format,
    MediaMessageEventContent,
    MessageType,
    RoomID,
    TextMessageEventContent,
)

from ..domain.conversation.answer_parts import Question, weight
from ..domain.sync.news import ANSWERS, MORE_TO_COME, Message
from .homeserver import Homeserver
from .message_text import parts, render, speakable, to_html

MAX_HTML: Final = 28_000
"""Bytes of HTML in one message, as `MAX_WEIGHT`; where it would be longer there is none."""
_OF_HTML: Final = ("format", "formatted_body")


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
        self, question: Question, markdown: str, *, part: int, has_more: bool
    ) -> EventID:
        """Pass on what the platform said: one message of it, as long as fits.

        `part` is its number in the answer, from 0. `has_more`: it will be edited, or followed.
        """
        content = await self._answer_content(question, markdown, has_more=has_more)
        if question.thread_root is not None:
            content["m.relates_to"] = _in_thread(question.thread_root)
        txn_id = _txn_id(question.event_id, part)
        return await self._homeserver.send(question.room_id, content, txn_id=txn_id)

    async def edit_answer(
        self,
        question: Question,
        answer_id: EventID,
        markdown: str,
        *,
        has_more: bool,
        best_effort: bool = False,
    ) -> None:
        """Replace one message of an answer.

        Never the same transaction twice, because the same text may come again after another one.

        Raises:
            RateLimited: it was `hasty`, and can be sent later.
        """
        content = await self._answer_content(question, markdown, has_more=has_more)
        edit = {
            **{key: value for key, value in content.items() if key not in _OF_HTML},
            "body": f"* {content['body']}",
            "m.new_content": content,
            "m.relates_to": {"rel_type": "m.replace", "event_id": answer_id},
        }
        if question.thread_root is not None:
            content["m.relates_to"] = _in_thread(question.thread_root)
        txn_id = _txn_id(f"{question.event_id} {uuid4()}", 0)
        await self._homeserver.send(question.room_id, edit, txn_id=txn_id, best_effort=best_effort)

    async def is_encrypted(self, room_id: RoomID) -> bool:
        return await self._homeserver.is_encrypted(room_id)

    async def _answer_content(
        self, question: Question, markdown: str, *, has_more: bool
    ) -> dict[str, Any]:
        """The body is the Markdown itself, so that the conversation can be read back."""
        is_encrypted = await self.is_encrypted(question.room_id)
        body, html = speakable(markdown), to_html(markdown)
        content: dict[str, Any] = {
            "msgtype": "m.text",
            "body": body,
            "m.mentions": {},
            ANSWERS: question.event_id,
        }
        if html is not None and weight(html, encrypted=is_encrypted) <= MAX_HTML:
            content |= {"format": "org.matrix.custom.html", "formatted_body": html}
        if has_more:
            content[MORE_TO_COME] = True
        return content

    async def _say(
        self,
        room_id: RoomID,
        markdown: str,
        msgtype: MessageType,
        about: str,
        thread_root: EventID | None,
    ) -> EventID:
        first = None
        divided = parts(markdown)
        for number, part in enumerate(divided):
            content = await _content(part, msgtype)
            if about.startswith("$"):
                content[ANSWERS] = about
                if number < len(divided) - 1:
                    content[MORE_TO_COME] = True
            if thread_root is not None:
                content.set_thread_parent(thread_root, disable_reply_fallback=True)
            sent = await self._homeserver.send(room_id, content, txn_id=_txn_id(about, number))
            first = first or sent
        assert first is not None
        return first


async def _content(markdown: str, msgtype: MessageType) -> TextMessageEventContent:
    body, html = await render(markdown)
    content = TextMessageEventContent(msgtype=msgtype, body=body)
    if html is not None:
        content.format, content.formatted_body = Format.HTML, html
    content["m.mentions"] = {}
    return content


def _in_thread(root: EventID) -> dict[str, str]:
    return {"rel_type": "m.thread", "event_id": root}


def _txn_id(about: str, part: int) -> str:
    digest = hashlib.sha256(about.encode()).hexdigest()[:32]
    return f"homeroom-{digest}-{part}"
