"""The door for events: what maubot's sync loop brings, handed on to the verbs.

Homeroom reads every sync response raw (`SYNC_SUCCESSFUL`), the one that maubot throws away after
each start among them, so all news come through one door in one form and in the server's order.
The handlers live on classes of their own, because maubot registers what it finds on the plugin
object before `start()`; these are registered when the first reconcile has gone through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from maubot.handlers import event
from mautrix.client import InternalEventType
from mautrix.types import EventID, RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.commands import parse_command
from ..domain.homes.topology import Invite
from ..domain.never import assert_never
from ..domain.sync.news import (
    Arrival,
    Edited,
    Encrypted,
    MemberChange,
    Message,
    Redaction,
    RoomChange,
    read_response,
)
from ..domain.sync.timeline import is_first, next_batch, timeline_gaps
from ..homes.onboarding import Onboarding
from ..homes.provisioner import Provisioner
from ..homes.refresher import Refresher
from ..homes.routes import Routes
from ..runtime.clock import now
from ..runtime.tasks import Background
from .history_memory import HistoryMemory
from .inbox import Inbox
from .sync_feed import SyncFeed
from .welcomes import Welcomes

LIVE_FOR: Final = 5 * 60 * 1000
"""Milliseconds after which even a message of a live response is not news any more."""


class EarlyResponses:
    """Keeps what maubot's sync loop brings until the doors are open.

    The first one, if the client starts, too, is the one that maubot throws away: it begins where
    maubot itself stopped listening, so it knows of messages that came while the bot was down even
    if the plugin's database is gone. Registered before the first reconcile: it handles nothing.
    """

    def __init__(self) -> None:
        self._responses: list[object] = []
        self._at_most: int | None = None

    def keep_only_first(self) -> None:
        """Nobody knows for how long: what comes later can be asked for, from where that ends."""
        self._at_most = 1
        del self._responses[1:]

    def close(self) -> list[object]:
        """Give the responses away, and keep none from now on: they may be large."""
        responses, self._responses, self._at_most = self._responses, [], 0
        return responses

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        if self._at_most is None or len(self._responses) < self._at_most:
            self._responses.append(data.get("data"))


class SyncHandlers:
    """Puts what maubot's sync loop brings in line."""

    def __init__(self, catch_up: SyncFeed) -> None:
        self._feed = catch_up

    @event.on(InternalEventType.SYNC_SUCCESSFUL)  # type: ignore[arg-type,untyped-decorator]
    async def on_sync(self, data: dict[str, Any]) -> None:
        response = data.get("data")
        self._feed.put(response, is_live=not is_first(response))


@dataclass(slots=True)
class _Taken:
    """What there is to do after one response."""

    messages: list[Message | Encrypted] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    rescans: set[RoomID] = field(default_factory=set)


