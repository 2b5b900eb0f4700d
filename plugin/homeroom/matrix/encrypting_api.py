"""Sending in encrypted rooms: for those who are in the room now, with five keys in the clear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from mautrix.api import Method, Path
from mautrix.client.encryption_manager import EncryptingAPI
from mautrix.types import DeviceLists, EventID, EventType, RoomID, UserID

from ..storage.errors import attempt
from .errors import Unavailable

IN_THE_CLEAR: Final = (
    "dev.homeroom.answers",
    "dev.homeroom.more_to_come",
    "dev.homeroom.asked",
    "dev.homeroom.covers",
    "dev.homeroom.push",
)
"""What stands beside the ciphertext, and nothing else: the room itself must tell what was
answered, even to a bot that has lost its keys."""


class Sender(EncryptingAPI):
    """Who can read a message is asked of the homeserver each time that a session is made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._up_to_date: set[UserID] = set()

    async def send_encrypted(
        self,
        room_id: RoomID,
        content: Mapping[str, Any],
        *,
        txn_id: str,
        **more: Any,
    ) -> EventID:
        with attempt(f"encrypt for {room_id}"):
            encrypted = await self.encrypt(room_id, EventType.ROOM_MESSAGE, cast("Any", content))
        for key in IN_THE_CLEAR:
            if key in content:
                encrypted[key] = content[key]
        return await self.send_message_event(
            room_id,
            EventType.ROOM_ENCRYPTED,
            cast("Any", encrypted),
            disable_encryption=True,
            txn_id=txn_id,
            **more,
        )

    async def share_group_session(self, room_id: RoomID) -> None:
        """Make a group session and share it with everybody who is in the room or invited.

        The members come from the homeserver, and once after each start their devices, too: what
        is stored of both may be from before the bot was away.
        """
        if not await self._share_session_lock(room_id):
            return
        try:
            assert self.crypto is not None
            members = await self._members(room_id)
            if outdated := [user for user in members if user not in self._up_to_date]:
                await self.crypto.handle_device_lists(DeviceLists(changed=outdated, left=[]))
                self._up_to_date.update(outdated)
            await self.crypto.share_group_session(room_id, members)
        finally:
            self._share_session_events.pop(room_id).set()

    async def _members(self, room_id: RoomID) -> list[UserID]:
        path = Path.v3.rooms[room_id].members
        query = {"not_membership": "leave"}
        answer = await self.api.request(Method.GET, path, query_params=query)
        try:
            return sorted(
                UserID(member["state_key"])
                for member in answer["chunk"]
                if member["content"]["membership"] in {"join", "invite"}
            )
        except (LookupError, TypeError) as e:
            raise Unavailable(f"members of {room_id}: the answer is not a list of them") from e
