"""Builds a message's way: in, to the agent or to a command, and back."""

from __future__ import annotations

from dataclasses import dataclass

from mautrix.types import RoomID

from .. import replies
from ..app import Instance
from ..commands.dispatch import Commands
from ..commands.reset import Resetter
from ..delivery.answer_stream import Streamer
from ..delivery.attempts import Attempts
from ..delivery.command_rooms import CommandRooms
from ..delivery.decryption import Decryption
from ..delivery.dispatcher import EventDispatcher
from ..delivery.earlier_questions import EarlierQuestions
from ..delivery.friends import Friends
from ..delivery.handled import HandledMarks
from ..delivery.inbox import Inbox
from ..delivery.lanes import Lanes
from ..delivery.message_handler import MessageHandler
from ..delivery.old_messages import OldMessages
from ..delivery.parking import Parking
from ..delivery.room_history import RoomHistory
from ..delivery.state_writes import StateWrites
from ..delivery.sync_feed import SyncFeed
from ..delivery.welcomes import Welcomes
from ..matrix.read_receipts import ReadReceipts
from ..matrix.typing_notice import TypingNotice
from ..platforms.configured import ChosenPlatform
from .homes import Base, Homes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryParts:
    """What a message meets on its way."""

    platform: ChosenPlatform
    streamer: Streamer
    inbox: Inbox
    dispatcher: EventDispatcher
    feed: SyncFeed
    lanes: Lanes
    parking: Parking
    attempts: Attempts
    handled: HandledMarks


def _build_decryption(instance: Instance, *, base: Base, homes: Homes) -> Decryption:
    """Build what opens encrypted messages."""
    return Decryption(
        bot=instance.client.mxid,
        encryption=instance.encryption,
        is_encrypted=base.homeserver.seems_encrypted,
        routes=homes.routes,
        onboarding=homes.onboarding,
        speaker=base.speaker,
        settings=instance.settings,
        log=instance.log,
    )


def _build_platform(
    instance: Instance, *, base: Base, homes: Homes, decryption: Decryption
) -> ChosenPlatform:
    """Build what answers."""

    def tell_lost_keys(room_id: RoomID) -> None:
        telling = decryption.tell_earlier_unreadable(room_id)
        instance.background.start(telling, name="telling of lost keys")

    return ChosenPlatform(
        settings=instance.settings,
        history=RoomHistory(
            homeserver=base.homeserver,
            memory=base.history,
            routes=homes.routes,
            decrypt=instance.encryption.decrypt,
            on_lost_keys=tell_lost_keys,
            settings=instance.settings,
            log=instance.log,
        ),
        no_agent=replies.NO_AGENT,
        log=instance.log,
    )


def _build_commands(
    instance: Instance, *, base: Base, homes: Homes, platform: ChosenPlatform
) -> Commands:
    """Build what people ask for by a command."""
    resetter = Resetter(
        homeserver=base.homeserver,
        observer=homes.observer,
        store=instance.store,
        reconciler=homes.reconciler,
        remote_checkpoint=homes.remote_checkpoint,
        room_creation=homes.room_creation,
        speaker=base.speaker,
        background=instance.background,
        settings=instance.settings,
        log=instance.log,
    )
    return Commands(
        homeserver=base.homeserver,
        invites=homes.invites,
        chats=homes.chats,
        provisioner=homes.provisioner,
        reconciler=homes.reconciler,
        repairer=homes.repairer,
        routes=homes.routes,
        speaker=base.speaker,
        platform=platform,
        background=instance.background,
        settings=instance.settings,
        not_in_force=lambda: instance.settings.not_in_force,
        own_trust=base.own_trust,
        encryption=instance.encryption,
        resetter=resetter,
        log=instance.log,
    )