class EventDispatcher:
    """What a sync response says, and who is to do something about it."""

    def __init__(
        self,
        *,
        bot: UserID,
        inbox: Inbox,
        history: HistoryMemory,
        welcomes: Welcomes,
        onboarding: Onboarding,
        provisioner: Provisioner,
        refresher: Refresher,
        routes: Routes,
        background: Background,
        settings: Callable[[], Settings],
        log: TraceLogger,
    ) -> None:
        self._bot = bot
        self._inbox = inbox
        self._history = history
        self._welcomes = welcomes
        self._onboarding = onboarding
        self._provisioner = provisioner
        self._refresher = refresher
        self._routes = routes
        self._background = background
        self._settings = settings
        self._log = log
        self._responses = 0
        """Of those that named rooms to rescan."""
        self._invited: set[RoomID] = set()
        self._asked: set[RoomID] = set()
        """Where an invite was answered in this life, or it was tried."""
        self._removals: dict[RoomID, str] = {}

    def take_in(
        self,
        response: object,
        *,
        not_before: int | None,
        is_live: bool,
        rescanned: frozenset[RoomID] = frozenset(),
    ) -> None:
        """Take in everything that a sync response says.

        Args:
            response: as `/sync` answered it.
            not_before: milliseconds; older messages are passed over. None: take all.
            is_live: whether it is news of this moment, and not what happened meanwhile.
            looked_at: rooms that were looked at since the homeserver answered it.
        """
        for room_id, _ in timeline_gaps(response, not_before=None):
            self._history.forget(room_id)
        taken = _Taken()
        for news in read_response(response, bot=self._bot):
            if isinstance(news, Message | Encrypted):
                self._history.on_message(news)
                is_recent = not_before is None or news.sent_at >= not_before
                if is_recent and self._concerns_us(news):
                    is_new = is_live and news.sent_at > now() - LIVE_FOR
                    taken.messages.append(replace(news, is_live=is_new))
            elif isinstance(news, Arrival):
                if not_before is None or news.sent_at >= not_before:
                    taken.arrivals.append(news)
            else:
                taken.rescans |= self._happened(news)
        taken.rescans -= rescanned
        beside: list[EventID | int] = [arrival.event_id for arrival in taken.arrivals]
        if taken.rescans:
            self._responses += 1
            beside.append(self._responses)
        self._inbox.take_in(taken.messages, position=next_batch(response), beside=beside)
        self._welcomes.take_in(taken.arrivals)
        if taken.rescans:
            done = partial(self._inbox.finish, self._responses)
            self._refresher.request(taken.rescans, when_done=done)

    def _happened(
        self, news: Edited | Redaction | Invite | MemberChange | RoomChange
    ) -> set[RoomID]:
        """Take note of what nobody has to answer; returns the rooms to look at."""
        match news:
            case Edited() | Redaction():
                self._revised(news)
            case Invite():
                self.invited(news)
            case MemberChange():
                return self._member_changed(news)
            case RoomChange(room_id=room_id):
                return {room_id} if self._routes.owner_of(room_id) is not None else set()
            case _:
                assert_never(news)
        return set()

    def _concerns_us(self, message: Message | Encrypted) -> bool:
        """Talk of those whom nobody answers costs nothing: no row, no request, no place."""
        settings, chat = self._settings(), self._routes.chat(message.room_id)
        is_admin = message.sender in settings.admins
        if chat is None and isinstance(message, Message) and not message.is_text:
            return message.is_verification and self._routes.home(message.sender) is not None
        if chat is not None:
            return settings.answer_members or is_admin or message.sender == chat.matrix_user_id
        is_command = (
            parse_command(message.text) is not None
            and (is_admin or self._routes.home(message.sender) is not None)
            if isinstance(message, Message)
            else is_admin  # it may be one
        )
        return (
            self._routes.owner_of(message.room_id) is not None
            or self._routes.was_chat(message.room_id)
            or self._onboarding.might_answer(message.sender, room_id=message.room_id)
            or is_command
        )

    def invited(self, invite: Invite) -> None:
        """The bot was invited; answered once, however often the server says so."""
        self._asked.add(invite.room_id)
        if invite.room_id not in self._invited:
            self._invited.add(invite.room_id)
            self._background.start(self._answer(invite), name=f"answering {invite.inviter}")

    def remind(self, invites: Iterable[Invite]) -> None:
        """These invites are pending; those that nobody has seen to in this life are answered."""
        for invite in invites:
            if invite.room_id not in self._asked:
                self.invited(invite)

    async def _answer(self, invite: Invite) -> None:
        try:
            await self._onboarding.answer_invite(invite)
        finally:
            self._invited.discard(invite.room_id)

    def _revised(self, news: Edited | Redaction) -> None:
        self._history.forget(news.room_id)
        if isinstance(news, Redaction):
            self._inbox.withdraw(news.redacts)

    def _member_changed(self, change: MemberChange) -> set[RoomID]:
        """Take note; returns what is to be looked at."""
        self._onboarding.members_changed(change.room_id)
        owner = self._routes.owner_of(change.room_id)
        if owner is None or change.user_id not in (self._bot, owner):
            return set()
        if change.user_id == self._bot:
            self._say_why(change, owner)
            if change.membership == "join" and self._is_live(change.room_id):
                return set()
        elif change.membership == "join" and self._routes.is_space(change.room_id):
            self._background.start(self._onboarding.finish(owner), name="finishing a home")
        return {change.room_id}

    def _say_why(self, change: MemberChange, owner: UserID) -> None:
        """Why a room of Homeroom's is not answered in any more: once, however often it comes."""
        if change.membership not in ("leave", "ban"):
            self._removals.pop(change.room_id, None)
        elif self._removals.get(change.room_id) != change.membership:
            self._removals[change.room_id] = change.membership
            self._log.warning(
                "Not in %s of %s any more: %s by %s%s; it is back when I am in it again",
                change.room_id,
                owner,
                "banned" if change.membership == "ban" else "removed",
                "this account itself" if change.sender == self._bot else change.sender,
                f" ({change.reason})" if change.reason else "",
            )

    def _is_live(self, room_id: RoomID) -> bool:
        return self._routes.chat(room_id) is not None or self._routes.is_space(room_id)
