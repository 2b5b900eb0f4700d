"""What a sync response says, and who is to do something about it.

Messages go to the inbox, the bot's own arrivals to the welcomes; what happened to rooms and
members has them scanned again; what takes something back (an edit, a redaction) counts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from mautrix.types import EventID, RoomID, UserID
from mautrix.util.logging import TraceLogger

from ..config import Settings
from ..domain.commands import AGAIN_REACTION, parse_command
from ..domain.homes.topology import Invite
from ..domain.never import assert_never
from ..domain.sync.changed_rooms import rooms_changed_lately
from ..domain.sync.news import (
    Arrival,
    Edited,
    Encrypted,
    MemberChange,
    Message,
    OwnMessage,
    Reaction,
    Redaction,
    RoomChange,
    asked_again,
    read_response,
)
from ..domain.sync.timeline import timeline_gaps
from ..domain.sync.told_state import TRUSTED_FOR
from ..homes.invites import Invites
from ..homes.onboarding import Onboarding
from ..homes.provisioner import Provisioner
from ..homes.refresher import Refresher
from ..homes.routes import Routes
from ..matrix.read_receipts import ReadReceipts
from ..runtime.tasks import Background
from .friends import Friends
from .history_memory import HistoryMemory
from .inbox import Inbox
from .welcomes import Welcomes

LIVE_FOR: Final = 5 * 60 * 1000
"""Milliseconds after which even a message of a live response is not news any more."""


@dataclass(slots=True)
class _Taken:
    """What there is to do after one response."""

    messages: list[Message | Encrypted | Edited | Reaction] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    rescans: set[RoomID] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class EventDispatcher:
    """What a sync response says, and who is to do something about it."""

    bot: UserID
    inbox: Inbox
    receipts: ReadReceipts
    friends: Friends
    history: HistoryMemory
    welcomes: Welcomes
    onboarding: Onboarding
    invites: Invites
    provisioner: Provisioner
    refresher: Refresher
    routes: Routes
    background: Background
    settings: Callable[[], Settings]
    answer_shown: Callable[[OwnMessage], None]
    now: Callable[[], int]
    log: TraceLogger
    _responses: int = field(default=0, init=False)
    """Of those that named rooms to rescan."""
    _removals: dict[RoomID, str] = field(default_factory=dict, init=False)

    def take_in(
        self,
        response: object,
        *,
        work: Hashable,
        leave_out: frozenset[EventID] = frozenset(),
        later: frozenset[RoomID] = frozenset(),
        is_live: bool,
        rescanned: frozenset[RoomID] = frozenset(),
        only_messages: bool = False,
    ) -> None:
        """Take in what a sync response says.

        Args:
            response: as `/sync` answered it, or a part of one.
            work: of the inbox, for all that there is to do.
            leave_out: events that are not to be answered.
            later: rooms whose messages come in later.
            is_live: whether it is news of this moment, and not what happened meanwhile.
            rescanned: rooms that were scanned since the homeserver answered it.
            only_messages: whether everything else was taken in before.
        """
        for room_id in timeline_gaps(response):
            self.history.forget(room_id)
        taken = _Taken()
        for news in read_response(response, bot=self.bot):
            if isinstance(news, Message | Encrypted | Edited | Reaction):
                if isinstance(news, Edited) and not only_messages:
                    self.history.forget(news.room_id)
                    self.inbox.revise(news)
                if news.room_id not in later:
                    taken.messages += self._to_handle(news, leave_out=leave_out, is_live=is_live)
                if isinstance(news, Reaction):
                    taken.messages.append(news)  # it may stop something, at once
            elif only_messages:
                continue
            elif isinstance(news, Arrival):
                if news.event_id not in leave_out:
                    taken.arrivals.append(news)
            else:
                taken.rescans |= self._happened(news)
        taken.rescans |= self._changed_lately(response, is_news=is_live or only_messages)
        taken.rescans -= rescanned
        self.inbox.add(work, (arrival.event_id for arrival in taken.arrivals))
        self._hand_over(taken.messages, work=work, later=later, is_live=is_live)
        self.welcomes.take_in(taken.arrivals)
        if taken.rescans:
            self._responses += 1
            self.inbox.add(work, [self._responses])
            done = partial(self.inbox.finish, self._responses)
            self.refresher.request(taken.rescans, when_done=done)

    def _for_inbox(
        self, message: Message | Encrypted, *, is_live: bool
    ) -> Iterator[Message | Encrypted]:
        is_new = message.sent_at > self.now() - LIVE_FOR
        if self._concerns_us(message):
            yield replace(message, is_live=is_live and is_new)
        elif is_new and self.routes.chat(message.room_id) is not None:
            self.friends.wrote(message.room_id)

    def _changed_lately(self, response: object, *, is_news: bool) -> frozenset[RoomID]:
        """Rooms that a scan may have read late; of news every change is followed anyway."""
        if is_news:
            return frozenset()
        return rooms_changed_lately(
            response,
            bot=self.bot,
            is_ours=lambda room_id: self.routes.owner_of(room_id) is not None,
            not_before=self.now() - TRUSTED_FOR,
        )

    def _happened(
        self, news: OwnMessage | Redaction | Invite | MemberChange | RoomChange
    ) -> set[RoomID]:
        """Take note of what nobody has to answer; returns the rooms to scan."""
        match news:
            case OwnMessage():
                self.answer_shown(news)
            case Redaction():
                self.history.forget(news.room_id)
                self.inbox.withdraw(news)
            case Invite():
                self.invites.answer(news)
            case MemberChange():
                return self._member_changed(news)
            case RoomChange(room_id=room_id):
                return {room_id} if self.routes.owner_of(room_id) is not None else set()
            case _:
                assert_never(news)
        return set()

    def _concerns_us(self, message: Message | Encrypted) -> bool:
        """Talk of those whom nobody answers costs nothing: no row, no request, no place."""
        settings, chat = self.settings(), self.routes.chat(message.room_id)
        is_admin = message.sender in settings.admins
        if chat is None and isinstance(message, Message) and not message.is_text:
            return message.is_verification and self.routes.home(message.sender) is not None
        if chat is not None:
            return is_admin or settings.hears(chat, message.sender)
        is_command = (
            parse_command(message.text) is not None
            and (is_admin or self.routes.home(message.sender) is not None)
            if isinstance(message, Message)
            else is_admin  # it may be one
        )
        return (
            self.routes.owner_of(message.room_id) is not None
            or self.routes.was_chat(message.room_id)
            or self.onboarding.might_answer(message.sender, room_id=message.room_id)
            or is_command
        )

    def _hand_over(
        self,
        messages: Iterable[Message | Encrypted | Edited | Reaction],
        *,
        work: Hashable,
        later: frozenset[RoomID],
        is_live: bool,
    ) -> None:
        """Have all of it handled in its order: a reaction stops only what was before it."""
        some: list[Message | Encrypted] = []
        for message in messages:
            if isinstance(message, Message | Encrypted):
                some.append(message)
                self.receipts.taken_in(message)
                continue
            self.inbox.take_in(some, work=work)
            some = []
            if isinstance(message, Edited):
                self.inbox.answer_edit(message, work=work, is_live=is_live)
            else:
                self.inbox.react(message, is_in_order=message.room_id not in later)
        self.inbox.take_in(some, work=work)

    def _to_handle(
        self,
        news: Message | Encrypted | Edited | Reaction,
        *,
        leave_out: frozenset[EventID],
        is_live: bool,
    ) -> Iterator[Message | Encrypted | Edited]:
        """What there is to handle because of it, in its room's line."""
        match news:
            case Message() | Encrypted():
                self.history.on_message(news)
                if news.event_id not in leave_out:
                    yield from self._for_inbox(news, is_live=is_live)
            case Edited(edit_id=edit_id):
                is_wanted = self.settings().answer_edits and edit_id not in leave_out
                if is_wanted and self._is_heard(news.room_id, news.sender):
                    yield news
            case Reaction(event_id=event_id, key=key):
                is_wanted = key == AGAIN_REACTION and event_id not in leave_out
                if is_wanted and self._is_heard(news.room_id, news.sender):
                    yield asked_again(news, is_live=is_live)
            case _:
                assert_never(news)

    def _is_heard(self, room_id: RoomID, sender: UserID) -> bool:
        chat = self.routes.chat(room_id)
        return chat is not None and self.settings().hears(chat, sender)

    def _member_changed(self, change: MemberChange) -> set[RoomID]:
        """Take note; returns what is to be scanned."""
        self.onboarding.members_changed(change.room_id)
        owner = self.routes.owner_of(change.room_id)
        if owner is None or change.user_id not in (self.bot, owner):
            return set()
        if change.user_id == self.bot:
            self._say_why(change, owner)
            if change.membership == "join" and self._is_live(change.room_id):
                return set()
        elif change.membership == "join":
            self.provisioner.invite_accepted(change.room_id)
            if self.routes.is_space(change.room_id):
                self.background.start(self.onboarding.finish(owner), name="finishing a home")
        return {change.room_id}

    def _say_why(self, change: MemberChange, owner: UserID) -> None:
        """Why a room of Homeroom's is not answered in any more: once, however often it comes."""
        if change.membership not in ("leave", "ban"):
            self._removals.pop(change.room_id, None)
        elif self._removals.get(change.room_id) != change.membership:
            self._removals[change.room_id] = change.membership
            self.log.warning(
                "Not in %s of %s any more: %s by %s%s; it is back when I am in it again",
                change.room_id,
                owner,
                "banned" if change.membership == "ban" else "removed",
                "this account itself" if change.sender == self.bot else change.sender,
                f" ({change.reason})" if change.reason else "",
            )

    def _is_live(self, room_id: RoomID) -> bool:
        return self.routes.chat(room_id) is not None or self.routes.is_space(room_id)