def build_delivery(instance: Instance, *, base: Base, homes: Homes) -> DeliveryParts:
    """Build a message's way: in, to the agent or to a command, and back."""
    decryption = _build_decryption(instance, base=base, homes=homes)
    platform = _build_platform(instance, base=base, homes=homes, decryption=decryption)
    commands = _build_commands(instance, base=base, homes=homes, platform=platform)
    streamer = Streamer(
        homeserver=base.homeserver,
        platform=platform,
        prepare=platform.prepare,
        speaker=base.speaker,
        typing=TypingNotice(homeserver=base.homeserver, background=instance.background),
        store=instance.store,
        settings=instance.settings,
        log=instance.log,
    )
    handler = MessageHandler(
        streamer=streamer,
        earlier_questions=EarlierQuestions(
            homeserver=base.homeserver, decrypt=instance.encryption.decrypt, log=instance.log
        ),
        routes=homes.routes,
        onboarding=homes.onboarding,
        provisioner=homes.provisioner,
        commands=commands,
        speaker=base.speaker,
        background=instance.background,
        settings=instance.settings,
        log=instance.log,
    )
    handled = HandledMarks(store=instance.store, background=instance.background, log=instance.log)
    parking = Parking(store=instance.store, log=instance.log)
    attempts = Attempts(store=instance.store, log=instance.log)
    inbox = Inbox(
        bot=instance.client.mxid,
        handle=handler.handle,
        turn_away=handler.turn_away,
        set_aside=handler.set_aside,
        decrypt=decryption.decrypt,
        peek=decryption.peek,
        interrupt=handler.interrupt,
        stop_if_about=handler.stop_if_about,
        question_of=handler.question_of,
        supersede=handler.supersede,
        command_rooms=CommandRooms(
            bot=instance.client.mxid,
            owns=lambda room_id, user_id: homes.routes.owner_of(room_id) == user_id,
            own_chat=homes.routes.own_chat,
        ),
        handled=handled,
        parking=parking,
        attempts=attempts,
        checkpoint=lambda: homes.checkpoint_state.checkpoint,
        store=instance.store,
        background=instance.background,
        settings=instance.settings,
        log=instance.log,
    )
    dispatcher = EventDispatcher(
        bot=instance.client.mxid,
        inbox=inbox,
        receipts=ReadReceipts(
            homeserver=base.homeserver,
            is_waiting=lambda event_id: inbox.has(event_id) and not streamer.is_said(event_id),
            background=instance.background,
        ),
        friends=Friends(
            homeserver=base.homeserver,
            speaker=base.speaker,
            routes=homes.routes,
            background=instance.background,
            settings=instance.settings,
            log=instance.log,
        ),
        history=base.history,
        welcomes=Welcomes(
            onboarding=homes.onboarding,
            inbox=inbox,
            handled=handled,
            background=instance.background,
            log=instance.log,
        ),
        onboarding=homes.onboarding,
        answer_shown=streamer.answer_shown,
        invites=homes.invites,
        provisioner=homes.provisioner,
        refresher=homes.refresher,
        routes=homes.routes,
        background=instance.background,
        settings=instance.settings,
        now=base.homeserver.clock.now,
        log=instance.log,
    )
    lanes = Lanes(
        homeserver=base.homeserver,
        encryption=instance.encryption,
        inbox=inbox,
        parking=parking,
        background=instance.background,
        settings=instance.settings,
        log=instance.log,
    )
    feed = SyncFeed(
        homeserver=base.homeserver,
        encryption=instance.encryption,
        routes=homes.routes,
        checkpoint_state=homes.checkpoint_state,
        state_writes=StateWrites(
            mautrix_state=homes.mautrix_state,
            inbox=inbox,
            checkpoint_state=homes.checkpoint_state,
            background=instance.background,
            log=instance.log,
        ),
        take_in=dispatcher.take_in,
        found=streamer.note_found,
        inbox=inbox,
        lanes=lanes,
        old_messages=OldMessages(
            routes=homes.routes,
            store=instance.store,
            handled=handled,
            background=instance.background,
            log=instance.log,
        ),
        background=instance.background,
        settings=instance.settings,
        log=instance.log,
    )
    return DeliveryParts(
        platform=platform,
        streamer=streamer,
        inbox=inbox,
        dispatcher=dispatcher,
        feed=feed,
        lanes=lanes,
        parking=parking,
        attempts=attempts,
        handled=handled,
    )
