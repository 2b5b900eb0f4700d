"""Who waits for what is told to people and to machines, and is text like any other."""

from __future__ import annotations

import json

from mautrix.types import RoomID, UserID
from prometheus_client.parser import text_string_to_metric_families

from homeroom.delivery.lanes import Waiting
from homeroom.matrix.outgoing import OutgoingFigures, Priority
from homeroom.runtime.watchdog import Holds
from homeroom.status_page import FILES, Condition, Snapshot
from homeroom.status_page.isolation_views import MAX_LANES
from homeroom.status_page.listing import Query
from homeroom.status_page.snapshot import Isolation
from homeroom.status_page.views import Pages, as_json, as_metrics
from tests.stack.package import ROOT

NASTY = "<script>alert(1)</script>\u202e\x00" + "x" * 10_000
SNAPSHOT = Snapshot(
    bot=UserID("@bot:test"),
    version="1",
    taken_at=1_000_000,
    condition=Condition.OK,
    isolation=Isolation(
        lanes=(
            Waiting(room_id=RoomID("!a:test"), since=400_000, why="502", is_parked=False),
            Waiting(room_id=RoomID("!b:test"), since=500_000, why=NASTY, is_parked=True),
        ),
        unwritten=3,
        passed_over=4,
        dead_tasks=2,
        holds=Holds(
            longest=0.7, longest_by="a task in a place", total=0.9, counts=(1, 0, 1, 0, 1, 0, 0)
        ),
        clock_ahead=-90_000,
    ),
    outgoing=OutgoingFigures(
        waiting={Priority.EDIT: 5, Priority.REJECTION: 60},
        rate_limits={Priority.ANSWER: 1},
        is_limited=True,
    ),
    checkpoint_at=700_000,
)


def test_a_machine_is_told_which_rooms_wait_and_why() -> None:
    data = json.loads(as_json(SNAPSHOT, Query()))
    rooms = data["isolation"].pop("rooms")
    assert rooms[0] == {
        "room_id": "!a:test",
        "since": "1970-01-01T00:06:40Z",
        "why": "502",
        "is_parked": False,
    }
    assert len(rooms[1]["why"]) <= 200
    assert data["isolation"] == {
        "rooms_waiting": 2,
        "storage": None,
        "unwritten": 3,
        "passed_over": 4,
        "dead_tasks": 2,
        "event_loop": {"longest_hold_seconds": 0.7, "by": "a task in a place", "holds": 3},
        "clock_ahead_seconds": -90,
    }
    assert data["outgoing"]["is_limited"]
    nobody = {priority.name.lower(): 0 for priority in Priority}
    assert data["outgoing"]["waiting"] == {**nobody, "edit": 5, "rejection": 60}
    assert data["outgoing"]["rate_limits"]["answer"] == 1
    assert data["checkpoint_at"] == "1970-01-01T00:11:40Z"


def test_prometheus_is_told_figures_and_no_names() -> None:
    text = as_metrics(SNAPSHOT)[1].decode()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert "!a:test" not in text
    told = {
        ("homeroom_rooms_waiting", "failing"): 1,
        ("homeroom_rooms_waiting", "parked"): 1,
        ("homeroom_outgoing_waiting", "rejection"): 60,
        ("homeroom_outgoing_rate_limits_total", "answer"): 1,
        ("homeroom_event_loop_hold_seconds_bucket", "0.05"): 1,
        ("homeroom_event_loop_hold_seconds_bucket", "0.25"): 2,
        ("homeroom_event_loop_hold_seconds_bucket", "1.0"): 3,
        ("homeroom_event_loop_hold_seconds_bucket", "+Inf"): 3,
        ("homeroom_event_loop_hold_seconds_count",): 3,
        ("homeroom_event_loop_hold_seconds_sum",): 0.9,
        ("homeroom_dead_tasks_total",): 2,
        ("homeroom_messages_passed_over_total",): 4,
        ("homeroom_events_unwritten",): 3,
        ("homeroom_clock_ahead_seconds",): -90,
        ("homeroom_checkpoint_timestamp_seconds",): 700,
    }
    assert {name: samples.get(name) for name in told} == told


def test_a_person_sees_which_rooms_wait() -> None:
    html = page(SNAPSHOT)
    assert "2 rooms wait; nobody else does" in html
    assert "!a:test" in html
    assert "· parked" in html
    assert "<script" not in html
    assert "\u202e" not in html
    assert "edit: 5, rejection: 60" in html
    assert "held for 0.70 s at most" in html
    assert "2 tasks" in html
    assert "2 min behind the homeserver" in html or "90 s behind the homeserver" in html


def test_nothing_is_said_of_what_is_not() -> None:
    quiet = Snapshot(bot=UserID("@bot:test"), version="1", taken_at=1, condition=Condition.OK)
    html = page(quiet)
    assert "nobody else does" not in html
    assert "never held for long" in html
    assert "Died of a bug" not in html
    assert json.loads(as_json(quiet, Query()))["checkpoint_at"] is None


def test_many_rooms_are_counted_and_some_listed() -> None:
    lanes = tuple(
        Waiting(room_id=RoomID(f"!{number}:test"), since=1, why="502", is_parked=True)
        for number in range(MAX_LANES + 7)
    )
    many = Snapshot(
        bot=UserID("@bot:test"),
        version="1",
        taken_at=1,
        condition=Condition.OK,
        isolation=Isolation(lanes=lanes),
    )
    assert "… and 7 more." in page(many)
    told = json.loads(as_json(many, Query()))["isolation"]
    assert (told["rooms_waiting"], len(told["rooms"])) == (MAX_LANES + 7, MAX_LANES)


def page(snapshot: Snapshot) -> str:
    folder = ROOT / "plugin" / "homeroom" / "status_page"
    return Pages({name: (folder / name).read_text() for name in FILES}).status(snapshot, Query())
