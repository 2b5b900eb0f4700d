"""Which of several Homerooms with one account is the newest: what its account data says.

Each start writes a name of its own and a number that is one more than the last. Whoever later
sees another name there, under a number that is not below its own, has been superseded. A lower
number is what was there before, told late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..json_shapes import as_dict, as_list

INSTANCE_TYPE: Final = "dev.homeroom.instance"
MAX_ID_LENGTH: Final = 64
MAX_NUMBER: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One life of one instance."""

    id: str
    number: int

    @property
    def content(self) -> dict[str, Any]:
        return {"id": self.id, "number": self.number}

    def is_superseded_by(self, other: Running | None) -> bool:
        return other is not None and other.id != self.id and other.number >= self.number


def next_running(before: Running | None, *, id_: str) -> Running:
    """The instance that starts now."""
    number = 0 if before is None else before.number
    return Running(id=id_, number=min(number + 1, MAX_NUMBER))


def read_running(content: object) -> Running | None:
    """Read the account data; None: it names nobody."""
    id_, number = as_dict(content).get("id"), as_dict(content).get("number")
    if not isinstance(id_, str) or not 0 < len(id_) <= MAX_ID_LENGTH:
        return None
    if type(number) is not int or not 0 <= number <= MAX_NUMBER:
        return None
    return Running(id=id_, number=number)


def running_in(response: object) -> Running | None:
    """Who is the newest by the account data in a sync response; None: it does not say."""
    found = None
    for event in as_list(as_dict(as_dict(response).get("account_data")).get("events")):
        if as_dict(event).get("type") == INSTANCE_TYPE:
            found = read_running(as_dict(event).get("content")) or found
    return found
