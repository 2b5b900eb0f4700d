"""What a response says of the events that it leaves out."""

from __future__ import annotations

from typing import Any

from homeroom.domain.sync.timeline import timeline_gaps


def response(*events: object, **timeline: object) -> dict[str, Any]:
    return {"rooms": {"join": {"!r:test": {"timeline": {"events": [*events], **timeline}}}}}


def test_a_gap_counts_where_what_is_missing_may_matter() -> None:
    old = {"event_id": "$a", "origin_server_ts": 1000}
    cut = response(old, limited=True, prev_batch="p")
    assert timeline_gaps(cut, not_before=None) == [("!r:test", "p")]
    assert timeline_gaps(cut, not_before=1000) == [("!r:test", "p")]
    assert timeline_gaps(cut, not_before=1001) == []
    assert timeline_gaps(response(old, prev_batch="p"), not_before=None) == []
