"""What is wrong with a config, said without a secret of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A key whose value cannot be used."""

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}: found {self.found}, expected {self.expected}"


class ConfigError(ValueError):
    """The settings cannot be used; `problems` are all that was found, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class NotInForce:
    """What was saved and does not count, yet or at all."""

    problems: tuple[Problem, ...] = ()
    """Why what was saved last is not used; the last good settings are in force then."""
    unknown: tuple[str, ...] = ()
    """Keys that mean nothing, each as a sentence."""
    awaits_restart: tuple[str, ...] = ()
    """Keys."""


def kind_of(value: object) -> str:
    """What a value is, without showing it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    return "true or false" if isinstance(value, bool) else show(value)


def show(value: object) -> str:
    """A value as it is named in an error; long ones are only described."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f"a text of {len(value)} characters"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _show_number(value)
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "keys and values" if isinstance(value, Mapping) else type(value).__name__


def _show_number(value: float) -> str:
    # Python refuses to write down an integer of some thousand digits.
    is_huge = isinstance(value, int) and value.bit_length() > 200
    return "a number of more than 60 digits" if is_huge else str(value)
