"""What somebody waits for, as JSON and as metrics: rooms, the way out, the event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ..matrix.outgoing import OutgoingFigures, Priority
from ..runtime.watchdog import BUCKETS
from .snapshot import Isolation, Snapshot
from .text import MAX_LONG, cut, iso

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_LANES: Final = 50
"""Rooms that wait and are listed; all of them are counted."""
PRIORITIES: Final = {priority: priority.name.lower() for priority in Priority}


def isolation_as_json(isolation: Isolation) -> dict[str, Any]:
    holds = isolation.holds
    return {
        "rooms_waiting": len(isolation.lanes),
        "rooms": [
            {
                "room_id": cut(lane.room_id, MAX_LONG),
                "since": iso(lane.since),
                "why": cut(lane.why, MAX_LONG),
                "is_parked": lane.is_parked,
            }
            for lane in isolation.lanes[:MAX_LANES]
        ],
        "storage": isolation.storage and cut(isolation.storage, MAX_LONG),
        "unwritten": isolation.unwritten,
        "passed_over": isolation.passed_over,
        "dead_tasks": isolation.dead_tasks,
        "event_loop": {
            "longest_hold_seconds": round(holds.longest, 3),
            "by": cut(holds.longest_by, MAX_LONG) or None,
            "holds": sum(holds.counts),
        },
        "clock_ahead_seconds": isolation.clock_ahead / 1000,
    }


def outgoing_as_json(outgoing: OutgoingFigures) -> dict[str, Any]:
    return {
        "is_limited": outgoing.is_limited,
        "waiting": {name: outgoing.waiting.get(each, 0) for each, name in PRIORITIES.items()},
        "rate_limits": {
            name: outgoing.rate_limits.get(each, 0) for each, name in PRIORITIES.items()
        },
    }


def isolation_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415 (may be missing)
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    isolation, outgoing = snapshot.isolation, snapshot.outgoing
    rooms = GaugeMetricFamily(
        "homeroom_rooms_waiting", "Rooms that cannot go on, by themselves.", labels=["state"]
    )
    parked = sum(lane.is_parked for lane in isolation.lanes)
    rooms.add_metric(["failing"], len(isolation.lanes) - parked)
    rooms.add_metric(["parked"], parked)
    yield rooms
    waiting = GaugeMetricFamily(
        "homeroom_outgoing_waiting", "Requests that wait for their turn.", labels=["priority"]
    )
    limits = CounterMetricFamily(
        "homeroom_outgoing_rate_limits", "Requests told to wait.", labels=["priority"]
    )
    for each, name in PRIORITIES.items():
        waiting.add_metric([name], outgoing.waiting.get(each, 0))
        limits.add_metric([name], outgoing.rate_limits.get(each, 0))
    yield waiting
    yield limits
    holds, below, buckets = isolation.holds, 0, []
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), holds.counts, strict=True):
        below += count
        buckets.append((bound, below))
    yield HistogramMetricFamily(
        "homeroom_event_loop_hold_seconds",
        "CPU time for which maubot's event loop was held in one piece, from 0.05 s on.",
        buckets=buckets,
        sum_value=holds.total,
    )
    for name, text, value in (
        ("dead_tasks", "Background tasks that died of a bug.", isolation.dead_tasks),
        ("messages_passed_over", "Messages too old to be answered.", isolation.passed_over),
    ):
        yield CounterMetricFamily(f"homeroom_{name}", text, value=value)
    for name, text, figure in (
        ("events_unwritten", "Done, and not written to the database.", isolation.unwritten),
        (
            "clock_ahead_seconds",
            "By which this machine's clock is ahead of the homeserver's.",
            isolation.clock_ahead / 1000,
        ),
    ):
        yield GaugeMetricFamily(f"homeroom_{name}", text, value=figure)
    if snapshot.checkpoint_at is not None:
        yield GaugeMetricFamily(
            "homeroom_checkpoint_timestamp_seconds",
            "Of when the checkpoint in the bot's account data is.",
            value=snapshot.checkpoint_at / 1000,
        )
