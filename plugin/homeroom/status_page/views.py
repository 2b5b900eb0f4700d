"""The snapshot as HTML, as JSON, and as Prometheus metrics."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from mautrix.types import RoomID

from ..domain.conversation.answer import Trouble
from ..domain.homes.model import Chat, Records, Status
from ..domain.homes.plan import FindingKind
from ..matrix.own_trust import Trust
from ..platforms.health import BUCKETS, Figures
from ..replies.drift import ADVICE
from ..replies.encryption import trust_findings
from ..replies.status import CONDITIONS
from . import chart
from .findings import Group, grouped
from .isolation_views import (
    MAX_LANES,
    PRIORITIES,
    isolation_as_json,
    isolation_metrics,
    outgoing_as_json,
)
from .listing import MAX_QUERY, Listed, Listing, Query, find
from .snapshot import Condition, Snapshot
from .text import MAX_LONG, ago, cut, duration, iso, took, utc

if TYPE_CHECKING:
    from prometheus_client.core import Metric

FILES: Final = ("page.html", "sign_in.html", "base.html", "style.css")
"""What lies next to this module, to be read by maubot's loader."""
MAX_UNREADABLE: Final = 50
"""Rooms that could not be read and are listed before the rest is counted."""


class Pages:
    """HTML. Nothing in it comes from elsewhere; the one style sheet is in the page itself.

    Args:
        files: the texts of `FILES` by their names.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._environment = Environment(
            loader=DictLoader({name: files[name] for name in FILES if name.endswith(".html")}),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._style = files["style.css"]
        digest = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self.policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;"
            " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        """The `Content-Security-Policy` under which the pages work."""

    def sign_in(self, *, message: str = "") -> str:
        return self._render("sign_in.html", message=message)

    def status(self, snapshot: Snapshot, query: Query) -> str:
        now = snapshot.taken_at
        title, meaning = CONDITIONS[snapshot.condition.value]
        return self._render(
            "page.html",
            s=snapshot,
            title=title,
            meaning=meaning,
            is_ok=snapshot.condition is Condition.OK,
            counts=_counts(snapshot),
            query=query,
            listing=find(snapshot.records or Records(), query),
            statuses=[status.value for status in Status],
            max_query=MAX_QUERY,
            agent_fails=snapshot.agent.is_failing(now),
            agent_failed=snapshot.agent.failed.total(),
            priorities=PRIORITIES,
            max_lanes=MAX_LANES,
            bars=chart.bars(snapshot.past),
            chart=chart,
            groups=[_group(group) for group in grouped(snapshot.findings, snapshot.records)],
            trust=trust_findings(snapshot.own_trust),
            unreadable=sorted(snapshot.unreadable)[:MAX_UNREADABLE],
            cut=cut,
            took=took,
            duration=duration,
            utc=utc,
            iso=iso,
            ago=lambda since: ago(since, now),
        )

    def _render(self, name: str, **values: Any) -> str:
        return self._environment.get_template(name).render(style=self._style, **values)


def as_json(snapshot: Snapshot, query: Query) -> str:
    """What the page shows; times as in RFC 3339, null where something is not known."""
    listing = find(snapshot.records or Records(), query)
    queues, homeserver = snapshot.queues, snapshot.homeserver
    data = {
        "condition": snapshot.condition.value,
        "bot": snapshot.bot,
        "version": snapshot.version,
        "taken_at": iso(snapshot.taken_at),
        "problems": [asdict(problem) for problem in snapshot.settings.problems],
        "unknown_keys": list(snapshot.settings.unknown),
        "rows": "unknown"
        if snapshot.records is None
        else ("observed" if snapshot.is_observed else "stored"),
        "counts": _counts(snapshot),
        "queues": {
            "in_hand": queues.in_hand,
            "waiting": queues.waiting,
            "done_since_start": queues.done,
            "sync_responses": queues.responses,
            "behind_since": iso(queues.behind_since),
        },
        "homeserver": {
            "answered_at": iso(homeserver.answered_at),
            "synced_at": iso(snapshot.synced_at),
            "failures": homeserver.failures,
            "failed_at": iso(homeserver.failed_at),
            "failure": cut(homeserver.failure, MAX_LONG) or None,
            "rate_limits": homeserver.rate_limits,
        },
        "encryption": {
            "device_id": snapshot.own_trust.device_id or None,
            "trust": snapshot.own_trust.trust.value,
            "client_replaced": snapshot.own_trust.is_replaced,
            "findings": trust_findings(snapshot.own_trust),
        },
        "signed_out": homeserver.signed_out,
        "agent": _agent(snapshot),
        "isolation": isolation_as_json(snapshot.isolation),
        "outgoing": outgoing_as_json(snapshot.outgoing),
        "checkpoint_at": iso(snapshot.checkpoint_at),
        "reconcile_failure": snapshot.failure
        and {
            "at": iso(snapshot.failure.at),
            "reason": cut(snapshot.failure.reason, MAX_LONG),
        },
        "reconciles": [
            {**asdict(past), "finished_at": iso(past.finished_at)} for past in snapshot.past
        ],
        "findings": [_group(group) for group in grouped(snapshot.findings, snapshot.records)]
        if snapshot.is_observed
        else None,
        "unreadable": sorted(snapshot.unreadable) if snapshot.is_observed else None,
        "homes": [_home(listed, snapshot.activity) for listed in listing.homes],
        "page": _page(listing),
    }
    return json.dumps(data, indent=1)


def _agent(snapshot: Snapshot) -> dict[str, Any]:
    agent = snapshot.agent
    return {
        "is_failing": agent.is_failing(snapshot.taken_at),
        "answered": agent.answered,
        "answered_at": iso(agent.answered_at),
        "failed": {trouble.value: agent.failed[trouble] for trouble in Trouble},
        "failed_at": iso(agent.failed_at),
        "error": cut(agent.error, MAX_LONG) or None,
        "stopped": agent.stopped,
        "running": agent.running,
        "waiting": agent.waiting,
        "tokens": {"input": agent.tokens_in, "output": agent.tokens_out},
    }


def _page(listing: Listing) -> dict[str, int]:
    return {
        "page": listing.page,
        "pages": listing.pages,
        "first": listing.first,
        "last": listing.last,
        "found": listing.found,
    }


def _home(listed: Listed, activity: Mapping[RoomID, int]) -> dict[str, Any]:
    home = listed.home
    return {
        "owner": cut(listed.owner, MAX_LONG),
        "space_id": home and cut(home.space_id, MAX_LONG),
        "status": home and home.status and home.status.value,
        "chats": [_chat(chat, activity) for chat in listed.chats],
    }


def _chat(chat: Chat, activity: Mapping[RoomID, int]) -> dict[str, Any]:
    return {
        "chat_id": chat.chat_id,
        "name": None if chat.name is None else cut(chat.name),
        "status": chat.status and chat.status.value,
        "room_id": cut(chat.room_id, MAX_LONG),
        "platform_chat_id": chat.platform_chat_id and cut(chat.platform_chat_id, 255),
        "last_activity": iso(activity.get(chat.room_id)),
    }


def _group(group: Group) -> dict[str, Any]:
    meaning, advice = ADVICE[group.kind]
    return {
        "kind": group.kind.value,
        "count": group.count,
        "of_homes": group.own,
        "meaning": meaning,
        "advice": advice,
        "rooms": [
            {
                "room_id": cut(finding.room_id, MAX_LONG),
                "user_id": finding.user_id and cut(finding.user_id, MAX_LONG),
                "detail": cut(finding.detail, MAX_LONG) or None,
            }
            for finding in group.findings
        ],
    }


def _counts(snapshot: Snapshot) -> dict[str, int | None]:
    """None: unknown."""
    records = snapshot.records
    if records is None:
        unknown = ("homes", "chats", *(status.value for status in Status))
        return {**dict.fromkeys(unknown), "findings": None, "unreadable": None}
    statuses = Counter(chat.status for chat in records.chats.values())
    return {
        "homes": sum(home.status is Status.ACTIVE for home in records.homes.values()),
        "chats": sum(chat.is_routed for chat in records.chats.values()),
        **{status.value: statuses[status] for status in Status},
        "findings": len(snapshot.findings) if snapshot.is_observed else None,
        "unreadable": len(snapshot.unreadable) if snapshot.is_observed else None,
    }


def _agent_metrics(agent: Figures) -> Iterator[Metric]:
    from prometheus_client.core import (  # noqa: PLC0415 (may be missing)
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    turns = CounterMetricFamily(
        "homeroom_agent_turns", "Turns of the agent, by how they ended.", labels=["outcome"]
    )
    outcomes = {
        "answered": agent.answered,
        "stopped": agent.stopped,
        **{trouble.value.replace(" ", "_"): agent.failed[trouble] for trouble in Trouble},
    }
    for outcome, count in outcomes.items():
        turns.add_metric([outcome], count)
    yield turns
    under_way = GaugeMetricFamily(
        "homeroom_agent_turns_open", "Turns that are not ended.", labels=["state"]
    )
    under_way.add_metric(["running"], agent.running)
    under_way.add_metric(["waiting"], agent.waiting)
    yield under_way
    tokens = CounterMetricFamily(
        "homeroom_agent_tokens", "Tokens, where the agent says how many.", labels=["direction"]
    )
    tokens.add_metric(["input"], agent.tokens_in)
    tokens.add_metric(["output"], agent.tokens_out)
    yield tokens
    failing = agent.failing_since
    yield GaugeMetricFamily(
        "homeroom_agent_failing_since_timestamp_seconds",
        "Since when nobody was answered and somebody was not; 0 if the last one was.",
        value=0 if failing is None else failing / 1000,
    )
    for name, text, histogram in (
        ("first_word", "Until the first word of an answer.", agent.first_word),
        ("answer", "Until the end of an answer.", agent.whole),
    ):
        below, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, below))
        yield HistogramMetricFamily(
            f"homeroom_agent_{name}_seconds", text, buckets=buckets, sum_value=histogram.seconds
        )


def as_metrics(snapshot: Snapshot) -> tuple[str, bytes]:
    """The content type and the text, as Prometheus reads it.

    Raises:
        ImportError: prometheus_client is not installed.
    """
    from prometheus_client import CollectorRegistry, exposition  # noqa: PLC0415 (may be missing)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(registry)


class _Collector:
    """Gives the figures of a snapshot to prometheus_client."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import (  # noqa: PLC0415 (may be missing)
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        s = self._snapshot
        counts = _counts(s)

        def gauge(name: str, text: str, value: float) -> Metric:
            return GaugeMetricFamily(f"homeroom_{name}", text, value=value)

        def labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
            family = GaugeMetricFamily(f"homeroom_{name}", text, labels=[label])
            for key, value in values.items():
                family.add_metric([key], value)
            return family

        def counter(name: str, text: str, value: float) -> Metric:
            return CounterMetricFamily(f"homeroom_{name}", text, value=value)

        yield labelled(
            "condition",
            "1 for the condition that it is in, as /healthz says it.",
            "condition",
            {word.value: int(word is s.condition) for word in Condition},
        )
        yield labelled(
            "device_trust",
            "1 for what other people's apps make of the bot's own device.",
            "trust",
            {word.value: int(word is s.own_trust.trust) for word in Trust},
        )
        if s.records is not None:
            yield gauge("homes", "Active homes.", counts["homes"] or 0)
            yield labelled(
                "chats",
                "Chats.",
                "status",
                {status.value: counts[status.value] or 0 for status in Status},
            )
        if s.is_observed:
            kinds = Counter(finding.kind for finding in s.findings)
            yield labelled(
                "findings",
                "What is wrong in Matrix and not rewritten.",
                "kind",
                {kind.value: kinds[kind] for kind in FindingKind},
            )
            yield gauge("unreadable_rooms", "Rooms that could not be read.", len(s.unreadable))
        yield gauge("messages_in_hand", "Messages that are worked on.", s.queues.in_hand)
        yield gauge("messages_waiting", "Messages that wait for their turn.", s.queues.waiting)
        yield counter("messages_done", "Messages that were done.", s.queues.done)
        yield gauge("sync_responses_waiting", "Responses not taken in.", s.queues.responses)
        behind = s.queues.behind_since
        yield gauge(
            "position_age_seconds",
            "How long ago the oldest message that is not done came in; 0 if all are.",
            0 if behind is None else (s.taken_at - behind) / 1000,
        )
        yield counter("homeserver_failures", "Requests without an answer.", s.homeserver.failures)
        yield counter("homeserver_rate_limits", "Requests to wait.", s.homeserver.rate_limits)
        yield from _agent_metrics(s.agent)
        yield from isolation_metrics(s)
        if s.homeserver.answered_at is not None:
            yield gauge(
                "homeserver_answer_timestamp_seconds",
                "When the homeserver answered last.",
                s.homeserver.answered_at / 1000,
            )
        if s.synced_at is not None:
            yield gauge(
                "sync_timestamp_seconds",
                "When maubot's sync brought its last response.",
                s.synced_at / 1000,
            )
        if s.past:
            last = s.past[0]
            yield gauge(
                "reconcile_timestamp_seconds",
                "When the last reconcile of everything finished.",
                last.finished_at / 1000,
            )
            yield gauge(
                "reconcile_duration_seconds", "How long it took.", last.milliseconds / 1000
            )
            yield gauge("reconcile_rooms", "Rooms that it looked at.", last.rooms)
            yield gauge("reconcile_drift_rows", "Rows that were not as Matrix had it.", last.drift)
