"""The cases of the planner, each with the whole plan that it must give.

A case is what was observed, what was stored, and everything that follows: changes, repairs and
findings. Nothing else may follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeroom.domain.homes.model import Records, Status
from homeroom.domain.homes.plan import Change, Finding, Plan, Repair
from homeroom.domain.homes.topology import Topology
from tests.domain.builders import WORK, chat_row, home_row, plan, records, space

LINKED_HOME: Final = space(links=[WORK])
IN_ORDER: Final = records(home_row(), chat_row())
LEFT_HOME: Final = home_row(status=Status.LEFT)


@dataclass(frozen=True, kw_only=True)
class Case:
    observed: Topology
    stored: Records
    plan: Plan


class Cases(dict[str, Case]):
    """Cases by their names, which begin with the number of DESIGN.md §3."""

    def add(
        self,
        name: str,
        observed: Topology,
        stored: Records,
        *,
        changes: tuple[Change, ...] = (),
        repairs: tuple[Repair, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> None:
        assert name not in self
        expected = plan(observed, changes=changes, repairs=repairs, findings=findings)
        self[name] = Case(observed=observed, stored=stored, plan=expected)
