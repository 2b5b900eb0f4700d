"""Decryption: from an encrypted event to the message that is in it, when its turn comes.

A room waits for a key for some seconds, with what was said after it; other rooms do not. A message
that stays unreadable is named in the log with the cause, and its sender is told what helps, from
time to time. What is said in the clear where everything else is encrypted is not read at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.conversation.asked_again import as_edited
from ..domain.sync.news import Edited, Encrypted, Message, read_message
from ..homes.onboarding import Onboarding
from ..homes.routes import Routes
from ..matrix.encryption import Cause, Encryption, Unreadable
from ..matrix.errors import HomeserverError, Unavailable
from ..matrix.messages import Speaker
from ..replies import encryption as words
from ..runtime.noted_work import noted
from ..storage import StoreError

TOLD_EVERY: Final = 60 * 60 * 1000
"""Milliseconds between two notices of one kind that a message could not be read, in one room."""
NO_ENCRYPTION_EVERY: Final = 30 * 24 * 60 * 60 * 1000
"""Milliseconds between two notices that none can, in one room."""
EARLIER_EVERY: Final = 30 * 24 * 60 * 60 * 1000


@dataclass(slots=True, kw_only=True)
class Decryption:
    """Decrypts messages as their turn comes, and says why one cannot be read."""

    bot: UserID
    encryption: Encryption
    is_encrypted: Callable[[RoomID], Awaitable[bool]]
    routes: Routes
    onboarding: Onboarding
    speaker: Speaker
    settings: Callable[[], Settings]
    log: TraceLogger

    async def decrypt(
        self, message: Message | Encrypted, edit: Edited | None = None
    ) -> Message | None:
        """The message, in the clear, as its newest edit has it.

        None: there is nothing to do about it (any more).

        Raises:
            Unavailable, StoreError: it has to be tried again.
        """
        original = await self._original(message)
        if original is None or edit is None or edit.room_id != original.room_id:
            return original
        if edit.event_id != original.event_id:
            return replace(original, version=edit.edit_id)  # of the question that it is about
        event = edit.event
        if event.get("type") == "m.room.encrypted":
            try:
                async with noted():
                    event = (await self.encryption.decrypt(edit.room_id, event)).event
            except Unreadable as e:
                self.log.warning("Passed over the edit %s: %s", edit.edit_id, e)
                return original
        elif isinstance(message, Encrypted):
            return original  # what was said in secret is not replaced in the clear
        return as_edited(original, edit, event)

    async def peek(self, message: Encrypted) -> Message | None:
        """What a message says before its turn, if that can be read; nobody is told if not."""
        try:
            opened = await self.encryption.read(message)
        except (HomeserverError, StoreError, Unreadable):
            return None
        return read_message(message.room_id, opened.event, bot=self.bot)

    async def _original(self, message: Message | Encrypted) -> Message | None:
        if isinstance(message, Message):
            if message.about is not None:
                return message  # it says nothing itself
            if await self._is_out_of_place(message):
                return None
            return await self._without_verification(message)
        try:
            async with noted():
                opened = await self.encryption.read(message)
        except (Unavailable, StoreError):
            raise
        except Unreadable as e:
            await self._unreadable(message, e)
            return None
        except Exception:
            self.log.exception("Error while decrypting %s", message.event_id)
            return None
        clear = read_message(message.room_id, opened.event, bot=self.bot)
        if clear is None:
            return None
        return await self._without_verification(
            replace(clear, is_live=message.is_live, is_signed=opened.is_signed)
        )

    async def _without_verification(self, message: Message) -> Message | None:
        """The message, unless it asks to compare emoji, which a bot cannot do."""
        if not message.is_verification:
            return message
        is_known = self.routes.home(message.sender) is not None
        if is_known:
            await self._say_once(
                message.room_id, "verification", words.VERIFY, message.event_id, every=TOLD_EVERY
            )
        return None

    async def _is_out_of_place(self, message: Message) -> bool:
        """Whether it was said in the clear in an encrypted chat; then it is not the person's."""
        if self.routes.chat(message.room_id) is None:
            return False
        if not await self.is_encrypted(message.room_id):
            return False
        self.log.warning(
            "Passed over %s of %s in %s: it came in the clear, and the chat is encrypted",
            message.event_id,
            message.sender,
            message.room_id,
        )
        if self.encryption.is_possible:
            await self._tell(message, "not-encrypted", words.NOT_ENCRYPTED, every=TOLD_EVERY)
        else:
            await self._tell_no_encryption(message)
        return True

    async def _unreadable(self, message: Encrypted, why: Unreadable) -> None:
        """Name a message that cannot be read, and say so to whoever would have been answered."""
        self.log.warning(
            "Cannot read %s of %s in %s (session %s): %s",
            message.event_id,
            message.sender,
            message.room_id,
            message.session_id,
            why,
        )
        text = words.why_unreadable(why.cause)
        if text is None:
            return
        if self.routes.chat(message.room_id) is None:
            # Whatever it says, the answer is where the home is.
            await self.onboarding.answer_outside_chats(
                message.sender, room_id=message.room_id, event_id=message.event_id
            )
        elif why.cause is Cause.NO_ENCRYPTION:
            await self._tell_no_encryption(message)
        else:
            kind = f"unreadable {why.cause.name.lower()}"
            await self._tell(message, kind, text, every=TOLD_EVERY)

    async def _tell_no_encryption(self, message: Message | Encrypted) -> None:
        await self._tell(message, "no-encryption", words.NO_ENCRYPTION, every=NO_ENCRYPTION_EVERY)

    async def _tell(
        self, message: Message | Encrypted, kind: str, text: str, *, every: int
    ) -> None:
        """Say something in a chat, to whoever would have been answered there."""
        chat = self.routes.chat(message.room_id)
        if chat is None or not self.settings().hears(chat, message.sender):
            return
        await self._say_once(message.room_id, kind, text, message.event_id, every=every)

    async def tell_earlier_unreadable(self, room_id: RoomID) -> None:
        """Say once that a chat's history cannot be read whole any more."""
        about = f"earlier-unreadable {room_id}"
        await self._say_once(
            room_id, "earlier-unreadable", words.EARLIER_UNREADABLE, about, every=EARLIER_EVERY
        )

    async def _say_once(
        self, room_id: RoomID, kind: str, text: str, about: str, *, every: int
    ) -> None:
        """Send a notice once in so many milliseconds, if it can be sent."""
        try:
            await self.speaker.notice_once(room_id, kind, text, about=about, every_ms=every)
        except HomeserverError as e:
            self.log.info("A notice for %s was not sent: %s", room_id, e)
