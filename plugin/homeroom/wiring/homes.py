"""Builds what speaks to the homeserver, and what knows and makes homes."""

from __future__ import annotations

from dataclasses import dataclass

from ..app import Instance
from ..delivery.history_memory import HistoryMemory
from ..homes.chats import Chats
from ..homes.checkpoint_state import CheckpointState
from ..homes.handmade_rooms import HandmadeRooms
from ..homes.invites import Invites
from ..homes.mautrix_state import MautrixState
from ..homes.observation import Observer
from ..homes.onboarding import Onboarding
from ..homes.owner_locks import OwnerLocks
from ..homes.provisioner import Provisioner
from ..homes.reconciler import Reconciler
from ..homes.refresher import Refresher, scans_of_people
from ..homes.remote_checkpoint import RemoteCheckpoint
from ..homes.repairer import Repairer
from ..homes.room_creation import RoomCreation
from ..homes.routes import Routes
from ..matrix.homeserver import Homeserver
from ..matrix.messages import Speaker
from ..matrix.own_trust import TrustCheck
from ..replies.encryption import explain_trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What speaks to the homeserver."""

    homeserver: Homeserver
    speaker: Speaker
    history: HistoryMemory
    own_trust: TrustCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """What knows, repairs and makes homes."""

    routes: Routes
    checkpoint_state: CheckpointState
    remote_checkpoint: RemoteCheckpoint
    mautrix_state: MautrixState
    observer: Observer
    reconciler: Reconciler
    repairer: Repairer
    provisioner: Provisioner
    onboarding: Onboarding
    invites: Invites
    chats: Chats
    refresher: Refresher
    room_creation: RoomCreation


def build_base(instance: Instance) -> Base:
    """Build what speaks to the homeserver."""
    history = HistoryMemory(bot=instance.client.mxid)
    homeserver = Homeserver(
        instance.encryption.client,
        log=instance.log,
        concurrency=lambda: instance.settings().concurrency,
        on_sent=history.on_sent,
    )
    return Base(
        homeserver=homeserver,
        speaker=Speaker(homeserver, store=instance.store),
        history=history,
        own_trust=TrustCheck(
            client=instance.encryption.client,
            homeserver=homeserver,
            is_needed=lambda: instance.settings().encrypted,
            explain=explain_trust,
            log=instance.log,
        ),
    )


def build_homes(instance: Instance, *, base: Base) -> Homes:
    """Build what knows, repairs and makes homes."""
    routes, locks, scans = Routes(), OwnerLocks(), scans_of_people()
    checkpoint_state = CheckpointState(routes=routes, origin=instance.origin)
    remote_checkpoint = RemoteCheckpoint(
        homeserver=base.homeserver,
        store=instance.store,
        routes=routes,
        checkpoint_state=checkpoint_state,
        log=instance.log,
    )
    observer = Observer(base.homeserver, log=instance.log)
    mautrix_state = MautrixState(instance.client.state_store, log=instance.log)
    reconciler = Reconciler(
        observer=observer,
        store=instance.store,
        mautrix_state=mautrix_state,
        routes=routes,
        checkpoint_state=checkpoint_state,
        adopt_unmarked=lambda: instance.settings().adopt_unmarked,
        log=instance.log,
    )
    repairer = Repairer(
        homeserver=base.homeserver,
        reconciler=reconciler,
        routes=routes,
        checkpoint_state=checkpoint_state,
        locks=locks,
        speaker=base.speaker,
        settings=instance.settings,
        log=instance.log,
    )
    room_creation = RoomCreation(
        homeserver=base.homeserver, routes=routes, store=instance.store, log=instance.log
    )
    provisioner = Provisioner(
        homeserver=base.homeserver,
        reconciler=reconciler,
        repairer=repairer,
        routes=routes,
        room_creation=room_creation,
        locks=locks,
        settings=instance.settings,
        log=instance.log,
    )
    handmade = HandmadeRooms(
        homeserver=base.homeserver,
        provisioner=provisioner,
        reconciler=reconciler,
        repairer=repairer,
        routes=routes,
        locks=locks,
        settings=instance.settings,
        log=instance.log,
    )
    onboarding = Onboarding(
        handmade=handmade,
        homeserver=base.homeserver,
        provisioner=provisioner,
        reconciler=reconciler,
        repairer=repairer,
        routes=routes,
        scans=scans,
        store=instance.store,
        speaker=base.speaker,
        log=instance.log,
    )
    chats = Chats(
        homeserver=base.homeserver,
        speaker=base.speaker,
        provisioner=provisioner,
        reconciler=reconciler,
        repairer=repairer,
        routes=routes,
        locks=locks,
        settings=instance.settings,
    )
    refresher = Refresher(
        reconciler=reconciler,
        repairer=repairer,
        routes=routes,
        scans=scans,
        background=instance.background,
        log=instance.log,
    )
    return Homes(
        routes=routes,
        checkpoint_state=checkpoint_state,
        remote_checkpoint=remote_checkpoint,
        mautrix_state=mautrix_state,
        observer=observer,
        reconciler=reconciler,
        repairer=repairer,
        provisioner=provisioner,
        onboarding=onboarding,
        invites=Invites(
            onboarding=onboarding,
            settings=instance.settings,
            background=instance.background,
            log=instance.log,
        ),
        chats=chats,
        refresher=refresher,
        room_creation=room_creation,
    )
