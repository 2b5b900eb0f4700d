"""Findings by their kind: what concerns homes first, and nobody's many hide somebody's one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ..domain.homes.model import Records
from ..domain.homes.plan import Finding, FindingKind

LISTED: Final = 10
"""Findings of one kind that are listed before the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All findings of one kind."""

    kind: FindingKind
    count: int
    own: int
    """How many of them concern a home or a chat that is known."""
    findings: tuple[Finding, ...]
    """The first of them, those that concern homes before others."""


def grouped(findings: Iterable[Finding], records: Records | None) -> list[Group]:
    """Group them; kinds that concern homes come first, then the frequent ones."""
    rooms = records.room_ids if records else frozenset()
    owners = records.homes.keys() if records else ()
    of: dict[FindingKind, tuple[list[Finding], list[Finding]]] = {}
    for finding in findings:
        own, other = of.setdefault(finding.kind, ([], []))
        concerns_a_home = finding.room_id in rooms or finding.user_id in owners
        (own if concerns_a_home else other).append(finding)
    groups = [
        Group(
            kind=kind,
            count=len(own) + len(other),
            own=len(own),
            findings=tuple((own + other)[:LISTED]),
        )
        for kind, (own, other) in of.items()
    ]
    return sorted(groups, key=lambda group: (not group.own, -group.count, group.kind.value))
