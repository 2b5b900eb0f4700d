"""Builds everything that runs, once, from the bottom up, and gives each part what it uses.

    homes.py      what speaks to the homeserver; what knows and makes homes
    delivery.py   a message's way: in, to the agent or to a command, and back
    build         all of it, and what starts it and keeps it up

Nothing is set afterwards: a part is whole when it is made, and needs only parts below it.
"""

from __future__ import annotations

from ..app import App, Instance
from ..delivery.history_watch import HistoryWatch
from ..runtime.watchdog import Watchdog
from ..startup.account_watch import AccountWatch
from ..startup.instance_watch import InstanceWatch
from ..startup.maintenance import Maintenance
from ..startup.resume import Resumption
from ..startup.start import Startup
from ..status_page import Sources
from .delivery import build_delivery
from .homes import build_base, build_homes


def build(instance: Instance) -> App:
    """Build it with the settings that are in force."""
    base = build_base(instance)
    homes = build_homes(instance, base=base)
    delivery = build_delivery(instance, base=base, homes=homes)
    startup = Startup(
        bot=instance.client.mxid,
        register=instance.register,
        maubots_position=instance.client.sync_store.get_next_batch,
        encryption=instance.encryption,
        store=instance.store,
        resumption=Resumption(
            homeserver=base.homeserver,
            store=instance.store,
            remote=homes.remote_checkpoint,
            reconciler=homes.reconciler,
            room_creation=homes.room_creation,
            origin=instance.origin,
            log=instance.log,
        ),
        reconciler=homes.reconciler,
        room_creation=homes.room_creation,
        feed=delivery.feed,
        lanes=delivery.lanes,
        parking=delivery.parking,
        attempts=delivery.attempts,
        streamer=delivery.streamer,
        settings=instance.settings,
        log=instance.log,
    )
    watchdog = Watchdog(log=instance.log)
    history_watch = HistoryWatch(
        homeserver=base.homeserver,
        store=instance.store,
        routes=homes.routes,
        reconciler=homes.reconciler,
        feed=delivery.feed,
        admins=lambda: instance.settings().admins,
        log=instance.log,
    )
    maintenance = Maintenance(
        observer=homes.observer,
        reconciler=homes.reconciler,
        repairer=homes.repairer,
        routes=homes.routes,
        checkpoint_state=homes.checkpoint_state,
        remote_checkpoint=homes.remote_checkpoint,
        inbox=delivery.inbox,
        lanes=delivery.lanes,
        feed=delivery.feed,
        history_watch=history_watch,
        invites=homes.invites,
        streamer=delivery.streamer,
        watchdog=watchdog,
        background=instance.background,
        log=instance.log,
    )
    return App(
        settings=instance.settings,
        store=instance.store,
        routes=homes.routes,
        reconciler=homes.reconciler,
        remote_checkpoint=homes.remote_checkpoint,
        platform=delivery.platform,
        streamer=delivery.streamer,
        inbox=delivery.inbox,
        handled=delivery.handled,
        lanes=delivery.lanes,
        parking=delivery.parking,
        attempts=delivery.attempts,
        feed=delivery.feed,
        startup=startup,
        maintenance=maintenance,
        account=AccountWatch(
            client=instance.encryption.client,
            homeserver=base.homeserver,
            trust=base.own_trust,
            admins=lambda: instance.settings().admins,
            instance=instance.name,
            log=instance.log,
        ),
        watch=InstanceWatch(
            account_data=base.homeserver.account_data,
            superseded=instance.superseded,
            background=instance.background,
            log=instance.log,
        ),
        status=Sources(
            agent=delivery.platform.health,
            store=instance.store,
            homeserver=base.homeserver,
            routes=homes.routes,
            reconciler=homes.reconciler,
            remote_checkpoint=homes.remote_checkpoint,
            inbox=delivery.inbox,
            streamer=delivery.streamer,
            feed=delivery.feed,
            lanes=delivery.lanes,
            handled=delivery.handled,
            background=instance.background,
            watchdog=watchdog,
            own_trust=base.own_trust,
        ),
    )
