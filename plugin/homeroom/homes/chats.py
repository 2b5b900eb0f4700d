"""What owners do with their chats: make, rename, clear, archive, delete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from mautrix.types import EventID, UserID

from .. import replies
from ..config import Settings
from ..domain.homes.ids import child_order, cleared
from ..domain.homes.marker import MARKER_TYPE, Marker, chat_marker
from ..domain.homes.model import Chat, Status
from ..domain.homes.provisioning import chat_for_command, child_content, removed_child_content
from ..matrix.errors import HomeserverError, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from .owner_locks import OwnerLocks
from .provisioner import Denied, Provisioner
from .reconciler import Reconciled, Reconciler
from .repairer import Repairer
from .routes import Routes


@dataclass(slots=True, kw_only=True)
class Chats:
    """Each changes the room first, then rescans it: rows follow."""

    homeserver: Homeserver
    provisioner: Provisioner
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    locks: OwnerLocks
    speaker: Speaker
    settings: Callable[[], Settings]

    async def new_chat(self, owner: UserID, *, name: str | None, command: EventID) -> Chat:
        """Make one more chat; the same command makes one, however often it comes.

        Raises:
            Denied: the owner has as many as the settings allow, or no home.
            HomeserverError: it is not certain that there is a new chat.
        """
        async with self.locks.of(owner):
            seen = await self.reconciler.scan_for_new(owner)
            if made := self._made_for(command, seen):
                return await self._finish(made, seen)
            if self.routes.home(owner) is None:
                raise Denied(replies.NO_HOME)
            if self.provisioner.is_incomplete(owner):  # what was promised comes first
                await self.provisioner.ensure_locked(owner, reinvite_if_left=False)
            before = self.routes.chats_of(owner)
            limit = self.settings().chats_per_owner
            if sum(chat.is_routed for chat in before) >= limit:
                raise Denied(replies.too_many_chats(limit))
            step = chat_for_command(before, name=name, command=command)
            room_id = await self.provisioner.create_chat(step, owner)
            seen = await self.provisioner.scan_for(owner, room_id)
            if made := self._made_for(command, seen):
                return await self._finish(made, seen)
        raise Unavailable("the new chat was made, but is not to be seen yet")

    def _made_for(self, command: EventID, seen: Reconciled) -> Chat | None:
        found = (
            room.room_id
            for room in seen.topology.read()
            if room.marker is not None and room.marker.made_for == command
        )
        return next(filter(None, map(self.routes.chat, found)), None)

    async def _finish(self, chat: Chat, seen: Reconciled) -> Chat:
        """Link and stamp a chat that was just found or made."""
        await self.repairer.run_locked(seen.plan.repairs, owner=chat.matrix_user_id)
        with suppress(HomeserverError):  # only to know that nothing is left to do
            await self.reconciler.rescan({chat.room_id})
        return self.routes.chat(chat.room_id) or chat

    async def rename(self, chat: Chat, *, name: str) -> None:
        async with self.locks.of(chat.matrix_user_id):
            content = {"name": name}
            present = await self.homeserver.state_content(chat.room_id, "m.room.name")
            if present != content:  # else there is no event, for which news would wait
                await self.homeserver.put_state(chat.room_id, "m.room.name", content)
            await self.reconciler.rescan({chat.room_id})

    async def clear_from_elsewhere(self, chat: Chat, *, because_of: EventID) -> None:
        """Begin a new conversation in a chat, asked for in another room: say so in the chat.

        The conversation begins at that word; the same request says it once.
        """
        since = await self.speaker.notice(
            chat.room_id, replies.CLEARED, about=f"clear {because_of}"
        )
        await self.clear(chat, since=since)

    async def clear(self, chat: Chat, *, since: EventID) -> None:
        """Begin a new conversation in a chat: in its marker first, where nothing gets lost.

        The same message begins one conversation, however often it comes.
        """
        async with self.locks.of(chat.matrix_user_id):
            await self.reconciler.rescan({chat.room_id})  # it may have come before
            chat = self.routes.chat(chat.room_id) or chat
            if chat.conversation is None or chat.conversation.since != since:
                await self._mark(cleared(chat, since=since))
                await self.reconciler.rescan({chat.room_id})

    async def set_archived(self, chat: Chat, *, archived: bool) -> bool:
        """Set a chat aside, or take it up again: in its marker and in the Space's list.

        Returns whether the owner, who had left it, was invited to it again.
        """
        async with self.locks.of(chat.matrix_user_id):
            status = Status.ARCHIVED if archived else Status.ACTIVE
            await self._mark(replace(chat, status=status))
            await self._link(chat, is_linked=not archived)
            seen = await self.reconciler.rescan({chat.room_id})
            room = seen.topology.room(chat.room_id)
            if archived or room is None or room.membership(chat.matrix_user_id) != "leave":
                return False
            await self.homeserver.invite(chat.room_id, chat.matrix_user_id)
            return True

    async def share(self, chat: Chat, *, is_shared: bool) -> None:
        """Have everybody in a chat answered, or only whom the settings say."""
        async with self.locks.of(chat.matrix_user_id):
            chat = self.routes.chat(chat.room_id) or chat
            answer: Literal["members"] | None = "members" if is_shared else None
            await self._mark(chat, lambda marker: replace(marker, answer=answer))
            await self.reconciler.rescan({chat.room_id})

    async def delete(self, chat: Chat) -> None:
        """Leave a chat for good. Its row and its number stay, so that nothing gets them again."""
        async with self.locks.of(chat.matrix_user_id):
            await self._link(chat, is_linked=False)
            with suppress(Refused):  # a word of goodbye, where it can be said
                await self.speaker.notice(
                    chat.room_id, replies.DELETED_HERE, about=f"deleted {chat.room_id}"
                )
            await self.homeserver.leave(chat.room_id, reason=replies.DELETED_HERE)
            with suppress(Refused):
                await self.homeserver.forget(chat.room_id)
            await self.reconciler.rescan({chat.room_id})

    async def _link(self, chat: Chat, *, is_linked: bool) -> None:
        """Put a chat into its Space's list, or take it out."""
        if chat.space_id is not None:
            link = (
                child_content(bot=self.homeserver.bot, order=child_order(chat.chat_id))
                if is_linked
                else removed_child_content(chat.chat_id)
            )
            await self.homeserver.put_state(
                chat.space_id, "m.space.child", link, state_key=chat.room_id
            )

    async def _mark(
        self, chat: Chat, change: Callable[[Marker], Marker] = lambda marker: marker
    ) -> None:
        """Have the chat's marker say what this row says, and what it said otherwise, changed."""
        bot = self.homeserver.bot
        present = await self.homeserver.state_content(chat.room_id, MARKER_TYPE, state_key=bot)
        content = change(chat_marker(chat).keeping(present)).to_content()
        await self.homeserver.put_state(chat.room_id, MARKER_TYPE, content, state_key=bot)
