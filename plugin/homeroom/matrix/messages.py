"""Saying things in rooms.

Everything that is said answers an event, or belongs to an occasion. The transaction ID is made
from that, so saying it a second time after an unknown outcome does not show it twice. Everything
names the event that it answers, or says that it answers none: the room itself tells what was
answered, whatever else is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

from mautrix.types import EventID, RoomID

from ..domain.content_keys import ANSWERS, ASKED, MORE_TO_COME, NOTHING
from ..domain.conversation.answer_parts import Question
from ..domain.conversation.text_parts import divide, weight
from ..domain.sync.news import Message
from ..storage import Store
from .errors import HomeserverError
from .homeserver import Homeserver
from .message_text import speakable, to_html, to_plain
from .outgoing import Priority

MAX_HTML: Final = 28_000
"""Bytes of HTML in one message, as `MAX_WEIGHT`; where it would be longer there is none."""
_OF_HTML: Final = ("format", "formatted_body")
LIVE: Final = "org.matrix.msc4357.live"
"""In a message that still grows (https://github.com/matrix-org/matrix-spec-proposals/pull/4357)."""
GROWING: Final = " …"
"""At the end of what is shown of a message that still grows; its `body` is the text alone."""

Kind = Literal["notice", "edit", "redaction", "reaction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """An edit of an answer, which may have to be sent more than once."""

    room_id: RoomID
    content: Mapping[str, Any]
    txn_id: str


class Speaker:
    """Sends messages: notices, answers and their edits, files."""

    def __init__(self, homeserver: Homeserver, *, store: Store) -> None:
        self._homeserver = homeserver
        self._store = store

    async def notice(
        self,
        room_id: RoomID,
        markdown: str,
        *,
        about: str,
        thread_root: EventID | None = None,
        priority: Priority = Priority.NOTICE,
        fixed_words: bool = False,
    ) -> EventID:
        """Say something of Homeroom's own, as a notice. Returns the (first) event.

        Args:
            fixed_words: as in `Homeserver.send`.
        """
        sent = list[EventID]()
        parts = divide(markdown, encrypted=await self.seems_encrypted(room_id))
        for number, part in enumerate(parts):
            content = await self._notice(
                room_id, part, about=about, has_more=number < len(parts) - 1
            )
            event_id = await self._homeserver.send(
                room_id,
                {**content, **_in_thread(thread_root)},
                txn_id=_txn_id(about, number, kind="notice"),
                priority=priority,
                fixed_words=fixed_words,
            )
            sent.append(event_id)
        return sent[0]

    async def reply(self, message: Message, markdown: str) -> None:
        """Say something of Homeroom's own about a message, where it was said."""
        await self.notice(
            message.room_id,
            markdown,
            about=message.event_id,
            thread_root=message.thread_root,
            priority=Priority.WAITED_FOR,
        )

    async def notice_once(
        self, room_id: RoomID, kind: str, markdown: str, *, about: str, every_ms: int
    ) -> None:
        """Send a notice of fixed words, unless the room had one of its kind for so long.

        Raises:
            HomeserverError: it could not be sent; then it does not count.
            StoreError: it is not known when the last one was.
        """
        await self._once(
            room_id,
            kind,
            every_ms=every_ms,
            say=lambda: self.notice(room_id, markdown, about=about, fixed_words=True),
        )

    async def reply_once(
        self, message: Message, kind: str, markdown: str, *, every_ms: int
    ) -> bool:
        """`reply` as seldom as `notice_once`; whether it did."""
        return await self._once(
            message.room_id, kind, every_ms=every_ms, say=lambda: self.reply(message, markdown)
        )

    async def _once(
        self,
        room_id: RoomID,
        kind: str,
        *,
        every_ms: int,
        say: Callable[[], Awaitable[object]],
    ) -> bool:
        if not await self._store.claim_notice(room_id, kind, every_ms=every_ms):
            return False
        try:
            await say()
        except HomeserverError:
            await self._store.give_back_notice(room_id, kind)
            raise
        return True

    async def edit(self, room_id: RoomID, event_id: EventID, markdown: str, *, about: str) -> None:
        """Replace a notice by another text of one event's length."""
        content = await self._notice(room_id, markdown, about=about, has_more=False)
        txn_id = _txn_id(about, 0, kind="edit")
        await self._homeserver.send(room_id, _replacing(event_id, content), txn_id=txn_id)

    async def attach(self, room_id: RoomID, filename: str, text: str, *, about: str) -> None:
        """Attach a text file; in encrypted rooms the text is sent as messages instead."""
        if await self.is_encrypted(room_id):
            await self.notice(room_id, f"```\n{text}\n```", about=about)
            return
        content = {
            "msgtype": "m.file",
            "body": filename,
            "url": await self._homeserver.upload(text, filename=filename),
            "info": {"mimetype": "text/plain", "size": len(text.encode())},
            ANSWERS: _answered(about),
        }
        txn_id = _txn_id(about, 0, kind="notice")
        await self._homeserver.send(room_id, content, txn_id=txn_id)

    async def answer(
        self,
        question: Question,
        markdown: str,
        *,
        part: int,
        has_more: bool,
        is_growing: bool = False,
    ) -> EventID:
        """Pass on what the platform said: one message of it, as long as fits.

        Args:
            part: its number in the answer, from 0.
            has_more: it will be edited, or followed.
            is_growing: it will be edited, and clients are to show that.
        """
        content = await self._answer(question, markdown, has_more=has_more, is_growing=is_growing)
        return await self._homeserver.send(
            question.room_id,
            {**content, **_in_thread(question.thread_root)},
            txn_id=_txn_id(_asked(question), part),
            priority=Priority.ANSWER,
        )

    async def edit_of_answer(
        self,
        question: Question,
        answer_id: EventID,
        markdown: str,
        *,
        has_more: bool,
        is_growing: bool = False,
    ) -> Edit:
        """Make an edit that replaces one message of an answer.

        Each has a transaction of its own, because the same text may come again after another one.
        """
        content = await self._answer(question, markdown, has_more=has_more, is_growing=is_growing)
        edit = _replacing(answer_id, content)
        content |= _in_thread(question.thread_root)
        txn_id = _txn_id(f"{question.event_id} {uuid4()}", 0, kind="edit")
        return Edit(room_id=question.room_id, content=edit, txn_id=txn_id)

    async def send_edit(self, edit: Edit, *, best_effort: bool = False) -> None:
        """Send an edit; to send the same one again changes nothing.

        Raises:
            RateLimited: it was `best_effort`, and can be sent later.
        """
        await self._homeserver.send(
            edit.room_id,
            edit.content,
            txn_id=edit.txn_id,
            priority=Priority.EDIT if best_effort else Priority.ANSWER,
            best_effort=best_effort,
        )

    async def react(self, message: Message, key: str) -> None:
        """React to a message with an emoji, which answers it."""
        relation = {"rel_type": "m.annotation", "event_id": message.event_id, "key": key}
        content = {"m.relates_to": relation, ANSWERS: message.event_id}
        txn_id = _txn_id(message.event_id, 0, kind="reaction")
        await self._homeserver.signs.react(message.room_id, content, txn_id=txn_id)

    async def take_back(self, room_id: RoomID, event_id: EventID) -> None:
        """Redact a message of our own; to do it again changes nothing."""
        txn_id = _txn_id(event_id, 0, kind="redaction")
        await self._homeserver.signs.redact(room_id, event_id, txn_id=txn_id)

    async def is_encrypted(self, room_id: RoomID) -> bool:
        return await self._homeserver.is_encrypted(room_id)

    async def seems_encrypted(self, room_id: RoomID) -> bool:
        return await self._homeserver.seems_encrypted(room_id)

    async def _notice(
        self, room_id: RoomID, markdown: str, *, about: str, has_more: bool
    ) -> dict[str, Any]:
        content = await self._content(room_id, markdown, answers=_answered(about))
        more = {MORE_TO_COME: True} if has_more else {}
        return {**content, "msgtype": "m.notice", "body": await to_plain(markdown), **more}

    async def _answer(
        self, question: Question, markdown: str, *, has_more: bool, is_growing: bool
    ) -> dict[str, Any]:
        """The body is the Markdown itself, so that the conversation can be read back."""
        content = await self._content(
            question.room_id, markdown, answers=question.event_id, is_answer=True
        )
        if question.asked is not None:
            content[ASKED] = question.asked
        if has_more:
            content[MORE_TO_COME] = True
        if is_growing:
            content[LIVE] = {}
            if (html := content.get("formatted_body", "")).endswith("</p>\n"):
                content["formatted_body"] = html.removesuffix("</p>\n") + f"{GROWING}</p>\n"
        return content

    async def _content(
        self, room_id: RoomID, markdown: str, *, answers: str, is_answer: bool = False
    ) -> dict[str, Any]:
        content: dict[str, Any] = {
            "msgtype": "m.text",
            "body": speakable(markdown),
            "m.mentions": {},
            ANSWERS: answers,
        }
        html = await to_html(markdown)
        is_encrypted = await self.seems_encrypted(room_id)
        if html is not None and weight(html, encrypted=is_encrypted) <= MAX_HTML:
            content |= {"format": "org.matrix.custom.html", "formatted_body": html}
        if is_answer and not is_encrypted:  # else it costs nothing
            mentions = self._homeserver.mentions
            if not await mentions.may_be_in(content["body"], room_id=room_id):
                del content["m.mentions"]
        return content


def _replacing(event_id: EventID, content: dict[str, Any]) -> dict[str, Any]:
    """An event that replaces another one's content."""
    return {
        **{key: value for key, value in content.items() if key not in _OF_HTML},
        "body": f"* {content['body']}",
        "m.new_content": content,
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def _asked(question: Question) -> EventID:
    """What the messages of an answer belong to: those of a later answer are others."""
    return question.asked if question.is_again and question.asked else question.event_id


def _in_thread(root: EventID | None) -> dict[str, Any]:
    """What puts a message into a thread, if there is one."""
    return {} if root is None else {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}


def _answered(about: str) -> str:
    """The event that something of our own answers, if it is about one."""
    return about if about.startswith("$") else NOTHING


def _txn_id(about: str, part: int, *, kind: Kind | None = None) -> str:
    """The transaction ID; the `kind` of all that is not an answer's message keeps them apart."""
    digest = hashlib.sha256(about.encode()).hexdigest()[:32]
    return f"homeroom-{kind}-{digest}-{part}" if kind else f"homeroom-{digest}-{part}"
