"""The report of `!reconcile`."""

from __future__ import annotations

from mautrix.types import RoomID

from homeroom.domain.homes.plan import Finding, FindingKind, Plan
from homeroom.replies import report


def finding(kind: FindingKind, number: int) -> Finding:
    return Finding(kind=kind, room_id=RoomID(f"!room{number}:test"))


def test_many_findings_of_no_consequence_hide_none_that_has_one() -> None:
    noise = [finding(FindingKind.FOREIGN_MARKER, number) for number in range(120)]
    real = finding(FindingKind.OWNER_LEFT, 500)
    plan = Plan(rooms=121, findings=(*noise, real))
    lines = report(plan, seconds=0.1, dry_run=False).split("**Findings**\n\n")[1].split("\n")
    assert lines[0] == (
        "- Its owner left or was removed. They are not invited again by themselves; they can"
        " invite me to come back. (`!room500:test`)"
    )
    assert lines[1] == (
        "- Somebody else's event that looks like my mark; ignored. Nothing has to be done."
        " (`!room0:test`)"
    )
    assert lines[-1].startswith("- … and 71 more")
