"""Provisioning: from an invite to a complete home, and what owners do with their chats.

`ensure_home` is the whole of it: look, decide the next step, do it, look again, until nothing is
missing. One at a time per owner. Only a definite "has no home" creates one; a request whose
outcome is unknown is followed by looks, never by a second request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mautrix.types import EventID, RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import Settings
from ..domain.homes.ids import child_order, cleared
from ..domain.homes.marker import MARKER_TYPE, chat_marker
from ..domain.homes.model import Chat, Home, Status
from ..domain.homes.provisioning import (
    CreateChat,
    CreateSpace,
    InviteOwner,
    Step,
    chat_request,
    child_content,
    is_allowed,
    next_chat,
    next_step,
    space_request,
)
from ..domain.homes.topology import Invite
from ..domain.never import assert_never
from ..domain.sync.news import Arrival
from ..matrix.errors import HomeserverError, OutcomeUnknown, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..storage import Store, StoreError
from .owner_locks import OwnerLocks
from .reconciler import Reconciled, Reconciler
from .repairer import Repairer
from .routes import Routes

SLOW_AFTER: Final = 10.0
"""Seconds after which a person who waits for a home is told that it takes longer."""
MAX_STEPS: Final = 50
"""More than any home needs; a loop that does not end is a bug, not a reason to make rooms."""
SETTLE: Final = (0.5, 2.0, 5.0, 10.0)
"""Seconds between the looks after a request whose outcome is unknown."""
POINTER_EVERY: Final = 24 * 60 * 60 * 1000
"""Milliseconds between two pointers to a home in one room."""


class Denied(Exception):
    """What was asked for is not to be had; the message is for the person who asked."""


class Provisioner:
    def __init__(
        self,
        *,
        homeserver: Homeserver,
        reconciler: Reconciler,
        repairer: Repairer,
        routes: Routes,
        store: Store,
        speaker: Speaker,
        locks: OwnerLocks,
        settings: Callable[[], Settings],
        log: TraceLogger,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._homeserver = homeserver
        self._reconciler = reconciler
        self._repairer = repairer
        self._routes = routes
        self._store = store
        self._speaker = speaker
        self._locks = locks
        self._settings = settings
        self._log = log
        self._sleep = sleep
        self._groups: set[RoomID] = set()
        """Rooms that turned out to have more people in them: nothing is said there."""
        self._making: set[UserID] = set()
        """Who was promised a home, and may not have it yet."""

    # The doors

    async def answer_invite(self, invite: Invite) -> None:
        """Accept or reject an invite of the bot; that it was accepted is an `Arrival`.

        What goes wrong is only logged: the invite stays pending, and the next start or
        `!reconcile` comes back to it.
        """
        if self._routes.is_paused:
            return
        try:
            if await self._is_followed(invite):
                return
            if self.allows(invite.inviter):
                server = invite.inviter.split(":", 1)[1]
                await self._homeserver.join(invite.room_id, via=[server])
            else:
                self._log.info("Rejecting the invite of %s to %s", invite.inviter, invite.room_id)
                await self._homeserver.leave(invite.room_id, reason=replies.NOT_ALLOWED)
        except (HomeserverError, StoreError) as e:
            self._log.warning(
                "Could not answer the invite of %s to %s: %s", invite.inviter, invite.room_id, e
            )

    async def welcome(self, arrival: Arrival) -> None:
        """Give a home to the person whose invite brought the bot into a room.

        Not if the room belongs to a home: its new membership brings another look.

        Raises:
            HomeserverError, StoreError: it is not finished. If not `Refused`: to be tried again.
        """
        inviter, room_id = arrival.inviter, arrival.room_id
        if any(map(self._routes.owner_of, filter(None, (room_id, arrival.predecessor)))):
            return
        if inviter is None:
            others = await self._homeserver.joined_members(room_id) - {self._homeserver.bot}
            inviter = next(iter(others)) if len(others) == 1 else None
        if inviter is not None and self.allows(inviter):
            await self._welcome(inviter, room_id=room_id, silent=arrival.is_space)

    async def _is_followed(self, invite: Invite) -> bool:
        """Join the room to which one of Homeroom's was upgraded, if this is an invite to it.

        Whoever upgraded it: that it goes on there is what the old room says.
        """
        if invite.predecessor is None or self._routes.owner_of(invite.predecessor) is None:
            return False
        seen = await self._reconciler.rescan({invite.predecessor})
        await self._repairer.run(seen.plan.repairs)
        return self._routes.owner_of(invite.room_id) is not None

    def might_answer(self, sender: UserID, *, room_id: RoomID) -> bool:
        """Whether it is worth asking who is in a room that is nobody's chat."""
        return room_id not in self._groups and self.allows(sender)

    async def scan_for_chat(self, room_id: RoomID) -> None:
        """Look at a room that was never looked at: a chat may have been upgraded to it just now.

        Raises:
            HomeserverError: nobody knows yet.
        """
        if not self._routes.is_paused and room_id not in self._routes.known:
            await self._reconciler.rescan({room_id})

    async def answer_stray(self, sender: UserID, *, room_id: RoomID, event_id: str) -> None:
        """Answer a message in a room that is nobody's chat.

        Only in a room with nobody else in it: a person without a home, or with one that a crash
        left incomplete, gets it; everybody else is told where theirs is, once a day at most.
        """
        if not self.allows(sender) or self._routes.owner_of(room_id) is not None:
            return
        others = await self._homeserver.joined_members(room_id) - {self._homeserver.bot}
        if others != {sender}:
            self._groups.add(room_id)
            return
        home = self._routes.home(sender)
        if home is None or self.is_incomplete(sender):
            await self._welcome(sender, room_id=room_id, silent=False)
        elif await self._store.claim_notice(room_id, "pointer", every_ms=POINTER_EVERY):
            text = replies.pointer(home, via=self._homeserver.server_name)
            await self._speaker.notice(room_id, text, about=event_id, fixed_words=True)

    async def complete(self, owner: UserID) -> None:
        """A sign of life of an owner: finish what a crash left out of their home."""
        if self._routes.home(owner) is not None and self.is_incomplete(owner):
            try:
                await self.ensure_home(owner)
            except (HomeserverError, StoreError, Denied) as e:
                self._log.warning("Could not finish the home of %s: %s", owner, e)

    def allows(self, user_id: UserID) -> bool:
        return is_allowed(user_id, allow=self._settings().allow, bot=self._homeserver.bot)

    def is_incomplete(self, owner: UserID) -> bool:
        """Whether the home lacks a chat that it was promised at its birth."""
        step = next_step(
            owner=owner,
            home=self._routes.home(owner),
            chats=self._routes.chats_of(owner),
            rooms=(),
            initial_chats=(),
        )
        return step is not None

    async def _welcome(self, owner: UserID, *, room_id: RoomID, silent: bool) -> None:
        """Make sure of a home and say in this room where it is.

        Raises:
            HomeserverError, StoreError: it is not finished, which was said, or not all was said.
        """
        via = self._homeserver.server_name
        about = f"welcome {room_id} {owner}"
        try:
            home = await self._while_waiting(
                self.ensure_home(owner, reinvite_if_left=True), room_id=room_id, silent=silent
            )
            text = replies.welcome(home, via=via)
            about = f"{about} {home.space_id}"
        except Denied as e:
            text = str(e)
        except Refused as e:
            self._log.error("Could not make or finish the home of %s: %s", owner, e)
            text = replies.refused(str(e))
        except (HomeserverError, StoreError):
            if not silent:
                with suppress(HomeserverError):  # a courtesy, too
                    await self._speaker.notice(
                        room_id, replies.OUTAGE, about=about, fixed_words=True
                    )
            raise
        if not silent:
            await self._speaker.notice(room_id, text, about=about, fixed_words=True)

    async def _while_waiting(
        self, making: Coroutine[Any, Any, Home], *, room_id: RoomID, silent: bool
    ) -> Home:
        """Wait for a home; say so in the room if the homeserver takes its time over it."""
        task = asyncio.ensure_future(making)
        try:
            await asyncio.wait({task}, timeout=SLOW_AFTER)
            if not task.done() and not silent:
                about = f"slow {room_id} {self._homeserver.bot}"
                with suppress(HomeserverError):  # a courtesy: the home is what counts
                    await self._speaker.notice(
                        room_id, replies.SLOW, about=about, fixed_words=True
                    )
            return await task
        finally:
            task.cancel()

    # Homes

    async def ensure_home(self, owner: UserID, *, reinvite_if_left: bool = False) -> Home:
        """Give the owner a complete home; one that is complete is left alone.

        Raises:
            Denied: there can be no home for this owner, with the reason.
            HomeserverError: it could not be finished; trying again later goes on from there.
        """
        async with self._locks.of(owner):
            try:
                return await self._ensure_locked(owner, reinvite_if_left=reinvite_if_left)
            finally:
                self._making.discard(owner)

    async def _ensure_locked(self, owner: UserID, *, reinvite_if_left: bool) -> Home:
        for _ in range(MAX_STEPS):
            seen = await self._reconciler.scan_for_new(owner)
            await self._repairer.run_locked(seen.plan.repairs, owner=owner)
            step = self._next_step(owner, seen, reinvite_if_left=reinvite_if_left)
            if step is None:
                home = self._routes.home(owner)
                assert home is not None
                return home
            if isinstance(step, InviteOwner):
                reinvite_if_left = False  # asked once; whether they come is up to them
            else:
                await self._require_that_it_is_missing(owner)
            await self._take(step, owner)
        raise AssertionError(f"the home of {owner} is not complete after {MAX_STEPS} steps")

    async def _require_that_it_is_missing(self, owner: UserID) -> None:
        """Raise `Unavailable` while the Space or chat to be made may be there already, unread."""
        unknown = await self._reconciler.possible_homes()
        if unknown:
            raise Unavailable(
                f"{len(unknown)} rooms cannot be read, and what {owner} seems to lack might be"
                f" among them: {unknown[0]}"
            )

    def _next_step(
        self, owner: UserID, seen: Reconciled, *, reinvite_if_left: bool
    ) -> Step | None:
        home = self._routes.home(owner)
        chats = self._routes.chats_of(owner)
        if home is None:
            if self._routes.has_moved(owner):
                raise Denied(replies.SPACE_MOVED)
            promised = sum(self._routes.home(other) is None for other in self._making - {owner})
            if self._routes.homes() + promised >= self._settings().homes:
                raise Denied(replies.too_many_homes())
            self._making.add(owner)
        own = {chat.room_id for chat in chats if chat.status is Status.ACTIVE}
        own |= {home.space_id} if home else set()
        return next_step(
            owner=owner,
            home=home,
            chats=chats,
            rooms=[room for room in seen.topology.read() if room.room_id in own],
            initial_chats=self._settings().initial_chats,
            reinvite_if_left=reinvite_if_left,
        )

    async def _take(self, step: Step, owner: UserID) -> None:
        match step:
            case CreateSpace(initial_chats=initial_chats):
                self._log.info("Making a home for %s", owner)
                request = space_request(
                    bot=self._homeserver.bot,
                    owner=owner,
                    name=self._settings().space_name,
                    initial_chats=initial_chats,
                    version=await self._room_version(),
                )
                await self._create(request, owner)
            case CreateChat():
                await self._create_chat(step, owner)
            case InviteOwner(room_id=room_id):
                await self._homeserver.invite(room_id, owner)
            case _:
                assert_never(step)

    async def _create_chat(self, step: CreateChat, owner: UserID) -> RoomID | None:
        home = self._routes.home(owner)
        assert home is not None
        self._log.info("Making chat %s for %s", step.chat_id, owner)
        request = chat_request(
            bot=self._homeserver.bot,
            owner=owner,
            space_id=home.space_id,
            step=step,
            version=await self._room_version(),
            encrypted=self._settings().encrypted,
        )
        return await self._create(request, owner)

    async def _create(self, request: dict[str, object], owner: UserID) -> RoomID | None:
        """Send one `createRoom`. None: nobody knows, but a look found that there is a new room.

        Raises:
            OutcomeUnknown: and no look since has found a room. There may still be one soon.
        """
        before = self._routes.rooms_of(frozenset({owner}))
        try:
            return await self._homeserver.create_room(request)
        except (OutcomeUnknown, Refused) as e:
            # Refused, too: Synapse keeps the room if it was the invite that was refused.
            self._log.warning("Was a room made for %s? Looking: %s", owner, e)
            for seconds in SETTLE if isinstance(e, OutcomeUnknown) else (0.0,):
                await self._sleep(seconds)
                with suppress(Unavailable):  # the next look may see more
                    await self._reconciler.scan_for_new(owner)
                if self._routes.rooms_of(frozenset({owner})) - before:
                    return None
            raise

    async def _room_version(self) -> str | None:
        return self._settings().room_version or await self._homeserver.default_room_version()

    # Chats, for their owners

    async def new_chat(self, owner: UserID, *, name: str | None) -> Chat:
        """Make one more chat.

        Raises:
            Denied: the owner has as many as the settings allow, or no home.
            HomeserverError: it is not certain that there is a new chat.
        """
        async with self._locks.of(owner):
            await self._reconciler.scan_for_new(owner)
            if self._routes.home(owner) is None:
                raise Denied(replies.NO_HOME)
            if self.is_incomplete(owner):  # what was promised comes first
                await self._ensure_locked(owner, reinvite_if_left=False)
            before = self._routes.chats_of(owner)
            limit = self._settings().chats_per_owner
            if sum(chat.is_routed for chat in before) >= limit:
                raise Denied(replies.too_many_chats(limit))
            step = next_chat(before, name=name)
            await self._create_chat(step, owner)
            seen = await self._reconciler.scan_for_new(owner)
            await self._repairer.run_locked(seen.plan.repairs, owner=owner)
            for chat in self._routes.chats_of(owner):
                if chat.chat_id == step.chat_id and chat.is_routed:
                    with suppress(HomeserverError):  # only to know that nothing is left to do
                        await self._reconciler.rescan({chat.room_id})
                    return chat
        raise Unavailable("the new chat was made, but is not to be seen yet")

    async def rename(self, chat: Chat, *, name: str) -> None:
        async with self._locks.of(chat.matrix_user_id):
            await self._homeserver.put_state(chat.room_id, "m.room.name", {"name": name})
            await self._reconciler.rescan({chat.room_id})

    async def clear(self, chat: Chat, *, since: EventID) -> None:
        """Begin a new conversation in a chat: in its marker first, where nothing gets lost.

        The same message begins one conversation, however often it comes.
        """
        async with self._locks.of(chat.matrix_user_id):
            await self._reconciler.rescan({chat.room_id})  # it may have come before
            chat = self._routes.chat(chat.room_id) or chat
            if chat.conversation is None or chat.conversation.since != since:
                await self._mark(cleared(chat, since=since))
                await self._reconciler.rescan({chat.room_id})

    async def set_archived(self, chat: Chat, *, archived: bool) -> None:
        """Set a chat aside, or take it up again: in its marker and in the Space's list."""
        async with self._locks.of(chat.matrix_user_id):
            status = Status.ARCHIVED if archived else Status.ACTIVE
            await self._mark(replace(chat, status=status))
            if chat.space_id is not None:
                order = child_order(chat.chat_id)
                link = {} if archived else child_content(bot=self._homeserver.bot, order=order)
                await self._homeserver.put_state(
                    chat.space_id, "m.space.child", link, state_key=chat.room_id
                )
            await self._reconciler.rescan({chat.room_id})

    async def _mark(self, chat: Chat) -> None:
        """Have the chat's marker say what this row says."""
        bot = self._homeserver.bot
        present = await self._homeserver.state_content(chat.room_id, MARKER_TYPE, state_key=bot)
        content = chat_marker(chat).keeping(present).to_content()
        await self._homeserver.put_state(chat.room_id, MARKER_TYPE, content, state_key=bot)
