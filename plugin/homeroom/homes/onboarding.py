"""Onboarding: whoever invites the bot, or writes to it, is shown to a home of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mautrix.types import RoomID, UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..domain.homes.topology import Invite
from ..domain.newest import put_newest
from ..domain.sync.news import Arrival
from ..matrix.errors import HomeserverError, Refused, Unavailable
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.outgoing import Priority
from ..runtime.clock import now
from ..runtime.hourly import Hourly
from ..storage import Store, StoreError
from .handmade_rooms import HandmadeRooms
from .provisioner import Denied, Ensured, Provisioner
from .reconciler import Reconciler
from .repairer import Repairer
from .routes import Routes

SLOW_AFTER: Final = 10.0
"""Seconds after which a person who waits for a home is told that it takes longer."""
POINTER_EVERY: Final = 10 * 60 * 1000
"""Milliseconds between two pointers to a home in one room."""
RETURN_EVERY: Final = 60 * 1000
"""Milliseconds between two looks at whether somebody who writes has left their home."""
MAX_GROUPS: Final = 10_000


@dataclass(slots=True, kw_only=True)
class Onboarding:
    """Answers invites, and what is said in rooms that are nobody's chat."""

    homeserver: Homeserver
    provisioner: Provisioner
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    handmade: HandmadeRooms
    scans: Hourly
    """How often each person may have something scanned."""
    store: Store
    speaker: Speaker
    log: TraceLogger
    _groups: dict[RoomID, None] = field(init=False, default_factory=dict)
    """Rooms that have more people in them: nothing is said there."""

    def is_welcome(self, invite: Invite) -> bool:
        """Whether an invite is worth a scan: of somebody who may have a home, or to a room that
        one of Homeroom's says to be upgraded to."""
        return self.provisioner.allows(invite.inviter) or (
            invite.predecessor is not None and self.routes.owner_of(invite.predecessor) is not None
        )

    async def accept_invite(self, invite: Invite) -> None:
        """Accept an invite of the bot; that it was accepted is an `Arrival`.

        Raises:
            HomeserverError, StoreError: it is still pending.
        """
        if self.routes.is_paused or await self._is_followed(invite):
            return
        if self.provisioner.allows(invite.inviter):
            server = invite.inviter.split(":", 1)[1]
            await self.homeserver.join(invite.room_id, via=[server])
        else:
            await self.reject_invite(invite)

    async def reject_invite(self, invite: Invite) -> None:
        """Reject an invite.

        Raises:
            HomeserverError: it is still pending.
        """
        if not self.routes.is_paused:
            self.log.info("Rejecting the invite of %s to %s", invite.inviter, invite.room_id)
            await self.homeserver.leave(
                invite.room_id, reason=replies.NOT_ALLOWED, priority=Priority.REJECTION
            )

    async def welcome(self, arrival: Arrival) -> None:
        """Give a home to the person whose invite brought the bot into a room.

        Not if the room belongs to a home: its new membership brings another scan.

        Raises:
            HomeserverError, StoreError: it is not finished. If not `Refused`: to be tried again.
        """
        inviter, room_id = arrival.inviter, arrival.room_id
        if any(map(self.routes.owner_of, filter(None, (room_id, arrival.predecessor)))):
            return
        if inviter is None:
            others = await self.homeserver.joined_members(room_id) - {self.homeserver.bot}
            inviter = next(iter(others)) if len(others) == 1 else None
        if inviter is None or not self.provisioner.allows(inviter):
            return
        if arrival.is_space or not await self._make_chat(
            inviter, room_id=room_id, about=arrival.event_id
        ):
            await self._welcome(inviter, room_id=room_id, silent=arrival.is_space)

    async def _make_chat(self, owner: UserID, *, room_id: RoomID, about: str) -> bool:
        """Make it a chat, if the owner put it into their Space, or say now and then why not.

        Returns whether it is in their Space.
        """
        why = await self.handmade.adopt(room_id, owner=owner)
        if why:
            about = f"handmade {room_id} {about}"
            await self.speaker.notice_once(
                room_id, "handmade", why, about=about, every_ms=POINTER_EVERY
            )
        return why is not None

    async def _is_followed(self, invite: Invite) -> bool:
        """Join the room to which one of Homeroom's was upgraded, if this is an invite to it.

        Whoever upgraded it: that it goes on there is what the old room says.
        """
        if invite.predecessor is None or self.routes.owner_of(invite.predecessor) is None:
            return False
        seen = await self.reconciler.rescan({invite.predecessor})
        await self.repairer.run(seen.plan.repairs)
        return self.routes.owner_of(invite.room_id) is not None

    def might_answer(self, sender: UserID, *, room_id: RoomID) -> bool:
        """Whether it is worth asking who is in a room that is nobody's chat."""
        return room_id not in self._groups and self.provisioner.allows(sender)

    def members_changed(self, room_id: RoomID) -> None:
        """Somebody came or went: who is in the room is asked again."""
        self._groups.pop(room_id, None)

    def _note_group(self, room_id: RoomID) -> None:
        put_newest(self._groups, room_id, None, at_most=MAX_GROUPS)

    async def scan_for_chat(self, room_id: RoomID) -> None:
        """Scan a room that was never scanned: a chat may have been upgraded to it just now.

        And a chat that the bot had left: it is in it again, if something is said to it there.

        Raises:
            HomeserverError: nobody knows yet.
        """
        may_be_one = room_id not in self.routes.known or self.routes.has_left(room_id)
        if may_be_one and not self.routes.is_paused:
            await self.reconciler.rescan({room_id})

    async def answer_outside_chats(
        self, sender: UserID, *, room_id: RoomID, event_id: str
    ) -> None:
        """Answer a message in a room that is nobody's chat.

        One that its owner has put into their Space becomes a chat. Else only in a room with
        nobody else in it: a person without a home, or with one that a crash left incomplete, gets
        it; everybody else is told where theirs is, once in `POINTER_EVERY` at most.

        Raises:
            HomeserverError, StoreError: it is not done.
        """
        if not self.provisioner.allows(sender) or self.routes.owner_of(room_id) is not None:
            return
        home = self.routes.home(sender)
        needs_home = home is None or self.provisioner.is_incomplete(sender)
        if needs_home and (seconds := self.scans.take(sender)) > 0:
            raise Unavailable(f"{sender} caused many scans; the next in {seconds:.0f} s")
        if await self._make_chat(sender, room_id=room_id, about=event_id):
            return
        others = await self.homeserver.joined_members(room_id) - {self.homeserver.bot}
        if others != {sender}:
            self._note_group(room_id)
            return
        if home is None or needs_home:
            await self._welcome(sender, room_id=room_id, silent=False)
            return
        text = await self._way_back(sender, room_id=room_id)
        if text is not None:
            await self.speaker.notice(room_id, text, about=event_id, fixed_words=True)
            return
        text = replies.pointer(home, via=self.homeserver.server_name)
        await self.speaker.notice_once(
            room_id, "pointer", text, about=event_id, every_ms=POINTER_EVERY
        )

    async def finish(self, owner: UserID) -> None:
        """Finish what a crash left out of a home."""
        if self.routes.home(owner) is None or not self.provisioner.is_incomplete(owner):
            return
        if self.scans.take(owner) == 0:
            try:
                await self.provisioner.ensure_home(owner)
            except (HomeserverError, StoreError, Denied) as e:
                self.log.warning("Could not finish the home of %s: %s", owner, e)

    async def owner_wrote(self, owner: UserID, *, room_id: RoomID) -> None:
        """An owner writes in a chat: finish their home, and ask them back to a Space they left."""
        await self.finish(owner)
        try:
            if self.routes.is_outside(owner):
                text = await self._way_back(owner, room_id=room_id)
                if text is not None:
                    await self.speaker.notice(
                        room_id, text, about=f"back {room_id} {now()}", fixed_words=True
                    )
        except (HomeserverError, StoreError, Denied) as e:
            self.log.warning("Could not invite %s to their home: %s", owner, e)

    async def _way_back(self, owner: UserID, *, room_id: RoomID) -> str | None:
        """Invite an owner who left their home; what there is to say about it.

        Looked at once in `RETURN_EVERY` at most, whatever they write.
        """
        if not await self.store.claim_notice(room_id, "return", every_ms=RETURN_EVERY):
            return None
        ensured = await self.provisioner.ensure_home(owner, reinvite_if_left=True)
        if ensured.is_kept_out:
            return replies.KEPT_OUT
        if ensured.was_invited:
            return replies.invited_back(ensured.home, via=self.homeserver.server_name)
        return None

    async def _welcome(self, owner: UserID, *, room_id: RoomID, silent: bool) -> None:
        """Make sure of a home and say in this room where it is.

        Raises:
            HomeserverError, StoreError: it is not finished, which was said, or not all was said.
        """
        via, is_new = self.homeserver.server_name, self.routes.home(owner) is None
        about = f"welcome {room_id} {owner}"
        try:
            ensured = await self._while_waiting(
                self.provisioner.ensure_home(owner, reinvite_if_left=True),
                room_id=room_id,
                silent=silent,
            )
            home = ensured.home
            if ensured.is_kept_out:
                text = replies.KEPT_OUT
            elif ensured.was_invited and not is_new:
                text = replies.invited_back(home, via=via)
            else:
                text = replies.welcome(home, is_new=is_new, via=via)
            about = f"{about} {home.space_id} {is_new}"
        except Denied as e:
            text = str(e)
        except Refused as e:
            self.log.error("Could not make or finish the home of %s: %s", owner, e)
            text = replies.refused(str(e))
        except (HomeserverError, StoreError):
            if not silent:
                with suppress(HomeserverError):  # a courtesy, too
                    await self.speaker.notice(
                        room_id, replies.OUTAGE, about=about, fixed_words=True
                    )
            raise
        if not silent:
            await self.speaker.notice(room_id, text, about=about, fixed_words=True)

    async def _while_waiting(
        self, making: Coroutine[Any, Any, Ensured], *, room_id: RoomID, silent: bool
    ) -> Ensured:
        """Wait for a home; say so in the room if the homeserver takes its time over it."""
        task = asyncio.ensure_future(making)
        try:
            await asyncio.wait({task}, timeout=SLOW_AFTER)
            if not task.done() and not silent:
                about = f"slow {room_id} {self.homeserver.bot}"
                with suppress(HomeserverError):  # a courtesy: the home is what counts
                    await self.speaker.notice(room_id, replies.SLOW, about=about, fixed_words=True)
            return await task
        finally:
            task.cancel()
