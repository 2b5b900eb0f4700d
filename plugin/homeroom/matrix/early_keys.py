"""The keys in the response that maubot throws away, if it comes in before the plugin starts.

maubot begins to sync, then imports the plugin, then opens its database and starts it. The first
response, in which are the keys of whatever was said to the bot while it was away, is mostly in by
then; the server deletes them when the next one is asked for, and nobody sends them again. So this
module listens from its import on, which maubot does in one go with the start of its clients: to
one response of each client that encrypts, and only for an instance of its account to take.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

from maubot.client import Client
from maubot.matrix import MaubotMatrixClient
from mautrix.client import InternalEventType

from ..domain.sync.timeline import is_first

Keys = dict[str, Any]
"""The part of a sync response that is for the keys."""
FOR_THE_KEYS: Final = ("to_device", "device_lists", "device_one_time_keys_count")


class _Listener:
    """Keeps what is for the keys in the next response of a client, if that is thrown away."""

    def __init__(self, client: MaubotMatrixClient) -> None:
        self.keys: Keys = {}
        self._client = client
        client.add_event_handler(InternalEventType.SYNC_SUCCESSFUL, self._on_sync)

    def close(self) -> None:
        self._client.remove_event_handler(InternalEventType.SYNC_SUCCESSFUL, self._on_sync)

    async def _on_sync(self, data: Any) -> None:
        self.close()
        self.keys = take_keys(data.get("data"))


_listeners: WeakKeyDictionary[MaubotMatrixClient, _Listener] = WeakKeyDictionary()


def take_keys(response: object) -> Keys:
    """Take what is for the keys out of a response that maubot throws away; nothing of others.

    Once, whoever else has this response: an Olm message that is read twice breaks its session.
    """
    if not is_first(response) or not isinstance(response, dict):
        return {}
    return {key: response.pop(key) for key in FOR_THE_KEYS if key in response}


def take_early_keys(client: MaubotMatrixClient) -> Keys:
    """What was heard up to now; who asks listens from now on."""
    listener = _listeners.pop(client, None)
    if listener is None:
        return {}
    listener.close()
    return listener.keys


def _listen() -> None:
    for known in Client.cache.values():
        if known.client.crypto is not None:
            _listeners[known.client] = _Listener(known.client)


_listen()
