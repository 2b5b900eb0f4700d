"""The client that maubot uses for the bot's account now.

When an admin saves another access token or device ID, maubot makes a new client, takes `crypto`
away from the old one and goes on with the new one; plugins keep the old one until their instance
restarts (maubot 0.6.0, client.py 508-520). Both share their event handlers and their state store,
so all that Homeroom needs of the new one are its token and its keys, and it asks for them here,
each time.
"""

from __future__ import annotations

from maubot.client import Client
from maubot.matrix import MaubotMatrixClient


class CurrentClient:
    """Args:
    first: the client that the plugin was started with.
    """

    def __init__(self, first: MaubotMatrixClient) -> None:
        self.first = first

    def __call__(self) -> MaubotMatrixClient:
        known = Client.cache.get(self.first.mxid)
        return self.first if known is None else known.client

    @property
    def is_replaced(self) -> bool:
        """Whether maubot uses another one than at the start of this instance."""
        return self() is not self.first

    def revive_sync(self) -> bool:
        """Start maubot's sync loop again if it has ended by itself; whether that was so.

        mautrix ends it for good at the first `M_UNKNOWN_TOKEN` (client/syncer.py, `_start`), also
        where the same token works again later, and maubot does not notice.
        """
        known = Client.cache.get(self.first.mxid)
        if known is None or not (known.started and known.sync):
            return False
        task = known.client.syncing_task
        if task is None or not task.done() or task.cancelled():
            return False
        known.start_sync()
        return True
