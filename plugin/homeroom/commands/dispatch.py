"""Commands: from what a person typed to a verb, and from its outcome to a reply."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from mautrix.types import UserID
from mautrix.util.logging import TraceLogger

from .. import replies
from ..config import NotInForce, Settings
from ..domain.commands import (
    Again,
    AgentTest,
    ChatArchive,
    ChatClear,
    ChatCommand,
    ChatDelete,
    ChatInfo,
    ChatList,
    ChatNew,
    ChatRename,
    ChatShare,
    Command,
    Help,
    Misused,
    Reconcile,
    ResetCommand,
    Stop,
)
from ..domain.homes.model import Chat, ChatID
from ..domain.never import assert_never
from ..domain.sync.news import Message
from ..homes.chats import Chats
from ..homes.invites import Invites
from ..homes.observation import Progress
from ..homes.provisioner import Denied, Provisioner
from ..homes.reconciler import Reconciled, Reconciler
from ..homes.repairer import Repairer
from ..homes.routes import Routes
from ..matrix.encryption import Encryption
from ..matrix.errors import HomeserverError, Refused
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.own_trust import TrustCheck
from ..platforms import PlatformError
from ..platforms.configured import ChosenPlatform
from ..replies import encryption as words
from ..runtime.tasks import Background
from ..storage import StoreError
from .progress_message import ProgressMessage
from .reset import Resetter


@dataclass(slots=True, kw_only=True)
class Commands:
    """Carries out the commands of people and admins, and replies."""

    homeserver: Homeserver
    invites: Invites
    chats: Chats
    provisioner: Provisioner
    reconciler: Reconciler
    repairer: Repairer
    routes: Routes
    speaker: Speaker
    platform: ChosenPlatform
    background: Background
    settings: Callable[[], Settings]
    not_in_force: Callable[[], NotInForce]
    own_trust: TrustCheck
    encryption: Encryption
    resetter: Resetter
    log: TraceLogger

    async def run(self, command: Command, message: Message, chat: Chat | None) -> bool:
        """Carry out a command and reply. False: this is nobody's business to react to.

        Raises:
            Unavailable, StoreError: what is said next depends on it; to be tried again.
        """
        if isinstance(command, ResetCommand | Reconcile) and await self._is_doubtful(message):
            await self.speaker.reply(message, words.ADMIN_NOT_SIGNED)
            return True
        if isinstance(command, ResetCommand):
            return await self._reset(command, message)
        if self.routes.is_paused and isinstance(command, ChatCommand):
            return False
        if not self._may_speak(message.sender, chat):
            return False
        try:
            reply = await self._run(command, message, chat)
        except Denied as e:
            reply = str(e)
        except Refused as e:
            reply = replies.refused(str(e))
        except (HomeserverError, StoreError):
            if isinstance(command, ChatClear | ChatNew):
                raise  # the same command does it once, however often it is tried
            reply = replies.NO_LOOK if isinstance(command, Reconcile) else replies.NOT_NOW
        if reply is None:
            return False
        if not reply:
            return True  # it was said, and the room left
        await self.speaker.reply(message, reply)
        return True

    def _may_speak(self, sender: UserID, chat: Chat | None) -> bool:
        """Strangers in somebody's chat get no reaction, neither do people without access."""
        if self._is_admin(sender):
            return True
        if chat is not None:
            return self.settings().hears(chat, sender)
        return self.routes.home(sender) is not None and self.provisioner.allows(sender)

    async def _is_doubtful(self, message: Message) -> bool:
        """Whether an admin's command came from a device that they, who sign theirs, have not."""
        return (
            message.is_signed is False
            and self._is_admin(message.sender)
            and await self.encryption.has_signed_device(message.sender)
        )

    def _is_admin(self, user_id: UserID) -> bool:
        return user_id in self.settings().admins

    async def _run(
        self,
        command: ChatCommand | Reconcile | AgentTest | Misused,
        message: Message,
        chat: Chat | None,
    ) -> str | None:
        match command:
            case Reconcile(dry_run=dry_run):
                if not self._is_admin(message.sender):
                    return replies.ADMINS_ONLY if chat is not None else None
                return await self._reconcile(message, dry_run=dry_run)
            case AgentTest():
                if not self._is_admin(message.sender):
                    return replies.ADMINS_ONLY if chat is not None else None
                return await self._test_agent()
            case Misused():
                return replies.misused(command)
            case _:
                return await self._chat(command, message, chat)

    async def _test_agent(self) -> str:
        try:
            uncertain = await self.platform.check()
        except PlatformError as e:
            return replies.agent_fails(str(e))
        return replies.agent_is_there(self.settings().platform.kind, uncertain=uncertain)

    async def _reset(self, command: ResetCommand, message: Message) -> bool:
        """Whoever it was: no `!reset` ever reaches the platform, and none is ever tried again."""
        try:
            done = await self.resetter.run(command, message)
        except (HomeserverError, StoreError) as e:
            self.log.error("!reset of %s did not go through: %s", message.sender, e)
            text, about = replies.reset_failed(str(e)), f"failed {message.event_id}"
            with suppress(HomeserverError):
                await self.speaker.notice(message.room_id, text, about=about)
            return True
        if done is not None:
            self._answer_invites(done)
        return True

    async def _chat(self, command: ChatCommand, message: Message, chat: Chat | None) -> str:
        sender, via = message.sender, self.homeserver.server_name
        match command:
            case Stop() | Again():  # in a chat they are delivery's
                return replies.IN_ITS_CHAT
            case Help():
                return replies.help_text(may_share=self.settings().share)
            case ChatList():
                return replies.chat_list(self.routes.chats_of(sender), via=via)
            case ChatNew(name=name):
                made = await self.chats.new_chat(sender, name=name, command=message.event_id)
                return replies.new_chat(made, via=via)
            case ChatRename(name=name, chat_id=chat_id):
                own = self._own(chat, sender, chat_id)
                await self.chats.rename(own, name=name)
                return replies.renamed(own, name)
            case ChatClear(chat_id=chat_id):
                return await self._clear(self._own(chat, sender, chat_id), message)
            case ChatArchive(archive=archive, chat_id=chat_id):
                own = self._own(chat, sender, chat_id)
                was_invited = await self.chats.set_archived(own, archived=archive)
                return replies.archived(own, archive, was_invited=was_invited)
            case ChatShare(share=share, chat_id=chat_id):
                return await self._share(self._own(chat, sender, chat_id), share=share)
            case ChatDelete(chat_id=chat_id, is_confirmed=is_confirmed):
                own = self._own(chat, sender, chat_id)
                return (
                    await self._delete(own, message) if is_confirmed else replies.delete_plan(own)
                )
            case ChatInfo(chat_id=chat_id):
                agent = self.settings().platform.kind
                return replies.chat_info(self._own(chat, sender, chat_id), agent=agent)
            case _:
                assert_never(command)

    async def _clear(self, chat: Chat, message: Message) -> str:
        if chat.room_id != message.room_id:
            await self.chats.clear_from_elsewhere(chat, because_of=message.event_id)
            return replies.cleared(chat)
        await self.chats.clear(chat, since=message.event_id)
        return replies.CLEARED

    async def _share(self, chat: Chat, *, share: bool) -> str:
        settings = self.settings()
        if share and not settings.share:
            raise Denied(replies.EVERYBODY if settings.answer_members else replies.NO_SHARING)
        await self.chats.share(chat, is_shared=share)
        if not share and settings.answer_members:
            return replies.EVERYBODY
        return replies.shared(chat, share)

    async def _delete(self, chat: Chat, message: Message) -> str:
        await self.chats.delete(chat)
        return "" if chat.room_id == message.room_id else replies.deleted(chat)

    def _own(self, here: Chat | None, sender: UserID, chat_id: ChatID | None) -> Chat:
        """The sender's chat of that number; without one, the chat in which it was said.

        Raises:
            Denied: there is none, or it is somebody else's.
        """
        if chat_id is not None:
            if (chat := self.routes.own_chat(sender, chat_id)) is not None:
                return chat
            raise Denied(replies.no_such_chat(chat_id))
        if here is None:
            raise Denied(replies.NOT_A_CHAT)
        if here.matrix_user_id != sender:
            raise Denied(replies.OWNERS_ONLY)
        return here

    async def _reconcile(self, message: Message, *, dry_run: bool) -> str:
        work = ProgressMessage(message=message, speaker=self.speaker, background=self.background)

        def show(look: Progress) -> None:
            text = replies.looking(look.done, look.total, seconds_left=look.seconds_left)
            work.show(text)

        try:
            done = await self.reconciler.run(dry_run=dry_run, on_progress=show)
        except (HomeserverError, StoreError):
            await work.end(replies.LOOK_BROKEN_OFF)
            raise
        await work.end(replies.looked(done.plan.rooms, seconds=done.seconds))
        if not dry_run:
            self.background.start(self.repairer.run(done.plan.repairs), name="repairing")
            self._answer_invites(done)
        report = replies.report(done.plan, seconds=done.seconds, dry_run=dry_run)
        with suppress(HomeserverError):
            await self.own_trust.check()
        found = words.trust_report(self.own_trust.now)
        return "\n\n".join([report, *found, *replies.not_in_force(self.not_in_force())])

    def _answer_invites(self, done: Reconciled) -> None:
        """Answer the invites that came in while nothing was provisioned."""
        for invite in done.topology.invites:
            self.invites.answer(invite)
