"""The client that maubot uses for the bot's account now.

When an admin saves another access token or device ID, maubot makes a new client, takes `crypto`
away from the old one and goes on with the new one; plugins keep the old one until their instance
restarts (maubot 0.6.0, client.py 508-520). Both share their event handlers and their state store,
so all that Homeroom needs of the new one are its token and its keys, and it asks for them here,
each time.
"""

from __future__ import annotations

from typing import Any

from maubot.client import Client
from maubot.matrix import MaubotMatrixClient

from .errors import NotSignedIn


class EncryptionGone(NotSignedIn):
    """The bot could encrypt, and cannot now: what is encrypted waits until it can again.

    As without a token that works, whatever was asked for is kept for as long as this lasts.
    """

    def __init__(self, why: str | None) -> None:
        super().__init__(f"there is no encryption now: {why}", errcode="")


class CurrentClient:
    """Finds the client object that maubot uses for the bot's account now.

    Args:
        first: the client that the plugin was started with.
    """

    def __init__(self, first: MaubotMatrixClient) -> None:
        self.first = first
        self.had_encryption = True if first.crypto is not None else None
        """Whether this account could ever encrypt here: who could once is not without it now, but
        has lost it for a while. None: that is not known yet (`own_trust.py` finds it out)."""

    def __call__(self) -> MaubotMatrixClient:
        known = Client.cache.get(self.first.mxid)
        return self.first if known is None else known.client

    @property
    def is_replaced(self) -> bool:
        """Whether maubot uses another one than at the start of this instance."""
        return self() is not self.first

    @property
    def can_encrypt(self) -> bool:
        return getattr(self().crypto, "account", None) is not None

    def machine(self) -> Any:
        """The `OlmMachine` that encrypts; None: this bot cannot, and never could.

        Raises:
            EncryptionGone: it could.
        """
        if self.can_encrypt:
            self.had_encryption = True
            return self().crypto
        if self.had_encryption is not False:
            raise EncryptionGone(self.why_not())
        return None

    def why_not(self) -> str | None:
        """Why the client cannot encrypt; None if it can."""
        client = self()
        if client.crypto is not None:
            return None
        if not client.device_id:
            return "the bot's client in maubot has no device ID"
        if self.is_replaced:
            return "maubot has not made the new client ready yet"
        return "maubot was installed without its encryption dependencies (maubot[encryption])"

    @property
    def sync_has_ended(self) -> bool:
        """Whether maubot's sync loop, which should run, does not.

        mautrix ends it for good at the first `M_UNKNOWN_TOKEN` (client/syncer.py, `_start`), also
        where the same token works again later, and maubot does not notice.
        """
        known = Client.cache.get(self.first.mxid)
        if known is None or not (known.started and known.sync):
            return False
        task = known.client.syncing_task
        return task is not None and task.done()

    def revive_sync(self) -> None:
        """Have maubot's sync loop ask again at once, if it has ended or waits after an error.

        For what is over for sure: a loop that only waits (for up to five minutes) begins anew,
        and maubot throws away the first response of each.
        """
        known = Client.cache.get(self.first.mxid)
        if known is not None and (self.sync_has_ended or not known.sync_ok):
            known.start_sync()
