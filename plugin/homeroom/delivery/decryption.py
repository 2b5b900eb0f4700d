"""Decryption: from an encrypted event to the message that is in it, when its turn comes.

A room waits for a key for some seconds, with what was said after it; other rooms do not. A message
that stays unreadable is named in the log, and its sender is told, from time to time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.sync.news import Encrypted, Message, read_message
from ..homes.provisioner import Provisioner
from ..homes.routes import Routes
from ..matrix.encryption import Encryption, KeyMissing, Undecryptable
from ..matrix.errors import HomeserverError, Unavailable
from ..matrix.messages import Speaker
from ..storage import Store, StoreError

UNREADABLE_EVERY: Final = 60 * 60 * 1000
"""Milliseconds between two notices that a message could not be read, in one room."""
NO_ENCRYPTION_EVERY: Final = 30 * 24 * 60 * 60 * 1000
"""Milliseconds between two notices that none can, in one room."""


class Decryption:
    def __init__(
        self,
        *,
        bot: UserID,
        encryption: Encryption,
        store: Store,
        routes: Routes,
        provisioner: Provisioner,
        speaker: Speaker,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._bot = bot
        self._encryption = encryption
        self._store = store
        self._routes = routes
        self._provisioner = provisioner
        self._speaker = speaker
        self._settings = settings
        self._log = log

    async def open(self, message: Message | Encrypted) -> Message | None:
        """The message, in the clear; None: there is nothing to do about it (any more).

        Raises:
            Unavailable, StoreError: it has to be tried again.
        """
        if isinstance(message, Message):
            return message
        try:
            event = await self._encryption.read(message)
        except (Unavailable, StoreError):
            raise
        except Undecryptable as e:
            self._log.warning(
                "Passed over %s of %s in %s: %s",
                message.event_id,
                message.sender,
                message.room_id,
                e,
            )
            return None
        except KeyMissing:
            await self._unreadable(message)
            return None
        except Exception:  # noqa: BLE001 (a bug; one message must not stop its room)
            self._log.exception("Error while decrypting %s", message.event_id)
            return None
        clear = read_message(message.room_id, event, bot=self._bot)
        return clear and replace(clear, is_live=message.is_live)

    async def _unreadable(self, message: Encrypted) -> None:
        """Name a message that cannot be read, and say so to whoever would have been answered."""
        is_possible = self._encryption.is_possible
        self._log.warning(
            "Cannot read %s of %s in %s: %s",
            message.event_id,
            message.sender,
            message.room_id,
            f"the key of session {message.session_id} is missing"
            if is_possible
            else "there is no encryption on this bot",
        )
        chat = self._routes.chat(message.room_id)
        if chat is None:
            # Whatever it says, the answer is where the home is.
            await self._provisioner.answer_stray(
                message.sender, room_id=message.room_id, event_id=message.event_id
            )
        elif self._settings().answer_members or message.sender == chat.matrix_user_id:
            kind, every, text = (
                ("no-key", UNREADABLE_EVERY, replies.UNREADABLE)
                if is_possible
                else ("no-encryption", NO_ENCRYPTION_EVERY, replies.NO_ENCRYPTION)
            )
            if await self._store.claim_notice(message.room_id, kind, every_ms=every):
                with suppress(HomeserverError):
                    await self._speaker.notice(message.room_id, text, about=message.event_id)
